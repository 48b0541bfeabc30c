//! Reading: batches of one queue, single records, and the log from end to end.

use std::fmt;

use crate::{
    engine::Engine,
    error::{Error, ErrorKind, Result},
    format::{
        entry::QueueEntry,
        frame::{ChecksumRule, Frame, classify, sound},
        hash::java_hash,
        resync::find_next_record,
        view::RecordView,
    },
    log::read::{LogSlice, Place, Window, damaged},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    queue::{ConsumeQueue, first_at_or_after},
    recovery::report::Finding,
};

/// How much one read returns at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    records: usize,
    bytes: u64,
    entries: usize,
}

impl ReadLimit {
    /// At most `records` records, whatever their size.
    pub fn records(records: usize) -> Self {
        Self { records, bytes: u64::MAX, entries: usize::MAX }
    }

    /// Also at most `bytes` bytes of log, but always one record if there is any.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Also looks at no more than `entries` messages of the queue, those that a filter leaves out
    /// included, but always at one. What is empty because of that is not the queue's end: see
    /// [`Batch::next_offset`].
    #[must_use]
    pub fn entries(mut self, entries: usize) -> Self {
        self.entries = entries.max(1);
        self
    }
}

/// One record, kept readable for as long as this lives, even if its segment is removed meanwhile.
#[derive(Clone)]
pub struct Record {
    slice: LogSlice,
}

impl Record {
    /// Its fields, borrowed from the mapped log.
    pub fn view(&self) -> RecordView<'_> {
        // The same bytes were parsed when this was made, and published bytes never change.
        RecordView::parse(self.slice.bytes()).expect("a record that was checked stays sound")
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        self.view().body()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_struct("Record")
            .field("physical_offset", &view.physical_offset())
            .field("size", &view.size())
            .finish_non_exhaustive()
    }
}

/// Records of one queue, in order, straight from the mapped log.
#[derive(Clone, Debug)]
pub struct Batch {
    window: Window,
    places: Vec<Place>,
    next: QueueOffset,
    min: QueueOffset,
    end: QueueOffset,
}

impl Batch {
    /// The records' fields.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> {
        self.places.iter().map(|place| {
            // Checked when the batch was made, and published bytes never change.
            RecordView::parse(self.window.bytes(*place)).expect("a checked record stays sound")
        })
    }

    /// The records themselves, to keep.
    pub fn into_records(self) -> Vec<Record> {
        self.places.iter().map(|place| Record { slice: self.window.slice(*place) }).collect()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none: the queue has nothing at the offset yet, or a filter left out all
    /// that were looked at; then [`next_offset`](Self::next_offset) is where to go on.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where to read on. Also moves past records that a filter left out.
    pub fn next_offset(&self) -> QueueOffset {
        self.next
    }

    /// First offset the queue held when this was read.
    pub fn min_offset(&self) -> QueueOffset {
        self.min
    }

    /// First offset the queue did not hold yet when this was read.
    pub fn end_offset(&self) -> QueueOffset {
        self.end
    }
}

/// An item of the log, as [`Store::item_at`](crate::Store::item_at) finds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogItem {
    /// A sound record.
    Record(Record),
    /// The blank record that fills a segment's end.
    Blank {
        /// Its first byte.
        at: PhysicalOffset,
        /// Bytes from there to the segment's end.
        size: u64,
    },
    /// Bytes that are not what was written.
    Damage {
        /// First damaged byte.
        at: PhysicalOffset,
        /// How many.
        size: u64,
        /// What is wrong.
        reason: String,
    },
}

/// One entry of a consume queue, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Its position in the queue.
    pub offset: QueueOffset,
    /// Where the record is.
    pub physical_offset: PhysicalOffset,
    /// The record's size in bytes.
    pub size: u32,
    /// The tag's hash, or the delivery time of a delayed message.
    pub tags_code: i64,
}

/// How many records ahead of the one that is checked the next one is fetched from memory.
const AHEAD: usize = 3;

/// Entries looked at per file read.
const CHUNK: usize = 32;

