//! Every bit of a small log, flipped.

use steadfast::{ErrorKind, FlushMode::Sync, OnDamage, Step, disk::sim::SimDisk};

use super::scripted::*;

/// In a debug build a part of the bits does.
const STEP: u64 = if cfg!(debug_assertions) { 61 } else { 1 };

fn flip_all(clean: bool) {
    let disk = SimDisk::new(3);
    let store = open(&disk, Sync);
    let kept = puts(&store, 5);
    flush(&store);
    // The queue's end is known from here even if its last record is damaged.
    store.step(Step::Checkpoint).unwrap();
    let disk = if clean {
        store.close().unwrap();
        disk.crash_process()
    } else {
        let image = disk.crash_process();
        store.abandon();
        image
    };
    let end = kept[4].end();
    for bit in (0..end * 8).step_by(STEP as usize) {
        let hit = kept.iter().find(|message| bit / 8 < message.end()).unwrap();
        let image = disk.crash_process();
        image.flip_bit(LOG, bit / 8, (bit % 8) as u8);
        one_flip(&image, bit, hit, &kept);
    }
}

fn one_flip(image: &SimDisk, bit: u64, hit: &Kept, kept: &[Kept]) {
    let before = files(image);
    match open_on(image, OnDamage::Refuse) {
        Ok(_) => panic!("bit {bit} in {hit:?} was not seen"),
        Err(error) => {
            let ErrorKind::Damaged { at, len } = error.kind() else { panic!("{bit}: {error:?}") };
            assert_eq!((at.get(), len), (hit.at, hit.size), "bit {bit}: {error}");
        }
    }
    assert_eq!(files(image), before, "refusing changed something, bit {bit}");
    let store = open_on(image, OnDamage::Serve).unwrap();
    for message in kept {
        assert_eq!(has(&store, message), message != hit, "bit {bit}: {message:?}");
    }
    let new = put(&store, 30);
    flush(&store);
    assert!(has(&store, &new) && new.offset == 5, "bit {bit}: {new:?}");
    let again = image.crash_process();
    store.abandon();
    let store = open_on(&again, OnDamage::Serve).unwrap();
    assert!(has(&store, &new), "bit {bit}");
    for message in kept {
        assert_eq!(has(&store, message), message != hit, "bit {bit}, again: {message:?}");
    }
    store.abandon();
}

#[test]
fn every_flipped_bit_of_durable_records_is_named_after_a_kill() {
    flip_all(false);
}

#[test]
fn every_flipped_bit_of_durable_records_is_named_after_a_clean_close() {
    flip_all(true);
}

/// While the store is open: a reader gets an error or the right bytes, whichever bit it is.
#[test]
fn a_bit_that_flips_under_an_open_store_never_reaches_a_reader() {
    let disk = SimDisk::new(4);
    let store = open(&disk, Sync);
    let kept = puts(&store, 3);
    flush(&store);
    for bit in (0..kept[2].end() * 8).step_by(STEP as usize) {
        disk.flip_bit(LOG, bit / 8, (bit % 8) as u8);
        for message in &kept {
            let hit = (message.at..message.end()).contains(&(bit / 8));
            // A checksum that is none any more is not checked; everything else is right then.
            let checksum = (message.end() - 20..message.end()).contains(&(bit / 8));
            assert!(has(&store, message) != hit || checksum, "bit {bit}: {message:?}");
        }
        disk.flip_bit(LOG, bit / 8, (bit % 8) as u8);
    }
    store.abandon();
}
