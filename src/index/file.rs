//! One index file: a header, a table of slots, and entries chained from their slot, newest first.

use std::{
    collections::{BTreeMap, btree_map},
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    disk::{Access, Disk, DiskFile, FilePath, failed},
    error::Result,
    format::index::{
        INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, INDEX_SLOT_BYTES, IndexEntry, IndexGeometry,
        IndexHeader, decode_slot, encode_slot,
    },
    offset::{PhysicalOffset, StoreTime},
    sync::{AtomicBool, AtomicU32, Mutex},
};

const HEADER: u64 = INDEX_HEADER_BYTES as u64;
const SLOT: u64 = INDEX_SLOT_BYTES as u64;
const ENTRY: u64 = INDEX_ENTRY_BYTES as u64;
/// Bytes of a table read or written at once.
const CHUNK: u64 = 1 << 20;

/// A key to be added.
#[derive(Clone, Copy, Debug)]
pub(super) struct HashedKey {
    pub(super) hash: u32,
    pub(super) offset: PhysicalOffset,
    pub(super) time: StoreTime,
}

/// One index file.
#[derive(Debug)]
pub(super) struct IndexFile {
    pub(super) path: FilePath,
    file: Arc<dyn DiskFile>,
    geometry: IndexGeometry,
    /// What counts; the one in the file follows.
    header: Mutex<IndexHeader>,
    /// Entries below this number can be read: at least those that the header counts.
    limit: AtomicU32,
    /// The slots, where those of the file are not to be trusted and must not be written.
    slots: Option<Vec<u32>>,
    dirty: AtomicBool,
}

impl IndexFile {
    pub(super) fn create(
        disk: &dyn Disk,
        path: FilePath,
        geometry: IndexGeometry,
    ) -> std::io::Result<Self> {
        let file = disk.create(&path, geometry.file_bytes())?;
        let header = IndexHeader::EMPTY;
        Ok(Self::with_header(path, file, geometry, header))
    }

    fn with_header(
        path: FilePath,
        file: Arc<dyn DiskFile>,
        geometry: IndexGeometry,
        header: IndexHeader,
    ) -> Self {
        Self {
            path,
            file,
            geometry,
            limit: AtomicU32::new(header.entry_count),
            header: Mutex::new(header),
            slots: None,
            dirty: AtomicBool::new(false),
        }
    }

    /// Opens a file and checks its length and header; `Err` of the inner result says what is
    /// wrong with them.
    pub(super) fn open(
        disk: &dyn Disk,
        path: FilePath,
        geometry: IndexGeometry,
        access: Access,
    ) -> Result<Result<Self, String>> {
        let file = disk.open(&path, access).map_err(failed("open", &path))?;
        let len = file.len().map_err(failed("read the length of", &path))?;
        if len != geometry.file_bytes() {
            let expected = geometry.file_bytes();
            return Ok(Err(format!("{path} has another size len={len} expected={expected}")));
        }
        let mut bytes = [0; HEADER as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed("read", &path))?;
        let header = IndexHeader::decode(&bytes);
        if header.entry_count > geometry.entries || header.begin_offset > header.end_offset {
            return Ok(Err(format!("{path} has an impossible header {header:?}")));
        }
        Ok(Ok(Self::with_header(path, file, geometry, header)))
    }

    pub(super) fn header(&self) -> IndexHeader {
        *self.header.lock()
    }

    /// How many more keys fit.
    pub(super) fn room(&self) -> usize {
        (self.geometry.entries - self.header().entry_count) as usize
    }

