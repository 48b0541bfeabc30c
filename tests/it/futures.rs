//! What a future leaves with the store: its newest waker while it lives, nothing afterwards.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use steadfast::{Message, OnDamage, QueueOffset, Step, Store};

use crate::directory::{options, queue};

/// A task, as an executor knows it: counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Task {
    fn woken(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Without threads: nothing happens but what the test does.
fn stepped(dir: &tempfile::TempDir) -> Store {
    let options = options().on_damage(OnDamage::Refuse);
    Store::builder(dir.path()).options(options).open_stepped().unwrap()
}

fn settle(store: &Store) {
    store.step(Step::Flush).unwrap();
    store.step(Step::Dispatch).unwrap();
}

/// Polls `future` again and again as one task and then as another, lets what it waits for happen,
/// and expects that only the last task is woken, once.
fn only_the_newest_waker_is_kept<F: Future>(future: F, happen: impl FnOnce()) {
    let (old, new) = (Arc::new(Task::default()), Arc::new(Task::default()));
    let mut future = pin!(future);
    for task in [&old, &new] {
        let waker = Waker::from(task.clone());
        for _ in 0..100 {
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(Arc::strong_count(task), 3, "the test's two, and one with the store");
    }
    assert_eq!(Arc::strong_count(&old), 1, "a waker that was replaced is kept");
    happen();
    assert_eq!((old.woken(), new.woken()), (0, 1));
    let waker = Waker::from(new.clone());
    assert!(matches!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(_)));
}

/// Polls `future`, drops it, lets what it waited for happen, and expects that nobody is woken.
fn nothing_is_left_of_a_dropped_one<F: Future>(future: F, happen: impl FnOnce()) {
    let task = Arc::new(Task::default());
    {
        let waker = Waker::from(task.clone());
        let mut future = pin!(future);
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&task), 1, "the waker is kept");
    happen();
    assert_eq!(task.woken(), 0);
}

#[test]
fn an_arrival_keeps_one_waker_and_wakes_the_task_that_polled_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = stepped(&dir);
    let arrival = store.arrival(&queue(0), QueueOffset::ZERO).unwrap();
    only_the_newest_waker_is_kept(arrival, || {
        drop(store.append(&Message::new(&queue(0), b"came")).unwrap());
        settle(&store);
    });
}

#[test]
fn a_dropped_arrival_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = stepped(&dir);
    let arrival = store.arrival(&queue(0), QueueOffset::ZERO).unwrap();
    nothing_is_left_of_a_dropped_one(arrival, || {
        drop(store.append(&Message::new(&queue(0), b"came")).unwrap());
        settle(&store);
    });
}

#[test]
fn a_ticket_keeps_one_waker_and_wakes_the_task_that_polled_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = stepped(&dir);
    let ticket = store.append(&Message::new(&queue(0), b"put")).unwrap();
    only_the_newest_waker_is_kept(ticket, || settle(&store));
}

#[test]
fn a_dropped_ticket_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = stepped(&dir);
    let ticket = store.append(&Message::new(&queue(0), b"put")).unwrap();
    nothing_is_left_of_a_dropped_one(ticket, || settle(&store));
}
