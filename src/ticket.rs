//! What an append hands back: a place in the log now, an answer about its safety later.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    clock::Clock,
    error::Result,
    log::marks::Marks,
    message::{Placement, PutStatus},
    watermark::{Outcome, Place},
};

/// Where a message went and how the append settled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How the append settled.
    pub status: PutStatus,
    /// Where the (first) message went.
    pub placement: Placement,
    /// Where the other messages of a batch went.
    pub others: Vec<Placement>,
}

impl Receipt {
    /// All placements of a batch, in order.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        std::iter::once(&self.placement).chain(&self.others)
    }
}

/// What the tickets of one store share.
#[derive(Debug)]
pub(crate) struct TicketContext {
    pub(crate) marks: Arc<Marks>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An append on its way to being acknowledged.
///
/// The message has its place already. Whether it is as safe as the flush mode promises is told by
/// [`wait`](Self::wait), by a [callback](Self::on_settled), or by awaiting the ticket under any
/// executor. Dropping a ticket undoes nothing.
///
/// After the store's `sync_flush_timeout` a ticket settles as
/// [`FlushDiskTimeout`](PutStatus::FlushDiskTimeout), which means *outcome unknown*: the record
/// stays, may become durable and be delivered.
#[must_use = "an append is acknowledged only once its ticket settles"]
pub struct Ticket {
    context: Arc<TicketContext>,
    /// The durable watermark has to pass this; 0 where the append was acknowledged at once.
    target: u64,
    deadline: Duration,
    first: Placement,
    others: Vec<Placement>,
    /// Where the watermark has the waker of the task that polls this ticket.
    place: Place,
}

impl Ticket {
    pub(crate) fn new(
        context: Arc<TicketContext>,
        target: u64,
        deadline: Duration,
        first: Placement,
        others: Vec<Placement>,
    ) -> Self {
        Self { context, target, deadline, first, others, place: Place::default() }
    }

    /// Where the (first) message went.
    pub fn placement(&self) -> &Placement {
        &self.first
    }

    /// All placements of a batch, in order.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Whether waiting would return at once.
    pub fn is_settled(&self) -> bool {
        self.outcome().is_some()
    }

    /// How it settled, if it has. A future and a callback ask first: else nobody would look at a
    /// deadline that has passed before the disk is done, and a timeout of 0 would be none.
    fn outcome(&self) -> Option<Outcome> {
        let late = || self.context.clock.elapsed() >= self.deadline;
        let reached = self.context.marks.durable.state(self.target);
        reached.or_else(|| late().then_some(Outcome::TimedOut))
    }

    /// Blocks until the append settles, at most the store's `sync_flush_timeout` after it was
    /// made.
    ///
    /// # Errors
    ///
    /// [`Faulted`](crate::ErrorKind::Faulted) if the log failed first: whether the record is
    /// durable is unknown until the store is opened again. [`Closed`](crate::ErrorKind::Closed) if
    /// the store was closed without getting it to the disk.
    pub fn wait(self) -> Result<Receipt> {
        let outcome = self.wait_until(self.deadline);
        self.settle(outcome)
    }

    /// Blocks at most `timeout`. Gives the ticket back if it has not settled by then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), inside of `Ok`'s counterpart: the outer `Err` is the ticket itself.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Receipt>, Self> {
        let until = self.context.clock.elapsed().saturating_add(timeout);
        match self.wait_until(until.min(self.deadline)) {
            Outcome::TimedOut if until < self.deadline => Err(self),
            outcome => Ok(self.settle(outcome)),
        }
    }

    /// Calls `callback` once with how the append settled: at once on this thread if it has, else
    /// on the thread that settles it, which should not be held up for long.
    pub fn on_settled(self, callback: impl FnOnce(Result<Receipt>) + Send + 'static) {
        if let Some(outcome) = self.outcome() {
            return callback(self.settle(outcome));
        }
        let context = self.context.clone();
        let (target, deadline) = (self.target, self.deadline);
        let settle = move |outcome| callback(self.settle(outcome));
        context.marks.durable.on_reached(target, deadline, Box::new(settle));
    }

    fn wait_until(&self, deadline: Duration) -> Outcome {
        self.context.marks.durable.wait(self.target, &*self.context.clock, deadline)
    }

    fn settle(mut self, outcome: Outcome) -> Result<Receipt> {
        self.receipt(outcome)
    }

    fn receipt(&mut self, outcome: Outcome) -> Result<Receipt> {
        let status = match outcome {
            Outcome::Reached => PutStatus::PutOk,
            Outcome::TimedOut => PutStatus::FlushDiskTimeout,
            Outcome::Closed(error) => return Err(error),
        };
        Ok(Receipt { status, placement: self.first, others: std::mem::take(&mut self.others) })
    }
}

impl Future for Ticket {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outcome = this.outcome().or_else(|| {
            let durable = &this.context.marks.durable;
            durable.poll(this.target, cx.waker(), this.deadline, &mut this.place)
        });
        outcome.map_or(Poll::Pending, |outcome| Poll::Ready(this.receipt(outcome)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.context.marks.durable.leave(self.target, &mut self.place);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("placement", &self.first).finish_non_exhaustive()
    }
}
