//! Index files against themselves and against the keys of the log.

use std::{collections::BTreeMap, sync::Arc};

use super::{Context, Findings, Severity, geometry, walk::record_at};
use crate::{
    disk::{self, Access, Disk, DiskFile, FilePath, failed},
    error::Result,
    format::{
        index::{
            INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, INDEX_SLOT_BYTES, IndexEntry, IndexGeometry,
            IndexHeader, decode_slot, key_hash,
        },
        layout::TransactionState,
        view::RecordView,
    },
    index::{self, IndexState},
    log::{DamagedRange, damage_in},
    offset::PhysicalOffset,
    options::Options,
    recovery::files::LogFiles,
    repair::is_placeholder,
};

const ENTRY: u64 = INDEX_ENTRY_BYTES as u64;
/// Entries read at once.
const CHUNK: u32 = 4096;

/// An index file that can be read.
struct File {
    path: FilePath,
    file: Arc<dyn DiskFile>,
    geometry: IndexGeometry,
    /// Number of its next entry.
    count: u32,
    /// Entries before this one must be right whatever the next open does.
    trusted: u32,
    header: IndexHeader,
    /// It was closed, so all of it is as it was left.
    closed: bool,
}

/// Reads entries one after the other.
#[derive(Default)]
struct Window {
    file: usize,
    from: u32,
    bytes: Vec<u8>,
}

/// The check of all index files.
pub(super) struct IndexCheck<'a> {
    disk: &'a dyn Disk,
    log_files: &'a LogFiles,
    start: PhysicalOffset,
    end: PhysicalOffset,
    damage: &'a [DamagedRange],
    files: Vec<File>,
    window: Window,
    /// Missing keys are put again by the next open: it rebuilds all of it.
    rebuilt: bool,
    /// Nothing can be said of the keys.
    blind: bool,
    /// The length of most files.
    usual: u64,
    /// Whether another process may be writing: only what is trusted is looked at.
    live: bool,
    /// File and number of the entry that comes next.
    place: (usize, u32),
    /// The first record with keys behind the last entry, and how many there are.
    lagging: Option<(PhysicalOffset, u64)>,
    compared: u64,
}

