//! Reads that leave messages out by their tags.

use std::{fs, os::unix::fs::FileExt};

use steadfast::{ErrorKind, Message, QueueOffset, ReadLimit, Store};

use crate::directory::{open, options, queue, segment_of};

/// A store with messages of these tags in queue 0.
fn tagged(dir: &std::path::Path, tags: &[&str]) -> (Store, Vec<(u64, u32)>) {
    let store = Store::builder(dir).options(options()).open().unwrap();
    let mut places = Vec::new();
    for tag in tags {
        let queue = queue(0);
        let ticket = store.append(&Message::new(&queue, b"some body").tag(tag)).unwrap();
        let place = ticket.wait().unwrap().placement;
        places.push((place.physical_offset.get(), place.size));
    }
    let last = QueueOffset::new(tags.len() as u64 - 1);
    assert!(store.wait_for(&queue(0), last, std::time::Duration::from_secs(60)).unwrap());
    (store, places)
}

#[test]
fn damage_behind_messages_that_a_filter_left_out_is_told_where_it_is() {
    let home = tempfile::tempdir().unwrap();
    let tags: Vec<_> = (0..100).map(|n| if n < 50 { "other" } else { "wanted" }).collect();
    let (store, places) = tagged(home.path(), &tags);
    store.close().unwrap();
    let (at, size) = places[50];
    let (path, position) = segment_of(home.path(), at + u64::from(size) / 2);
    let store = open(home.path(), steadfast::OnDamage::Refuse).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0xff; 4], position).unwrap();
    let read = |from| store.read_tagged(&queue(0), from, ReadLimit::records(32), &["wanted"]);
    // What was looked at before is answered, so that the next read begins with the damage.
    let before = read(QueueOffset::ZERO).unwrap();
    assert!(before.is_empty());
    assert_eq!(before.next_offset(), QueueOffset::new(50));
    let error = read(before.next_offset()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damaged { at: told, .. } if told.get() == at));
    let behind = read(QueueOffset::new(51)).unwrap();
    assert_eq!((behind.len(), behind.next_offset()), (32, QueueOffset::new(83)));
}

#[test]
fn a_filtered_read_looks_at_so_many_entries_and_says_where_to_go_on() {
    let home = tempfile::tempdir().unwrap();
    let tags: Vec<_> = (0..200).map(|n| if n % 50 == 49 { "wanted" } else { "other" }).collect();
    let (store, _) = tagged(home.path(), &tags);
    for entries in [1, 7, 32, 100, 1000] {
        for records in [1, 3, 64] {
            let limit = ReadLimit::records(records).entries(entries);
            let (mut next, mut found, mut empty) = (QueueOffset::ZERO, Vec::new(), 0);
            while next < QueueOffset::new(200) {
                let batch = store.read_tagged(&queue(0), next, limit, &["wanted"]).unwrap();
                let passed = batch.next_offset().get() - next.get();
                assert!((1..=entries as u64).contains(&passed), "{passed} of {entries}");
                assert!(batch.len() <= records);
                found.extend(batch.iter().map(|record| record.queue_offset().get()));
                empty += usize::from(batch.is_empty());
                next = batch.next_offset();
            }
            assert_eq!(found, [49, 99, 149, 199], "{entries} {records}");
            assert_eq!(empty > 0, entries < 50);
        }
    }
    let all = store.read(&queue(0), QueueOffset::ZERO, ReadLimit::records(64).entries(5)).unwrap();
    assert_eq!((all.len(), all.next_offset()), (5, QueueOffset::new(5)));
    let none = store.read(&queue(0), QueueOffset::ZERO, ReadLimit::records(64).entries(0));
    assert_eq!(none.unwrap().len(), 1);
}
