//! The engine's waiting alone: `src/watermark.rs` and `src/rest.rs`.

use std::{
    sync::atomic::Ordering::SeqCst,
    task::{Wake, Waker},
    time::Duration,
};

use shuttle::{
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize},
    thread,
};

use crate::{
    Error, ErrorKind, FlushMode, SystemClock,
    disk::AppendPath,
    log::marks::Marks,
    rest::Rest,
    sync::AtomicBool,
    watermark::{Outcome, Place, Sleeper, Watermark},
};

const LONG: Duration = Duration::from_secs(3600);

fn reached(mark: &Watermark, target: u64) {
    let outcome = mark.wait(target, &SystemClock::new(), LONG);
    assert!(matches!(outcome, Outcome::Reached), "target {target}: {outcome:?}");
    assert!(mark.get() >= target);
}

/// The durable mark passes what the end of the log was a moment ago.
pub(crate) fn what_is_not_durable_is_counted_while_both_ends_move() {
    let marks = Arc::new(Marks::new(0, 0, AppendPath::Store, FlushMode::Async));
    let appender = thread::spawn({
        let marks = marks.clone();
        move || (1..4).for_each(|n| marks.appended.advance(n * 10))
    });
    let flusher = thread::spawn({
        let marks = marks.clone();
        move || (0..3).for_each(|_| marks.durable.advance(marks.appended.get()))
    });
    (0..2).for_each(|_| assert!(marks.unsynced() <= 30));
    join([appender, flusher]);
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "closed")
}

fn spawn(mark: &Arc<Watermark>, body: impl FnOnce(&Watermark) + Send + 'static) -> Join {
    let mark = mark.clone();
    thread::spawn(move || body(&mark))
}

type Join = thread::JoinHandle<()>;

pub(crate) fn join(threads: impl IntoIterator<Item = Join>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

pub(crate) fn every_waiter_wakes_when_one_thread_advances() {
    let mark = Arc::new(Watermark::new(0));
    let waiters = [1, 2, 2].map(|target| spawn(&mark, move |mark| reached(mark, target)));
    mark.advance(1);
    mark.advance(2);
    join(waiters);
}

pub(crate) fn every_waiter_wakes_when_two_threads_advance() {
    let mark = Arc::new(Watermark::new(0));
    let waiters = [1, 3].map(|target| spawn(&mark, move |mark| reached(mark, target)));
    let others = [2, 3].map(|to| spawn(&mark, move |mark| mark.advance(to)));
    join(waiters.into_iter().chain(others));
    assert_eq!(mark.get(), 3);
}

pub(crate) fn a_waiter_that_waits_again_wakes_again() {
    let mark = Arc::new(Watermark::new(0));
    let waiter = spawn(&mark, |mark| (1..4).for_each(|target| reached(mark, target)));
    let other = spawn(&mark, |mark| reached(mark, 3));
    (1..4).for_each(|to| mark.advance(to));
    join([waiter, other]);
}

pub(crate) fn closing_wakes_everybody_and_tells_the_truth() {
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

pub(crate) fn stopping_wakes_a_pump() {
    let mark = Arc::new(Watermark::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let pump = spawn(&mark, {
        let stop = stop.clone();
        move |mark| {
            while !stop.load(SeqCst) {
                let next = mark.get() + 1;
                mark.wait_unless(Sleeper::Waiter, next, &SystemClock::new(), LONG, &stop);
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
    turn: Mutex<()>,
}

impl Work {
    fn pending(&self) -> bool {
        self.dispatched.get() < self.visible.load(SeqCst) as u64
    }

    fn dispatch(&self, _turn: MutexGuard<'_, ()>) {
        self.dispatched.advance(self.visible.load(SeqCst) as u64);
    }
}

pub(crate) fn what_is_made_visible_is_dispatched_by_somebody() {
    let work = Arc::new(Work {
        visible: AtomicUsize::new(0),
        dispatched: Watermark::new(0),
        turn: Mutex::new(()),
    });
    let rest = Arc::new(Rest::new());
    let stop = Arc::new(AtomicBool::new(false));
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

pub(crate) fn every_callback_is_called_once_with_the_truth() {
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

pub(crate) fn a_callback_is_called_though_nothing_happens_after_it() {
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

pub(crate) fn a_future_is_woken_or_ready() {
    let mark = Arc::new(Watermark::new(0));
    let woken = std::sync::Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let advancer = spawn(&mark, |mark| mark.advance(2));
    let ready = mark.poll(2, &waker, LONG, &mut Place::default()).is_some();
    join([advancer]);
    assert!(ready || woken.0.load(SeqCst) == 1, "nobody would ever poll again");
}

pub(crate) fn a_future_that_moved_to_another_task_wakes_that_one() {
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

pub(crate) fn a_future_that_is_dropped_leaves_nothing() {
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
