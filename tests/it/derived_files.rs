//! Everything but the log can be deleted or garbled: it comes back, and nothing is lost.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use steadfast::{
    FlushMode, Group, Message, OnDamage, QueueOffset, Step, Store, StoreTime, VerifyFinding,
    disk::sim::Rng,
};

use crate::directory::{
    Kept, Left, SEGMENT_BYTES, body, check, copy, filled, key, open, options, put, queue,
};

const MESSAGES: usize = 300;
/// What can be derived from the log.
const DERIVED: [&str; 4] = ["consumequeue", "index", "steadfast", "checkpoint"];

#[derive(Clone, Copy, Debug)]
enum Harm {
    Deleted,
    Emptied,
    Garbled,
}

const HARMS: [Harm; 3] = [Harm::Deleted, Harm::Emptied, Harm::Garbled];

/// The files at or under `path`.
fn files_under(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap();
    entries.flat_map(|entry| files_under(&entry.unwrap().path())).collect()
}

fn harm(dir: &Path, name: &str, harm: Harm, rng: &mut Rng) {
    let path = dir.join(name);
    let files = files_under(&path);
    assert!(!files.is_empty(), "there is nothing to harm: {name}");
    match harm {
        Harm::Deleted if path.is_file() => fs::remove_file(path).unwrap(),
        Harm::Deleted => fs::remove_dir_all(path).unwrap(),
        Harm::Emptied => files.iter().for_each(|file| fs::write(file, "").unwrap()),
        Harm::Garbled => {
            for path in files {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                rng.fill(&mut bytes);
                file.write_all_at(&bytes, 0).unwrap();
            }
        }
    }
}

fn check_all(store: &Store, kept: &[Kept]) {
    check(store, kept, |_| false);
    for id in 0..3 {
        let count = kept.iter().filter(|m| m.queue == id).count() as u64;
        let whole = (QueueOffset::ZERO, QueueOffset::new(count));
        assert_eq!(store.queue_range(&queue(id)), Some(whole));
    }
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for message in kept {
        let found = store.query("orders", &key(message.number), ever.0, ever.1, 9).unwrap();
        assert_eq!(found.len(), 1, "{message:?} by its key\n{}", store.recovery());
        assert_eq!(found[0].body(), body(message.number));
    }
    store.health().unwrap();
}

fn comes_back(names: &[&str], harms: &[Harm], left: Left, rng: &mut Rng) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut kept = filled(dir, MESSAGES, left);
    for (name, done) in names.iter().flat_map(|name| harms.iter().map(move |h| (name, h))) {
        println!("{left:?}: {name} {done:?}");
        let turn = tempfile::tempdir().unwrap();
        copy(dir, turn.path());
        harm(turn.path(), name, *done, rng);
        let mut kept = kept.clone();
        for _ in 0..2 {
            let store = open(turn.path(), OnDamage::Refuse).unwrap();
            check_all(&store, &kept);
            put(&store, &mut kept, 20);
            check_all(&store, &kept);
            store.close().unwrap();
        }
    }
    // And the harmless case, so that the checks above are known to be about the harm.
    let store = open(dir, OnDamage::Refuse).unwrap();
    put(&store, &mut kept, 20);
    check_all(&store, &kept);
}

#[test]
fn each_derived_file_comes_back_after_a_clean_close() {
    comes_back(&DERIVED, &HARMS, Left::Closed, &mut Rng::new(3));
}

#[test]
fn each_derived_file_comes_back_after_a_kill() {
    comes_back(&DERIVED, &HARMS, Left::Killed, &mut Rng::new(4));
}

#[test]
fn without_anything_but_the_log_all_messages_are_there() {
    for left in [Left::Closed, Left::Killed] {
        let home = tempfile::tempdir().unwrap();
        let mut kept = filled(home.path(), MESSAGES, left);
        for entry in fs::read_dir(home.path()).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                "commitlog" => {}
                _ if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        let store = open(home.path(), OnDamage::Refuse).unwrap();
        check_all(&store, &kept);
        put(&store, &mut kept, 20);
        check_all(&store, &kept);
    }
}

#[test]
fn a_queue_file_of_another_length_is_refused_by_name_or_rebuilt() {
    let home = tempfile::tempdir().unwrap();
    let kept = filled(home.path(), MESSAGES, Left::Closed);
    let path = home.path().join("consumequeue/orders/1/00000000000000000000");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(500).unwrap();
    match open(home.path(), OnDamage::Refuse) {
        Ok(store) => check_all(&store, &kept),
        Err(e) => assert!(e.to_string().contains("consumequeue/orders/1"), "{e}"),
    }
    // What the error says can be done about it.
    fs::remove_file(&path).unwrap();
    check_all(&open(home.path(), OnDamage::Refuse).unwrap(), &kept);
}

