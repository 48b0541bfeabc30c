//! The engine's waiting, under a scheduler that tries many orders of its steps.
//!
//! This is the real `src/watermark.rs`: its locks, atomics and the futex come from `crate::sync`,
//! which here is shuttle's. A wake-up that is lost is a deadlock, which shuttle reports with the
//! schedule that leads there. Shuttle's memory is sequentially consistent, as is all that the
//! watermark's waiting relies on.
//!
//! `STEADFAST_SCHEDULES` sets the random schedules per model, default 3000.

#![allow(clippy::unwrap_used, dead_code, unused_imports, unreachable_pub)]

use std::{
    env,
    sync::atomic::Ordering::SeqCst,
    task::{Wake, Waker},
    time::Duration,
};

use shuttle::{
    sync::{Arc, atomic::AtomicUsize},
    thread,
};
use steadfast::{ErrorKind, SystemClock};

#[path = "../src/rest.rs"]
mod rest;
#[path = "../src/watermark.rs"]
mod watermark;

mod clock {
    pub use steadfast::{Clock, SystemClock};
}

mod error {
    pub use steadfast::{Error, ErrorKind, Result};
}

/// What `src/sync.rs` is to the engine.
mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    use shuttle::sync::{Condvar, Mutex as Locked, MutexGuard};
    use std::sync::atomic::Ordering;

    pub(crate) struct Mutex<T>(Locked<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Locked::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// Setting and looking are steps of their own.
    pub(crate) struct OnceLock<T>(std::sync::OnceLock<T>, AtomicBool);

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self(std::sync::OnceLock::new(), AtomicBool::new(false))
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.1.store(true, Ordering::SeqCst);
            self.0.set(value)
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.1.load(Ordering::SeqCst);
            self.0.get()
        }
    }

    /// A word that threads sleep on, with the kernel's side of it.
    pub(crate) struct AtomicU32 {
        word: shuttle::sync::atomic::AtomicU32,
        bucket: Locked<()>,
        sleepers: Condvar,
    }

    impl From<u32> for AtomicU32 {
        fn from(value: u32) -> Self {
            let word = shuttle::sync::atomic::AtomicU32::new(value);
            Self { word, bucket: Locked::new(()), sleepers: Condvar::new() }
        }
    }

    impl AtomicU32 {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.word.load(order)
        }

        pub(crate) fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
            self.word.fetch_add(by, order)
        }
    }

    pub(crate) mod futex {
        use std::sync::atomic::Ordering;

        pub(crate) struct Flags;

        impl Flags {
            pub(crate) const PRIVATE: Self = Self;
        }

        pub(crate) struct Timespec {
            pub(crate) tv_sec: i64,
            pub(crate) tv_nsec: i64,
        }

        /// Sleeps if the word is as expected, looked at under the kernel's lock. Never times out:
        /// a wake-up that is lost shows as a deadlock.
        pub(crate) fn wait(
            word: &super::AtomicU32,
            _: Flags,
            expected: u32,
            _: Option<&Timespec>,
        ) -> Result<(), ()> {
            let bucket = word.bucket.lock().unwrap();
            if word.word.load(Ordering::SeqCst) != expected {
                return Err(());
            }
            drop(word.sleepers.wait(bucket).unwrap());
            Ok(())
        }

        pub(crate) fn wake(word: &super::AtomicU32, _: Flags, _: u32) -> Result<usize, ()> {
            let _bucket = word.bucket.lock().unwrap();
            word.sleepers.notify_all();
            Ok(0)
        }
    }
}

use watermark::{Outcome, Place, Watermark};

const LONG: Duration = Duration::from_secs(3600);

fn reached(mark: &Watermark, target: u64) {
    let outcome = mark.wait(target, &SystemClock::new(), LONG);
    assert!(matches!(outcome, Outcome::Reached), "target {target}: {outcome:?}");
    assert!(mark.get() >= target);
}

fn closed() -> steadfast::Error {
    steadfast::Error::new(ErrorKind::Closed, "closed")
}

fn spawn(mark: &Arc<Watermark>, body: impl FnOnce(&Watermark) + Send + 'static) -> Join {
    let mark = mark.clone();
    thread::spawn(move || body(&mark))
}

type Join = thread::JoinHandle<()>;

