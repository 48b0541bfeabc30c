//! A monotone position that threads, futures and callbacks wait for: the engine's only waiting
//! primitive.
//!
//! Nobody waits for a request object; everybody waits for an offset to be passed. Moving the mark
//! once settles all of them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::Ordering::{Acquire, SeqCst},
    task::Waker,
    time::Duration,
};

use crate::{
    clock::Clock,
    error::{Error, Result},
    sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, OnceLock, futex},
};

/// What became of a wait.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The mark is at or past the target.
    Reached,
    /// The deadline came first.
    TimedOut,
    /// The mark was closed below the target and will never get there.
    Closed(Error),
}

type Callback = Box<dyn FnOnce(Outcome) + Send>;

enum Notify {
    Wake(Waker),
    Call(Callback),
}

struct Subscriber {
    /// Of the clock's `elapsed`; `Duration::MAX` for none.
    deadline: Duration,
    notify: Notify,
}

/// By target, and in the order in which they came.
#[derive(Default)]
struct Subscribers {
    waiting: BTreeMap<(u64, u64), Subscriber>,
    next: u64,
}

impl Subscribers {
    /// Takes `subscriber` in and gives its number.
    fn add(&mut self, target: u64, subscriber: Subscriber) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert((target, number), subscriber);
        number
    }
}

/// A future's place among those who wait: none before its first poll. Whoever owns it gives it
/// back with [`Watermark::leave`].
#[derive(Debug, Default)]
pub(crate) struct Place(Option<u64>);

/// Which threads are woken together. Waking costs more than anything else here, so those who wait
/// for the next byte and those who wait for many more are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sleeper {
    /// Waits for something it needs now.
    Waiter,
    /// Works ahead in the background.
    Background,
}

/// Threads that sleep on the same word.
struct Sleepers {
    /// What they watch: changes whenever they should look again.
    epoch: AtomicU32,
    /// The lowest target any of them waits for: below it nobody need be woken.
    lowest: AtomicU64,
}

impl Sleepers {
    fn new() -> Self {
        Self { epoch: 0.into(), lowest: u64::MAX.into() }
    }

    fn wake(&self) {
        self.lowest.store(u64::MAX, SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        let _ = futex::wake(&self.epoch, futex::Flags::PRIVATE, i32::MAX as u32);
    }
}

/// An exclusive end that only grows, with everybody who waits for it.
pub(crate) struct Watermark {
    value: AtomicU64,
    waiters: Sleepers,
    background: Sleepers,
    /// How many subscribers there are, to be seen without their lock.
    subscribed: AtomicUsize,
    subscribers: Mutex<Subscribers>,
    closed: OnceLock<Error>,
}

impl Watermark {
    /// A mark that stands at `value`.
    pub(crate) fn new(value: u64) -> Self {
        Self {
            value: value.into(),
            waiters: Sleepers::new(),
            background: Sleepers::new(),
            subscribed: 0.into(),
            subscribers: Mutex::new(Subscribers::default()),
            closed: OnceLock::new(),
        }
    }

    /// Where the mark stands. What was written before it was moved there can be read.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Acquire)
    }

    /// Moves the mark to `to` and tells everybody whose target that passes. A lower value than
    /// the present one changes nothing.
    pub(crate) fn advance(&self, to: u64) {
        // Total order with the waiters' "register, then look again": either they see the value or
        // we see them.
        self.value.fetch_max(to, SeqCst);
        for sleepers in [&self.waiters, &self.background] {
            if to >= sleepers.lowest.load(SeqCst) {
                sleepers.wake();
            }
        }
        if self.subscribed.load(SeqCst) > 0 {
            self.settle_reached();
        }
    }

    /// Puts the mark at `to`, also backwards. Only before anybody else knows it.
    pub(crate) fn rewind(&self, to: u64) {
        self.value.store(to, SeqCst);
    }

    /// Ends all waiting for what lies past the mark: they get `error`. The first error stays.
    pub(crate) fn close(&self, error: Error) {
        let _ = self.closed.set(error);
        self.wake_sleepers();
        self.settle_closed();
    }

    /// Why the mark will not move any more, if so.
    pub(crate) fn closed(&self) -> Option<&Error> {
        self.closed.get()
    }

    /// Blocks until the mark reaches `target`, the clock's `elapsed` reaches `deadline`, or the
    /// mark is closed.
    pub(crate) fn wait(&self, target: u64, clock: &dyn Clock, deadline: Duration) -> Outcome {
        self.wait_unless(Sleeper::Waiter, target, clock, deadline, &AtomicBool::new(false))
    }

