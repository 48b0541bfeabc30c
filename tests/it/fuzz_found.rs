//! What the fuzzer found, one test each.

use std::sync::Arc;

use steadfast::{
    ErrorKind, FlushMode, ManualClock, Message, Options, QueueKey, QueueOffset, ReadLimit, Step,
    Store, StoreTime, disk::sim::SimDisk,
};

fn open(disk: &SimDisk) -> Store {
    let mut options = Options::default().flush(FlushMode::Sync).segment_bytes(8192);
    options.queue_file_bytes = 400;
    (options.index_slots, options.index_entries) = (10, 40);
    let clock = Arc::new(ManualClock::new(StoreTime::from_millis(1_700_000_000_000)));
    let builder = Store::builder_on(Arc::new(disk.clone())).options(options);
    builder.clock(clock).open_stepped().unwrap()
}

/// It was an error that told the log's range as if it were the queue's: a reader that goes on from
/// there skips messages.
#[test]
fn a_queue_entry_that_points_out_of_the_log_is_damage_and_not_a_range_of_the_queue() {
    let disk = SimDisk::new(1);
    let queue = QueueKey::new("t", 0).unwrap();
    let store = open(&disk);
    for body in [b"one", b"two", b"six"] {
        let _ticket = store.append(&Message::new(&queue, body)).unwrap();
    }
    store.flush().unwrap();
    store.step(Step::Dispatch).unwrap();
    store.close().unwrap();

    let file = "consumequeue/t/0/00000000000000000000";
    for entry in [1_u64 << 40, i64::MAX as u64, 1 << 20] {
        disk.overwrite(file, 20, &entry.to_be_bytes());
        let store = open(&disk.crash_process());
        let read = |at| store.read(&queue, QueueOffset::new(at), ReadLimit::records(1));
        let error = read(1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
        assert_eq!(read(0).unwrap().iter().next().unwrap().body(), b"one");
        assert_eq!(read(2).unwrap().iter().next().unwrap().body(), b"six");
        store.abandon();
    }
}
