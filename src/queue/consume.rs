//! One consume queue: entry number n says where the queue's message number n lies in the log.
//!
//! Entries are put into a tail in memory and written out to files later; readers see both as one
//! sequence that ends at a watermark.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::files::{ENTRY, FileId, QueueFiles, file_path};
use crate::{
    disk::failed,
    error::{Error, ErrorKind, Result},
    format::{
        entry::{OFFSET_MAX, QueueEntry},
        layout::RECORD_MIN_BYTES,
    },
    name::QueueKey,
    offset::QueueOffset,
    sync::{AtomicU64, Mutex, MutexGuard, thread_local},
    watermark::Watermark,
};

/// Longest gap that is filled. A longer one comes from a damaged record, not from a lost range.
const GAP_MAX: u64 = 1 << 24;
/// So many fillers wait in memory at most before they are written out.
const GAP_PIECE: u64 = 1 << 16;
/// Entries per read call at most.
const READ_ENTRIES: u64 = 3200;
/// A tail of so many entries (64 KiB) is worth a write call of its own.
const FULL_ENTRIES: usize = 3276;

/// What became of an entry that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is the queue's new last entry.
    Appended,
    /// So it is, after that many fillers for messages that are not in the log.
    Gap {
        /// How many.
        missing: u64,
    },
    /// The queue has it already, or now in the place of a filler, or is past its place for good.
    Duplicate,
    /// The queue has another entry there, and keeps it.
    Conflict,
}

/// What a tail holds after it was written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// What was put meanwhile.
    Entries,
}

/// Entries that are in no file yet.
struct Tail {
    /// Where entries were put behind a gap. Without damage before it that is a record with a wrong
    /// queue offset; the one that belongs there comes later.
    behind_gaps: BTreeSet<u64>,
    /// The queue offset of the first one.
    start: u64,
    entries: Vec<[u8; ENTRY as usize]>,
    /// Nothing was ever put, and nothing is known of the files: the first entry decides where
    /// the queue begins.
    fresh: bool,
    /// The next write has to put fillers before it, from the beginning of its file on.
    blank: bool,
    /// Whether the queue is in the list of those with a tail.
    listed: bool,
}

impl Tail {
    fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }
}

/// The entries of one queue.
pub(crate) struct ConsumeQueue {
    key: QueueKey,
    files: Arc<QueueFiles>,
    number: u32,
    min: AtomicU64,
    end: Watermark,
    tail: Mutex<Tail>,
    /// No file that begins below this byte exists.
    lowest_base: AtomicU64,
}

impl ConsumeQueue {
    pub(super) fn new(
        files: Arc<QueueFiles>,
        key: QueueKey,
        min: QueueOffset,
        end: QueueOffset,
    ) -> Self {
        assert!(min <= end && end.get() <= OFFSET_MAX, "{key} min={min} end={end}");
        let tail = Tail {
            behind_gaps: BTreeSet::new(),
            start: end.get(),
            entries: Vec::new(),
            fresh: end == QueueOffset::ZERO,
            blank: false,
            listed: false,
        };
        Self {
            key,
            number: files.number(),
            files,
            min: AtomicU64::new(min.get()),
            end: Watermark::new(end.get()),
            tail: Mutex::new(tail),
            lowest_base: AtomicU64::new(0),
        }
    }

    /// Which queue this is.
    pub(crate) fn key(&self) -> &QueueKey {
        &self.key
    }

    /// The first offset that can be read; the end if there is none.
    pub(crate) fn min(&self) -> QueueOffset {
        QueueOffset::new(self.min.load(Ordering::Acquire).min(self.end.get()))
    }

    /// The offset that the next message gets.
    pub(crate) fn end(&self) -> QueueOffset {
        QueueOffset::new(self.end.get())
    }

    /// The end, to wait for.
    pub(crate) fn end_mark(&self) -> &Watermark {
        &self.end
    }