impl Engine {
    pub(crate) fn read(
        &self,
        key: &QueueKey,
        from: QueueOffset,
        limit: ReadLimit,
        tags: Option<&[&str]>,
    ) -> Result<Batch> {
        let queue = self.queues.get(key).ok_or_else(|| unknown(key))?;
        let (min, end) = (queue.min(), queue.end());
        if from < min || from > end {
            return Err(not_in_queue(key, from, min, end));
        }
        let hashes: Option<Vec<i64>> =
            tags.map(|tags| tags.iter().map(|t| i64::from(java_hash(t))).collect());
        let window = self.log.window();
        let mut batch = Batch { window, places: Vec::new(), next: from, min, end };
        let mut entries = Vec::with_capacity(CHUNK.min(limit.records) + AHEAD);
        let mut room = limit.bytes;
        // Where this has to stop, for the queue's end or for its limit.
        let until = end.min(QueueOffset::new(from.get().saturating_add(limit.entries as u64)));
        while batch.places.len() < limit.records && batch.next < until {
            let rest = until.saturating_since(batch.next).min(CHUNK as u64) as usize;
            // Of what a filter leaves out many are looked at for one that is wanted.
            let wanted = if tags.is_some() { CHUNK } else { limit.records - batch.places.len() };
            let want = wanted.min(rest);
            entries.clear();
            // A few more than wanted: the next call's records are fetched already by this one.
            if let Err(error) = queue.read(batch.next, want + AHEAD, &mut entries) {
                if batch.next > from {
                    return Ok(batch);
                }
                entries.push(self.relocated(&queue, batch.next, None, error)?);
            }
            batch.places.reserve(want);
            for (number, entry) in entries.iter().take(want).enumerate() {
                if batch.places.len() == limit.records {
                    break;
                }
                if let Some(later) = entries.get(number + AHEAD) {
                    batch.window.prefetch(later.physical_offset, later.size);
                }
                let skip = hashes.as_ref().is_some_and(|h| !h.contains(&entry.tags_code));
                if !skip {
                    let first = batch.next == from;
                    let taken = match self.take(&mut batch, key, entry, tags, room) {
                        Err(error) if first => {
                            let right = self.relocated(&queue, batch.next, Some(entry), error)?;
                            self.take(&mut batch, key, &right, tags, room)
                        }
                        taken => taken,
                    };
                    match taken {
                        Ok(Taken::Record) => room = room.saturating_sub(entry.size.into()),
                        Ok(Taken::OtherTag) => {}
                        Ok(Taken::NoRoom) => return Ok(batch),
                        // What is before the damage is told first; the next read begins with it.
                        Err(_) if !first => return Ok(batch),
                        Err(error) => return Err(error),
                    }
                }
                batch.next = batch.next.next();
            }
            if entries.is_empty() {
                break;
            }
        }
        Ok(batch)
    }

    /// The entry that the log says should be at `offset`, where that in the file is broken or leads
    /// nowhere; `error` if it is the same or there is none.
    fn relocated(
        &self,
        queue: &ConsumeQueue,
        offset: QueueOffset,
        entry: Option<&QueueEntry>,
        error: Error,
    ) -> Result<QueueEntry> {
        // Of these the log has nothing, and looking for it each time would cost more than it tells.
        let is_lost = |entry: &QueueEntry| {
            let at = entry.physical_offset;
            entry.is_filler() || self.log.damage_in(at, entry.end()).is_some()
        };
        if entry.is_some_and(is_lost) {
            return Err(error);
        }
        let found = self.relocate(queue, offset).ok().flatten();
        let found = found.filter(|found| Some(found) != entry).ok_or(error)?;
        // What cannot be mended now is found again the next time.
        let _ = queue.mend(offset, &found);
        Ok(found)
    }

