//! Derives queue entries and index keys from the log. Recovery and the running store do it with
//! the same steps: only where they begin differs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    error::{ErrorKind, Result},
    format::{
        entry::{DelayLevels, Found, QueueEntry},
        frame::{ChecksumRule, is_blank},
        layout::TransactionState,
        resync::find_next_record,
        view::RecordView,
    },
    index::{IndexKey, KeyIndex},
    log::{CommitLog, read::LogSlice},
    name::QueueKey,
    offset::PhysicalOffset,
    queue::{Before, ConsumeQueue, Put, QueueTable},
};

/// Records per step at most, so that the watermark moves while a long tail is worked off.
const STEP_RECORDS: usize = 4096;
/// So many records ahead are fetched into the processor's cache.
const PREFETCH_RECORDS: usize = 4;
/// Records that somebody with other things to do dispatches at most.
const HELP_RECORDS: usize = 16;
/// Short tails in memory beyond this many bytes in all are written to their files.
const BUFFER_BYTES: usize = 4 << 20;

/// Queues remembered by the dispatcher, a power of two.
const RECENT: usize = 64;

/// Things that should not happen, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DispatchCounts {
    /// Queue offsets without a record, filled with placeholders.
    pub(crate) gaps: u64,
    /// Records whose queue offset another record holds.
    pub(crate) conflicts: u64,
    /// Records that name no valid queue.
    pub(crate) unplaced: u64,
    /// Places in the log where no record could be made out.
    pub(crate) damaged: u64,
}

/// Follows the log and fills queues and index.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) counts: DispatchCounts,
    /// Queues written lately, by a few bits of their names: most records are of one of these, and
    /// it is found without a hash and a lock.
    recent: Vec<Option<Arc<ConsumeQueue>>>,
    /// Keys could not be put, so none are any more.
    pub(crate) index_behind: bool,
    levels: DelayLevels,
    /// For catching up.
    before: Before,
}

/// What to do about a record with keys: putting them into the index may touch its file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Put,
    /// Stop before the record.
    Leave,
}

/// The parts a dispatcher works on.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'a> {
    pub(crate) log: &'a CommitLog,
    pub(crate) queues: &'a QueueTable,
    pub(crate) index: Option<&'a KeyIndex>,
    pub(crate) clock: &'a dyn Clock,
}

impl Dispatcher {
    pub(crate) fn new() -> Self {
        Self {
            counts: DispatchCounts::default(),
            recent: vec![None; RECENT],
            index_behind: false,
            levels: DelayLevels::default(),
            before: Before::default(),
        }
    }

    /// To be called when queues were replaced in their table: the one that is remembered here may
    /// not be in it any more, and what is put there would be seen by nobody.
    pub(crate) fn forget_queues(&mut self) {
        self.recent.fill(None);
        self.before.clear();
    }

    /// Dispatches what is visible and not dispatched yet, at most a few thousand records. Returns
    /// how many; 0 means there is nothing to do.
    pub(crate) fn step(&mut self, targets: Targets<'_>) -> Result<usize> {
        let records = self.advance(targets, STEP_RECORDS, Keys::Put)?;
        // After a failure the entries are still in memory and readable; the next checkpoint tries
        // again and says what is wrong.
        let _ = targets.queues.write_full();
        if targets.queues.buffered_bytes() > BUFFER_BYTES {
            let _ = targets.queues.write_out();
        }
        Ok(records)
    }

    /// Dispatches a few records without touching a file. [`step`](Self::step) does what it leaves.
    pub(crate) fn help(&mut self, targets: Targets<'_>) -> Result<()> {
        self.advance(targets, HELP_RECORDS, Keys::Leave).map(|_| ())
    }

    fn advance(&mut self, targets: Targets<'_>, most: usize, on_keys: Keys) -> Result<usize> {
        let marks = targets.log.marks();
        let from = PhysicalOffset::new(marks.dispatched.get());
        let to = PhysicalOffset::new(marks.visible().get());
        if from >= to {
            return Ok(0);
        }
        if let Some(hit) = targets.log.damage_in(from, from + 1) {
            marks.dispatched.advance(hit.end.min(to).get());
            return Ok(1);
        }
        let slice = targets.log.rest(from)?;
        let (records, end) = self.dispatch(targets, &slice, from, most, on_keys)?;
        marks.dispatched.advance(end.get());
        Ok(records)
    }