    /// Gives the queue its entry `at`. A gap before it is filled with fillers; the first entry of
    /// a new queue makes none, the queue begins there.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `at` is further past the end than any lost
    /// range of a log can be, or the entry is none that Java accepts; nothing changed. I/O errors
    /// of comparing with an entry that is there.
    pub(crate) fn put(self: &Arc<Self>, at: QueueOffset, entry: QueueEntry) -> Result<Put> {
        let mut tail = self.tail.lock();
        let end = tail.end();
        if at.get() < end {
            drop(tail);
            return self.compare(at, entry);
        }
        let mut missing = at.get() - end;
        let bytes = entry.encode();
        // Messages that are lost were in the log before this one.
        let most = GAP_MAX.min(entry.physical_offset.get() / u64::from(RECORD_MIN_BYTES));
        if at.get() >= OFFSET_MAX
            || (missing > most && !tail.fresh)
            || QueueEntry::decode(&bytes) != Some(entry)
        {
            return Err(Error::invalid(format!(
                "no queue can go on like that queue={} offset={at} end={end} entry={entry:?}",
                self.key
            )));
        }
        if tail.fresh && missing > 0 {
            tail.start = at.get();
            tail.blank = true;
            missing = 0;
            // Before the end: who sees the new end sees the new beginning.
            self.min.store(at.get(), Ordering::Release);
        }
        tail.fresh = false;
        if missing > 0 {
            tail.behind_gaps.insert(at.get());
            drop(tail);
            // Nobody else puts entries.
            self.pad(at);
            tail = self.tail.lock();
        }
        let before = tail.entries.len();
        tail.entries.push(bytes);
        self.has_tail(tail, before);
        // Last, and without the lock: whoever waits is told on this thread and may read at once.
        self.end.advance(at.get() + 1);
        Ok(if missing == 0 { Put::Appended } else { Put::Gap { missing } })
    }

    /// Ends the queue at `end` at least, with fillers for offsets that were given to messages which
    /// are lost: they must not be given again. Returns how many.
    pub(crate) fn pad(self: &Arc<Self>, end: QueueOffset) -> u64 {
        let mut filled = 0;
        loop {
            let mut tail = self.tail.lock();
            let at = tail.end();
            let missing = end.get().saturating_sub(at);
            if missing == 0 || missing > GAP_MAX || tail.fresh {
                return filled;
            }
            let piece = missing.min(GAP_PIECE);
            let before = tail.entries.len();
            tail.entries.extend((0..piece).map(|_| QueueEntry::FILLER.encode()));
            self.has_tail(tail, before);
            self.end.advance(at + piece);
            filled += piece;
            if piece == GAP_PIECE {
                // Only to save memory: what fails stays in it, and who makes the queues durable
                // tries again and says why not.
                let _saved = self.files.write_full();
            }
        }
    }

    /// Sees to it that a tail which had `before` entries and has more now is written out some time.
    fn has_tail(self: &Arc<Self>, mut tail: MutexGuard<'_, Tail>, before: usize) {
        let after = tail.entries.len();
        let listed = std::mem::replace(&mut tail.listed, true);
        drop(tail);
        self.files.buffered.fetch_add((after - before) * ENTRY as usize, Ordering::Relaxed);
        if !listed {
            self.files.has_tail(Arc::downgrade(self));
        }
        if before < FULL_ENTRIES && after >= FULL_ENTRIES {
            self.files.has_full_tail(Arc::downgrade(self));
        }
    }

    /// Whether the entry at `at` was put behind a gap, told once.
    pub(super) fn was_behind_gap(&self, at: QueueOffset) -> bool {
        self.tail.lock().behind_gaps.remove(&at.get())
    }

    /// Puts `entry` in the place of the one at `at`, if that is in no file yet. Gives whether
    /// there is nothing to do in files. With the writer's lock held.
    pub(super) fn replace_in_tail(&self, at: QueueOffset, entry: &QueueEntry) -> bool {
        let mut tail = self.tail.lock();
        let Some(place) = at.get().checked_sub(tail.start) else { return false };
        if let Some(there) = tail.entries.get_mut(place as usize) {
            *there = entry.encode();
        }
        true
    }

