//! What a broker's directory may hold that is not read here: it is named and nothing is touched.
//! The names are those that brokers of 5.3.1 and 5.5.1 left.

use std::{fs, path::Path};

use steadfast::{Finding, OnDamage, RecordChecksum, Store};

use crate::{
    directory::{Left, SEGMENT_BYTES, check, filled, listing, open, options, put, segment_of},
    foreign_files::refused,
};

const MESSAGES: usize = 400;

/// Writes a file and the directories it is in.
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A log with queues and index as another program would leave them. Gives how many segments.
fn of_another_program(dir: &Path) -> u64 {
    filled(dir, MESSAGES, Left::Closed);
    fs::remove_dir_all(dir.join("steadfast")).unwrap();
    let segments = fs::read_dir(dir.join("commitlog")).unwrap().count() as u64;
    assert!(segments >= 4, "{segments}");
    segments
}

#[test]
fn what_every_broker_leaves_is_no_reason_to_refuse() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Killed);
    let files = [
        "abort.bak",
        "compaction/position-checkpoint",
        "config/consumerFilter.json",
        "config/delayOffset.json",
        "config/topics.json",
        "rocksdbstore/000004.log",
        "rocksdbstore/CURRENT",
        "rocksdbstore/MANIFEST-000005",
    ];
    for name in files {
        write(&dir.join(name), b"{}");
    }
    fs::write(dir.join("timerwheel"), vec![0; 1 << 20]).unwrap();
    for name in ["batchconsumequeue", "consumequeue_ext", "compaction/compactionLog", "timerlog"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    // A topic may be called like RocksDB's file.
    fs::create_dir_all(dir.join("consumequeue/CURRENT/0")).unwrap();
    fs::remove_dir_all(dir.join("steadfast")).unwrap();
    let store = open(dir, OnDamage::Refuse).unwrap();
    check(&store, &kept, |_| false);
    let notes = store.recovery().findings.iter().filter(|f| matches!(f, Finding::Note { .. }));
    assert_eq!(notes.count(), 0, "{}", store.recovery());
}

#[test]
fn parts_of_rocketmq_that_are_not_read_are_refused_by_name() {
    for name in ["batchconsumequeue", "consumequeue_ext", "compaction/compactionLog"] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        filled(dir, MESSAGES, Left::Closed);
        fs::create_dir_all(dir.join(name).join("orders")).unwrap();
        refused(dir, name, || fs::remove_dir_all(dir.join(name)).unwrap());
    }
    let files = [
        "epochFileCheckpoint",
        "consumequeue/CURRENT",
        "consumequeue_rocksdb/CURRENT",
        "config/consumerOffsets/CURRENT",
        "config/rdb/CURRENT",
        "config/metadata/CURRENT",
    ];
    for name in files {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        filled(dir, MESSAGES, Left::Closed);
        write(&dir.join(name), b"MANIFEST-000005\n");
        refused(dir, name, || fs::remove_file(dir.join(name)).unwrap());
    }
}

#[test]
fn a_log_of_which_every_second_segment_is_elsewhere_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let segments = of_another_program(dir);
    let elsewhere = tempfile::tempdir().unwrap();
    let odd = |n: &u64| n % 2 == 1;
    for number in (0..segments).filter(odd) {
        let (path, _) = segment_of(dir, number * SEGMENT_BYTES);
        fs::rename(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
    }
    let second = format!("{SEGMENT_BYTES:020}");
    refused(dir, &format!("commitlog/{second} is missing"), || {
        for number in (0..segments).filter(odd) {
            let (path, _) = segment_of(dir, number * SEGMENT_BYTES);
            fs::copy(elsewhere.path().join(path.file_name().unwrap()), path).unwrap();
        }
    });
}

#[test]
fn segments_in_another_directory_of_the_store_are_named() {
    for name in ["commitlog2", "commitlog/disk2"] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let segments = of_another_program(dir);
        let (last, _) = segment_of(dir, (segments - 1) * SEGMENT_BYTES);
        let moved = dir.join(name).join(last.file_name().unwrap());
        fs::create_dir_all(moved.parent().unwrap()).unwrap();
        fs::rename(&last, &moved).unwrap();
        let shown = moved.strip_prefix(dir).unwrap().display().to_string();
        refused(dir, &shown, || fs::rename(&moved, &last).unwrap());
    }
    // A copy of what is here is no other part of the log.
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    of_another_program(dir);
    let (first, _) = segment_of(dir, 0);
    write(&dir.join("copy").join(first.file_name().unwrap()), &fs::read(&first).unwrap());
    drop(open(dir, OnDamage::Refuse).unwrap());
}