    /// Derives the entries of all records from `from` to `to` (or a little further) once more. The
    /// queues of `targets` hold nothing of them yet. Moves no watermark.
    pub(crate) fn derive(
        &mut self,
        targets: Targets<'_>,
        from: PhysicalOffset,
        to: PhysicalOffset,
    ) -> Result<()> {
        let mut at = from;
        while at < to {
            at = match targets.log.damage_in(at, at + 1) {
                Some(hit) => hit.end,
                None => {
                    let slice = targets.log.rest(at)?;
                    self.dispatch(targets, &slice, at, usize::MAX, Keys::Put)?.1
                }
            };
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        targets: Targets<'_>,
        slice: &LogSlice,
        from: PhysicalOffset,
        most: usize,
        on_keys: Keys,
    ) -> Result<(usize, PhysicalOffset)> {
        let bytes = slice.bytes();
        let mut keys = Vec::new();
        let mut at = 0;
        let mut records = 0;
        while at < bytes.len() && records < most {
            let offset = from + at as u64;
            let rest = &bytes[at..];
            if is_blank(rest) {
                at = bytes.len();
                records += 1;
                break;
            }
            let view = match RecordView::parse(rest) {
                Ok(view) => view,
                Err(_) => {
                    // Reading says what is wrong here; the rest of the log goes on behind it.
                    self.counts.damaged += 1;
                    let rule = ChecksumRule::WhenPresent;
                    at += find_next_record(rest, 1, offset, rule).unwrap_or(rest.len());
                    continue;
                }
            };
            // The next records are mostly as long as this one. The appender's core wrote them, so
            // each first look would cost more than all the rest.
            slice.prefetch_border(at + view.size() as usize * PREFETCH_RECORDS);
            let found = Found::of(&view);
            let indexed =
                targets.index.is_some() && view.transaction_state() != TransactionState::Rollback;
            if indexed && on_keys == Keys::Leave && found.index_keys().next().is_some() {
                break;
            }
            at += view.size() as usize;
            records += 1;
            if view.has_queue_entry() {
                self.put(targets, &view, &found, offset)?;
            }
            if indexed {
                let (topic, store_time) = (view.topic(), view.store_time());
                keys.extend(found.index_keys().map(|key| IndexKey {
                    topic,
                    key,
                    physical_offset: offset,
                    store_time,
                }));
            }
        }
        if let Some(index) = targets.index
            && !keys.is_empty()
            && !self.index_behind
            && index.put_batch(&keys, targets.clock.now()).is_err()
        {
            // Everything else goes on; the next open puts the keys from here on again.
            self.index_behind = true;
        }
        Ok((records, from + at as u64))
    }

    fn put(
        &mut self,
        targets: Targets<'_>,
        view: &RecordView<'_>,
        found: &Found<'_>,
        offset: PhysicalOffset,
    ) -> Result<()> {
        let queues = targets.queues;
        let (topic, id) = (view.topic(), view.queue_id());
        let slot = (id as usize).wrapping_add(topic.len() << 3) % RECENT;
        let known = match &self.recent[slot] {
            Some(queue) if queue.key().is(topic, id) => Some(queue.clone()),
            _ => queues.get_by_name(topic, id),
        };
        let queue = match known {
            Some(queue) => queue,
            None if QueueKey::new(topic, id).is_err() => {
                self.counts.unplaced += 1;
                return Ok(());
            }
            None => queues.get_or_create(topic, id)?,
        };
        let entry = QueueEntry {
            physical_offset: offset,
            size: view.size(),
            tags_code: found.tags_code(view, &self.levels),
        };
        let catching_up = queues.catching_up() && view.record_crc().is_none();
        if catching_up && self.is_of_another(targets.log, &queue, view, offset) {
            self.counts.conflicts += 1;
            return Ok(());
        }
        match queue.put(view.queue_offset(), entry) {
            Ok(Put::Appended | Put::Duplicate) => {}
            Ok(Put::Gap { missing }) => self.counts.gaps += missing,
            Ok(Put::Conflict) => self.counts.conflicts += 1,
            // A queue offset that no queue can have: written by another program, or rotten.
            Err(e) if e.kind() == ErrorKind::InvalidInput => self.counts.unplaced += 1,
            Err(e) => return Err(e),
        }
        self.recent[slot] = Some(queue);
        Ok(())
    }

    /// Whether the place that the record `view` claims in `queue` is that of a later record: the
    /// queue's file says so, and so does that record.
    fn is_of_another(
        &mut self,
        log: &CommitLog,
        queue: &ConsumeQueue,
        view: &RecordView<'_>,
        offset: PhysicalOffset,
    ) -> bool {
        let at = view.queue_offset();
        let Some(entry) = self.before.entry(queue, at).filter(|e| e.physical_offset > offset)
        else {
            return false;
        };
        let Ok(slice) = log.slice(entry.physical_offset, entry.size.into()) else { return false };
        let Ok(other) = RecordView::parse(slice.bytes()) else { return false };
        other.queue_offset() == at
            && queue.key().is(other.topic(), other.queue_id())
            && other.physical_offset() == entry.physical_offset
            && other.verify().is_ok()
    }
}
