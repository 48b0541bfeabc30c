//! Damage in the log's files: found, named, never cut, and everything else is served.

use std::{fs, os::unix::fs::FileExt, path::Path};

use steadfast::{ErrorKind, OnDamage, QueueOffset, disk::sim::Rng};

use crate::directory::{
    Kept, Left, SEGMENT_BYTES, check, copy, filled, listing, open, put, segment_of,
};

const MESSAGES: usize = 300;

fn flip(dir: &Path, at: u64, bit: u8) {
    let (path, position) = segment_of(dir, at);
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], position).unwrap();
}

/// The one that holds the log's byte at `at`.
fn hit(kept: &[Kept], at: u64) -> &Kept {
    let found = kept.iter().find(|m| (m.at.get()..m.at.get() + u64::from(m.size)).contains(&at));
    found.unwrap()
}

fn flipped_bit(left: Left, seed: u64) {
    println!("{left:?}, seed {seed}");
    let mut rng = Rng::new(seed);
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    let kept = filled(&whole, MESSAGES, left);
    for case in 0..24 {
        let dir = home.path().join(format!("{case}"));
        copy(&whole, &dir);
        let message = rng.pick(&kept);
        // The fixed header's fields first, one by one; then anywhere.
        let within = if case < 16 { case * 5 } else { rng.below(message.size.into()) };
        let (at, bit) = (message.at.get() + within, rng.below(8) as u8);
        println!("case {case}: bit {bit} of byte {within} of {message:?}");
        flip(&dir, at, bit);

        let before = listing(&dir);
        let error = open(&dir, OnDamage::Refuse).expect_err("the damage was not seen");
        let ErrorKind::Damaged { at, len } = error.kind() else { panic!("{error}") };
        assert_eq!(at, message.at, "{error}");
        // Behind the last record of a segment the blank one goes with it.
        let next = kept.iter().map(|m| m.at).find(|next| *next > at);
        assert!(len == message.size.into() || Some(at + len) == next, "{error}");
        assert!(error.to_string().contains(&message.at.to_string()), "{error}");
        assert_eq!(listing(&dir), before, "refusing changed something");

        let lost = |m: &Kept| m.at == message.at;
        let mut kept = kept.clone();
        for _ in 0..2 {
            let store = open(&dir, OnDamage::Serve).unwrap();
            let damage: Vec<_> = store.recovery().damage().collect();
            assert_eq!(damage, [(at, at + len)]);
            check(&store, &kept, lost);
            put(&store, &mut kept, 20);
            check(&store, &kept, lost);
            store.close().unwrap();
        }
        let mut offsets: Vec<_> = kept.iter().map(|m| (m.queue, m.offset)).collect();
        offsets.sort();
        offsets.dedup();
        assert_eq!(offsets.len(), kept.len(), "an offset was given twice");
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_flipped_bit_is_named_and_the_rest_served_after_a_clean_close() {
    flipped_bit(Left::Closed, 1);
}

#[test]
fn a_flipped_bit_is_named_and_the_rest_served_after_a_kill() {
    flipped_bit(Left::Killed, 2);
}

#[test]
fn several_damaged_records_are_all_named() {
    let home = tempfile::tempdir().unwrap();
    let kept = filled(home.path(), MESSAGES, Left::Closed);
    let hit_at: Vec<_> = [3, 4, 77, 299].iter().map(|i| kept[*i].at).collect();
    for at in &hit_at {
        flip(home.path(), at.get() + 60, 0);
    }
    let error = open(home.path(), OnDamage::Refuse).unwrap_err().to_string();
    // The first two are neighbours: one stretch.
    for at in [hit_at[0], hit_at[2], hit_at[3]] {
        assert!(error.contains(&format!("{at}..")), "{error}");
    }
    let store = open(home.path(), OnDamage::Serve).unwrap();
    check(&store, &kept, |m| hit_at.contains(&m.at));
}

#[test]
fn a_missing_segment_in_the_middle_is_damage_and_the_others_are_served() {
    for left in [Left::Closed, Left::Killed] {
        println!("{left:?}");
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let mut kept = filled(dir, MESSAGES, left);
        let missing = SEGMENT_BYTES..2 * SEGMENT_BYTES;
        assert!(kept.last().unwrap().at.get() > missing.end + SEGMENT_BYTES);
        fs::remove_file(segment_of(dir, missing.start).0).unwrap();
        let before = listing(dir);
        let error = open(dir, OnDamage::Refuse).unwrap_err();
        let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(at.get(), missing.start, "{error}");
        assert_eq!(listing(dir), before);
        for _ in 0..2 {
            let store = open(dir, OnDamage::Serve).unwrap();
            check(&store, &kept, |m| missing.contains(&m.at.get()));
            put(&store, &mut kept, 40);
            check(&store, &kept, |m| missing.contains(&m.at.get()));
            store.close().unwrap();
        }
    }
}

#[test]
fn a_log_that_lost_its_end_is_not_opened_as_if_it_were_whole() {
    for left in [Left::Closed, Left::Killed] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let kept = filled(dir, MESSAGES, left);
        fs::remove_file(segment_of(dir, kept.last().unwrap().at.get()).0).unwrap();
        let before = listing(dir);
        for on_damage in [OnDamage::Refuse, OnDamage::Serve] {
            let error = open(dir, on_damage).expect_err("acknowledged messages are missing");
            assert!(error.to_string().contains("repair"), "{error}");
            assert_eq!(listing(dir), before, "{left:?} {on_damage:?}");
        }
    }
}

#[test]
fn zeros_over_durable_records_are_damage_and_not_the_end() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Killed);
    let page = hit(&kept, 3 * 4096).at.get() / 4096 * 4096;
    let (path, position) = segment_of(dir, page);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0; 4096], position).unwrap();
    let error = open(dir, OnDamage::Refuse).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
    let store = open(dir, OnDamage::Serve).unwrap();
    let zeroed = page..page + 4096;
    check(&store, &kept, |m| {
        m.at.get() < zeroed.end && m.at.get() + u64::from(m.size) > zeroed.start
    });
    let ends: Vec<_> = (0..3).map(|id| store.queue_range(&crate::directory::queue(id))).collect();
    let hundred = QueueOffset::new(MESSAGES as u64 / 3);
    assert!(ends.iter().all(|range| range.unwrap().1 == hundred), "{ends:?}");
}
