//! The parts of an open store, wired together, and what they do as one.

use std::{sync::Arc, time::Duration};

use crate::{
    checkpoint::CheckpointFile,
    clock::Clock,
    consumer::ConsumerOffsets,
    disk::{AppendPath, DirectoryLock, Disk},
    dispatch::{DispatchCounts, Dispatcher, Targets},
    error::{Error, ErrorKind, Result},
    format::record::RecordPlan,
    index::KeyIndex,
    keeper::Keeper,
    log::{CommitLog, append::InHand},
    message::{Message, Placement},
    offset::StoreTime,
    options::{FlushMode, Options},
    queue::QueueTable,
    recovery::report::RecoveryReport,
    rest::Rest,
    sync::{AtomicBool, Mutex},
    ticket::{Ticket, TicketContext},
};

/// An open store without its threads: every pump is a method, called by `runtime` or by a
/// simulation.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) log: CommitLog,
    pub(crate) queues: QueueTable,
    pub(crate) index: Option<KeyIndex>,
    pub(crate) consumers: ConsumerOffsets,
    pub(crate) dispatcher: Mutex<Dispatcher>,
    pub(crate) context: Arc<TicketContext>,
    pub(crate) report: RecoveryReport,
    pub(crate) rest: Rest,
    /// `None` when the store was opened read-only.
    pub(crate) writable: Option<Writable>,
}

/// What only a store that may write has.
#[derive(Debug)]
pub(crate) struct Writable {
    pub(crate) checkpoints: CheckpointFile,
    pub(crate) keeper: Mutex<Keeper>,
    // Dropped last of all: the directory is ours until everything is written.
    _lock: Box<dyn DirectoryLock>,
}

impl Writable {
    pub(crate) fn new(
        checkpoints: CheckpointFile,
        keeper: Keeper,
        lock: Box<dyn DirectoryLock>,
    ) -> Self {
        Self { checkpoints, keeper: Mutex::new(keeper), _lock: lock }
    }
}

/// Why the placement of a single message is there.
const NO_PLACEMENT: &str = "an append places each message";

impl Engine {
    pub(crate) fn writable(&self) -> Result<&Writable> {
        self.writable
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the store was opened for reading only"))
    }

    pub(crate) fn append(&self, message: &Message<'_>) -> Result<Ticket> {
        let now = self.clock.now();
        let plan = self.plan(message, now)?;
        let plans = std::slice::from_ref(&plan);
        let mut first = None;
        let end = self.log.append(plans, now, self.in_hand(message.wait), |p| first = Some(p))?;
        self.made_visible();
        Ok(self.ticket(end.get(), message.wait, first.expect(NO_PLACEMENT), Vec::new()))
    }