    /// Adds keys, which must fit. After an error nothing was added, and the call can be repeated
    /// with these or other keys.
    pub(super) fn append(&self, keys: &[HashedKey]) -> Result<()> {
        debug_assert!(!keys.is_empty() && keys.len() <= self.room());
        let mut header = self.header();
        let (first_number, first_key) = (header.entry_count, keys[0]);
        if first_number == 1 {
            header.begin_time = first_key.time;
            header.begin_offset = first_key.offset;
        }
        let mut heads = BTreeMap::new();
        let mut entries = Vec::with_capacity(keys.len() * ENTRY as usize);
        for key in keys {
            let slot = self.geometry.slot_of(key.hash);
            let previous = match heads.entry(slot) {
                btree_map::Entry::Occupied(mut head) => head.insert(header.entry_count),
                btree_map::Entry::Vacant(head) => {
                    head.insert(header.entry_count);
                    self.head(slot, first_number)?
                }
            };
            header.slot_count += u32::from(previous == 0);
            header.entry_count += 1;
            header.end_time = key.time;
            header.end_offset = key.offset;
            let seconds = seconds(header.begin_time, key.time);
            let entry =
                IndexEntry { hash: key.hash, physical_offset: key.offset, seconds, previous };
            entries.extend_from_slice(&entry.encode());
        }
        // Entries before the slots that lead to them, and the header, which counts them, last.
        self.dirty.store(true, Ordering::SeqCst);
        self.write(&entries, self.geometry.entry_at(first_number))?;
        self.limit.store(header.entry_count, Ordering::Release);
        for (slot, number) in heads {
            self.write(&encode_slot(number), self.geometry.slot_at(slot))?;
        }
        self.write(&header.encode(), 0)?;
        // Again: a sync may have begun before the writes.
        self.dirty.store(true, Ordering::SeqCst);
        *self.header.lock() = header;
        Ok(())
    }

    /// The newest entry of a slot below `first`. Higher ones are left of an append that failed:
    /// their chain leads to the right one.
    fn head(&self, slot: u32, first: u32) -> Result<u32> {
        let mut number = self.slot(slot)?;
        while number >= first {
            if number >= self.geometry.entries {
                return Ok(0);
            }
            let previous = self.entry(number)?.previous;
            if previous >= number {
                return Ok(0);
            }
            number = previous;
        }
        Ok(number)
    }

