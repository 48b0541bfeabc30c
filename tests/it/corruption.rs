//! Damage in the log's files: found, named, never cut, and everything else is served.

use std::{fs, os::unix::fs::FileExt, path::Path};

use steadfast::{
    ErrorKind, Finding, Group, Message, OnDamage, QueueOffset, ReadLimit, RecordChecksum, Step,
    Store, disk::sim::Rng,
};

use crate::directory::{
    Kept, Left, SEGMENT_BYTES, check, copy, filled, listing, open, options, put, queue, segment_of,
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
fn records_of_another_store_in_place_of_a_segment_are_not_served() {
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = filled(home.path(), MESSAGES, Left::Closed);
    let store = Store::builder(other.path()).options(options()).open().unwrap();
    for number in 0..MESSAGES {
        let (queue, body) = (queue(number as i32 % 3), vec![b'o'; 100 + number * 91 % 170]);
        store.append(&Message::new(&queue, &body)).unwrap().wait().unwrap();
    }
    store.close().unwrap();
    let foreign = SEGMENT_BYTES..2 * SEGMENT_BYTES;
    let segment = |dir: &Path| segment_of(dir, foreign.start).0;
    fs::copy(segment(other.path()), segment(home.path())).unwrap();
    // Read again, in case a wrong entry was kept.
    for _ in 0..2 {
        let store = open(home.path(), OnDamage::Refuse).unwrap();
        check(&store, &kept, |m| foreign.contains(&m.at.get()));
        store.close().unwrap();
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
fn a_position_where_no_record_begins_is_damage_and_not_the_end_of_the_log() {
    let home = tempfile::tempdir().unwrap();
    let kept = filled(home.path(), 20, Left::Closed);
    let store = open(home.path(), OnDamage::Refuse).unwrap();
    for message in &kept {
        // The log's last bytes cannot be the beginning of anything.
        for within in (1..u64::from(message.size) - 8).filter(|n| *n < 100 || n % 7 == 0) {
            let error = store.record_at(message.at + within).unwrap_err();
            let at = message.at + within;
            let named = matches!(error.kind(), ErrorKind::Damaged { at: named, .. } if named == at);
            assert!(named, "{within} bytes into {message:?}: {error}");
        }
    }
    store.close().unwrap();
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

#[test]
fn damage_under_an_open_store_is_never_served_also_where_it_hits_the_checksum_itself() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, 30, Left::Closed);
    for reader in [false, true] {
        let store = match reader {
            false => open(dir, OnDamage::Refuse).unwrap(),
            true => Store::builder(dir).options(options()).open_read_only().unwrap(),
        };
        let message = &kept[if reader { 20 } else { 10 }];
        for bit in 0..message.size * 8 {
            let at = message.at.get() + u64::from(bit / 8);
            flip(dir, at, (bit % 8) as u8);
            check(&store, &kept, |m| m.at == message.at);
            flip(dir, at, (bit % 8) as u8);
        }
        check(&store, &kept, |_| false);
    }
}

#[test]
fn a_damaged_checksum_is_seen_also_where_the_frames_are_lost() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    let kept = filled(&whole, 30, Left::Closed);
    fs::remove_dir_all(whole.join("steadfast/frames")).unwrap();
    let lost = &kept[10];
    let tail = 30.min(lost.size.into());
    for within in u64::from(lost.size) - tail..lost.size.into() {
        let dir = home.path().join(format!("{within}"));
        copy(&whole, &dir);
        flip(&dir, lost.at.get() + within, 2);
        let error = open(&dir, OnDamage::Refuse).expect_err("the damage was not seen");
        let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(at, lost.at, "{error}");
    }
}

#[test]
fn records_without_a_checksum_are_sound_also_when_the_slot_that_says_so_rots() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    let mut kept = filled(&whole, 30, Left::Closed);
    let mut plain = options();
    plain.record_checksum = RecordChecksum::Off;
    let store = Store::builder(&whole).options(plain).open().unwrap();
    put(&store, &mut kept, 30);
    store.abandon();
    for slot in [0, 4096] {
        let dir = home.path().join(format!("{slot}"));
        copy(&whole, &dir);
        let path = dir.join("steadfast/checkpoint");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[0; 512], slot).unwrap();
        let store = open(&dir, OnDamage::Refuse).unwrap();
        check(&store, &kept, |_| false);
    }
}

