use std::{collections::BTreeSet, fs, time::Duration};

use steadfast::{Message, QueueOffset, Store};

use super::*;
use crate::{
    files::{copy, listing},
    message::{QUEUES, body, group, queue},
    writer::{Mode, options},
};

/// A store with several files of each kind.
fn filled(dir: &Path) {
    let mut options = options(Mode::Sync).segment_bytes(32 << 10);
    (options.queue_file_bytes, options.index_slots, options.index_entries) = (700, 50, 120);
    let store = Store::builder(dir).options(options).open().unwrap();
    for n in 0..300 {
        let (name, queue) = (format!("r0-t0-s{n}"), queue(n % QUEUES).unwrap());
        let body = body(&name);
        let message = Message::new(&queue, &body).key(&name);
        let ticket = store.append(&message).unwrap();
        if n % 100 == 99 {
            ticket.wait().unwrap();
            let next = QueueOffset::new(n as u64 / QUEUES as u64);
            assert!(store.wait_for(&queue, next, Duration::from_secs(60)).unwrap());
            store.consumers().commit(&group(0).unwrap(), &queue, next).unwrap();
            store.consumers().save().unwrap();
        }
    }
    store.close().unwrap();
}

#[test]
fn names_are_told_apart_and_in_kebab_case() {
    let names: BTreeSet<_> = Damage::all().iter().map(Damage::name).collect();
    assert_eq!(names.len(), Damage::all().len());
    for name in &names {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        assert_eq!(Damage::named(name).unwrap().name(), *name);
    }
}

#[test]
fn each_kind_changes_what_it_says_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    filled(&whole);
    let before = listing(&whole).unwrap();
    let mut not_done = Vec::new();
    for damage in Damage::all() {
        let dir = home.path().join(damage.name());
        copy(&whole, &dir).unwrap();
        let Some(applied) = damage.apply(&dir, &mut Rng::new(7)).unwrap() else {
            not_done.push(damage.name());
            fs::remove_dir_all(&dir).unwrap();
            continue;
        };
        let after = listing(&dir).unwrap();
        let changed: BTreeSet<_> = before.symmetric_difference(&after).map(|(n, _)| n).collect();
        assert!(!changed.is_empty(), "{} did nothing", damage.name());
        for name in changed {
            let told = applied
                .changes
                .iter()
                .any(|c| *name == c.file || name.starts_with(&format!("{}/", c.file)));
            assert!(told, "{}: {name} is not told of: {applied:?}", damage.name());
        }
        let in_log = applied.changes.iter().any(|c| c.file.starts_with("commitlog"));
        assert!(applied.log <= in_log, "{}: {applied:?}", damage.name());
        if damage.kind.part == Part::Log && damage.place == Place::Tail {
            assert_eq!(applied.records.len(), 1, "{}: {applied:?}", damage.name());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    // What this store has nothing for: it is ours, and was closed.
    let lacking = ["flip-blank-last", "checkpoint-zeroed", "abort-gone"];
    assert_eq!(not_done, lacking);
}
