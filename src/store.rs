//! The store: what an embedder holds.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

#[cfg(feature = "sim")]
use crate::disk::Disk;
#[allow(unused_imports, reason = "the documentation links to it")]
use crate::error::ErrorKind;
use crate::{
    builder::{Place, StoreBuilder},
    consumers::Consumers,
    engine::Engine,
    error::Result,
    keeper::Removed,
    message::{Message, Placement},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    options::Options,
    queue::ConsumeQueue,
    read::{Batch, LogItem, QueueItem, ReadLimit, Record},
    recovery::report::RecoveryReport,
    runtime::Threads,
    ticket::Ticket,
    watermark::{Outcome, Place as Waiting},
};

/// How far a store got. All are exclusive ends in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// First byte of the log that is still there.
    pub start: PhysicalOffset,
    /// In the operating system's hands.
    pub written: PhysicalOffset,
    /// On the disk.
    pub durable: PhysicalOffset,
    /// In queues and index.
    pub dispatched: PhysicalOffset,
}

/// One pump of a store that was opened without threads.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes and syncs the log.
    Flush,
    /// Fills queues and index.
    Dispatch,
    /// Makes room ahead of the appender.
    Prepare,
    /// Housekeeping that is due by the clock, and deadlines that passed.
    Keep,
    /// A checkpoint, due or not.
    Checkpoint,
    /// Removes expired segments at any hour.
    Retain,
    /// Saves the consumer offsets.
    SaveOffsets,
}

/// An open message store.
///
/// All methods take `&self`: share it between threads in an [`Arc`]. See the crate's front page
/// for a guide.
pub struct Store {
    engine: Arc<Engine>,
    threads: Option<Threads>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(engine: Arc<Engine>, threads: Option<Threads>) -> Self {
        Self { engine, threads }
    }

    /// Begins to set up the store in the directory `path`.
    pub fn builder(path: impl AsRef<Path>) -> StoreBuilder {
        StoreBuilder::new(Place::Path(path.as_ref().to_owned()))
    }

    /// Begins to set up a store on `disk`.
    #[cfg(feature = "sim")]
    pub fn builder_on(disk: Arc<dyn Disk>) -> StoreBuilder {
        StoreBuilder::new(Place::Disk(disk))
    }

    /// Appends one message. Never waits for the disk, except when too many bytes are waiting for
    /// it already.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) and [`TooLarge`](ErrorKind::TooLarge) for a
    /// message that can never be stored; [`Busy`](ErrorKind::Busy), [`Full`](ErrorKind::Full) when
    /// a later try may succeed; [`Faulted`](ErrorKind::Faulted) and
    /// [`ReadOnly`](ErrorKind::ReadOnly). In all these cases nothing was appended.
    pub fn append(&self, message: &Message<'_>) -> Result<Ticket> {
        self.engine.append(message)
    }

    /// Appends messages as one contiguous group that becomes visible at once. Of a group that was
    /// never acknowledged a prefix may remain after a crash.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); the limits hold for the whole batch.
    pub fn append_batch(&self, messages: &[Message<'_>]) -> Result<Ticket> {
        self.engine.append_batch(messages)
    }

    /// A ticket for an append that was made before, with a timeout of its own. `placements` are
    /// those of the first ticket; `None` without any.
    pub fn ticket_for(&self, placements: &[Placement]) -> Option<Ticket> {
        self.engine.ticket_for(placements)
    }

    /// Reads the messages of `queue` from `from` on. Empty at the queue's end.
    ///
    /// Checksums are verified before anything is returned.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for a queue without messages ever,
    /// [`OutOfRange`](ErrorKind::OutOfRange) with what there is,
    /// [`Damaged`](ErrorKind::Damaged) if the message at `from` itself is damaged: the next one
    /// can be read.
    pub fn read(&self, queue: &QueueKey, from: QueueOffset, limit: ReadLimit) -> Result<Batch> {
        self.engine.read(queue, from, limit, None)
    }

    /// Like [`read`](Self::read), only messages with one of `tags`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_tagged(
        &self,
        queue: &QueueKey,
        from: QueueOffset,
        limit: ReadLimit,
        tags: &[&str],
    ) -> Result<Batch> {
        self.engine.read(queue, from, limit, Some(tags))
    }