    /// Adds the record that `entry` points at, if it is sound, the one that belongs there, has one
    /// of `tags`, and fits.
    fn take(
        &self,
        batch: &mut Batch,
        key: &QueueKey,
        entry: &QueueEntry,
        tags: Option<&[&str]>,
        room: u64,
    ) -> Result<Taken> {
        let offset = batch.next;
        if entry.is_filler() {
            let text = format!(
                "queue offset {offset} of {key} has no record: it was lost with a damaged part of \
                 the log; the next offset can be read"
            );
            return Err(Error::new(ErrorKind::Damaged { at: self.log.start(), len: 0 }, text));
        }
        let at = entry.physical_offset;
        let located = batch.window.locate(&self.log, at, entry.size);
        let place = located.map_err(|error| self.misplaced(key, offset, entry, error))?;
        let rule = self.log.checksum_rule(at);
        let view = checked(batch.window.bytes(place), at, entry.size, rule)?;
        if !key.is(view.topic(), view.queue_id()) || view.queue_offset() != offset {
            let why = format!(
                "the queue entry points at another queue's record queue={key} offset={offset}"
            );
            return Err(damaged(at, entry.size.into(), &why));
        }
        // Equal hashes are not equal tags.
        if tags.is_some_and(|tags| !view.tag().is_some_and(|tag| tags.contains(&tag))) {
            return Ok(Taken::OtherTag);
        }
        if !batch.places.is_empty() && u64::from(entry.size) > room {
            return Ok(Taken::NoRoom);
        }
        batch.places.push(place);
        Ok(Taken::Record)
    }

    /// The error for an entry that points out of the log. That is no range of the queue, which a
    /// reader would go on from: either retention went past the entry meanwhile, or it is rotten.
    fn misplaced(
        &self,
        key: &QueueKey,
        offset: QueueOffset,
        entry: &QueueEntry,
        error: Error,
    ) -> Error {
        if !matches!(error.kind(), ErrorKind::OutOfRange { .. }) {
            return error;
        }
        if let Some(queue) = self.queues.get(key)
            && offset < queue.min()
        {
            return not_in_queue(key, offset, queue.min(), queue.end());
        }
        let why = format!("the queue entry points out of the log queue={key} offset={offset}");
        damaged(entry.physical_offset, entry.size.into(), &why)
    }

    /// The record of `size` bytes at `at`, with its checksums verified.
    pub(crate) fn record(&self, at: PhysicalOffset, size: u32) -> Result<Record> {
        let slice = self.log.slice(at, size.into())?;
        checked(slice.bytes(), at, size, self.log.checksum_rule(at))?;
        Ok(Record { slice })
    }

    pub(crate) fn record_at(&self, at: PhysicalOffset) -> Result<Record> {
        let head = self.log.slice(at, 8)?;
        let size = head.bytes().first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
        self.record(at, size.max(8)).map_err(|error| match error.kind() {
            // The log does reach here: what says more than there is, is no size.
            ErrorKind::OutOfRange { .. } => damaged(at, 8, "the size goes beyond what there is"),
            _ => error,
        })
    }

    pub(crate) fn offset_by_time(&self, key: &QueueKey, time: StoreTime) -> Result<QueueOffset> {
        let queue = self.queues.get(key).ok_or_else(|| unknown(key))?;
        first_at_or_after(&queue, time, |entry| {
            if entry.is_filler() || entry.physical_offset < self.log.start() {
                return Ok(None);
            }
            let record = self.record(entry.physical_offset, entry.size);
            Ok(record.ok().map(|record| record.view().store_time()))
        })
    }

    pub(crate) fn query(
        &self,
        topic: &str,
        key: &str,
        begin: StoreTime,
        end: StoreTime,
        max: usize,
    ) -> Result<Vec<Record>> {
        let Some(index) = &self.index else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        index.query(topic, key, begin, end, max, |at| {
            // An index entry is a hint: what it points at may be gone, damaged, or have another
            // key of the same hash.
            let Ok(record) = self.record_at(at) else { return Ok(false) };
            let view = record.view();
            let named = view.unique_key() == Some(key) || view.keys().any(|k| k == key);
            let fits = named && view.topic() == topic && (begin..=end).contains(&view.store_time());
            if fits {
                found.push(record);
            }
            Ok(fits)
        })?;
        Ok(found)
    }

