//! Real threads: producers, readers at the tail, commits, in both flush modes, over small segments
//! that roll all the time. A checker follows along.
//!
//! `STEADFAST_STRESS` sets the messages per producer, default 400.

use std::{
    collections::HashMap,
    env,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use steadfast::{
    FlushMode, Group, Message, Options, PutStatus, QueueKey, QueueOffset, ReadLimit, Store,
    disk::sim::Rng,
};

const PRODUCERS: usize = 4;
const QUEUES: usize = 3;
const READERS: usize = 2;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(32 << 10);
    options.queue_file_bytes = 2000;
    options.index_slots = 200;
    options.index_entries = 900;
    options.flush_interval = Duration::from_millis(2);
    options.flush_least_bytes = 1;
    options.offsets_interval = Duration::from_millis(10);
    options
}

fn keys() -> Vec<QueueKey> {
    (0..QUEUES).map(|id| QueueKey::new("orders", id as i32).unwrap()).collect()
}

fn body(producer: usize, serial: usize) -> Vec<u8> {
    let mut body = format!("p{producer} s{serial} ").into_bytes();
    let len = body.len() + (producer * 131 + serial * 17) % 700;
    body.resize(len, b'a' + (serial % 26) as u8);
    body
}

/// Producer and serial of a message, which is checked to be whole.
fn parse(bytes: &[u8]) -> (usize, usize) {
    let mut words = bytes.splitn(3, |b| *b == b' ');
    let mut number = |prefix: u8| {
        let word = words.next().unwrap();
        assert_eq!(word.first(), Some(&prefix));
        std::str::from_utf8(&word[1..]).unwrap().parse::<usize>().unwrap()
    };
    let (producer, serial) = (number(b'p'), number(b's'));
    assert!(bytes == body(producer, serial), "the bytes of message {serial} of {producer}");
    (producer, serial)
}

/// Puts `count` messages; says how many went to each queue.
fn produce(store: &Store, producer: usize, count: usize, seed: u64, per_queue: &[AtomicUsize]) {
    let mut rng = Rng::new(seed);
    let keys = keys();
    let mut tickets = Vec::new();
    let mut latest = HashMap::new();
    for serial in 0..count {
        let queue = rng.below(QUEUES as u64) as usize;
        let text = body(producer, serial);
        let key = format!("p{producer}s{serial}");
        let ticket = store.append(&Message::new(&keys[queue], &text).key(&key)).unwrap();
        let offset = ticket.placement().queue_offset;
        let before = latest.insert(queue, offset);
        assert!(before.is_none_or(|before| before < offset), "offsets of one producer go back");
        per_queue[queue].fetch_add(1, SeqCst);
        tickets.push(ticket);
        if rng.chance(1, 8) {
            for ticket in tickets.drain(..) {
                let end = ticket.placement().end();
                assert_eq!(ticket.wait().unwrap().status, PutStatus::PutOk);
                let progress = store.progress();
                let safe = match store.options().flush {
                    FlushMode::Sync => progress.durable,
                    FlushMode::Async => progress.written,
                };
                assert!(safe >= end, "acknowledged before it was safe: {progress:?} {end}");
            }
        }
    }
    tickets.into_iter().for_each(|t| assert_eq!(t.wait().unwrap().status, PutStatus::PutOk));
}

/// Follows one queue until it saw `total` messages of all queues' readers of this group.
fn consume(store: &Store, group: &Group, queue: &QueueKey, wanted: &dyn Fn() -> Option<usize>) {
    let mut next = QueueOffset::ZERO;
    let mut latest: HashMap<usize, usize> = HashMap::new();
    loop {
        if wanted().is_some_and(|wanted| next.get() as usize == wanted) {
            break;
        }
        // Short only so that the end of the producers is noticed.
        if !store.wait_for(queue, next, Duration::from_millis(5)).unwrap() {
            continue;
        }
        let batch = store.read(queue, next, ReadLimit::records(16)).unwrap();
        assert!(!batch.is_empty(), "told that {next} of {queue} is there, but it is not");
        let progress = store.progress();
        for record in batch.iter() {
            assert_eq!(record.queue_offset(), next, "an offset was left out");
            let end = record.physical_offset() + u64::from(record.size());
            let visible = match store.options().flush {
                FlushMode::Sync => progress.durable,
                FlushMode::Async => progress.written,
            };
            assert!(visible >= end, "read before it was safe");
            let (producer, serial) = parse(record.body());
            let before = latest.insert(producer, serial);
            assert!(before.is_none_or(|before| before < serial), "a producer's order is lost");
            next = next.next();
        }
        store.consumers().commit(group, queue, next).unwrap();
    }
}

