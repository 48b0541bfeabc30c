//! Housekeeping: checkpoints, saved consumer offsets, retention, the clean close.

use std::time::Duration;

use crate::{
    checkpoint::{Checkpoint, frames, snapshot, snapshot::QueueState},
    disk::{self, FilePath, failed},
    engine::Engine,
    error::{Error, ErrorKind, Result},
    format::java::JAVA_FIELDS_BYTES,
    index::IndexState,
    log::segment::{LOG_DIR, Segment, path_of},
    offset::{PhysicalOffset, StoreTime},
    options::ForcedCleaning,
    read::LogItem,
    recovery::{ABORT, report::Finding},
};

/// A checkpoint is worth its syncs after this much log, or at rest after a while.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Each queue is written in each snapshot: with many of them, snapshots come less often.
const CHECKPOINT_BYTES_PER_QUEUE: u64 = 1024;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);
/// Segments removed per pass, so that a pass is never long.
const REMOVE_AT_ONCE: usize = 10;

/// What housekeeping remembers.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The checkpoint that is on disk.
    last: Checkpoint,
    checkpoint_at: Duration,
    offsets_at: Duration,
    retention_at: Duration,
    /// Taken, and waiting for the log to be durable that far.
    taken: Option<Taken>,
    /// Segments before this are being removed. Checkpoints say so, for a crash may leave any of
    /// them, and the next open must not take what is missing between them for damage.
    removing: Option<PhysicalOffset>,
    /// From here on the embedder still needs the log.
    pub(crate) kept_from: Option<PhysicalOffset>,
    /// What retention did since the store was opened.
    pub(crate) removed: Removed,
    /// Why the store is not as it should be, though it goes on.
    pub(crate) degraded: Option<Error>,
}

impl Keeper {
    /// Goes on from the checkpoint `last`.
    pub(crate) fn new(last: Checkpoint, now: Duration) -> Self {
        Self {
            last,
            checkpoint_at: now,
            offsets_at: now,
            retention_at: now,
            taken: None,
            removing: None,
            kept_from: None,
            removed: Removed::default(),
            degraded: None,
        }
    }
}

/// What retention removed since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// Segments of the log.
    pub segments: u64,
    /// Messages that some consumer group had not consumed yet, counted once per group furthest
    /// behind. Anything but 0 means that the reserved time is shorter than consumers are slow.
    pub unconsumed: u64,
}

/// The ends of queues and index as of one position of the log.
#[derive(Debug)]
struct Taken {
    at: PhysicalOffset,
    queues: Vec<QueueState>,
    index: Option<IndexState>,
}

/// Whether a checkpoint says that the store was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    No,
    Yes,
}

impl Engine {
    /// One round of housekeeping. What goes wrong is remembered and reported by
    /// [`health`](Self::health), not lost and not fatal.
    pub(crate) fn keep(&self) -> Result<()> {
        let writable = self.writable()?;
        let mut keeper = writable.keeper.lock();
        let now = self.clock.elapsed();
        let mut problems = Vec::new();
        problems.extend(self.log.sync_frames());
        if keeper.taken.is_none() {
            self.take_due(&mut keeper, now);
        }
        // The flusher gets the log there in its own time: a sync of ours would only be one more.
        problems.extend(self.write_taken(&mut keeper).err());
        if now.saturating_sub(keeper.offsets_at) >= self.options.offsets_interval {
            problems.extend(self.save_offsets().err());
            keeper.offsets_at = now;
        }
        if now.saturating_sub(keeper.retention_at) >= RETENTION_INTERVAL {
            problems.extend(self.retain(&mut keeper).err());
            keeper.retention_at = now;
        }
        keeper.degraded = problems.into_iter().next();
        Ok(())
    }

    /// Of a burst in ASYNC_FLUSH: to be called when a flush is about to begin. Says whether what it
    /// makes durable will be worth a checkpoint.
    pub(crate) fn checkpoint_ahead(&self) -> bool {
        let Ok(writable) = self.writable() else { return false };
        let mut keeper = writable.keeper.lock();
        // Later than one that waits already, and durable no later.
        self.take_due(&mut keeper, self.clock.elapsed())
    }