impl<'a> IndexCheck<'a> {
    pub(super) fn new(
        context: &Context<'a>,
        options: &Options,
        findings: &mut Findings<'_>,
    ) -> Result<Self> {
        let mut check = Self {
            disk: context.disk,
            log_files: &context.inspected.files,
            start: context.start,
            end: context.end,
            damage: context.damage,
            files: Vec::new(),
            window: Window::default(),
            rebuilt: context.inspected.foreign.is_some(),
            blind: false,
            usual: 0,
            live: context.live,
            place: (0, 1),
            lagging: None,
            compared: 0,
        };
        let state = context.inspected.checkpoint.as_ref().and_then(|c| c.index.clone());
        let names = index::list(context.disk, |name| {
            findings.note("foreign-file", &index::root().join(name), "no index file");
        })?;
        let usual = usual_len(context.disk, &names)?;
        for name in names {
            check.usual = usual;
            check.open(
                index::root().join(&name),
                context.is_closed(),
                state.as_ref(),
                options,
                findings,
            )?;
        }
        for file in 0..check.files.len() {
            check.chains(file, findings)?;
        }
        Ok(check)
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    fn open(
        &mut self,
        path: FilePath,
        closed: bool,
        state: Option<&IndexState>,
        options: &Options,
        findings: &mut Findings<'_>,
    ) -> Result<()> {
        let (file, len, header) = open(self.disk, &path)?;
        let Some(header) = header else {
            self.blind = true;
            findings.note("index-file", &path, format!("too short; it is rebuilt len={len}"));
            return Ok(());
        };
        if len != self.usual {
            self.blind = true;
            let detail = format!("its length is not that of the others; it is rebuilt len={len}");
            findings.add("index-file", Severity::Note, &path, (0, len), detail);
            return Ok(());
        }
        let given = IndexGeometry { slots: options.index_slots, entries: options.index_entries };
        let geometry = match given.file_bytes() == len {
            true => Some(given),
            false => geometry::find(&*file, len, &header).map_err(failed("read", &path))?,
        };
        let Some(geometry) = geometry else {
            if header.entry_count > 1 {
                self.blind = true;
                let detail = format!(
                    "its geometry is not stored and could not be made out, so it was not checked; \
                     give it with -o index_slots and -o index_entries len={len}"
                );
                findings.note("index-geometry", &path, detail);
            }
            return Ok(());
        };
        if header.entry_count > geometry.entries {
            let detail = format!("more entries than room count={}", header.entry_count);
            findings.add("index-header", Severity::Inconsistency, &path, (36, 4), detail);
        }
        let count = header.entry_count.min(geometry.entries);
        let name = path.name();
        let trusted = match state {
            _ if closed => count,
            Some(state) if name < state.file_name.as_str() => count,
            Some(state) if name == state.file_name => count.min(state.count),
            _ => 0,
        };
        self.files.push(File { path, file, geometry, count, trusted, header, closed });
        Ok(())
    }

    /// What is wrong with the entry or slot that leads to `number`: what the next open trusts is
    /// worse than what it makes anew.
    fn severity(&self, file: usize, number: u32) -> Severity {
        let trusted = self.files[file].trusted;
        if !self.rebuilt && number < trusted { Severity::Inconsistency } else { Severity::Note }
    }

    /// Whether each entry leads to the one before it in its slot, and the slots to the last ones.
    fn chains(&mut self, file: usize, findings: &mut Findings<'_>) -> Result<()> {
        let File { count, trusted, geometry, .. } = self.files[file];
        let mut heads = vec![0_u32; geometry.slots as usize];
        let mut trusted_heads = None;
        for number in 1..count {
            if number == trusted {
                trusted_heads = Some(heads.clone());
            }
            let entry = self.entry(file, number)?;
            let slot = geometry.slot_of(entry.hash) as usize;
            if entry.previous != heads[slot] && (number < trusted || !self.live) {
                let detail = format!(
                    "an entry's chain is broken entry={number} previous={} expected={}",
                    entry.previous, heads[slot]
                );
                let range = (geometry.entry_at(number), ENTRY);
                let severity = self.severity(file, number);
                let path = &self.files[file].path;
                findings.add("index-chain", severity, path, range, detail);
            }
            heads[slot] = number;
        }
        self.header(file, findings)?;
        self.slots(file, &heads, trusted_heads.as_deref().unwrap_or(&heads), findings)
    }

    /// Whether the header is that of the first and the last entry.
    fn header(&mut self, file: usize, findings: &mut Findings<'_>) -> Result<()> {
        let File { count, trusted, header, .. } = self.files[file];
        if count < 2 || self.live || count > trusted && !self.rebuilt {
            return Ok(());
        }
        let (first, last) = (self.entry(file, 1)?, self.entry(file, count - 1)?);
        let wrong = first.physical_offset != header.begin_offset
            || last.physical_offset != header.end_offset;
        if wrong {
            let detail = format!(
                "the header is not that of the first and the last entry begin={} first={} end={} \
                 last={}",
                header.begin_offset, first.physical_offset, header.end_offset, last.physical_offset
            );
            let severity = self.severity(file, 0);
            findings.add("index-header", severity, &self.files[file].path, (16, 16), detail);
        }
        Ok(())
    }

    /// Whether the slots lead to `heads`, the last entries of their chains. A writer sets slots
    /// before it counts the entries; `trusted_heads` is what they were for the entries that the
    /// next open trusts.
    fn slots(
        &self,
        file: usize,
        heads: &[u32],
        trusted_heads: &[u32],
        findings: &mut Findings<'_>,
    ) -> Result<()> {
        const SLOT: usize = INDEX_SLOT_BYTES;
        const MANY: usize = 65536;
        let File { file: disk_file, path, geometry, trusted, count, closed, .. } =
            &self.files[file];
        let mut bytes = vec![0; SLOT * MANY];
        let mut first = 0;
        for (heads, before) in heads.chunks(MANY).zip(trusted_heads.chunks(MANY)) {
            let bytes = &mut bytes[..heads.len() * SLOT];
            let read = disk_file.read_exact_at(bytes, geometry.slot_at(first));
            read.map_err(failed("read", path))?;
            let expected = heads.iter().zip(before);
            for (slot, (bytes, (&now, &before))) in
                (first..).zip(bytes.as_chunks().0.iter().zip(expected))
            {
                let head = decode_slot(*bytes);
                let ahead = head >= *count && !closed && !self.rebuilt;
                if head == now || ahead || self.live && (head >= *trusted || head == before) {
                    continue;
                }
                let severity = match head == before && head < *trusted {
                    true => Severity::Note,
                    false if *closed => self.severity(file, 0),
                    false => self.severity(file, head),
                };
                let detail = format!("a slot leads to entry={head}, not to entry={now}");
                let range = (geometry.slot_at(slot), SLOT as u64);
                findings.add("index-slot", severity, path, range, detail);
            }
            first += heads.len() as u32;
        }
        let used = heads.iter().filter(|head| **head != 0).count() as u32;
        let header = &self.files[file].header;
        if header.slot_count != used && (*closed || self.rebuilt) && !self.live {
            let detail = format!("the header counts slots={} and not {used}", header.slot_count);
            let severity = self.severity(file, 0);
            findings.add("index-header", severity, path, (32, 4), detail);
        }
        Ok(())
    }

    fn entry(&mut self, file: usize, number: u32) -> Result<IndexEntry> {
        let File { file: disk_file, path, geometry, count, .. } = &self.files[file];
        let window = &mut self.window;
        let have = (window.bytes.len() / INDEX_ENTRY_BYTES) as u32;
        if window.file != file || number < window.from || number - window.from >= have {
            let take = CHUNK.min(count - number);
            window.bytes.resize(take as usize * INDEX_ENTRY_BYTES, 0);
            let read = disk_file.read_exact_at(&mut window.bytes, geometry.entry_at(number));
            read.map_err(failed("read", path))?;
            (window.file, window.from) = (file, number);
        }
        let at = (number - window.from) as usize * INDEX_ENTRY_BYTES;
        let bytes = window.bytes[at..].first_chunk();
        Ok(bytes.map_or(IndexEntry::decode(&[0; INDEX_ENTRY_BYTES]), IndexEntry::decode))
    }

    /// The entry that comes next in all files.
    fn peek(&mut self) -> Result<Option<IndexEntry>> {
        while let Some(file) = self.files.get(self.place.0) {
            if self.place.1 < file.count {
                return self.entry(self.place.0, self.place.1).map(Some);
            }
            self.place = (self.place.0 + 1, 1);
        }
        Ok(None)
    }

    /// The next record of the log.
    pub(super) fn record(
        &mut self,
        view: &RecordView<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<()> {
        if self.blind || view.transaction_state() == TransactionState::Rollback {
            return Ok(());
        }
        let all = hashes(view);
        if all.is_empty() {
            return Ok(());
        }
        let at = view.physical_offset();
        let mut wanted = all;
        let mut more = false;
        while let Some(entry) = self.peek()? {
            if entry.physical_offset > at {
                more = true;
                break;
            }
            self.compared += 1;
            if entry.physical_offset == at {
                self.time(&entry, view, findings);
            }
            if entry.physical_offset < at {
                self.stray(&entry, findings)?;
            } else if let Some(i) = wanted.iter().position(|hash| *hash == entry.hash) {
                wanted.swap_remove(i);
            } else if !may_have(view, entry.hash) {
                self.wrong(&entry, "the record there has no such key", findings);
            }
            self.place.1 += 1;
        }
        if !wanted.is_empty() {
            self.missing(at, more, findings);
        }
        Ok(())
    }

    /// A record's keys are not all there; `more` says whether entries for later ones are.
    fn missing(&mut self, at: PhysicalOffset, more: bool, findings: &mut Findings<'_>) {
        if !more {
            let (_, count) = self.lagging.get_or_insert((at, 0));
            *count += 1;
            return;
        }
        let Some(File { path, geometry, trusted, .. }) = self.files.get(self.place.0) else {
            return;
        };
        let number = self.place.1;
        let untrusted = self.rebuilt || number >= *trusted;
        let severity = if untrusted { Severity::Note } else { Severity::Inconsistency };
        let detail = format!("keys of a record are not in the index log_offset={at}");
        let range = (geometry.entry_at(number), 0);
        findings.add("index-key-missing", severity, path, range, detail);
    }

    /// An entry for something before the record that comes next in the log.
    fn stray(&mut self, entry: &IndexEntry, findings: &mut Findings<'_>) -> Result<()> {
        let at = entry.physical_offset;
        if at < self.start || damage_in(self.damage, at, at + 1).is_some() {
            return Ok(());
        }
        // Perhaps the keys were put twice, or a repair put a placeholder there.
        let found = record_at(self.disk, self.log_files, at, |view| {
            is_placeholder(view) || may_have(view, entry.hash)
        })?;
        match found {
            Some(true) => {}
            Some(false) => self.wrong(entry, "the record there has no such key", findings),
            None => self.wrong(entry, "no record begins there", findings),
        }
        Ok(())
    }

    /// Whether the entry, and the header if it is the first or the last one, says when the record
    /// was stored.
    fn time(&self, entry: &IndexEntry, view: &RecordView<'_>, findings: &mut Findings<'_>) {
        let (file, number) = self.place;
        let Some(File { path, count, trusted, header, .. }) = self.files.get(file) else { return };
        let stored = view.store_time();
        if entry.seconds != IndexEntry::seconds_between(header.begin_time, stored) {
            self.wrong(entry, "it has not the record's time", findings);
        }
        let begins = number == 1 && header.begin_time != stored;
        // An open that cut the file knows the second only, and took its end.
        let second = i64::from(entry.seconds).saturating_mul(1000).saturating_add(999);
        let latest = header.begin_time.as_millis().saturating_add(second);
        let end = header.end_time;
        let ends = number + 1 == *count && end != stored && end.as_millis() != latest;
        let settled = !self.live && (self.rebuilt || count <= trusted);
        if (begins || ends) && settled {
            let detail = "the header has not the times of the first and the last entry";
            findings.add("index-header", self.severity(file, 0), path, (0, 16), detail);
        }
    }

    fn wrong(&self, entry: &IndexEntry, why: &str, findings: &mut Findings<'_>) {
        let Some(File { path, geometry, .. }) = self.files.get(self.place.0) else { return };
        let number = self.place.1;
        let range = (geometry.entry_at(number), ENTRY);
        let at = entry.physical_offset;
        let detail = format!("an entry is wrong: {why} entry={number} log_offset={at}");
        findings.add("index-entry", self.severity(self.place.0, number), path, range, detail);
    }

    /// After the last record.
    pub(super) fn finish(&mut self, findings: &mut Findings<'_>) -> Result<()> {
        if self.blind {
            return Ok(());
        }
        let mut ahead = 0;
        while let Some(entry) = self.peek()? {
            self.compared += 1;
            if entry.physical_offset >= self.end {
                ahead += 1;
            } else {
                self.stray(&entry, findings)?;
            }
            self.place.1 += 1;
        }
        let dir = index::root();
        if ahead > 0 {
            let detail = format!("entries for records behind the log's end count={ahead}");
            findings.note("index-ahead", &dir, detail);
        }
        if let Some((at, records)) = self.lagging {
            let detail = format!(
                "the index lags behind the log or is not kept; an open with the index on brings it \
                 up to date log_offset={at} records={records}"
            );
            findings.note("index-lags", &dir, detail);
        }
        Ok(())
    }
}

/// The length of most of the files; of the longest if several are as frequent.
fn usual_len(disk: &dyn Disk, names: &[String]) -> Result<u64> {
    let mut lens = BTreeMap::new();
    for entry in disk::list(disk, &index::root())? {
        if names.contains(&entry.name) {
            *lens.entry(entry.len).or_insert(0) += 1;
        }
    }
    Ok(lens.into_iter().max_by_key(|(len, count)| (*count, *len)).map_or(0, |(len, _)| len))
}

fn hashes(view: &RecordView<'_>) -> Vec<u32> {
    let keys = view.unique_key().into_iter().chain(view.keys());
    keys.map(|key| key_hash(view.topic(), key)).collect()
}

/// Whether an entry with this hash may be one of the record's. From 5.5.1 on RocketMQ indexes the
/// tag too, under a key of its own making; nobody has to.
fn may_have(view: &RecordView<'_>, hash: u32) -> bool {
    let tag = view.tag().map(|tag| key_hash(view.topic(), &format!("T#{tag}")));
    tag == Some(hash) || hashes(view).contains(&hash)
}

/// The geometry of the first file that tells it.
pub(super) fn geometry_on(disk: &dyn Disk) -> Result<Option<IndexGeometry>> {
    for name in index::list(disk, |_| {})? {
        let path = index::root().join(&name);
        let (file, len, header) = open(disk, &path)?;
        let Some(header) = header else { continue };
        let found = geometry::find(&*file, len, &header).map_err(failed("read", &path))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The file, its length, and its header if it is long enough to have one.
fn open(disk: &dyn Disk, path: &FilePath) -> Result<(Arc<dyn DiskFile>, u64, Option<IndexHeader>)> {
    let file = disk.open(path, Access::Read).map_err(failed("open", path))?;
    let len = file.len().map_err(failed("read the length of", path))?;
    if len < INDEX_HEADER_BYTES as u64 {
        return Ok((file, len, None));
    }
    let mut header = [0; INDEX_HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(failed("read", path))?;
    Ok((file, len, Some(IndexHeader::decode(&header))))
}
