//! Derives queue entries and index keys from the log. Recovery and the running store do it with
//! the same steps: only where they begin differs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    error::{ErrorKind, Result},
    format::{
        entry::{DelayLevels, Found, QueueEntry},
        frame::ChecksumRule,
        layout::{MAGIC_BLANK, TransactionState},
        resync::find_next_record,
        view::RecordView,
    },
    index::{IndexKey, KeyIndex},
    log::{CommitLog, read::LogSlice},
    name::QueueKey,
    offset::PhysicalOffset,
    queue::{ConsumeQueue, Put, QueueTable},
};

/// Records per step at most, so that the watermark moves while a long tail is worked off.
const STEP_RECORDS: usize = 4096;
/// Queue entries in memory beyond this many bytes are written to their files.
const BUFFER_BYTES: usize = 4 << 20;

/// So many records ahead memory is asked for the next one.
const AHEAD: usize = 4;
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
        }
    }

    /// To be called when queues were replaced in their table: the one that is remembered here may
    /// not be in it any more, and what is put there would be seen by nobody.
    pub(crate) fn forget_queue(&mut self) {
        self.recent.fill(None);
    }

    /// Dispatches what is visible and not dispatched yet, at most a few thousand records. Returns
    /// how many; 0 means there is nothing to do.
    pub(crate) fn step(&mut self, targets: Targets<'_>) -> Result<usize> {
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
        let (records, end) = self.dispatch(targets, &slice, from)?;
        if targets.queues.buffered_bytes() > BUFFER_BYTES {
            // After a failure the entries are still in memory and readable; the next checkpoint
            // tries again and says what is wrong.
            let _ = targets.queues.write_out();
        }
        marks.dispatched.advance(end.get());
        Ok(records)
    }

    fn dispatch(
        &mut self,
        targets: Targets<'_>,
        slice: &LogSlice,
        from: PhysicalOffset,
    ) -> Result<(usize, PhysicalOffset)> {
        let bytes = slice.bytes();
        let mut keys = Vec::new();
        let mut at = 0;
        let mut records = 0;
        while at < bytes.len() && records < STEP_RECORDS {
            let offset = from + at as u64;
            let rest = &bytes[at..];
            if rest.get(4..8).is_some_and(|magic| magic == MAGIC_BLANK.to_be_bytes()) {
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
            let size = view.size() as usize;
            at += size;
            records += 1;
            // Most records are about as long as the one before.
            slice.prefetch_ends(at + AHEAD * size, size);
            let found = Found::of(&view);
            if view.has_queue_entry() {
                self.put(targets.queues, &view, &found, offset)?;
            }
            if targets.index.is_some() && view.transaction_state() != TransactionState::Rollback {
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
        queues: &QueueTable,
        view: &RecordView<'_>,
        found: &Found<'_>,
        offset: PhysicalOffset,
    ) -> Result<()> {
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
}
