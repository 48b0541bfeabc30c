//! The sleep of a thread whose work others do while it lasts.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use crate::{
    clock::Clock,
    sync::{AtomicBool, AtomicU64},
    watermark::{Sleeper, Watermark},
};

/// So many times in a row somebody helps; then it is a stream, and the thread takes over, with its
/// batches and its core.
const HELPED_MOST: u64 = 32;

/// The sleep of the dispatcher's thread. While it lasts, whoever makes records visible dispatches
/// them: that costs less than waking a thread would, and a reader is told sooner.
#[derive(Debug)]
pub(crate) struct Rest {
    /// 0 while the thread is awake, else what `calls` has to reach to wake it. Not only a flag: a
    /// call that comes late must not be taken for one that ends the next sleep.
    asleep: AtomicU64,
    /// How often somebody helped since the thread fell asleep.
    helped: AtomicU64,
    calls: Watermark,
}

impl Rest {
    pub(crate) fn new() -> Self {
        Self { asleep: AtomicU64::new(0), helped: AtomicU64::new(0), calls: Watermark::new(0) }
    }

    /// Sleeps until called, unless there is something to do, until `stop` is set and the sleeper
    /// [woken](Self::wake_up), or until the clock's `elapsed` reaches `until`.
    pub(crate) fn sleep(
        &self,
        pending: impl Fn() -> bool,
        clock: &dyn Clock,
        until: Duration,
        stop: &AtomicBool,
    ) {
        let next = self.calls.get() + 1;
        self.helped.store(0, SeqCst);
        // Total order with `visible`: either it sees us asleep, or we see what it made visible.
        self.asleep.store(next, SeqCst);
        if !pending() {
            self.calls.wait_unless(Sleeper::Waiter, next, clock, until, stop);
        }
        self.asleep.store(0, SeqCst);
    }

    /// To be called after something was made visible. If the thread sleeps, `help` is asked to do
    /// its work; if it does not do all of it, the thread is called.
    pub(crate) fn visible(&self, pending: impl Fn() -> bool, help: impl FnOnce()) {
        let asleep = self.asleep.load(SeqCst);
        if asleep == 0 || !pending() {
            return;
        }
        if self.helped.fetch_add(1, SeqCst) < HELPED_MOST {
            help();
            if !pending() {
                return;
            }
        }
        // Whoever ends this sleep calls, once.
        if self.asleep.compare_exchange(asleep, 0, SeqCst, SeqCst).is_ok() {
            self.calls.advance(asleep);
        }
    }

    /// Lets the sleeper look at its `stop`.
    pub(crate) fn wake_up(&self) {
        self.calls.wake_sleepers();
    }
}