/// The way out that the error names for segments that are lost and not elsewhere.
#[test]
fn with_a_file_of_zeros_for_a_lost_segment_the_rest_is_served() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Closed);
    fs::remove_dir_all(dir.join("steadfast")).unwrap();
    let behind = |message: &crate::directory::Kept| message.at.get() >= 3 * SEGMENT_BYTES;
    let lost = |message: &crate::directory::Kept| {
        (SEGMENT_BYTES..2 * SEGMENT_BYTES).contains(&message.at.get())
    };
    for entry in fs::read_dir(dir.join("commitlog")).unwrap() {
        let path = entry.unwrap().path();
        let base: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if base == SEGMENT_BYTES || base >= 3 * SEGMENT_BYTES {
            fs::remove_file(path).unwrap();
        }
    }
    let (second, _) = segment_of(dir, SEGMENT_BYTES);
    refused_then(dir, || fs::write(&second, vec![0; SEGMENT_BYTES as usize]).unwrap());
    assert!(open(dir, OnDamage::Refuse).is_err());
    let kept: Vec<_> = kept.into_iter().filter(|message| !behind(message)).collect();
    check(&open(dir, OnDamage::Serve).unwrap(), &kept, lost);
}

fn refused_then(dir: &Path, then: impl FnOnce()) {
    let before = listing(dir);
    let error = open(dir, OnDamage::Serve).unwrap_err();
    assert!(error.to_string().contains("storePathCommitLog"), "{error}");
    assert_eq!(listing(dir), before);
    then();
}

#[test]
fn queues_without_a_log_are_not_taken_for_a_new_store() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    of_another_program(dir);
    fs::rename(dir.join("commitlog"), dir.join("log")).unwrap();
    refused(dir, "consumequeue/orders/0/00000000000000000000", || {
        fs::rename(dir.join("log"), dir.join("commitlog")).unwrap();
    });
}

/// A slot of the timer wheel.
fn slot(time_ms: i64, number: i32) -> [u8; 32] {
    let mut slot = [0; 32];
    slot[..8].copy_from_slice(&(time_ms / 1000).to_be_bytes());
    slot[24..28].copy_from_slice(&number.to_be_bytes());
    slot
}

#[test]
fn timer_messages_that_another_broker_did_not_deliver_are_told_of_and_left() {
    const NOW: i64 = 1_700_000_000_000;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    of_another_program(dir);
    let mut wheel = vec![0; 32 * 5000];
    let slots =
        [(7, slot(NOW - 3000, 9)), (11, slot(NOW + 1000, 2)), (4999, slot(NOW + 60_000, 3))];
    for (place, slot) in slots {
        wheel[place * 32..][..32].copy_from_slice(&slot);
    }
    write(&dir.join("timerwheel"), &wheel);
    write(&dir.join("timerlog/00000000000000000000"), &[1; 52]);
    write(&dir.join("config/timercheck"), &NOW.to_be_bytes());
    let told = |store: &steadfast::Store| {
        let text = store.recovery().to_string();
        text.contains("timer messages").then(|| text.contains("messages=5"))
    };
    let store = open(dir, OnDamage::Refuse).unwrap();
    assert_eq!(told(&store), Some(true), "{}", store.recovery());
    store.close().unwrap();
    assert_eq!(fs::read(dir.join("timerwheel")).unwrap(), wheel);
    assert_eq!(fs::read(dir.join("timerlog/00000000000000000000")).unwrap(), [1; 52]);
    // Told once: at later opens it is no news.
    let store = open(dir, OnDamage::Refuse).unwrap();
    assert_eq!(told(&store), None, "{}", store.recovery());
}

#[test]
fn a_rotten_queue_id_takes_no_other_message_s_place() {
    let mut plain = options();
    plain.record_checksum = RecordChecksum::Off;
    // The first message of all, one within a file of its queue, and one of the last.
    for rotten in [0, 99, 390] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let store = Store::builder(dir).options(plain.clone()).open().unwrap();
        let mut kept = Vec::new();
        put(&store, &mut kept, MESSAGES);
        store.close().unwrap();
        fs::remove_dir_all(dir.join("steadfast")).unwrap();
        // Now it is in the queue 1, says the record, at the place of the next message.
        let message = kept.remove(rotten);
        assert_eq!((message.queue, kept[rotten].queue), (0, 1));
        assert_eq!(message.offset, kept[rotten].offset);
        let (path, at) = segment_of(dir, message.at.get());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize + 15] ^= 1;
        fs::write(&path, bytes).unwrap();
        let look = Store::builder(dir).options(options()).open_read_only().unwrap();
        check(&look, &kept, |_| false);
        drop(look);
        let store = open(dir, OnDamage::Refuse).unwrap();
        check(&store, &kept, |_| false);
        let told = store.recovery().to_string();
        assert!(told.contains("conflicts=1"), "rotten={rotten}: {told}");
        store.close().unwrap();
        check(&open(dir, OnDamage::Refuse).unwrap(), &kept, |_| false);
    }
}

#[test]
fn a_short_queue_file_of_another_program_is_made_whole() {
    let mut plain = options();
    plain.record_checksum = RecordChecksum::Off;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let store = Store::builder(dir).options(plain).open().unwrap();
    let mut kept = Vec::new();
    put(&store, &mut kept, MESSAGES);
    store.close().unwrap();
    fs::remove_dir_all(dir.join("steadfast")).unwrap();
    let file = dir.join("consumequeue/orders/1/00000000000000000000");
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(20).unwrap();
    check(&open(dir, OnDamage::Refuse).unwrap(), &kept, |_| false);
}