fn stress(flush: FlushMode, seed: u64) {
    let count = env::var("STEADFAST_STRESS").map_or(400, |n| n.parse().unwrap());
    println!("{flush:?}, seed {seed}, {count} messages of each producer");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).options(options(flush)).open().unwrap();
    let per_queue: Vec<_> = (0..QUEUES).map(|_| AtomicUsize::new(0)).collect();
    let done = AtomicUsize::new(0);
    let (store_ref, per_queue_ref, done_ref) = (&store, &per_queue, &done);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn(move || {
                let seed = seed ^ (producer as u64) << 32;
                produce(store_ref, producer, count, seed, per_queue_ref);
                done_ref.fetch_add(1, SeqCst);
            });
        }
        for reader in 0..READERS {
            for (queue, count) in keys().into_iter().zip(per_queue_ref) {
                scope.spawn(move || {
                    let group = Group::new(&format!("readers-{reader}")).unwrap();
                    let wanted = || {
                        let all = done_ref.load(SeqCst) == PRODUCERS;
                        all.then(|| count.load(SeqCst))
                    };
                    consume(store_ref, &group, &queue, &wanted);
                });
            }
        }
    });
    let total: usize = per_queue.iter().map(|n| n.load(SeqCst)).sum();
    assert_eq!(total, PRODUCERS * count);
    store.health().unwrap();
    store.close().unwrap();
    let store = Store::builder(dir.path()).options(options(flush)).open().unwrap();
    assert!(store.recovery().was_clean, "{}", store.recovery());
    for (queue, count) in keys().iter().zip(&per_queue) {
        let end = QueueOffset::new(count.load(SeqCst) as u64);
        assert_eq!(store.queue_range(queue), Some((QueueOffset::ZERO, end)));
        let group = Group::new("readers-0").unwrap();
        assert_eq!(store.consumers().committed(&group, queue), Some(end));
    }
}

#[test]
fn producers_and_readers_agree_async() {
    stress(FlushMode::Async, 11);
}

#[test]
fn producers_and_readers_agree_sync() {
    stress(FlushMode::Sync, 12);
}

#[test]
fn closing_settles_every_waiter() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::builder(dir.path()).options(options(FlushMode::Sync)).open().unwrap();
        let queue = QueueKey::new("orders", 0).unwrap();
        let tickets: Vec<_> =
            (0..round).map(|i| store.append(&Message::new(&queue, &body(0, i))).unwrap()).collect();
        let waiter = thread::spawn(move || {
            tickets.into_iter().map(|t| t.wait().unwrap().status).collect::<Vec<_>>()
        });
        // Closing flushes: everything that has its place is acknowledged.
        store.close().unwrap();
        assert!(waiter.join().unwrap().iter().all(|status| *status == PutStatus::PutOk));
    }
}

#[test]
fn closing_ends_waits_for_messages_that_never_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).options(options(FlushMode::Async)).open().unwrap();
    let queue = QueueKey::new("orders", 0).unwrap();
    let arrival = store.arrival(&queue, QueueOffset::new(3)).unwrap();
    let waiter = thread::spawn(move || {
        struct Unpark(thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Unpark(thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut arrival = std::pin::pin!(arrival);
        loop {
            match arrival.as_mut().poll(&mut context) {
                std::task::Poll::Ready(result) => return result,
                std::task::Poll::Pending => thread::park_timeout(LONG),
            }
        }
    });
    store.close().unwrap();
    let error = waiter.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), steadfast::ErrorKind::Closed);
}