    pub(crate) fn queue_items(
        &self,
        key: &QueueKey,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueItem>> {
        let queue = self.queues.get(key).ok_or_else(|| unknown(key))?;
        let mut entries = Vec::new();
        queue.read(from, max, &mut entries)?;
        let numbered = entries.iter().enumerate();
        Ok(numbered
            .map(|(i, entry)| QueueItem {
                offset: from + i as u64,
                physical_offset: entry.physical_offset,
                size: entry.size,
                tags_code: entry.tags_code,
            })
            .collect())
    }

    /// What lies at `at` in the log, and where the next item begins. `None` at the visible end.
    pub(crate) fn item_at(&self, at: PhysicalOffset) -> Result<Option<(LogItem, PhysicalOffset)>> {
        let end = PhysicalOffset::new(self.log.marks().visible().get());
        if at >= end {
            return Ok(None);
        }
        if let Some(hit) = self.log.damage_in(at, at + 1) {
            let size = hit.end - at;
            let reason = self.damage_reason(hit.start);
            return Ok(Some((LogItem::Damage { at, size, reason }, hit.end)));
        }
        let Some(segment) = self.log.segments().find(at) else {
            return Err(damaged(at, 1, "its segment is missing"));
        };
        let rest = self.log.rest(at)?;
        let room = segment.end() - at;
        let reason = match classify(rest.bytes(), at, room, self.log.checksum_rule(at)) {
            Frame::Record(view) => {
                let size = u64::from(view.size());
                let record = Record { slice: self.log.slice(at, size)? };
                return Ok(Some((LogItem::Record(record), at + size)));
            }
            Frame::Blank { size } => {
                let size = u64::from(size);
                return Ok(Some((LogItem::Blank { at, size }, at + size)));
            }
            Frame::Empty => "there are zeros where a record should begin".to_owned(),
            Frame::Bad(reason) => reason.to_string(),
        };
        let next = self.next_sound(at, &rest).min(end);
        Ok(Some((LogItem::Damage { at, size: next - at, reason }, next)))
    }

    /// Where records go on behind the damage at `at`.
    fn next_sound(&self, at: PhysicalOffset, rest: &LogSlice) -> PhysicalOffset {
        let bytes = rest.bytes();
        let room = bytes.len() as u64;
        match find_next_record(bytes, 1, at, self.log.checksum_rule(at)) {
            Some(found) => at + found as u64,
            None => at + room,
        }
    }

    fn damage_reason(&self, at: PhysicalOffset) -> String {
        let findings = self.report.findings.iter();
        findings
            .filter_map(|finding| match finding {
                Finding::Damage { start, reason, .. } if *start == at => Some(reason.clone()),
                _ => None,
            })
            .next()
            .unwrap_or_else(|| "recovery found it damaged".into())
    }
}

/// The record that `bytes` are, if they are the one of `size` bytes that was written at `at`.
fn checked(
    bytes: &[u8],
    at: PhysicalOffset,
    size: u32,
    rule: ChecksumRule,
) -> Result<RecordView<'_>> {
    let bad = |why: &dyn fmt::Display| damaged(at, size.into(), &why.to_string());
    let view = RecordView::parse(bytes).map_err(|why| bad(&why))?;
    if view.physical_offset() != at || view.size() != size {
        return Err(bad(&"the record is not the one that was written there"));
    }
    sound(&view, rule).map_err(|why| bad(&why))?;
    Ok(view)
}

/// What became of a queue entry that was read.
enum Taken {
    Record,
    OtherTag,
    NoRoom,
}

fn not_in_queue(key: &QueueKey, at: QueueOffset, min: QueueOffset, end: QueueOffset) -> Error {
    Error::new(
        ErrorKind::OutOfRange { start: min.get(), end: end.get() },
        format!("not in the queue queue={key} offset={at} min={min} end={end}"),
    )
}

pub(crate) fn unknown(key: &QueueKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no such queue queue={key}"))
}