    /// The record that begins at `at` in the log.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](ErrorKind::OutOfRange), or [`Damaged`](ErrorKind::Damaged) if no sound
    /// record begins there.
    pub fn record_at(&self, at: PhysicalOffset) -> Result<Record> {
        self.engine.record_at(at)
    }

    /// What lies at `at` in the log, and where the next item begins; `None` at its visible end.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](ErrorKind::OutOfRange) before the log's start.
    pub fn item_at(&self, at: PhysicalOffset) -> Result<Option<(LogItem, PhysicalOffset)>> {
        self.engine.item_at(at)
    }

    /// The messages of `topic` with `key` (one of its keys, or its unique key) that were stored
    /// from `begin` to `end`, newest first, at most `max`. A message is found by its keys a little
    /// later than in its queue, at the latest when [`Progress::dispatched`] has passed it.
    ///
    /// # Errors
    ///
    /// I/O errors of the index files.
    pub fn query(
        &self,
        topic: &str,
        key: &str,
        begin: StoreTime,
        end: StoreTime,
        max: usize,
    ) -> Result<Vec<Record>> {
        self.engine.query(topic, key, begin, end, max)
    }

    /// The first offset of `queue` whose message was stored at or after `time`; the queue's end if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue.
    pub fn offset_by_time(&self, queue: &QueueKey, time: StoreTime) -> Result<QueueOffset> {
        self.engine.offset_by_time(queue, time)
    }

    /// The first offset of `queue` that can be read and the first that does not exist yet; `None`
    /// for an unknown queue.
    pub fn queue_range(&self, queue: &QueueKey) -> Option<(QueueOffset, QueueOffset)> {
        self.engine.queues.get(queue).map(|q| (q.min(), q.end()))
    }

    /// All queues, sorted.
    pub fn queues(&self) -> Vec<QueueKey> {
        self.engine.queues.list().iter().map(|q| q.key().clone()).collect()
    }

    /// The stored entries of `queue` from `from` on, at most `max`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue; I/O errors.
    pub fn queue_items(
        &self,
        queue: &QueueKey,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueItem>> {
        self.engine.queue_items(queue, from, max)
    }

    /// Blocks until `queue` holds a message at `offset` or `timeout` passed. Returns whether it
    /// does.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) when the store is closed meanwhile.
    pub fn wait_for(
        &self,
        queue: &QueueKey,
        offset: QueueOffset,
        timeout: Duration,
    ) -> Result<bool> {
        let queue = self.engine.queues.get_or_create(queue.topic(), queue.queue_id())?;
        let clock = &*self.engine.clock;
        let deadline = clock.elapsed().saturating_add(timeout);
        match queue.end_mark().wait(end_with(offset), clock, deadline) {
            Outcome::Reached => Ok(true),
            Outcome::TimedOut => Ok(false),
            Outcome::Closed(error) => Err(error),
        }
    }

    /// A future that is ready once `queue` holds a message at `offset`. Works under any executor;
    /// dropping it ends the waiting.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) is impossible for a checked key; the future
    /// itself fails with [`Closed`](ErrorKind::Closed) when the store is closed.
    pub fn arrival(&self, queue: &QueueKey, offset: QueueOffset) -> Result<Arrival> {
        let queue = self.engine.queues.get_or_create(queue.topic(), queue.queue_id())?;
        Ok(Arrival { queue, offset, place: Waiting::default() })
    }

    /// The consumer groups' positions.
    pub fn consumers(&self) -> Consumers<'_> {
        Consumers { engine: &self.engine }
    }

    /// How far the store got.
    pub fn progress(&self) -> Progress {
        let marks = self.engine.log.marks();
        Progress {
            dispatched: PhysicalOffset::new(marks.dispatched.get()),
            durable: PhysicalOffset::new(marks.durable.get()),
            written: PhysicalOffset::new(marks.written().get()),
            start: self.engine.log.start(),
        }
    }

    /// Makes everything appended so far durable, whatever the flush mode.
    ///
    /// # Errors
    ///
    /// [`Faulted`](ErrorKind::Faulted) if the log failed, now or before.
    pub fn flush(&self) -> Result<()> {
        self.engine.log.flush().map(|_| ())
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.engine.report
    }

