//! Every single bit of a log of 64 KiB, flipped, and every page of it zeroed.
//!
//! Opening read-only changes no byte, so one image serves for all: flip, open, check, flip back.

use std::{sync::Arc, thread, time::Instant};

use steadfast::{
    ErrorKind, FlushMode::Sync, OnDamage, PhysicalOffset, QueueOffset, ReadLimit, Result, Step,
    Store, disk::sim::SimDisk,
};

use super::scripted::*;

const LOG_BYTES: u64 = 64 << 10;
const BITS: u64 = LOG_BYTES * 8;
const PAGE: u64 = 4096;
const THREADS: u64 = 2;

/// A killed store whose log fills its segment but for a few bytes.
fn filled() -> (SimDisk, Vec<Kept>) {
    let disk = SimDisk::new(64);
    let store = open_with(&disk, options(Sync).segment_bytes(LOG_BYTES)).unwrap();
    let mut kept = Vec::new();
    while kept.last().map_or(0, Kept::end) + 6000 < LOG_BYTES {
        kept.push(put(&store, 300 + kept.len() * 37 % 1100));
    }
    // The last one takes what is left.
    let rest = LOG_BYTES - kept.last().unwrap().end() - 180;
    kept.push(put(&store, rest as usize));
    flush(&store);
    store.step(Step::Checkpoint).unwrap();
    let free = LOG_BYTES - kept.last().unwrap().end();
    assert!(free < 200, "the log is not full free={free}");
    let image = disk.crash_process();
    store.abandon();
    (image, kept)
}

fn read_only(disk: &SimDisk, on_damage: OnDamage) -> Result<Store> {
    let options = options(Sync).segment_bytes(LOG_BYTES).on_damage(on_damage);
    Store::builder_on(Arc::new(disk.clone())).options(options).clock(clock()).open_read_only()
}

/// Fails unless exactly the records that `is_hit` names are lost, each with an error that says so.
fn check(disk: &SimDisk, kept: &[Kept], what: &str, is_hit: impl Fn(&Kept) -> bool) {
    let hit: Vec<&Kept> = kept.iter().filter(|m| is_hit(m)).collect();
    match (read_only(disk, OnDamage::Refuse), hit.first()) {
        (Ok(_), Some(_)) => panic!("{what} was not seen"),
        (Ok(_), None) => {}
        (Err(error), Some(first)) => {
            let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{what}: {error}") };
            assert_eq!(at.get(), first.at, "{what}: {error}");
        }
        (Err(error), None) => panic!("{what} touches no record: {error}"),
    }
    let store = read_only(disk, OnDamage::Serve).unwrap();
    for message in kept {
        let place = store.record_at(PhysicalOffset::new(message.at));
        let offset = QueueOffset::new(message.offset);
        let batch = store.read(&queue(), offset, ReadLimit::records(1));
        if is_hit(message) {
            for error in [place.map(drop).unwrap_err(), batch.map(drop).unwrap_err()] {
                let named = matches!(error.kind(), ErrorKind::Damaged { .. });
                assert!(named, "{what}: {error} {message:?}");
            }
        } else {
            assert!(place.unwrap().body() == message.body, "{what}: {message:?}");
            let batch = batch.unwrap();
            let view = batch.iter().next().unwrap();
            let found = (view.queue_offset().get(), view.physical_offset().get());
            assert_eq!(found, (message.offset, message.at), "{what}");
            assert!(view.body() == message.body, "{what}: {message:?}");
        }
    }
    store.abandon();
}

/// Bits `from`, `from + step` and so on. Gives how many there were.
fn flip_bits(disk: &SimDisk, kept: &[Kept], from: u64, step: u64) -> u64 {
    let end = kept.last().unwrap().end();
    let mut flipped = 0;
    for bit in (from..BITS).step_by(step as usize) {
        let (at, number) = (bit / 8, (bit % 8) as u8);
        disk.flip_bit(LOG, at, number);
        // Behind the last record: bytes that no sync ever covered, which an open would cut.
        let is_hit = |m: &Kept| at < end && (m.at..m.end()).contains(&at);
        check(disk, kept, &format!("bit {bit}"), is_hit);
        disk.flip_bit(LOG, at, number);
        flipped += 1;
    }
    flipped
}

fn zero_pages(disk: &SimDisk, kept: &[Kept]) {
    let log = disk.read_file(LOG);
    for page in 0..LOG_BYTES / PAGE {
        let (from, to) = (page * PAGE, (page + 1) * PAGE);
        disk.zero_range(LOG, from, PAGE);
        let is_hit = |m: &Kept| m.at < to && m.end() > from;
        check(disk, kept, &format!("page {page}"), is_hit);
        disk.overwrite(LOG, from, &log[from as usize..to as usize]);
    }
}

#[test]
fn sampled_flips_and_each_zeroed_page_of_a_64_kib_log_are_named_and_lose_nothing_else() {
    let (disk, kept) = filled();
    let step = if cfg!(debug_assertions) { 4801 } else { 401 };
    assert!(flip_bits(&disk, &kept, 0, step) > 100);
    zero_pages(&disk, &kept);
}

/// 524,288 flips: run by name, in a release build.
#[test]
#[ignore = "takes minutes; run by name in a release build"]
fn every_flip_and_each_zeroed_page_of_a_64_kib_log_is_named_and_loses_nothing_else() {
    let (disk, kept) = filled();
    let started = Instant::now();
    let flipped: u64 = thread::scope(|scope| {
        let part = |n| {
            let (disk, kept) = (disk.crash_process(), &kept);
            scope.spawn(move || flip_bits(&disk, kept, n, THREADS))
        };
        let threads: Vec<_> = (0..THREADS).map(part).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(flipped, BITS);
    zero_pages(&disk, &kept);
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "flips: {flipped} bits of {} records and {} pages in {seconds:.1} s, {:.0} flips a second \
         on {THREADS} threads; all were named, 0 wrong bytes served, nothing else was lost",
        kept.len(),
        LOG_BYTES / PAGE,
        flipped as f64 / seconds
    );
}