    /// Appends to `out` the entries from `from` on, at most `max`, without a gap, up to the end.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](ErrorKind::OutOfRange) if `from` is before the first entry. I/O errors, and
    /// bytes in a file that are no entry, if that is what `from` itself meets: `out` is unchanged.
    pub(crate) fn read(
        &self,
        from: QueueOffset,
        max: usize,
        out: &mut Vec<QueueEntry>,
    ) -> Result<()> {
        let end = self.end.get();
        let min = self.min.load(Ordering::Acquire);
        if from.get() < min {
            return Err(Error::new(
                ErrorKind::OutOfRange { start: min, end },
                format!("{} begins at {min} offset={from}", self.key),
            ));
        }
        let to = end.min(from.get().saturating_add(max as u64));
        let mut at = from.get();
        let before = out.len();
        while at < to {
            let in_files = {
                let tail = self.tail.lock();
                if at >= tail.start {
                    let first = (at - tail.start) as usize;
                    let entries = &tail.entries[first..first + (to - at) as usize];
                    out.extend(entries.iter().filter_map(QueueEntry::decode));
                    return Ok(());
                }
                to.min(tail.start)
            };
            match self.read_files(at, in_files, out) {
                Ok(next) => at = next,
                Err(_) if out.len() > before => return Ok(()),
                // Retention may have removed the file since we looked.
                Err(_) if self.min.load(Ordering::Acquire) > from.get() => {
                    return self.read(from, max, out);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The entry `at`, `None` outside of the queue.
    pub(crate) fn entry(&self, at: QueueOffset) -> Result<Option<QueueEntry>> {
        if at < self.min() || at >= self.end() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(1);
        match self.read(at, 1, &mut out) {
            Err(e) if matches!(e.kind(), ErrorKind::OutOfRange { .. }) => Ok(None),
            other => other.map(|()| out.pop()),
        }
    }

    /// Reads entries from the file that holds `at`, at most up to `to`; gives the next offset.
    fn read_files(&self, at: u64, to: u64, out: &mut Vec<QueueEntry>) -> Result<u64> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let base = self.files.base_of(QueueOffset::new(at));
        let file = self.files.open(&self.key, self.id(base))?;
        let to = to.min((base + self.files.config.file_bytes) / ENTRY).min(at + READ_ENTRIES);
        let bytes = ((to - at) * ENTRY) as usize;
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < bytes {
                buffer.resize(bytes, 0);
            }
            let buffer = &mut buffer[..bytes];
            file.read_exact_at(buffer, at * ENTRY - base)
                .map_err(|e| failed("read", &file_path(&self.key, base))(e))?;
            for (n, bytes) in buffer.as_chunks().0.iter().enumerate() {
                let Some(entry) = QueueEntry::decode(bytes) else {
                    let hole = at + n as u64;
                    if hole >= self.tail.lock().start {
                        // Taken back meanwhile, because the file had lost it.
                        return Ok(hole);
                    }
                    return Err(self.hole(hole));
                };
                out.push(entry);
            }
            Ok(to)
        })
    }

    /// There is no entry where one was written: the file is damaged, and the log has to tell.
    fn hole(&self, at: u64) -> Error {
        self.files.degrade(&self.key);
        Error::new(
            ErrorKind::Io,
            format!(
                "{} has no entry where one was written; `steadfast repair` makes the queues anew \
                 from the log queue={} offset={at}",
                file_path(&self.key, self.files.base_of(QueueOffset::new(at))),
                self.key
            ),
        )
    }

    pub(super) fn files(&self) -> &QueueFiles {
        &self.files
    }

    pub(super) fn id(&self, base: u64) -> FileId {
        FileId { queue: self.number, base }
    }

    /// Says that the queue was taken off the list of those with a tail.
    pub(super) fn unlist(&self) {
        self.tail.lock().listed = false;
    }

    /// Puts the queue back on that list, if it needs to be.
    pub(super) fn relist(&self) -> bool {
        !std::mem::replace(&mut self.tail.lock().listed, true)
    }

    /// Writes what is in the tail into files, with the writer's lock held.
    pub(super) fn write_tail(&self) -> Result<Left> {
        // A copy, so that nobody waits for the disk: the entries stay in the tail until they can
        // be read from the files.
        let (start, entries) = {
            let tail = self.tail.lock();
            (tail.start, tail.entries.clone())
        };
        let per_file = self.files.config.file_bytes / ENTRY;
        let mut done = 0;
        let mut result = Ok(());
        while done < entries.len() {
            let at = start + done as u64;
            let room = (per_file - at % per_file) as usize;
            let piece = &entries[done..entries.len().min(done + room)];
            if let Err(e) = self.write_piece(QueueOffset::new(at), piece) {
                result = Err(e);
                break;
            }
            done += piece.len();
        }
        let mut tail = self.tail.lock();
        tail.start += done as u64;
        if done == tail.entries.len() {
            // An idle queue keeps no memory.
            tail.entries = Vec::new();
        } else {
            tail.entries.drain(..done);
        }
        self.files.buffered.fetch_sub(done * ENTRY as usize, Ordering::Relaxed);
        result?;
        Ok(if tail.entries.is_empty() { Left::Nothing } else { Left::Entries })
    }

    /// Writes entries that all belong to one file.
    fn write_piece(&self, at: QueueOffset, entries: &[[u8; ENTRY as usize]]) -> Result<()> {
        let base = self.files.base_of(at);
        let (file, created) = self.files.open_or_create(&self.key, self.id(base))?;
        let blank = {
            let mut tail = self.tail.lock();
            // Remembered until it is done: the next try finds the file there.
            tail.blank |= created;
            tail.blank
        };
        let write = |bytes: &[u8], offset| {
            file.write_all_at(bytes, offset)
                .map_err(|e| failed("write", &file_path(&self.key, base))(e))
        };
        let offset = at.get() * ENTRY - base;
        if blank {
            // A file is read from its beginning on, and a hole there would end the queue.
            let fillers = vec![QueueEntry::FILLER.encode(); (offset / ENTRY) as usize];
            write(fillers.as_flattened(), 0)?;
        }
        // The entry behind the last one is zeroed with it: what an earlier life of the file left
        // there, behind a hole, must never adjoin our end, where Java would take it for ours. Not
        // while catching up: the next entry is there, and would be lost to whoever reads the files
        // after a crash.
        let mut bytes = entries.as_flattened().to_vec();
        let adjoins = !self.files.catching_up.load(Ordering::Relaxed);
        if adjoins && offset + (bytes.len() as u64) < self.files.config.file_bytes {
            bytes.extend([0; ENTRY as usize]);
        }
        write(&bytes, offset)?;
        if blank {
            self.tail.lock().blank = false;
        }
        Ok(())
    }

    /// Takes entries that are in files back into the tail, from `start` on, so that they are
    /// written once more: `entries`, and fillers if there are more in the files. With the writer's
    /// lock held.
    pub(super) fn take_back(self: &Arc<Self>, start: u64, mut entries: Vec<[u8; ENTRY as usize]>) {
        let mut tail = self.tail.lock();
        let min = self.min.load(Ordering::Acquire);
        // Not into files that retention removed.
        let first = start.max(self.files.base_of(QueueOffset::new(min)) / ENTRY);
        if first >= tail.start {
            return;
        }
        entries.drain(..entries.len().min((first - start) as usize));
        entries.resize((tail.start - first) as usize, QueueEntry::FILLER.encode());
        let before = tail.entries.len();
        entries.append(&mut tail.entries);
        tail.entries = entries;
        tail.start = first;
        // Nobody reads what is before the first live entry; in a new file it may be lost, too.
        tail.blank = min >= first;
        self.has_tail(tail, before);
    }

    /// Writes the zeros behind the last entry once more: a failed sync may have brought back what
    /// an earlier life of the file had there. With the writer's lock held.
    pub(super) fn write_zeros_behind(&self) -> Result<()> {
        let end = self.end();
        let base = self.files.base_of(end);
        // What is in the tail brings its own; without live entries there may be no file.
        let has_own = self.tail_bytes() > 0 || self.min() == end;
        if has_own || end.get() * ENTRY == base {
            return Ok(());
        }
        let (file, created) = self.files.open_or_create(&self.key, self.id(base))?;
        self.tail.lock().blank |= created;
        file.write_all_at(&[0; ENTRY as usize], end.get() * ENTRY - base)
            .map_err(|e| failed("write", &file_path(&self.key, base))(e))
    }

    /// The tail's first queue offset, and its entries.
    pub(super) fn tail_entries(&self) -> (u64, Vec<[u8; ENTRY as usize]>) {
        let tail = self.tail.lock();
        (tail.start, tail.entries.clone())
    }

    /// Makes `min` the first entry, at most the end.
    pub(super) fn raise_min(&self, min: QueueOffset) {
        debug_assert!(min <= self.end());
        self.min.fetch_max(min.get(), Ordering::AcqRel);
    }

    pub(super) fn lowest_base(&self) -> &AtomicU64 {
        &self.lowest_base
    }

    /// Bytes in the tail.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.lock().entries.len() * ENTRY as usize
    }
}

impl fmt::Debug for ConsumeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumeQueue")
            .field("key", &self.key)
            .field("min", &self.min())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}
