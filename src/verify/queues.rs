//! Queue entries against the log, and the log against queue entries.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::{Context, Findings, Severity, segments};
use crate::{
    disk::{Access, Disk, DiskFile, FilePath, failed},
    error::Result,
    format::{
        entry::{DelayLevels, ENTRY_BYTES, QueueEntry, SCHEDULE_TOPIC},
        view::RecordView,
    },
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
    queue::{self, QueueOnDisk},
    recovery::files::LogFiles,
    repair::is_placeholder,
};

const ENTRY: u64 = ENTRY_BYTES as u64;
/// Files open at once.
const OPEN_MOST: usize = 256;
/// Entries read at once for each queue; fewer when there are many queues, as each keeps its own.
const CHUNK: u64 = 512;
const CHUNK_OF_MANY: u64 = 16;
const MANY: usize = 2000;

/// What the files say about one position of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Entry(QueueEntry),
    /// Zeros, or bytes that are no entry.
    Nothing,
    /// The file is missing.
    NoFile,
}

/// Entries that are not there.
#[derive(Clone, Copy, Debug)]
struct Missing {
    first: u64,
    behind: u64,
    /// The next open puts all of them.
    mended: bool,
}

/// One queue while the log is walked.
struct Queue {
    on_disk: Option<QueueOnDisk>,
    /// First position that a record of the log has.
    first: Option<u64>,
    /// Behind the last one.
    next: u64,
    /// The last record.
    last_at: PhysicalOffset,
    /// Positions without a record, behind holes of the log.
    gaps: Vec<(u64, u64)>,
    /// Where entries are missing from, while nothing was found behind.
    missing: Option<Missing>,
    chunk: Vec<u8>,
    chunk_from: u64,
}

/// The check of all queues.
pub(super) struct QueueCheck<'a> {
    disk: &'a dyn Disk,
    log_files: &'a LogFiles,
    start: PhysicalOffset,
    end: PhysicalOffset,
    /// Damage and placeholders, ascending.
    holes: Vec<(PhysicalOffset, PhysicalOffset)>,
    last_hole: PhysicalOffset,
    file_bytes: u64,
    queues: BTreeMap<QueueKey, Queue>,
    open: HashMap<FilePath, Option<Arc<dyn DiskFile>>>,
    levels: DelayLevels,
    /// Where the placeholder ends that came last.
    placeholder: Option<PhysicalOffset>,
    /// How far the entries reach behind the log's end.
    ahead: PhysicalOffset,
    /// Entries for records from here on are put once more by the next open.
    derived_from: Option<PhysicalOffset>,
    /// Whether nobody had to stop in the middle of writing the queues.
    closed: bool,
    live: bool,
    compared: u64,
    damage: VecDeque<(PhysicalOffset, PhysicalOffset)>,
}

