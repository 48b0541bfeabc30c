//! A store on a real directory: put, read back, reopen, in both flush modes.

use std::time::Duration;

use steadfast::{
    ErrorKind, FlushMode, Group, Message, Options, PutStatus, QueueKey, QueueOffset, ReadLimit,
    Store, StoreTime,
};

fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(64 << 10);
    options.queue_file_bytes = 6000;
    options.index_slots = 1000;
    options.index_entries = 4000;
    options
}

fn body(i: usize) -> Vec<u8> {
    format!("message {i} {}", "x".repeat(i * 37 % 900)).into_bytes()
}

fn put_and_read_back(flush: FlushMode) {
    let dir = tempfile::tempdir().unwrap();
    let queues: Vec<_> = (0..3).map(|id| QueueKey::new("orders", id).unwrap()).collect();
    let group = Group::new("billing").unwrap();
    let total = 900;
    for round in 0..3 {
        let store = Store::builder(dir.path()).options(options(flush)).open().unwrap();
        assert_eq!(store.recovery().was_clean, round > 0, "{}", store.recovery());
        for i in round * 300..(round + 1) * 300 {
            let text = body(i);
            let key = format!("k{i}");
            let message = Message::new(&queues[i % 3], &text).tag(["A", "B"][i % 2]).key(&key);
            let receipt = store.append(&message).unwrap().wait().unwrap();
            assert_eq!(receipt.status, PutStatus::PutOk);
            assert_eq!(receipt.placement.queue_offset.get() as usize, i / 3);
        }
        assert!(store.wait_for(&queues[0], QueueOffset::new(99), Duration::from_secs(9)).unwrap());
        store.consumers().commit(&group, &queues[0], QueueOffset::new(7)).unwrap();
        store.close().unwrap();
    }
    let store = Store::builder(dir.path()).options(options(flush)).open().unwrap();
    assert_eq!(store.consumers().committed(&group, &queues[0]), Some(QueueOffset::new(7)));
    for (id, queue) in queues.iter().enumerate() {
        let mut next = QueueOffset::ZERO;
        let mut seen = 0;
        loop {
            let batch = store.read(queue, next, ReadLimit::records(32)).unwrap();
            if batch.is_empty() {
                break;
            }
            for record in batch.iter() {
                assert_eq!(record.body(), body(seen * 3 + id));
                seen += 1;
            }
            next = batch.next_offset();
        }
        assert_eq!(seen * 3, total);
        let tagged = store.read_tagged(queue, QueueOffset::ZERO, ReadLimit::records(999), &["A"]);
        assert_eq!(tagged.unwrap().len(), 150);
        let past = store.read(queue, QueueOffset::new(301), ReadLimit::records(1)).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::OutOfRange { start: 0, end: 300 });
    }
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    let found = store.query("orders", "k77", ever.0, ever.1, 8).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].body(), body(77));
}

#[test]
fn async_messages_are_read_back_after_reopening() {
    put_and_read_back(FlushMode::Async);
}

#[test]
fn sync_messages_are_read_back_after_reopening() {
    put_and_read_back(FlushMode::Sync);
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::builder(dir.path()).options(options(FlushMode::Async)).open().unwrap();
    let error = Store::builder(dir.path()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
}

#[test]
fn a_large_segment_without_our_files_is_taken_over_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let queue = QueueKey::new("large", 0).unwrap();
    let options = options(FlushMode::Async).segment_bytes(64 << 20);
    let open = || Store::builder(dir.path()).options(options.clone()).open().unwrap();
    let body = vec![7; 100_000];
    let store = open();
    for _ in 0..300 {
        drop(store.append(&Message::new(&queue, &body)).unwrap());
    }
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("steadfast")).unwrap();
    for _ in 0..2 {
        let store = open();
        assert_eq!(store.queue_range(&queue).unwrap().1.get(), 300, "{}", store.recovery());
        assert_eq!(store.recovery().damage().count(), 0);
        store.close().unwrap();
    }
}

#[test]
fn waiting_for_an_offset_that_no_queue_reaches_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).options(options(FlushMode::Async)).open().unwrap();
    let queue = QueueKey::new("orders", 0).unwrap();
    let last = QueueOffset::new(u64::MAX);
    assert!(!store.wait_for(&queue, last, Duration::ZERO).unwrap());
    drop(store.arrival(&queue, last).unwrap());
}

#[test]
fn a_clean_open_checks_only_the_newest_part_however_long_the_groups_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(FlushMode::Async).segment_bytes(128 << 20);
    // All of it becomes one group, synced by the close.
    options.flush_interval = Duration::from_secs(3600);
    options.flush_thorough_interval = Duration::from_secs(3600);
    let queue = QueueKey::new("orders", 0).unwrap();
    let store = Store::builder(dir.path()).options(options.clone()).open().unwrap();
    let text = vec![b'x'; 100 << 10];
    for _ in 0..600 {
        store.append(&Message::new(&queue, &text)).unwrap().wait().unwrap();
    }
    store.close().unwrap();
    let store = Store::builder(dir.path()).options(options).open_read_only().unwrap();
    let report = store.recovery();
    assert!(report.was_clean, "{report}");
    let checked = report.log_end - report.checked_from;
    assert!((16 << 20..25 << 20).contains(&checked), "{checked} bytes were checked");
}