fn join(threads: impl IntoIterator<Item = Join>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn every_waiter_wakes_when_one_thread_advances() {
    let mark = Arc::new(Watermark::new(0));
    let waiters = [1, 2, 2].map(|target| spawn(&mark, move |mark| reached(mark, target)));
    mark.advance(1);
    mark.advance(2);
    join(waiters);
}

fn every_waiter_wakes_when_two_threads_advance() {
    let mark = Arc::new(Watermark::new(0));
    let waiters = [1, 3].map(|target| spawn(&mark, move |mark| reached(mark, target)));
    let others = [2, 3].map(|to| spawn(&mark, move |mark| mark.advance(to)));
    join(waiters.into_iter().chain(others));
    assert_eq!(mark.get(), 3);
}

fn a_waiter_that_waits_again_wakes_again() {
    let mark = Arc::new(Watermark::new(0));
    let waiter = spawn(&mark, |mark| (1..4).for_each(|target| reached(mark, target)));
    let other = spawn(&mark, |mark| reached(mark, 3));
    (1..4).for_each(|to| mark.advance(to));
    join([waiter, other]);
}

fn closing_wakes_everybody_and_tells_the_truth() {
    let mark = Arc::new(Watermark::new(0));
    let waiters = [3, 5].map(|target| {
        spawn(&mark, move |mark| match mark.wait(target, &SystemClock::new(), LONG) {
            // What was passed before the end is kept, whoever looks when.
            Outcome::Reached => assert_eq!(target, 3),
            Outcome::Closed(_) => assert_eq!(target, 5),
            Outcome::TimedOut => panic!("timed out"),
        })
    });
    mark.advance(3);
    mark.close(closed());
    join(waiters);
}

fn stopping_wakes_a_pump() {
    let mark = Arc::new(Watermark::new(0));
    let stop = Arc::new(sync::AtomicBool::new(false));
    let pump = spawn(&mark, {
        let stop = stop.clone();
        move |mark| {
            while !stop.load(SeqCst) {
                let next = mark.get() + 1;
                mark.wait_unless(
                    watermark::Sleeper::Waiter,
                    next,
                    &SystemClock::new(),
                    LONG,
                    &stop,
                );
            }
        }
    });
    mark.advance(1);
    stop.store(true, SeqCst);
    mark.wake_sleepers();
    join([pump]);
}

/// What the dispatcher's thread and its helpers share.
struct Work {
    visible: AtomicUsize,
    dispatched: Watermark,
    turn: shuttle::sync::Mutex<()>,
}

impl Work {
    fn pending(&self) -> bool {
        self.dispatched.get() < self.visible.load(SeqCst) as u64
    }

    fn dispatch(&self, _turn: shuttle::sync::MutexGuard<'_, ()>) {
        self.dispatched.advance(self.visible.load(SeqCst) as u64);
    }
}

fn what_is_made_visible_is_dispatched_by_somebody() {
    let work = Arc::new(Work {
        visible: AtomicUsize::new(0),
        dispatched: Watermark::new(0),
        turn: shuttle::sync::Mutex::new(()),
    });
    let rest = Arc::new(rest::Rest::new());
    let stop = Arc::new(sync::AtomicBool::new(false));
    let dispatcher = thread::spawn({
        let (work, rest, stop) = (work.clone(), rest.clone(), stop.clone());
        move || {
            while !stop.load(SeqCst) {
                work.dispatch(work.turn.lock().unwrap());
                rest.sleep(|| work.pending(), &SystemClock::new(), LONG, &stop);
            }
        }
    });
    let appenders = [0, 1].map(|_| {
        let (work, rest) = (work.clone(), rest.clone());
        thread::spawn(move || {
            for _ in 0..2 {
                work.visible.fetch_add(1, SeqCst);
                let help = || work.turn.try_lock().map_or((), |turn| work.dispatch(turn));
                rest.visible(|| work.pending(), help);
            }
        })
    });
    reached(&work.dispatched, 4);
    stop.store(true, SeqCst);
    rest.wake_up();
    join(appenders.into_iter().chain([dispatcher]));
}

fn every_callback_is_called_once_with_the_truth() {
    let mark = Arc::new(Watermark::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let subscribers = [1, 2, 4].map(|target| {
        let calls = calls.clone();
        spawn(&mark, move |mark| {
            let callback = move |outcome| {
                match outcome {
                    Outcome::Reached => assert!(target < 3),
                    Outcome::Closed(_) => assert!(target > 3),
                    Outcome::TimedOut => panic!("timed out"),
                }
                calls.fetch_add(1, SeqCst);
            };
            mark.on_reached(target, LONG, Box::new(callback));
        })
    });
    let other = spawn(&mark, |mark| mark.advance(1));
    mark.advance(2);
    mark.close(closed());
    join(subscribers.into_iter().chain([other]));
    assert_eq!(calls.load(SeqCst), 3);
}

fn a_callback_is_called_though_nothing_happens_after_it() {
    let mark = Arc::new(Watermark::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let advancer = spawn(&mark, |mark| mark.advance(2));
    for target in [1, 2] {
        let calls = calls.clone();
        let callback = move |_| {
            calls.fetch_add(1, SeqCst);
        };
        mark.on_reached(target, LONG, Box::new(callback));
    }
    join([advancer]);
    assert_eq!(calls.load(SeqCst), 2);
}

/// Counts how often it is woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn a_future_is_woken_or_ready() {
    let mark = Arc::new(Watermark::new(0));
    let woken = std::sync::Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let advancer = spawn(&mark, |mark| mark.advance(2));
    let ready = mark.poll(2, &waker, LONG, &mut Place::default()).is_some();
    join([advancer]);
    assert!(ready || woken.0.load(SeqCst) == 1, "nobody would ever poll again");
}

fn a_future_that_moved_to_another_task_wakes_that_one() {
    let mark = Arc::new(Watermark::new(0));
    let tasks = [0, 1].map(|_| std::sync::Arc::new(Woken(AtomicUsize::new(0))));
    let advancer = spawn(&mark, |mark| mark.advance(2));
    let mut place = Place::default();
    let ready = tasks.iter().any(|task| {
        let waker = Waker::from(task.clone());
        mark.poll(2, &waker, LONG, &mut place).is_some()
    });
    join([advancer]);
    assert!(ready || tasks[1].0.load(SeqCst) == 1, "nobody would ever poll again");
    let kept: Vec<_> = tasks.iter().map(std::sync::Arc::strong_count).collect();
    assert_eq!(kept, [1, 1], "a waker is kept");
}

fn a_future_that_is_dropped_leaves_nothing() {
    let mark = Arc::new(Watermark::new(0));
    let woken = std::sync::Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let advancer = spawn(&mark, |mark| mark.advance(2));
    let other = spawn(&mark, |mark| reached(mark, 2));
    let mut place = Place::default();
    let _ = mark.poll(3, &waker, LONG, &mut place);
    mark.leave(3, &mut place);
    drop(waker);
    join([advancer, other]);
    assert_eq!(std::sync::Arc::strong_count(&woken), 1, "the waker is kept");
    mark.advance(3);
    assert_eq!(woken.0.load(SeqCst), 0);
}

fn main() {
    let models: [(&str, fn()); 11] = [
        (
            "every_waiter_wakes_when_one_thread_advances",
            every_waiter_wakes_when_one_thread_advances,
        ),
        (
            "every_waiter_wakes_when_two_threads_advance",
            every_waiter_wakes_when_two_threads_advance,
        ),
        ("a_waiter_that_waits_again_wakes_again", a_waiter_that_waits_again_wakes_again),
        (
            "closing_wakes_everybody_and_tells_the_truth",
            closing_wakes_everybody_and_tells_the_truth,
        ),
        ("stopping_wakes_a_pump", stopping_wakes_a_pump),
        (
            "what_is_made_visible_is_dispatched_by_somebody",
            what_is_made_visible_is_dispatched_by_somebody,
        ),
        (
            "every_callback_is_called_once_with_the_truth",
            every_callback_is_called_once_with_the_truth,
        ),
        (
            "a_callback_is_called_though_nothing_happens_after_it",
            a_callback_is_called_though_nothing_happens_after_it,
        ),
        ("a_future_is_woken_or_ready", a_future_is_woken_or_ready),
        (
            "a_future_that_moved_to_another_task_wakes_that_one",
            a_future_that_moved_to_another_task_wakes_that_one,
        ),
        ("a_future_that_is_dropped_leaves_nothing", a_future_that_is_dropped_leaves_nothing),
    ];
    // As the harness would: `--list` names the tests, other words choose among them.
    let words: Vec<_> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        models.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let chosen: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let schedules = env::var("STEADFAST_SCHEDULES").map_or(3000, |n| n.parse().unwrap());
    // The engine's other orderings are not modelled; shuttle says so once, and we know.
    for (name, model) in models {
        if chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str())) {
            shuttle::check_random(model, schedules);
            shuttle::check_pct(model, schedules, 3);
            println!("test {name} ... ok, {} schedules", 2 * schedules);
        }
    }
}