    /// To be called when that flush is done, before the next one: the few small syncs of a
    /// checkpoint would wait for all of it, and all the log behind would be checked after a crash.
    pub(crate) fn checkpoint_behind(&self) {
        let Ok(writable) = self.writable() else { return };
        let mut keeper = writable.keeper.lock();
        if let Err(problem) = self.write_taken(&mut keeper) {
            keeper.degraded = Some(problem);
        }
    }

    /// Takes the ends for a checkpoint if one is due, and says whether it was.
    fn take_due(&self, keeper: &mut Keeper, now: Duration) -> bool {
        let due = self.checkpoint_due(keeper, now);
        if due {
            keeper.taken = Some(self.take_ends());
            keeper.checkpoint_at = now;
        }
        due
    }

    fn write_taken(&self, keeper: &mut Keeper) -> Result<()> {
        let durable = self.log.marks().durable.get();
        match keeper.taken.take_if(|taken| taken.at.get() <= durable) {
            Some(taken) => self.write_checkpoint(keeper, taken, Closing::No),
            None => Ok(()),
        }
    }

    /// `Ok` if all is well; else the log's failure, or what housekeeping could not do.
    pub(crate) fn health(&self) -> Result<()> {
        self.log.marks().durable.check_open()?;
        let Some(writable) = &self.writable else { return Ok(()) };
        writable.keeper.lock().degraded.clone().map_or(Ok(()), Err)
    }

    fn checkpoint_due(&self, keeper: &Keeper, now: Duration) -> bool {
        let since = self.log.marks().dispatched.get()
            - keeper.last.snapshot.map_or(0, |s| s.at.get()).min(self.log.marks().dispatched.get());
        let worth = CHECKPOINT_BYTES.max(self.queues.len() as u64 * CHECKPOINT_BYTES_PER_QUEUE);
        let interval = CHECKPOINT_INTERVAL * (1 + self.queues.len() as u32 / 1000);
        since >= worth || since > 0 && now.saturating_sub(keeper.checkpoint_at) >= interval
    }

    /// Makes log, queues and index durable up to the present end, and says so.
    pub(crate) fn checkpoint(&self, keeper: &mut Keeper, closing: Closing) -> Result<()> {
        keeper.taken = None;
        let taken = self.take_ends();
        if self.log.marks().durable.get() < taken.at.get() {
            self.log.flush()?;
        }
        self.write_checkpoint(keeper, taken, closing)
    }

    /// A checkpoint so that the next recovery does not begin where this one did. It waits for the
    /// flusher to get there; but what was derived anew has lost what the last one relies on, and
    /// is made durable now.
    pub(crate) fn checkpoint_recovered(&self, keeper: &mut Keeper) -> Result<()> {
        let anew = self.report.findings.iter().any(|f| matches!(f, Finding::Rebuilt { .. }));
        if anew || self.log.marks().durable.get() == self.log.marks().dispatched.get() {
            return self.checkpoint(keeper, Closing::No);
        }
        keeper.taken = Some(self.take_ends());
        Ok(())
    }

    fn take_ends(&self) -> Taken {
        // Held so that ends and position belong together; nothing is written meanwhile.
        let _dispatcher = self.dispatcher.lock();
        let states = self.queues.list().into_iter().map(|queue| QueueState {
            key: queue.key().clone(),
            min: queue.min(),
            end: queue.end(),
        });
        Taken {
            at: PhysicalOffset::new(self.log.marks().dispatched.get()),
            queues: states.collect(),
            index: self.index.as_ref().and_then(|index| index.state()),
        }
    }

