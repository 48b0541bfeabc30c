//! A full disk: an error before anything is accepted, and nothing else.

use steadfast::{
    ErrorKind, FlushMode, Message, Step,
    disk::{
        AppendPath,
        sim::{CallKind, SimDisk},
    },
};

use super::scripted::*;

fn fill_and_grow(flush_mode: FlushMode, path: AppendPath) {
    let disk = SimDisk::new(5);
    disk.set_append_path(path);
    let store = open(&disk, flush_mode);
    let mut kept = Vec::new();
    disk.set_capacity(30 * 4096);
    let queue = queue();
    let error = loop {
        let body = vec![7; 900];
        match store.append(&Message::new(&queue, &body)) {
            Ok(_) => kept.push(put(&store, 300)),
            Err(error) => break error,
        }
        // The queues and the index want room, too, and may not get it.
        store.step(Step::Flush).unwrap();
        let _ = store.step(Step::Dispatch);
        assert!(kept.len() < 1000, "never full");
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.is_transient());
    assert!(kept.len() > 10);
    store.step(Step::Flush).unwrap();
    let _ = store.step(Step::Checkpoint);
    while store.progress().dispatched < store.progress().written {
        store.step(Step::Dispatch).unwrap();
    }
    assert_has(&store, &kept);
    assert_eq!(store.append(&Message::new(&queue, &[1; 900])).unwrap_err().kind(), ErrorKind::Full);

    disk.set_capacity(1 << 30);
    kept.extend(puts(&store, 5));
    flush(&store);
    store.step(Step::Checkpoint).unwrap();
    assert_has(&store, &kept);
    store.close().unwrap();
    disk.check_stores();
    let store = open(&disk.crash_process(), flush_mode);
    assert!(store.recovery().was_clean, "{}", store.recovery());
    assert_has(&store, &kept);
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room_again() {
    fill_and_grow(FlushMode::Sync, AppendPath::Store);
    fill_and_grow(FlushMode::Async, AppendPath::Store);
    fill_and_grow(FlushMode::Async, AppendPath::Write);
}

#[test]
fn a_store_killed_on_a_full_disk_opens_with_all_it_acknowledged() {
    let disk = SimDisk::new(6);
    let store = open(&disk, FlushMode::Sync);
    disk.set_capacity(24 * 4096);
    let queue = queue();
    let mut kept = Vec::new();
    while store.append(&Message::new(&queue, &[7; 700])).is_ok() {
        kept.push(put(&store, 200));
        flush(&store);
    }
    let image = disk.crash_process();
    store.abandon();
    // Without room it may refuse to open; it must not lose anything by that.
    if let Ok(store) = open_with(&image, options(FlushMode::Sync)) {
        assert_has(&store, &kept);
        store.abandon();
    }
    image.set_capacity(1 << 30);
    let image = image.crash_process();
    assert_has(&open(&image, FlushMode::Sync), &kept);
}

/// How often zeros are written ahead of 8 MiB that are synced in groups of `len` bytes.
fn zeros_written_ahead(len: usize) -> u64 {
    let disk = SimDisk::new(7);
    let store = open_with(&disk, options(FlushMode::Sync).segment_bytes(64 << 20)).unwrap();
    for _ in 0..(8 << 20) / len {
        put(&store, len);
        store.step(Step::Flush).unwrap();
        store.step(Step::Prepare).unwrap();
    }
    assert!(disk.counts().of(CallKind::Allocate) > 1, "nothing was prepared");
    disk.counts().of(CallKind::WriteZeros)
}

#[test]
fn zeros_are_written_ahead_of_small_syncs_only() {
    assert!(zeros_written_ahead(100 << 10) > 1);
    assert_eq!(zeros_written_ahead(500 << 10), 0);
}