    /// The options the store runs with.
    pub fn options(&self) -> &Options {
        &self.engine.options
    }

    /// `Ok` while all is well. The error is the log's failure, after which nothing is appended any
    /// more, or what housekeeping could not do though the store goes on.
    ///
    /// # Errors
    ///
    /// [`Faulted`](ErrorKind::Faulted), or the kind of what went wrong.
    pub fn health(&self) -> Result<()> {
        self.engine.health()
    }

    /// Keeps retention from removing the log from `at` on, however old it is and however full the
    /// disk, until this is called with a later place. For who has to come back to what waits there;
    /// a store that was just opened removes nothing for the first seconds.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn keep_from(&self, at: PhysicalOffset) -> Result<()> {
        self.engine.writable()?.keeper.lock().kept_from = Some(at);
        Ok(())
    }

    /// What retention removed since the store was opened.
    pub fn removed(&self) -> Removed {
        self.engine.writable.as_ref().map_or_else(Removed::default, |w| w.keeper.lock().removed)
    }

    /// In a store opened [read-only](StoreBuilder::open_read_only): takes in what another process
    /// has published meanwhile.
    ///
    /// # Errors
    ///
    /// I/O errors; [`ReadOnly`](ErrorKind::ReadOnly) in a store that writes itself.
    pub fn refresh(&self) -> Result<()> {
        self.engine.refresh()
    }

    /// Does one pump's work once, in a store opened without threads.
    ///
    /// # Errors
    ///
    /// What the pump returned.
    #[cfg(feature = "sim")]
    pub fn step(&self, step: Step) -> Result<()> {
        let engine = &self.engine;
        match step {
            Step::Flush => engine.log.flush().map(|_| ()),
            Step::Dispatch => engine.dispatch_step().map(|_| ()),
            Step::Prepare => {
                engine.log.spare_step()?;
                engine.log.prepare_step().map(|_| ())
            }
            Step::Keep => {
                engine.expire();
                engine.keep()
            }
            Step::Checkpoint => {
                let mut keeper = engine.writable()?.keeper.lock();
                engine.checkpoint(&mut keeper, crate::keeper::Closing::No)
            }
            Step::Retain => {
                let mut keeper = engine.writable()?.keeper.lock();
                engine.remove_expired(&mut keeper, false).map(|_| ())
            }
            Step::SaveOffsets => engine.save_offsets(),
        }
    }

    /// Flushes and syncs everything and closes the store, so that the next open is quick and a
    /// Java store may take over. Dropping the store does the same but cannot tell what went wrong.
    ///
    /// # Errors
    ///
    /// The first failure. The store is closed nevertheless, and what it acknowledged is kept by
    /// the recovery at the next open.
    pub fn close(mut self) -> Result<()> {
        self.shut()
    }

    /// Lets everything go as it is, as if the process had died here.
    #[cfg(feature = "sim")]
    pub fn abandon(mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
        self.engine.log.marks().close();
    }

    fn shut(&mut self) -> Result<()> {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
        if self.engine.log.marks().appended.closed().is_some() {
            return Ok(());
        }
        self.engine.close()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The error has nowhere to go; `close` is for those who want it.
        let _ = self.shut();
    }
}

/// Where a queue ends at least that holds a message at `offset`, which may be any number.
fn end_with(offset: QueueOffset) -> u64 {
    offset.get().saturating_add(1)
}

/// Waits for a message to arrive in a queue. Made by [`Store::arrival`].
#[derive(Debug)]
#[must_use = "a future does nothing unless polled"]
pub struct Arrival {
    queue: Arc<ConsumeQueue>,
    offset: QueueOffset,
    /// Where the queue's end has the waker of the task that polls this.
    place: Waiting,
}

impl Future for Arrival {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let end = this.queue.end_mark();
        match end.poll(end_with(this.offset), cx.waker(), Duration::MAX, &mut this.place) {
            None => Poll::Pending,
            Some(Outcome::Closed(error)) => Poll::Ready(Err(error)),
            Some(Outcome::Reached | Outcome::TimedOut) => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.queue.end_mark().leave(end_with(self.offset), &mut self.place);
    }
}