    pub(crate) fn append_batch(&self, messages: &[Message<'_>]) -> Result<Ticket> {
        if messages.is_empty() {
            return Err(Error::invalid("a batch needs at least one message"));
        }
        let bodies: u64 = messages.iter().map(|m| m.body.len() as u64).sum();
        let max = u64::from(self.options.max_message_bytes);
        if bodies > max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the batch is too large bytes={bodies} max_message_bytes={max}"),
            ));
        }
        let now = self.clock.now();
        let plans = messages.iter().map(|m| self.plan(m, now)).collect::<Result<Vec<_>>>()?;
        // One message that wants to be waited for makes the whole batch wait: it settles at once.
        let wait = messages.iter().any(|m| m.wait);
        let mut placed = Vec::with_capacity(plans.len());
        let end = self.log.append(&plans, now, self.in_hand(wait), |p| placed.push(p))?;
        self.made_visible();
        let others = placed.split_off(1);
        Ok(self.ticket(end.get(), wait, placed[0], others))
    }

    fn plan<'a>(&self, message: &'a Message<'a>, now: StoreTime) -> Result<RecordPlan<'a>> {
        self.writable()?;
        let config = self.log.config();
        RecordPlan::new(message, &config.limits, config.checksum, now, config.store_host)
    }

    fn acknowledged_by_sync(&self, wait: bool) -> bool {
        wait && self.options.flush == FlushMode::Sync
    }

    fn in_hand(&self, wait: bool) -> InHand {
        if self.acknowledged_by_sync(wait) { InHand::No } else { InHand::Yes }
    }

    fn ticket(&self, end: u64, wait: bool, first: Placement, others: Vec<Placement>) -> Ticket {
        let (target, deadline) = match self.acknowledged_by_sync(wait) {
            true => (end, self.clock.elapsed() + self.options.sync_flush_timeout),
            // Acknowledged already: nothing that happens later changes that.
            false => (0, Duration::MAX),
        };
        Ticket::new(self.context.clone(), target, deadline, first, others)
    }

    /// A new ticket for what has these places.
    pub(crate) fn ticket_for(&self, placements: &[Placement]) -> Option<Ticket> {
        let (first, others) = placements.split_first()?;
        let end = placements.iter().map(|placement| placement.end().get()).max()?;
        Some(self.ticket(end, true, *first, others.to_vec()))
    }

    /// Dispatches what is visible, at most one step. Returns how many records that were.
    pub(crate) fn dispatch_step(&self) -> Result<usize> {
        self.dispatcher.lock().step(self.targets())
    }

    /// Sleeps until there is something to dispatch, `stop` is set, or about `timeout` passed.
    pub(crate) fn rest(&self, timeout: Duration, stop: &AtomicBool) {
        let until = self.clock.elapsed() + timeout;
        self.rest.sleep(|| self.has_undispatched(), &*self.clock, until, stop);
    }

    fn has_undispatched(&self) -> bool {
        let marks = self.log.marks();
        marks.dispatched.get() < marks.visible().get()
    }

    /// To be called by whoever may have made records visible. Sees to it that they are dispatched.
    pub(crate) fn made_visible(&self) {
        let help = || {
            if let Some(mut dispatcher) = self.dispatcher.try_lock() {
                // An error comes again in the thread, which knows what to do about it.
                let _ = dispatcher.help(self.targets());
            }
        };
        self.rest.visible(|| self.has_undispatched(), help);
    }

    /// Dispatches everything that is visible now.
    pub(crate) fn dispatch_all(&self, mut progress: impl FnMut(u64)) -> Result<()> {
        let end = self.log.marks().visible().get();
        while self.log.marks().dispatched.get() < end {
            self.dispatch_step()?;
            progress(self.log.marks().dispatched.get());
        }
        Ok(())
    }

    pub(crate) fn targets(&self) -> Targets<'_> {
        Targets {
            log: &self.log,
            queues: &self.queues,
            index: self.index.as_ref(),
            clock: &*self.clock,
        }
    }

    pub(crate) fn dispatch_counts(&self) -> DispatchCounts {
        self.dispatcher.lock().counts
    }

    /// Tells futures and callbacks whose deadline passed. An open store has a thread for this
    /// alone, which never touches the disk: a disk that hangs is exactly when deadlines matter.
    /// A stepped one has no threads, and does it when housekeeping's turn is.
    pub(crate) fn expire(&self) {
        self.log.marks().durable.expire(self.clock.elapsed());
    }

    /// When the flusher should act: `None` now, else not before that time of the clock's.
    pub(crate) fn flush_due(&self, last: Duration) -> Option<Duration> {
        let marks = self.log.marks();
        let waiting = marks.unsynced();
        if waiting == 0 {
            return Some(Duration::MAX);
        }
        let options = &self.options;
        if options.flush == FlushMode::Sync || waiting >= options.max_unflushed_bytes / 4 {
            return None;
        }
        let enough = waiting >= options.flush_least_bytes;
        let interval =
            if enough { options.flush_interval } else { options.flush_thorough_interval };
        let due = last + interval;
        (due > self.clock.elapsed()).then_some(due)
    }

    /// How records get into the files here.
    pub(crate) fn append_path(disk: &dyn Disk, options: &Options) -> AppendPath {
        match options.flush {
            // Each sync write-protects the mapped pages, and the next store faults on them; write
            // calls do not, and one covers the whole group.
            FlushMode::Sync => AppendPath::Write,
            FlushMode::Async => disk.append_path(),
        }
    }
}