    /// Makes queues and index durable as far as was `taken`, and says so. The log is durable that
    /// far already: no checkpoint points past it.
    fn write_checkpoint(&self, keeper: &mut Keeper, taken: Taken, closing: Closing) -> Result<()> {
        let writable = self.writable()?;
        let Taken { at, queues, index } = taken;
        assert!(at.get() <= self.log.marks().durable.get(), "a checkpoint past the durable log");
        self.rederive_unsynced(&keeper.last)?;
        self.queues.sync()?;
        let (index, index_behind) = self.sync_index(keeper, index);
        let snapshot = snapshot::write(&*self.disk, writable.checkpoints.next(), at, &queues)?;
        let durable_end = PhysicalOffset::new(self.log.marks().durable.get());
        // Below the durable end only frames say that each record has a checksum of all of it:
        // without them one flipped bit could switch that checksum off.
        if let Some(error) = self.log.sync_frames() {
            keeper.degraded.get_or_insert(error);
        }
        let checkpoint = Checkpoint {
            sequence: 0,
            durable_end,
            log_start: keeper.removing.unwrap_or(self.log.start()),
            clean: closing == Closing::Yes && durable_end == at,
            flush: self.options.flush,
            record_crc_from: keeper.last.record_crc_from,
            snapshot: Some(snapshot),
            index,
            index_behind,
            java: [0; JAVA_FIELDS_BYTES],
        };
        keeper.last = writable.checkpoints.write(checkpoint)?;
        snapshot::remove_others(&*self.disk, Some(snapshot.sequence));
        Ok(())
    }

    /// Makes the index durable. Where that fails it stays as the last checkpoint says, and the next
    /// open puts the keys behind that again: the index is a help, not a reason to stop.
    fn sync_index(&self, keeper: &Keeper, taken: Option<IndexState>) -> (Option<IndexState>, bool) {
        let Some(index) = &self.index else { return (None, false) };
        let behind = self.dispatcher.lock().index_behind;
        if !behind && index.sync().is_ok() {
            return (taken, false);
        }
        self.dispatcher.lock().index_behind = true;
        (keeper.last.index.clone(), true)
    }

    /// Saves the consumer offsets. What they count is made durable first: a saved offset never
    /// points past the durable log.
    pub(crate) fn save_offsets(&self) -> Result<()> {
        let Some(saved) = self.consumers.to_save() else { return Ok(()) };
        self.log.flush()?;
        self.consumers.save(&*self.disk, saved, self.clock.now())
    }

    /// Removes what is too old, refuses appends while the disk is nearly full.
    fn retain(&self, keeper: &mut Keeper) -> Result<()> {
        let usage = || self.disk.usage().map_err(failed("look at the space of", &FilePath::ROOT));
        let mut space = usage()?;
        let used = space.used_percent();
        let rules = &self.options.retention;
        let forced = rules.forced == ForcedCleaning::WhenFull && used >= rules.force_ratio;
        if forced || used >= rules.clean_ratio || rules.is_time_to_delete(self.clock.now()) {
            let before = keeper.removed.segments;
            self.remove_expired(keeper, forced)?;
            if keeper.removed.segments > before {
                space = usage()?;
            }
        }
        let used = space.used_percent();
        self.log.refuse((used >= rules.refuse_ratio).then(|| {
            Error::new(
                ErrorKind::Full,
                format!(
                    "the disk is nearly full, so nothing is appended until there is room; free \
                     space or shorten the retention used_percent={used} refuse_ratio={} \
                     available_bytes={}",
                    rules.refuse_ratio, space.available
                ),
            )
        }));
        Ok(())
    }