impl<'a> QueueCheck<'a> {
    pub(super) fn new(context: &Context<'a>, findings: &mut Findings<'_>) -> Result<Self> {
        let found = queue::scan_directory(context.disk)?;
        for problem in &found.problems {
            findings.note("foreign-file", &FilePath::new(queue::QUEUES_DIR), problem);
        }
        let file_bytes = queue::infer_file_bytes(&found.queues).unwrap_or(ENTRY);
        for queue in &found.queues {
            for file in queue.files.iter().filter(|file| ![0, file_bytes].contains(&file.len)) {
                let path = queue::file_path(&queue.key, file.base);
                let detail = format!(
                    "not as long as the others; it is made anew len={} others={file_bytes}",
                    file.len
                );
                findings.add("queue-file-size", Severity::Note, &path, (0, file.len), detail);
            }
        }
        let queues = found
            .queues
            .into_iter()
            .map(|on_disk| (on_disk.key.clone(), Queue::new(Some(on_disk))));
        Ok(Self {
            disk: context.disk,
            log_files: &context.inspected.files,
            start: context.start,
            end: context.end,
            holes: Vec::new(),
            last_hole: PhysicalOffset::ZERO,
            file_bytes,
            queues: queues.collect(),
            open: HashMap::new(),
            levels: DelayLevels::default(),
            placeholder: None,
            ahead: PhysicalOffset::ZERO,
            derived_from: context.derived_from(),
            closed: !context.abandoned && !context.live,
            live: context.live,
            compared: 0,
            damage: context.damage.iter().map(|d| (d.start, d.end)).collect(),
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.queues.len() as u64
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// The next record of the log.
    pub(super) fn record(
        &mut self,
        view: &RecordView<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<()> {
        let at = view.physical_offset();
        let end = at + u64::from(view.size());
        self.blank_behind_placeholder(at);
        while let Some(hole) = self.damage.front().copied().filter(|(start, _)| *start < at) {
            self.damage.pop_front();
            self.holes.push(hole);
            self.last_hole = hole.1;
        }
        if is_placeholder(view) {
            self.holes.push((at, end));
            self.last_hole = end;
            self.placeholder = Some(end);
        }
        if !view.has_queue_entry() {
            return Ok(());
        }
        let Ok(key) = QueueKey::new(view.topic(), view.queue_id()) else {
            let (file, place) = segments::place(self.log_files, at);
            let detail = format!("the record names no queue that can be log_offset={at}");
            let range = (place, view.size().into());
            findings.add("record-queue", Severity::Inconsistency, &file, range, detail);
            return Ok(());
        };
        let position = view.queue_offset().get();
        let queue = self.queues.entry(key.clone()).or_insert_with(|| Queue::new(None));
        let expected = queue.first.map(|_| queue.next);
        let excused = queue.last_at < self.last_hole;
        let ok = match expected {
            None => position < u64::MAX / 64,
            Some(next) if position == next => true,
            Some(next) if position > next && position < u64::MAX / 64 && excused => {
                queue.gaps.push((next, position));
                true
            }
            Some(_) => false,
        };
        if !ok {
            let expected = expected.unwrap_or(0);
            let (file, place) = segments::place(self.log_files, at);
            let detail = format!(
                "the record's place in its queue is not the next one queue={key} \
                 queue_offset={position} expected={expected} log_offset={at}"
            );
            let range = (place, view.size().into());
            findings.add("queue-offset", Severity::Inconsistency, &file, range, detail);
            if position >= u64::MAX / 64 || position < expected {
                return Ok(());
            }
        }
        queue.first.get_or_insert(position);
        queue.next = position + 1;
        queue.last_at = end;
        self.compare(&key, position, view, findings)
    }

    /// At a segment's end a repair puts a small placeholder, and a blank record for all the rest:
    /// what lies between it and `next`, where records go on, was lost too.
    fn blank_behind_placeholder(&mut self, next: PhysicalOffset) {
        let Some(end) = self.placeholder.take().filter(|end| *end < next) else { return };
        if let Some(hole) = self.holes.last_mut().filter(|hole| hole.1 == end) {
            hole.1 = next;
            self.last_hole = next;
        }
    }

    /// The record's entry as the files have it, against the record.
    fn compare(
        &mut self,
        key: &QueueKey,
        position: u64,
        view: &RecordView<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<()> {
        self.compared += 1;
        let slot = self.slot(key, position)?;
        let file_bytes = self.file_bytes;
        let mended = self.derived_from.is_some_and(|from| from <= view.physical_offset());
        let Some(queue) = self.queues.get_mut(key) else { return Ok(()) };
        let Slot::Entry(entry) = slot else {
            let before = queue.missing.unwrap_or(Missing { first: position, behind: 0, mended });
            queue.missing = Some(Missing { behind: position + 1, ..before });
            return Ok(());
        };
        if let Some(Missing { first, behind, mended }) = queue.missing.take() {
            let (file, offset) = place_of(key, first, file_bytes);
            let known = queue.on_disk.as_ref().is_some_and(|q| has_file(q, first, file_bytes));
            // Without its file it is rebuilt; zeros in between are what no writer leaves.
            let severity = if known && !mended { Severity::Inconsistency } else { Severity::Note };
            let detail = format!("entries are missing queue={key} from={first} to={behind}");
            let range = (offset, (behind - first) * ENTRY);
            findings.add("queue-entry-missing", severity, &file, range, detail);
        }
        let expected = QueueEntry::of(view, &self.levels);
        // When a delayed message is due depends on the writer's configuration.
        let same_tags = entry.tags_code == expected.tags_code || view.topic() == SCHEDULE_TOPIC;
        let same_place = entry.physical_offset == expected.physical_offset;
        if !same_place || entry.size != expected.size || !same_tags {
            let (file, offset) = place_of(key, position, file_bytes);
            let detail = format!(
                "the entry is not that of the record queue={key} queue_offset={position} \
                 log_offset={} entry={}/{}/{} record={}/{}/{}",
                expected.physical_offset,
                entry.physical_offset,
                entry.size,
                entry.tags_code,
                expected.physical_offset,
                expected.size,
                expected.tags_code
            );
            let severity = Severity::Inconsistency;
            findings.add("queue-entry", severity, &file, (offset, ENTRY), detail);
        }
        Ok(())
    }

    /// After the last record: what the files hold besides. Returns the queues' ends.
    pub(super) fn finish(
        &mut self,
        findings: &mut Findings<'_>,
    ) -> Result<BTreeMap<QueueKey, u64>> {
        self.blank_behind_placeholder(self.end);
        self.holes.extend(self.damage.drain(..));
        self.holes.sort_unstable();
        let keys: Vec<_> = self.queues.keys().cloned().collect();
        let mut ends = BTreeMap::new();
        for key in keys {
            let end = self.finish_queue(&key, findings)?;
            ends.insert(key, end);
        }
        self.tell_ahead(findings);
        Ok(ends)
    }

    /// Entries for records that are not there: a log that was closed has lost its end. After a
    /// crash the queues' pages may have reached the disk before the log's.
    fn tell_ahead(&self, findings: &mut Findings<'_>) {
        if self.ahead <= self.end || self.live {
            return;
        }
        let (file, offset) = segments::place(self.log_files, self.end);
        let severity = if self.closed { Severity::Inconsistency } else { Severity::Note };
        let detail = format!(
            "the queues know of records behind the log's end: it was longer log_end={} known={}",
            self.end, self.ahead
        );
        findings.add("log-ends-early", severity, &file, (offset, self.ahead - self.end), detail);
    }

    fn finish_queue(&mut self, key: &QueueKey, findings: &mut Findings<'_>) -> Result<u64> {
        let Some(queue) = self.queues.get_mut(key) else { return Ok(0) };
        let (first, mut end) = (queue.first, queue.next);
        let gaps = std::mem::take(&mut queue.gaps);
        if let Some(Missing { first: from, behind, .. }) = queue.missing.take() {
            let (file, offset) = place_of(key, from, self.file_bytes);
            let detail = format!(
                "the queue's files lag behind the log; the next open brings them up to date \
                 queue={key} from={from} to={behind}"
            );
            let range = (offset, (behind - from) * ENTRY);
            findings.add("queue-lags", Severity::Note, &file, range, detail);
        }
        let Some(on_disk) = queue.on_disk.clone() else { return Ok(end) };
        for file in &on_disk.files {
            let from = file.base / ENTRY;
            let to = from + file.len / ENTRY;
            // Behind the records, and before them, and where records were lost.
            let mut parts = vec![(from.max(if first.is_some() { end } else { 0 }), to)];
            if let Some(first) = first {
                parts.push((from, to.min(first)));
            }
            parts.extend(gaps.iter().map(|(a, b)| (from.max(*a), to.min(*b))));
            for (from, to) in parts {
                end = end.max(self.unbacked(key, from, to, findings)?);
            }
        }
        Ok(end)
    }

    /// Looks at entries that no record of the log stands behind. Returns the end of those that
    /// are for records that were there once.
    fn unbacked(
        &mut self,
        key: &QueueKey,
        from: u64,
        to: u64,
        findings: &mut Findings<'_>,
    ) -> Result<u64> {
        let mut known_end = 0;
        // The first entry for a record behind the log's end: beside a writer there are many.
        let mut ahead = None;
        let mut position = from;
        while position < to {
            let Some(next) = self.next_data(key, position)? else { break };
            position = next.max(position);
            if position >= to {
                break;
            }
            let here = position;
            position += 1;
            let Slot::Entry(entry) = self.slot(key, here)? else { continue };
            let at = entry.physical_offset;
            let (file, offset) = place_of(key, here, self.file_bytes);
            if entry.is_filler() || at < self.start || self.in_hole(at) {
                known_end = here + 1;
            } else if at >= self.end {
                ahead.get_or_insert((here, at));
                self.ahead = self.ahead.max(entry.end());
            } else {
                let detail = format!(
                    "an entry without a record queue={key} queue_offset={here} log_offset={at}"
                );
                let severity = Severity::Inconsistency;
                findings.add("queue-entry", severity, &file, (offset, ENTRY), detail);
            }
        }
        if let Some((first, at)) = ahead {
            let (file, offset) = place_of(key, first, self.file_bytes);
            let detail = format!(
                "entries for records behind the log's end; the next open cuts them queue={key} \
                 queue_offset={first} log_offset={at}"
            );
            findings.add("queue-ahead", Severity::Note, &file, (offset, ENTRY), detail);
        }
        Ok(known_end)
    }

    fn in_hole(&self, at: PhysicalOffset) -> bool {
        let before = self.holes.partition_point(|(start, _)| *start <= at);
        before.checked_sub(1).is_some_and(|i| at < self.holes[i].1)
    }

    /// The first position from `position` on, in its file, that may hold an entry.
    fn next_data(&mut self, key: &QueueKey, position: u64) -> Result<Option<u64>> {
        let (path, offset) = place_of(key, position, self.file_bytes);
        let Some(file) = self.file(&path)? else { return Ok(None) };
        let data = file.next_data(offset).map_err(failed("look for data in", &path))?;
        Ok(data.map(|data| position + data.start.saturating_sub(offset) / ENTRY))
    }

    fn slot(&mut self, key: &QueueKey, position: u64) -> Result<Slot> {
        let many = self.queues.len() > MANY;
        let Some(queue) = self.queues.get(key) else { return Ok(Slot::NoFile) };
        let known = queue.on_disk.as_ref().is_some_and(|q| has_file(q, position, self.file_bytes));
        if !known {
            return Ok(Slot::NoFile);
        }
        let have = queue.chunk.len() as u64 / ENTRY;
        if position < queue.chunk_from || position >= queue.chunk_from + have {
            let (path, offset) = place_of(key, position, self.file_bytes);
            let Some(file) = self.file(&path)? else { return Ok(Slot::NoFile) };
            let left = (self.file_bytes - offset) / ENTRY;
            let take = if many { CHUNK_OF_MANY } else { CHUNK }.min(left);
            let mut chunk = vec![0; (take * ENTRY) as usize];
            file.read_exact_at(&mut chunk, offset).map_err(failed("read", &path))?;
            if let Some(queue) = self.queues.get_mut(key) {
                queue.chunk = chunk;
                queue.chunk_from = position;
            }
        }
        let Some(queue) = self.queues.get(key) else { return Ok(Slot::NoFile) };
        let at = ((position - queue.chunk_from) * ENTRY) as usize;
        let bytes = queue.chunk.get(at..).and_then(|bytes| bytes.first_chunk());
        Ok(bytes.and_then(QueueEntry::decode).map_or(Slot::Nothing, Slot::Entry))
    }

    fn file(&mut self, path: &FilePath) -> Result<Option<Arc<dyn DiskFile>>> {
        if let Some(file) = self.open.get(path) {
            return Ok(file.clone());
        }
        if self.open.len() >= OPEN_MOST {
            self.open.clear();
        }
        let file = match self.disk.open(path, Access::Read) {
            Ok(file) => {
                let len = file.len().map_err(failed("read the length of", path))?;
                // An empty last file, as a crash may leave it.
                (len == self.file_bytes).then_some(file)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed("open", path)(e)),
        };
        self.open.insert(path.clone(), file.clone());
        Ok(file)
    }
}

impl Queue {
    fn new(on_disk: Option<QueueOnDisk>) -> Self {
        Self {
            on_disk,
            first: None,
            next: 0,
            last_at: PhysicalOffset::ZERO,
            gaps: Vec::new(),
            missing: None,
            chunk: Vec::new(),
            chunk_from: 0,
        }
    }
}

fn has_file(queue: &QueueOnDisk, position: u64, file_bytes: u64) -> bool {
    let base = position * ENTRY / file_bytes * file_bytes;
    queue.files.binary_search_by_key(&base, |file| file.base).is_ok()
}

/// The file with the entry at `position`, and where in it.
fn place_of(key: &QueueKey, position: u64, file_bytes: u64) -> (FilePath, u64) {
    let byte = QueueOffset::new(position).get() * ENTRY;
    let offset = byte % file_bytes;
    (queue::file_path(key, byte - offset), offset)
}