/// Damages the last record of each queue in turn, at its byte `within`, in a copy of `whole`, which
/// was killed: nothing behind it in the log says that its queue offset was given.
fn last_offsets_are_not_given_again(whole: &Path, kept: &[Kept], within: u64) {
    for lost in &kept[kept.len() - 3..] {
        println!("{lost:?}");
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        copy(whole, dir);
        flip(dir, lost.at.get() + within, 0);
        let mut kept = kept.to_vec();
        for _ in 0..2 {
            let store = open(dir, OnDamage::Serve).unwrap();
            put(&store, &mut kept, 20);
            check(&store, &kept, |m| m.at == lost.at);
            let read = store.read(&queue(lost.queue), lost.offset, ReadLimit::records(1));
            let error = read.unwrap_err().to_string();
            let named = format!("queue offset {} of orders/{}", lost.offset, lost.queue);
            assert!(error.contains(&named), "{error}");
            store.close().unwrap();
        }
        let mut offsets: Vec<_> = kept.iter().map(|m| (m.queue, m.offset)).collect();
        offsets.sort();
        offsets.dedup();
        assert_eq!(offsets.len(), kept.len(), "an offset was given twice");
    }
}

#[test]
fn a_damaged_last_record_tells_its_queue_offset() {
    let home = tempfile::tempdir().unwrap();
    let kept = filled(home.path(), MESSAGES, Left::Killed);
    last_offsets_are_not_given_again(home.path(), &kept, 90);
}

#[test]
fn a_damaged_last_record_tells_its_queue_offset_without_its_topic() {
    let home = tempfile::tempdir().unwrap();
    let kept = filled(home.path(), MESSAGES, Left::Killed);
    // The magic: the record cannot be taken apart, but its fixed fields lie where they should.
    last_offsets_are_not_given_again(home.path(), &kept, 5);
}

#[test]
fn committed_offsets_tell_what_a_damaged_last_record_does_not() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::builder(home.path()).options(options()).open().unwrap();
    let mut kept = Vec::new();
    put(&store, &mut kept, MESSAGES);
    for id in 0..3 {
        let (_, end) = store.queue_range(&queue(id)).unwrap();
        store.consumers().commit(&Group::new("readers").unwrap(), &queue(id), end).unwrap();
    }
    store.step(Step::SaveOffsets).unwrap();
    store.abandon();
    // Its position: nothing of the record is believed.
    last_offsets_are_not_given_again(home.path(), &kept, 30);
}

#[test]
fn queue_files_tell_what_a_damaged_last_record_does_not() {
    let (home, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = filled(home.path(), MESSAGES, Left::Killed);
    // As if the entries had been written out before the kill: a twin's, which closed.
    filled(closed.path(), MESSAGES, Left::Closed);
    copy(&closed.path().join("consumequeue"), &home.path().join("consumequeue"));
    last_offsets_are_not_given_again(home.path(), &kept, 30);
}

#[test]
fn a_damaged_queue_offset_does_not_make_a_queue_jump() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Killed);
    let last = kept.last().unwrap();
    flip(dir, last.at.get() + 25, 3);
    let store = open(dir, OnDamage::Serve).unwrap();
    let (_, end) = store.queue_range(&queue(last.queue)).unwrap();
    assert!(end <= last.offset.next() + 8, "{end}");
}

#[test]
fn a_read_only_open_says_what_would_be_cut_and_cuts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Killed);
    let last = kept.last().unwrap();
    let (path, position) = segment_of(dir, last.at.get() + u64::from(last.size));
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"torn", position).unwrap();
    let before = listing(dir);
    let store = Store::builder(dir).options(options()).open_read_only().unwrap();
    let said = store.recovery().to_string();
    assert!(said.contains("would be cut"), "{said}");
    let done = |store: &Store| {
        let mut findings = store.recovery().findings.iter();
        findings.find_map(|f| if let Finding::Cut { done, .. } = f { Some(*done) } else { None })
    };
    assert_eq!(done(&store), Some(false));
    assert_eq!(listing(dir), before);
    drop(store);
    let store = open(dir, OnDamage::Refuse).unwrap();
    let said = store.recovery().to_string();
    assert!(said.contains("cut 4 bytes") && said.contains("quarantine/"), "{said}");
    assert_eq!(done(&store), Some(true));
}

/// The next offset was that of the missing segment's beginning, where the log was not read again.
#[test]
fn a_log_whose_last_records_lay_in_a_missing_segment_goes_on_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut kept = filled(dir, MESSAGES, Left::Killed);
    let last = kept.last().unwrap().at.get();
    let (missing, behind) = (last - last % SEGMENT_BYTES, last.next_multiple_of(SEGMENT_BYTES));
    fs::remove_file(segment_of(dir, missing).0).unwrap();
    kept.retain(|m| m.at.get() < missing);
    // It was made ahead.
    let next = fs::File::create(dir.join(format!("commitlog/{behind:020}"))).unwrap();
    next.set_len(SEGMENT_BYTES).unwrap();
    for _ in 0..2 {
        let store = open(dir, OnDamage::Serve).unwrap();
        put(&store, &mut kept, 10);
        assert!(kept.last().unwrap().at.get() >= behind, "{:?}", kept.last());
        check(&store, &kept, |_| false);
        store.close().unwrap();
    }
}