    /// Removes the oldest segments that are expired, or (`forced`) the oldest one at any age.
    /// Never the active one. Returns how many.
    pub(crate) fn remove_expired(&self, keeper: &mut Keeper, forced: bool) -> Result<usize> {
        if let Some(start) = keeper.removing {
            // An earlier pass was interrupted.
            self.remove_before(keeper, start)?;
        }
        let segments = self.log.segments().snapshot();
        let now = self.clock.now().as_millis();
        let reserved = i64::try_from(self.options.retention.reserved.as_millis());
        let reserved = reserved.unwrap_or(i64::MAX);
        let durable = self.log.marks().dispatched.get().min(self.log.marks().durable.get());
        let behind = keeper.kept_from.map_or(durable, |kept| durable.min(kept.get()));
        let mut count = 0;
        for segment in segments.iter().take(segments.len().saturating_sub(1)) {
            // The queues' ends in the checkpoint are all that is left of a removed segment, so it
            // goes only when it is behind everything.
            if segment.end().get() > behind || count >= REMOVE_AT_ONCE {
                break;
            }
            let age = now.saturating_sub(self.last_stored(segment)?.as_millis());
            if age < reserved && !(forced && count == 0) {
                break;
            }
            count += 1;
        }
        let Some(start) = segments.get(count).filter(|_| count > 0).map(|s| s.base) else {
            return Ok(0);
        };
        // Before anything goes, durable: the ends of all queues, and where the log will begin.
        keeper.removing = Some(start);
        if let Err(error) = self.checkpoint(keeper, Closing::No) {
            keeper.removing = None;
            return Err(error);
        }
        self.remove_before(keeper, start)?;
        Ok(count)
    }

    /// When the last record of `segment` was stored, about: clocks step back, so the file's own
    /// time does not decide alone.
    fn last_stored(&self, segment: &Segment) -> Result<StoreTime> {
        let path = segment.path();
        let mut last = self.disk.modified(&path).map_err(failed("look at", &path))?;
        for at in [segment.base, segment.end()] {
            if let Ok(Some((LogItem::Record(record), _))) = self.item_at(at) {
                last = last.max(record.view().store_time());
            }
        }
        Ok(last)
    }

    /// Removes the segments before `start`, then what queues and index know of them. What fails is
    /// done by the next call.
    fn remove_before(&self, keeper: &mut Keeper, start: PhysicalOffset) -> Result<()> {
        for queue in self.queues.list() {
            let min = queue.min();
            queue.begin_with_log(start)?;
            if let Some(behind) = self.consumers.lowest(queue.key()) {
                keeper.removed.unconsumed += queue.min().saturating_since(behind.max(min));
            }
        }
        while self.log.start() < start {
            disk::remove(&*self.disk, &path_of(self.log.start()))?;
            keeper.removed.segments += 1;
            if self.log.segments().remove_first().is_none() {
                break;
            }
        }
        let dir = FilePath::new(LOG_DIR);
        self.disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))?;
        self.queues.remove_files()?;
        if let Some(index) = &self.index {
            index.remove_before(start)?;
        }
        frames::remove(&*self.disk, |base| base < start)?;
        keeper.removing = None;
        self.checkpoint(keeper, Closing::No)
    }

    /// Writes everything and says that the store was closed cleanly, if it was.
    pub(crate) fn close(&self) -> Result<()> {
        let Some(writable) = &self.writable else {
            self.log.marks().close();
            return Ok(());
        };
        let result = self.close_files(&mut writable.keeper.lock());
        self.log.marks().close();
        for queue in self.queues.list() {
            queue.end_mark().close(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        result
    }

    fn close_files(&self, keeper: &mut Keeper) -> Result<()> {
        self.log.flush()?;
        self.dispatch_all(|_| {})?;
        self.save_offsets()?;
        if let Some(start) = keeper.removing {
            self.remove_before(keeper, start)?;
        }
        if let Some(error) = self.log.sync_frames() {
            keeper.degraded.get_or_insert(error);
        }
        self.log.drop_spare()?;
        self.checkpoint(keeper, Closing::Yes)?;
        if !self.queues.degraded().is_empty() || self.dispatcher.lock().index_behind {
            // A Java store must rebuild queues and index too: `abort` stays.
            return Ok(());
        }
        let path = FilePath::new(ABORT);
        self.disk.remove(&path).map_err(failed("remove", &path))?;
        self.disk.sync_dir(&FilePath::ROOT).map_err(failed("sync", &FilePath::ROOT))
    }
}
