//! What the fuzzer found, one test each.

use std::sync::Arc;

use steadfast::{
    FlushMode, ManualClock, Message, Options, QueueKey, QueueOffset, ReadLimit, Remedy, RepairMode,
    Step, Store, StoreTime, disk::sim::SimDisk, internals::check,
};

const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);

fn options() -> Options {
    let mut options = Options::default().flush(FlushMode::Sync).segment_bytes(8192);
    options.queue_file_bytes = 400;
    (options.index_slots, options.index_entries) = (10, 40);
    options
}

fn open(disk: &SimDisk) -> Store {
    let clock = Arc::new(ManualClock::new(NOW));
    let builder = Store::builder_on(Arc::new(disk.clone())).options(options());
    builder.clock(clock).open_stepped().unwrap()
}

/// Fills a store with messages of its only queue and closes it.
fn fill<'a>(disk: &SimDisk, bodies: impl IntoIterator<Item = &'a [u8]>) -> QueueKey {
    let queue = QueueKey::new("t", 0).unwrap();
    let store = open(disk);
    for body in bodies {
        let _ticket = store.append(&Message::new(&queue, body)).unwrap();
    }
    store.flush().unwrap();
    store.step(Step::Dispatch).unwrap();
    store.close().unwrap();
    queue
}

/// It was an error that told the log's range as if it were the queue's: a reader that goes on from
/// there skips messages. Now the log tells where the record is.
#[test]
fn a_queue_entry_that_points_out_of_the_log_loses_no_message() {
    let disk = SimDisk::new(1);
    let queue = fill(&disk, [&b"one"[..], b"two", b"six"]);

    let file = "consumequeue/t/0/00000000000000000000";
    for entry in [1_u64 << 40, i64::MAX as u64, 1 << 20] {
        disk.overwrite(file, 20, &entry.to_be_bytes());
        let store = open(&disk.crash_process());
        let read = |at| store.read(&queue, QueueOffset::new(at), ReadLimit::records(1));
        assert_eq!(read(1).unwrap().iter().next().unwrap().body(), b"two");
        assert_eq!(read(0).unwrap().iter().next().unwrap().body(), b"one");
        assert_eq!(read(2).unwrap().iter().next().unwrap().body(), b"six");
        store.abandon();
    }
}

/// No open, not even a repair, took such a store.
#[test]
fn bytes_behind_the_slots_of_the_checkpoint_do_not_keep_a_store_from_opening() {
    let disk = SimDisk::new(1);
    let queue = fill(&disk, [&b"one"[..]]);

    let mut bytes = disk.read_file("steadfast/checkpoint");
    bytes.resize(118_171, 7);
    disk.write_file("steadfast/checkpoint", &bytes);
    let store = open(&disk);
    assert!(store.recovery().to_string().contains("closed cleanly"), "{}", store.recovery());
    let batch = store.read(&queue, QueueOffset::ZERO, ReadLimit::records(1)).unwrap();
    assert_eq!(batch.iter().next().unwrap().body(), b"one");
    store.abandon();
}

/// Such bytes cost their own offset until `repair`; now the read finds the record in the log, and
/// puts the entry right.
#[test]
fn bytes_that_are_no_queue_entry_lose_no_message() {
    let disk = SimDisk::new(1);
    let queue = fill(&disk, [&b"one"[..], b"two", b"six"]);

    let file = "consumequeue/t/0/00000000000000000000";
    let right = disk.read_file(file);
    // The entry tells of a place below zero.
    disk.overwrite(file, 20, &[0xff, 0x80]);
    let store = open(&disk);
    for (at, body) in (0..).zip([b"one", b"two", b"six"]) {
        let batch = store.read(&queue, QueueOffset::new(at), ReadLimit::records(1)).unwrap();
        assert_eq!(batch.iter().next().unwrap().body(), body);
    }
    store.close().unwrap();
    assert!(disk.read_file(file) == right, "the entry was not put right");
}

/// The first repair gave up only the end, called the store mended, and left the damage.
#[test]
fn one_repair_gives_up_a_lost_end_and_the_damage_before_it() {
    let disk = SimDisk::new(1);
    fill(&disk, [&[b'a'; 300][..]; 50]);

    disk.overwrite("commitlog/00000000000000000000", 200, b"rot");
    disk.remove_file("commitlog/00000000000000016384");
    let disk = disk.crash_process();
    let repair = || {
        let disk = Arc::new(disk.clone());
        check::repair(disk, &options(), RepairMode::AcceptLoss, NOW).unwrap()
    };
    let report = repair();
    assert!(report.is_mended());
    let remedies: Vec<_> = report.losses.iter().map(|loss| loss.remedy).collect();
    assert_eq!(remedies, [Remedy::Forget, Remedy::Placeholder]);
    assert_eq!(repair().losses, []);
    // `open` refuses damage.
    open(&disk.crash_process()).abandon();
}

/// A repair made a list of all the segments in between, and would have made the segments.
#[test]
fn a_segment_named_far_behind_the_others_does_not_exhaust_the_memory_of_a_repair() {
    let disk = SimDisk::new(1);
    fill(&disk, [&[b'a'; 4000][..]; 3]);

    // A sound record in its own place, for all that its body's checksum says.
    let far = 1_u64 << 62;
    let mut bytes = disk.read_file("commitlog/00000000000000000000");
    bytes[28..36].copy_from_slice(&far.to_be_bytes());
    let size = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[size - 20..size - 12].copy_from_slice(b"anything");
    disk.write_file(&format!("commitlog/{far:020}"), &bytes);
    for path in disk.paths().iter().filter(|path| path.starts_with("steadfast/")) {
        disk.remove_file(path);
    }
    let report = check::repair(Arc::new(disk.clone()), &options(), RepairMode::AcceptLoss, NOW);
    let losses = report.unwrap().losses;
    assert_eq!(losses.iter().map(|loss| loss.remedy).collect::<Vec<_>>(), [Remedy::Leave]);
    assert!(disk.paths().len() < 30, "{:?}", disk.paths());
}