#[test]
fn consumer_offsets_come_from_the_backup_and_broken_ones_are_never_taken_for_none() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let group = Group::new("billing").unwrap();
    let kept = filled(dir, MESSAGES, Left::Closed);
    for next in [7, 9] {
        let store = open(dir, OnDamage::Refuse).unwrap();
        store.consumers().commit(&group, &queue(0), QueueOffset::new(next)).unwrap();
        store.close().unwrap();
    }
    let path = dir.join("config/consumerOffset.json");
    let committed = |dir: &Path| {
        let store = open(dir, OnDamage::Refuse).unwrap();
        check_all(&store, &kept);
        store.consumers().committed(&group, &queue(0))
    };
    assert_eq!(committed(dir), Some(QueueOffset::new(9)));
    for harm_done in HARMS {
        let turn = tempfile::tempdir().unwrap();
        copy(dir, turn.path());
        harm(turn.path(), "config/consumerOffset.json", harm_done, &mut Rng::new(5));
        // The one before the last: consuming a little again loses nothing.
        assert_eq!(committed(turn.path()), Some(QueueOffset::new(7)), "{harm_done:?}");
    }
    fs::write(&path, "{ not json").unwrap();
    fs::write(dir.join("config/consumerOffset.json.bak"), "nor this").unwrap();
    let error = open(dir, OnDamage::Refuse).unwrap_err().to_string();
    assert!(error.contains("consumerOffset.json"), "{error}");
}

/// After a power failure an index file's header may count entries that are not there.
#[test]
fn entries_that_no_checkpoint_vouches_for_are_no_inconsistency() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let builder = Store::builder(dir).options(options().flush(FlushMode::Async));
    let store = builder.open_stepped().unwrap();
    for number in 0..40 {
        let (queue, body, key) = (queue(0), body(number), key(number));
        store.append(&Message::new(&queue, &body).key(&key)).unwrap().wait().unwrap();
        if number == 19 {
            for step in [Step::Flush, Step::Dispatch, Step::Checkpoint] {
                store.step(step).unwrap();
            }
        }
    }
    store.step(Step::Dispatch).unwrap();
    store.abandon();
    let path = files_under(&dir.join("index")).remove(0);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let header_and_slots = 40 + 4 * u64::from(options().index_slots);
    let verified = |file: &fs::File, from: u64, to: u64| {
        let zeros = vec![0; 20 * (to - from) as usize];
        file.write_all_at(&zeros, header_and_slots + 20 * from).unwrap();
        let mut found = Vec::new();
        let mut tell = |finding: &VerifyFinding| found.push(finding.to_string());
        let summary = steadfast::verify(dir, &options(), &mut tell, &mut |_, _| {}).unwrap();
        (summary.is_sound(), found)
    };
    let (sound, found) = verified(&file, 21, 41);
    assert!(sound, "{found:?}");
    let (sound, found) = verified(&file, 20, 21);
    assert!(!sound, "the checkpoint vouches for this one: {found:?}");
}

/// Entries know seconds only, so an index file that lost its last ones ends at the end of a second.
#[test]
fn an_index_file_that_an_open_cut_is_sound() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let options = options().flush(FlushMode::Async);
    let store = Store::builder(dir).options(options.clone()).open_stepped().unwrap();
    let mut kept = Vec::new();
    for number in 0..40 {
        let (queue, body, key) = (queue(0), body(number), key(number));
        let ticket = store.append(&Message::new(&queue, &body).key(&key)).unwrap();
        kept.push(ticket.placement().physical_offset.get());
        if number == 19 {
            for step in [Step::Flush, Step::Dispatch, Step::Checkpoint] {
                store.step(step).unwrap();
            }
        }
    }
    store.step(Step::Dispatch).unwrap();
    store.abandon();
    // The power failed, and the log lost what the index has.
    for path in files_under(&dir.join("commitlog")) {
        let base: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let from = kept[20].saturating_sub(base).min(SEGMENT_BYTES);
        file.write_all_at(&vec![0; (SEGMENT_BYTES - from) as usize], from).unwrap();
    }
    Store::builder(dir).options(options.clone()).open().unwrap().close().unwrap();
    let mut found = Vec::new();
    let mut tell = |finding: &VerifyFinding| found.push(finding.to_string());
    let summary = steadfast::verify(dir, &options, &mut tell, &mut |_, _| {}).unwrap();
    assert!(summary.is_sound() && found.is_empty(), "{found:?}");
}

/// A crash while an open derives entries once more may leave any of those without the others.
#[test]
fn verify_asks_only_for_the_queue_entries_that_the_next_open_keeps() {
    let home = tempfile::tempdir().unwrap();
    let (dir, whole) = (home.path().join("left"), home.path().join("whole"));
    let kept = filled(&dir, MESSAGES, Left::Killed);
    copy(&dir, &whole);
    open(&whole, OnDamage::Refuse).unwrap().close().unwrap();
    copy(&whole.join("consumequeue"), &dir.join("consumequeue"));
    // The first half is what the last checkpoint counts.
    let without = |message: &Kept| {
        let (file_bytes, byte) = (options().queue_file_bytes, message.offset.get() * 20);
        let base = byte / file_bytes * file_bytes;
        let path = dir.join(format!("consumequeue/orders/{}/{base:020}", message.queue));
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        bytes[(byte - base) as usize..][..20].fill(0);
        fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        let mut tell = |finding: &VerifyFinding| found.push(finding.to_string());
        let summary = steadfast::verify(&dir, &options(), &mut tell, &mut |_, _| {}).unwrap();
        fs::write(&path, before).unwrap();
        let missing = found.iter().filter(|text| text.contains("queue-entry-missing"));
        (missing.count(), summary.is_sound())
    };
    assert_eq!(without(&kept[MESSAGES / 4]), (1, false), "the checkpoint vouches for this one");
    assert_eq!(without(&kept[MESSAGES * 3 / 4]), (1, true));
}
