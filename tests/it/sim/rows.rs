//! The recovery table: each of its rows on a disk that is in exactly that state.

use steadfast::{
    ErrorKind, Finding, FlushMode::Async, FlushMode::Sync, OnDamage, Step, Store,
    disk::sim::SimDisk,
};

use super::scripted::*;

/// The labels of the rows that opening went through.
fn rows(store: &Store) -> String {
    let row = |finding: &Finding| match finding {
        Finding::Cut { row, .. } | Finding::Damage { row, .. } => Some(*row),
        _ => None,
    };
    store.recovery().findings.iter().filter_map(row).collect()
}

/// A killed store: four durable messages, then three in memory only.
fn killed() -> (SimDisk, Vec<Kept>, Vec<Kept>) {
    let disk = SimDisk::new(1);
    let store = open(&disk, Async);
    let durable = puts(&store, 4);
    flush(&store);
    store.step(Step::Checkpoint).unwrap();
    let rest = puts(&store, 3);
    let image = disk.crash_process();
    store.abandon();
    (image, durable, rest)
}

fn forget_own_files(disk: &SimDisk) {
    for path in disk.paths() {
        if path.starts_with("steadfast/") {
            disk.remove_file(&path);
        }
    }
}

/// New messages go behind what is kept, and all survives once more.
fn goes_on(disk: &SimDisk, store: Store, kept: &[Kept]) {
    assert_has(&store, kept);
    let new = puts(&store, 3);
    flush(&store);
    assert_has(&store, &new);
    let image = disk.crash_process();
    store.abandon();
    let store = open_on(&image, OnDamage::Serve).unwrap();
    assert_has(&store, kept);
    assert_has(&store, &new);
}

#[test]
fn row_a_zeros_behind_the_durable_end_are_the_end() {
    let (disk, durable, rest) = killed();
    disk.zero_range(LOG, rest[0].at, SEGMENT - rest[0].at);
    let store = open(&disk, Sync);
    assert_eq!((rows(&store).as_str(), store.recovery().log_end.get()), ("", rest[0].at));
    assert!(quarantined(&disk).is_empty());
    goes_on(&disk, store, &durable);
}

#[test]
fn row_b_a_torn_tail_is_cut_and_set_aside() {
    let (disk, mut kept, rest) = killed();
    // The last message lacks its second half.
    let torn = &rest[2];
    disk.zero_range(LOG, torn.at + torn.size / 2, torn.size);
    let found = disk.read_file(LOG)[torn.at as usize..torn.end() as usize].to_vec();
    let store = open(&disk, Sync);
    assert_eq!((rows(&store).as_str(), store.recovery().log_end.get()), ("B", torn.at));
    let aside = quarantined(&disk);
    assert!(aside.len() as u64 >= torn.size / 2 && found.starts_with(&aside));
    assert!(disk.read_file(LOG)[torn.at as usize..].iter().all(|b| *b == 0));
    kept.extend_from_slice(&rest[..2]);
    goes_on(&disk, store, &kept);
}

#[test]
fn row_c_sound_records_behind_a_hole_that_was_never_synced_are_cut_and_set_aside() {
    let (disk, kept, rest) = killed();
    disk.zero_range(LOG, rest[0].at, rest[0].size);
    let found = disk.read_file(LOG)[rest[0].at as usize..rest[2].end() as usize].to_vec();
    let store = open(&disk, Sync);
    assert_eq!((rows(&store).as_str(), store.recovery().log_end.get()), ("C", rest[0].at));
    assert_eq!(quarantined(&disk), found);
    assert!(disk.read_file(LOG)[rest[0].at as usize..].iter().all(|b| *b == 0));
    goes_on(&disk, store, &kept);
}

