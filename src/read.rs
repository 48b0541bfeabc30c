//! Reading: batches of one queue, single records, and the log from end to end.

use std::fmt;

use crate::{
    engine::Engine,
    error::{Error, ErrorKind, Result},
    format::{
        entry::QueueEntry,
        frame::{ChecksumRule, Frame, classify},
        hash::java_hash,
        view::RecordView,
    },
    log::read::{LogSlice, damaged},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    queue::first_at_or_after,
};

/// How much one read returns at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    records: usize,
    bytes: u64,
}

impl ReadLimit {
    /// At most `records` records, whatever their size.
    pub fn records(records: usize) -> Self {
        Self { records, bytes: u64::MAX }
    }

    /// Also at most `bytes` bytes of log, but always one record if there is any.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
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
    records: Vec<Record>,
    next: QueueOffset,
    min: QueueOffset,
    end: QueueOffset,
}

impl Batch {
    /// The records' fields.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> {
        self.records.iter().map(Record::view)
    }

    /// The records themselves, to keep.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none: the queue has nothing (that passes the filter) at the offset yet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
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
            let kind = ErrorKind::OutOfRange { start: min.get(), end: end.get() };
            let text = format!("not in the queue queue={key} offset={from} min={min} end={end}");
            return Err(Error::new(kind, text));
        }
        let hashes: Option<Vec<i64>> =
            tags.map(|tags| tags.iter().map(|t| i64::from(java_hash(t))).collect());
        let mut batch = Batch { records: Vec::new(), next: from, min, end };
        let mut entries = Vec::with_capacity(CHUNK);
        let mut bytes = 0;
        'full: while batch.records.len() < limit.records && batch.next < end {
            let want = (limit.records - batch.records.len()).min(CHUNK);
            entries.clear();
            queue.read(batch.next, want, &mut entries)?;
            if entries.is_empty() {
                break;
            }
            batch.records.reserve(entries.len());
            for (number, entry) in entries.iter().enumerate() {
                if let Some(later) = entries.get(number + 2) {
                    self.log.prefetch(later.physical_offset);
                }
                let skip = hashes.as_ref().is_some_and(|h| !h.contains(&entry.tags_code));
                if !skip {
                    let record = match self.record_of(key, batch.next, entry) {
                        Ok(record) => record,
                        // What is sound before the damage is handed out first.
                        Err(_) if !batch.records.is_empty() => break 'full,
                        Err(error) => return Err(error),
                    };
                    let size = u64::from(entry.size);
                    if !batch.records.is_empty() && bytes + size > limit.bytes {
                        break 'full;
                    }
                    // Equal hashes are not equal tags.
                    let wanted = tags.is_none_or(|tags| {
                        record.view().tag().is_some_and(|tag| tags.contains(&tag))
                    });
                    if wanted {
                        bytes += size;
                        batch.records.push(record);
                    }
                }
                batch.next = batch.next.next();
            }
        }
        Ok(batch)
    }

    /// The record a queue entry points at, checked: sound, and the one that belongs there.
    fn record_of(&self, key: &QueueKey, at: QueueOffset, entry: &QueueEntry) -> Result<Record> {
        if entry.is_filler() {
            return Err(damaged(
                self.log.start(),
                0,
                &format!("the record of this queue position is lost queue={key} offset={at}"),
            ));
        }
        let size = u64::from(entry.size);
        let record = self.checked(entry.physical_offset, size)?;
        let view = record.view();
        if !key.is(view.topic(), view.queue_id()) || view.queue_offset() != at {
            let text = format!(
                "the queue entry points at another queue's record queue={key} queue_offset={at}"
            );
            return Err(damaged(entry.physical_offset, size, &text));
        }
        Ok(record)
    }

    /// The record of `size` bytes at `at`, with its checksums verified.
    fn checked(&self, at: PhysicalOffset, size: u64) -> Result<Record> {
        let slice = self.log.slice(at, size)?;
        let view =
            RecordView::parse(slice.bytes()).map_err(|why| damaged(at, size, &why.to_string()))?;
        if view.physical_offset() != at || u64::from(view.size()) != size {
            return Err(damaged(at, size, "the record is not the one that was written there"));
        }
        view.verify().map_err(|why| damaged(at, size, &why.to_string()))?;
        Ok(Record { slice })
    }

    pub(crate) fn record_at(&self, at: PhysicalOffset) -> Result<Record> {
        let head = self.log.slice(at, 8)?;
        let size = head.bytes().first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
        self.checked(at, u64::from(size.max(8)))
    }

    pub(crate) fn offset_by_time(&self, key: &QueueKey, time: StoreTime) -> Result<QueueOffset> {
        let queue = self.queues.get(key).ok_or_else(|| unknown(key))?;
        first_at_or_after(&queue, time, |entry| {
            if entry.is_filler() || entry.physical_offset < self.log.start() {
                return Ok(None);
            }
            let size = u64::from(entry.size);
            Ok(self.checked(entry.physical_offset, size).ok().map(|r| r.view().store_time()))
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
        let reason = match classify(rest.bytes(), at, room, ChecksumRule::WhenPresent) {
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
        match crate::format::resync::find_next_record(bytes, 1, at, ChecksumRule::WhenPresent) {
            Some(found) => at + found as u64,
            None => at + room,
        }
    }

    fn damage_reason(&self, at: PhysicalOffset) -> String {
        let findings = self.report.findings.iter();
        findings
            .filter_map(|finding| match finding {
                crate::Finding::Damage { start, reason, .. } if *start == at => {
                    Some(reason.clone())
                }
                _ => None,
            })
            .next()
            .unwrap_or_else(|| "recovery found it damaged".into())
    }
}

pub(crate) fn unknown(key: &QueueKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no such queue queue={key}"))
}