    /// Like [`wait`](Self::wait), but also ends, as timed out, once `stop` is set and the sleepers
    /// are [woken](Self::wake_sleepers).
    pub(crate) fn wait_unless(
        &self,
        who: Sleeper,
        target: u64,
        clock: &dyn Clock,
        deadline: Duration,
        stop: &AtomicBool,
    ) -> Outcome {
        let sleepers = match who {
            Sleeper::Waiter => &self.waiters,
            Sleeper::Background => &self.background,
        };
        loop {
            if let Some(outcome) = self.state(target) {
                return outcome;
            }
            if stop.load(SeqCst) {
                return Outcome::TimedOut;
            }
            let left = deadline.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Outcome::TimedOut;
            }
            self.sleep(sleepers, target, left, stop);
        }
    }

    /// Sleeps until the mark may have reached `target` or about `timeout` passed. May return early.
    fn sleep(&self, sleepers: &Sleepers, target: u64, timeout: Duration, stop: &AtomicBool) {
        // The epoch is read before registering: a waker that erases the registration changes the
        // epoch afterwards, so the wait below cannot miss it.
        let epoch = sleepers.epoch.load(SeqCst);
        sleepers.lowest.fetch_min(target, SeqCst);
        let reached = self.value.load(SeqCst) >= target;
        if reached || stop.load(SeqCst) || self.closed.get().is_some() {
            return;
        }
        // A day at most: larger timeouts overflow on some kernels, and every caller loops.
        let timeout = timeout.min(Duration::from_secs(86_400));
        let timeout = futex::Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()) as _,
        };
        // Every outcome (woken, changed, interrupted, timed out) means: look again.
        let _ = futex::wait(&sleepers.epoch, futex::Flags::PRIVATE, epoch, Some(&timeout));
    }

    /// Makes every sleeping thread look at its condition again; those who go on waiting register
    /// anew.
    pub(crate) fn wake_sleepers(&self) {
        self.waiters.wake();
        self.background.wake();
    }

    /// Whether the mark reached `target`; if not, `waker` is woken once it did, or is closed, or
    /// `deadline` passed. A waker that was given for the same `place` before is forgotten.
    pub(crate) fn poll(
        &self,
        target: u64,
        waker: &Waker,
        deadline: Duration,
        place: &mut Place,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.state(target) {
            return Some(outcome);
        }
        // Cloning and dropping a waker is foreign code: never with the lock held.
        let notify = Notify::Wake(waker.clone());
        let replaced = {
            let mut subscribers = self.subscribers.lock();
            let known = place.0.and_then(|number| subscribers.waiting.get_mut(&(target, number)));
            match known {
                Some(there) => Some(std::mem::replace(&mut there.notify, notify)),
                None => {
                    place.0 = Some(subscribers.add(target, Subscriber { deadline, notify }));
                    self.subscribed.store(subscribers.waiting.len(), SeqCst);
                    None
                }
            }
        };
        drop(replaced);
        self.settle_missed();
        self.state(target)
    }

    /// Ends the waiting of the future that had `place` with `target`: it is not woken any more.
    pub(crate) fn leave(&self, target: u64, place: &mut Place) {
        let Some(number) = place.0.take() else { return };
        let left = {
            let mut subscribers = self.subscribers.lock();
            let left = subscribers.waiting.remove(&(target, number));
            self.subscribed.store(subscribers.waiting.len(), SeqCst);
            left
        };
        drop(left);
    }

    /// Calls `callback` once with what became of waiting for `target`: at once on this thread if
    /// that is settled, else on the thread that settles it.
    pub(crate) fn on_reached(&self, target: u64, deadline: Duration, callback: Callback) {
        match self.state(target) {
            Some(outcome) => callback(outcome),
            None => {
                let mut subscribers = self.subscribers.lock();
                subscribers.add(target, Subscriber { deadline, notify: Notify::Call(callback) });
                self.subscribed.store(subscribers.waiting.len(), SeqCst);
                drop(subscribers);
                self.settle_missed();
            }
        }
    }

    /// What a wait for `target` would say now, `None` if it would go on.
    pub(crate) fn state(&self, target: u64) -> Option<Outcome> {
        // The end first: what the mark passed before its end counts as passed.
        let closed = self.closed.get();
        if self.value.load(SeqCst) >= target {
            return Some(Outcome::Reached);
        }
        closed.cloned().map(Outcome::Closed)
    }

    /// Tells those whose deadline is at or before `now` (the clock's `elapsed`).
    pub(crate) fn expire(&self, now: Duration) {
        if self.subscribed.load(SeqCst) == 0 {
            return;
        }
        // Targets and deadlines grow together, because both were drawn when a record was
        // appended: the first one that is still in time ends the search.
        self.settle(|_, first, _| (first.deadline <= now).then_some(Outcome::TimedOut));
    }

    /// The mark may have moved, or closed, between a caller's look and its place among the
    /// subscribers.
    fn settle_missed(&self) {
        self.settle_reached();
        if self.closed.get().is_some() {
            self.settle_closed();
        }
    }

    fn settle_reached(&self) {
        self.settle(|target, _, value| (target <= value).then_some(Outcome::Reached));
    }

    fn settle_closed(&self) {
        if let Some(error) = self.closed.get() {
            self.settle(|target, _, value| {
                Some(if target <= value {
                    Outcome::Reached
                } else {
                    Outcome::Closed(error.clone())
                })
            });
        }
    }

    /// Takes subscribers off, lowest target first, as long as `outcome` gives one, and tells each
    /// outside of the lock, so that a callback may use the store.
    fn settle(&self, outcome: impl Fn(u64, &Subscriber, u64) -> Option<Outcome>) {
        loop {
            let mut due = Vec::new();
            {
                let mut subscribers = self.subscribers.lock();
                let value = self.value.load(SeqCst);
                while due.len() < 256 {
                    let Some(first) = subscribers.waiting.first_entry() else { break };
                    let target = first.key().0;
                    let Some(outcome) = outcome(target, first.get(), value) else { break };
                    due.push((first.remove().notify, outcome));
                }
                self.subscribed.store(subscribers.waiting.len(), SeqCst);
            }
            if due.is_empty() {
                return;
            }
            for (notify, outcome) in due {
                match notify {
                    Notify::Wake(waker) => waker.wake(),
                    Notify::Call(callback) => callback(outcome),
                }
            }
        }
    }

    /// `Ok` if the mark is open, else why it is not.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.closed.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watermark")
            .field("value", &self.get())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        task::Wake,
        thread,
    };

    use super::*;
    use crate::{clock::SystemClock, error::ErrorKind};

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_waiting_thread_returns_when_its_target_is_passed_and_not_before() {
        let mark = Arc::new(Watermark::new(5));
        let clock = Arc::new(SystemClock::new());
        let reached = Arc::new(AtomicBool::new(false));
        let waiter = thread::spawn({
            let (mark, clock, reached) = (mark.clone(), clock.clone(), reached.clone());
            move || {
                let outcome = mark.wait(10, &*clock, LONG);
                reached.store(true, SeqCst);
                (outcome, mark.get())
            }
        });
        for value in 6..10 {
            mark.advance(value);
            assert!(!reached.load(SeqCst));
        }
        mark.advance(12);
        let (outcome, seen) = waiter.join().unwrap();
        assert!(matches!(outcome, Outcome::Reached) && seen >= 10);
    }

    #[test]
    fn a_deadline_in_the_past_times_out_at_once() {
        let mark = Watermark::new(0);
        let outcome = mark.wait(1, &SystemClock::new(), Duration::ZERO);
        assert!(matches!(outcome, Outcome::TimedOut));
    }

    #[test]
    fn closing_settles_everybody_past_the_mark_with_the_first_cause() {
        let mark = Watermark::new(0);
        let (sender, receiver) = mpsc::channel();
        for target in [1, 7] {
            let sender = sender.clone();
            mark.on_reached(target, LONG, Box::new(move |o| sender.send((target, o)).unwrap()));
        }
        mark.advance(3);
        assert!(matches!(receiver.try_recv().unwrap(), (1, Outcome::Reached)));
        assert!(receiver.try_recv().is_err());
        mark.close(Error::new(ErrorKind::Faulted, "first"));
        mark.close(Error::new(ErrorKind::Closed, "second"));
        let (target, outcome) = receiver.try_recv().unwrap();
        assert_eq!(target, 7);
        assert!(matches!(outcome, Outcome::Closed(e) if e.to_string() == "first"));
        let clock = SystemClock::new();
        assert!(matches!(mark.wait(7, &clock, LONG), Outcome::Closed(_)));
        assert!(matches!(mark.wait(3, &clock, LONG), Outcome::Reached));
    }

    #[test]
    fn callbacks_come_in_the_order_of_their_targets() {
        let mark = Watermark::new(0);
        let (sender, receiver) = mpsc::channel();
        for target in [30, 10, 20] {
            let sender = sender.clone();
            mark.on_reached(target, LONG, Box::new(move |_| sender.send(target).unwrap()));
        }
        mark.advance(20);
        mark.advance(30);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [10, 20, 30]);
    }

    #[test]
    fn expired_subscribers_are_told_and_the_others_stay() {
        let mark = Watermark::new(0);
        let (sender, receiver) = mpsc::channel();
        for (target, deadline) in [(10, 5), (20, 50)] {
            let sender = sender.clone();
            let deadline = Duration::from_secs(deadline);
            mark.on_reached(target, deadline, Box::new(move |o| sender.send((target, o)).unwrap()));
        }
        mark.expire(Duration::from_secs(6));
        assert!(matches!(receiver.try_recv().unwrap(), (10, Outcome::TimedOut)));
        assert!(receiver.try_recv().is_err());
    }

    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    #[test]
    fn a_polled_waker_is_woken() {
        let mark = Watermark::new(0);
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let mut place = Place::default();
        assert!(mark.poll(4, &waker, LONG, &mut place).is_none());
        mark.advance(3);
        assert!(!flag.0.load(SeqCst));
        mark.advance(4);
        assert!(flag.0.load(SeqCst));
        assert!(matches!(mark.poll(4, &waker, LONG, &mut place), Some(Outcome::Reached)));
    }
}