#[test]
fn row_d_durable_damage_is_refused_or_served_around_and_never_cut() {
    let (disk, mut kept, rest) = killed();
    let hit = kept.remove(1);
    disk.flip_bit(LOG, hit.at + hit.size - 20, 3);
    let before = files(&disk);
    let error = open_on(&disk, OnDamage::Refuse).unwrap_err();
    let ErrorKind::Damaged { at, len } = error.kind() else { panic!("{error:?}") };
    assert_eq!((at.get(), len), (hit.at, hit.size), "{error}");
    assert_eq!(files(&disk), before, "refusing changed something");
    let store = open_on(&disk, OnDamage::Serve).unwrap();
    assert_eq!(rows(&store), "D");
    assert!(!has(&store, &hit));
    kept.extend(rest);
    goes_on(&disk, store, &kept);
    let log = disk.read_file(LOG);
    assert_eq!(log[..hit.end() as usize], before[LOG][..hit.end() as usize], "damage was cut");
}

#[test]
fn row_e_a_torn_tail_of_another_programs_log_is_cut_and_set_aside() {
    let (disk, mut kept, rest) = killed();
    forget_own_files(&disk);
    let torn = &rest[2];
    disk.zero_range(LOG, torn.at + torn.size / 2, torn.size);
    let store = open(&disk, Sync);
    assert_eq!((rows(&store).as_str(), store.recovery().log_end.get()), ("E", torn.at));
    assert!(!quarantined(&disk).is_empty());
    kept.extend_from_slice(&rest[..2]);
    goes_on(&disk, store, &kept);
}

#[test]
fn row_f_a_hole_in_another_programs_log_is_damage_and_what_is_behind_is_kept() {
    let (disk, mut kept, mut rest) = killed();
    forget_own_files(&disk);
    let hit = rest.remove(1);
    disk.zero_range(LOG, hit.at, hit.size);
    let before = files(&disk);
    let error = open_on(&disk, OnDamage::Refuse).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error:?}");
    assert_eq!(files(&disk), before, "refusing changed something");
    let store = open_on(&disk, OnDamage::Serve).unwrap();
    assert_eq!(rows(&store), "F");
    assert!(!has(&store, &hit));
    kept.extend(rest);
    goes_on(&disk, store, &kept);
}

#[test]
fn a_log_cut_at_any_byte_above_the_durable_end_keeps_every_whole_record() {
    let (disk, durable, rest) = killed();
    let (from, end) = (rest[0].at, rest[2].end());
    for cut in from..=end {
        let image = disk.crash_process();
        image.zero_range(LOG, cut, SEGMENT - cut);
        let store = open(&image, Sync);
        assert_has(&store, &durable);
        for message in &rest {
            // The last byte of a record is no zero.
            assert_eq!(has(&store, message), message.end() <= cut, "cut at {cut}: {message:?}");
        }
        let whole = rest.iter().map(Kept::end).rfind(|end| *end <= cut).unwrap_or(from);
        assert_eq!(store.recovery().log_end.get(), whole, "cut at {cut}");
        store.abandon();
    }
}

#[test]
fn a_log_cut_at_any_byte_below_the_durable_end_is_never_taken_for_whole() {
    let (disk, durable, _) = killed();
    let end = durable[3].end();
    for cut in 0..end {
        let image = disk.crash_process();
        image.zero_range(LOG, cut, SEGMENT - cut);
        let before = files(&image);
        let error = open_on(&image, OnDamage::Refuse).unwrap_err();
        let hit = durable.iter().find(|message| cut < message.end()).unwrap();
        let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{error:?}") };
        assert_eq!(at.get(), hit.at, "cut at {cut}: {error}");
        assert_eq!(files(&image), before, "refusing changed something, cut at {cut}");
        let store = open_on(&image, OnDamage::Serve).unwrap();
        for message in &durable {
            assert_eq!(has(&store, message), message.end() <= cut, "cut at {cut}: {message:?}");
        }
        let new = put(&store, 50);
        flush(&store);
        assert!(new.at >= end && new.offset >= 4, "reused: {new:?}");
        assert!(has(&store, &new), "cut at {cut}");
        store.abandon();
    }
}
