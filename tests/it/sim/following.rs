//! A reader beside a writer: what it is shown when it opens, and when it follows.

use std::sync::Arc;

use steadfast::{
    FlushMode, Store,
    disk::{Disk, FilePath, sim::SimDisk},
};

use super::scripted::*;

const MODE: FlushMode = FlushMode::Sync;

fn reader(disk: &SimDisk) -> Store {
    let builder = Store::builder_on(Arc::new(disk.clone())).options(options(MODE)).clock(clock());
    builder.open_read_only().unwrap()
}

/// Puts into the log what a writer of 5 messages has behind the first 3, as if it wrote that and
/// did not come to sync it. Returns all 5.
fn write_two_more(disk: &SimDisk) -> Vec<Kept> {
    let other = SimDisk::new(1);
    let store = open(&other, MODE);
    let all = puts(&store, 5);
    flush(&store);
    let (from, to) = (all[2].end(), all[4].end());
    disk.overwrite(LOG, from, &other.read_file(LOG)[from as usize..to as usize]);
    all
}

#[test]
fn what_a_living_writer_did_not_sync_is_not_shown() {
    let disk = SimDisk::new(1);
    let store = open(&disk, MODE);
    puts(&store, 3);
    flush(&store);
    let early = reader(&disk);
    let all = write_two_more(&disk);
    let late = reader(&disk);
    for reader in [&early, &late] {
        reader.refresh().unwrap();
        assert_has(reader, &all[..3]);
        assert!(!has(reader, &all[3]) && !has(reader, &all[4]));
    }
    // Whoever opens next keeps them, and syncs them first.
    store.abandon();
    for reader in [early, late] {
        reader.refresh().unwrap();
        assert_has(&reader, &all);
    }
}

#[test]
fn what_another_program_wrote_is_shown_while_it_runs() {
    let disk = SimDisk::new(1);
    let store = open(&disk, MODE);
    let kept = puts(&store, 3);
    flush(&store);
    store.close().unwrap();
    // Its mark, and its hand on the lock.
    disk.write_file("checkpoint", &[1; 4096]);
    let _lock = disk.lock(&FilePath::new("lock")).unwrap();
    let early = reader(&disk);
    assert_has(&early, &kept);
    let all = write_two_more(&disk);
    for reader in [early, reader(&disk)] {
        reader.refresh().unwrap();
        assert_has(&reader, &all);
    }
}