    /// Shows `visit` the entries with that hash, newest first, until it breaks. A chain that does
    /// not lead to ever older entries ends there.
    pub(super) fn walk(
        &self,
        hash: u32,
        mut visit: impl FnMut(u32, &IndexEntry) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let limit = self.limit.load(Ordering::Acquire);
        let slot = self.geometry.slot_of(hash);
        let mut number = match &self.slots {
            Some(slots) => slots[slot as usize],
            None => self.slot(slot)?,
        };
        // A newer one than the limit was put just now, or is left of a failed append.
        if number >= limit && number < self.geometry.entries {
            number = self.head(slot, limit)?;
        }
        while self.geometry.has_entry(number, limit) {
            let entry = self.entry(number)?;
            if entry.hash == hash && visit(number, &entry)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if entry.previous >= number {
                break;
            }
            number = entry.previous;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Forgets all entries from number `count` on, the last one left being for the record at
    /// `end`. `None` if the file does not hold that.
    pub(super) fn cut(
        mut self,
        count: u32,
        end: PhysicalOffset,
        access: Access,
    ) -> Result<Option<Self>> {
        let mut header = self.header();
        if count < 2 || count > header.entry_count || header.begin_offset > end {
            return Ok(None);
        }
        let last = self.entry(count - 1)?;
        if last.physical_offset != end {
            return Ok(None);
        }
        if header.entry_count > count {
            // To the end of the second, of which the entry tells the beginning only.
            let begin = header.begin_time.as_millis();
            let millis = i64::from(last.seconds).saturating_mul(1000).saturating_add(999);
            header.end_time = StoreTime::from_millis(begin.saturating_add(millis));
        }
        header.entry_count = count;
        header.end_offset = end;
        let mut slots = self.load_slots()?;
        // A slot that was written after the entries we keep leads past them.
        let stale = slots.iter().any(|&number| number >= count);
        if stale {
            slots = self.chain_heads(count)?;
        }
        header.slot_count = slots.iter().filter(|&&number| number > 0).count() as u32;
        self.limit = AtomicU32::new(count);
        self.header = Mutex::new(header);
        if access == Access::Write {
            if stale {
                self.store_slots(&slots)?;
            }
            self.write(&header.encode(), 0)?;
            self.dirty = AtomicBool::new(true);
        } else if stale {
            self.slots = Some(slots);
        }
        Ok(Some(self))
    }

    fn load_slots(&self) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(self.geometry.slots as usize);
        self.read_table(self.geometry.slot_at(0), self.geometry.entry_at(0), |bytes| {
            slots.extend(bytes.as_chunks().0.iter().map(|&b| decode_slot(b)));
        })?;
        Ok(slots)
    }

    /// What the slots were when entry `count - 1` was the newest.
    fn chain_heads(&self, count: u32) -> Result<Vec<u32>> {
        let mut slots = vec![0; self.geometry.slots as usize];
        let mut number = 1;
        self.read_table(self.geometry.entry_at(1), self.geometry.entry_at(count), |bytes| {
            for bytes in bytes.as_chunks().0 {
                let hash = IndexEntry::decode(bytes).hash;
                slots[self.geometry.slot_of(hash) as usize] = number;
                number += 1;
            }
        })?;
        Ok(slots)
    }

    fn read_table(&self, from: u64, to: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = Vec::new();
        let mut at = from;
        while at < to {
            // A multiple of both slots and entries.
            buffer.resize((CHUNK / ENTRY * ENTRY).min(to - at) as usize, 0);
            self.read(&mut buffer, at)?;
            take(&buffer);
            at += buffer.len() as u64;
        }
        Ok(())
    }

    fn store_slots(&self, slots: &[u32]) -> Result<()> {
        for (n, slots) in slots.chunks((CHUNK / SLOT) as usize).enumerate() {
            let bytes: Vec<_> = slots.iter().flat_map(|&number| encode_slot(number)).collect();
            self.write(&bytes, HEADER + n as u64 * CHUNK)?;
        }
        Ok(())
    }

    /// Makes durable what was appended before the call.
    pub(super) fn sync(&self) -> Result<()> {
        if self.dirty.swap(false, Ordering::SeqCst) {
            self.file.sync_data().map_err(failed("sync", &self.path))?;
        }
        Ok(())
    }

    fn slot(&self, slot: u32) -> Result<u32> {
        let mut bytes = [0; SLOT as usize];
        self.read(&mut bytes, self.geometry.slot_at(slot))?;
        Ok(decode_slot(bytes))
    }

    fn entry(&self, number: u32) -> Result<IndexEntry> {
        let mut bytes = [0; ENTRY as usize];
        self.read(&mut bytes, self.geometry.entry_at(number))?;
        Ok(IndexEntry::decode(&bytes))
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(buffer, at).map_err(|e| failed("read", &self.path)(e))
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|e| failed("write", &self.path)(e))
    }
}

/// Whole seconds from the file's first time on, as an entry holds them.
fn seconds(begin: StoreTime, time: StoreTime) -> u32 {
    if begin.as_millis() <= 0 {
        return 0;
    }
    IndexEntry::seconds_between(begin, time)
}

/// Whether the record of entry `number` may have been stored in `begin..=end`. Entries hold whole
/// seconds, cut off at both ends, so this errs on the side of yes.
pub(super) fn may_be_within(
    header: &IndexHeader,
    number: u32,
    entry: &IndexEntry,
    begin: StoreTime,
    end: StoreTime,
) -> bool {
    let base = header.begin_time.as_millis();
    // Java counts a follow-on file's first entry from the end of the file before.
    if base <= 0 || number == 1 {
        return true;
    }
    let seconds = entry.seconds;
    let low = base.saturating_add(i64::from(seconds).saturating_mul(1000));
    let low_enough = seconds == 0 || low <= end.as_millis();
    let high_enough = seconds >= i32::MAX as u32 || low.saturating_add(999) >= begin.as_millis();
    low_enough && high_enough
}
