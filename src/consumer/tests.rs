//! Consumer offsets on the simulated disk.

use super::*;
use crate::{
    disk::sim::{CallKind, Fault, FaultPlan, SimDisk, When},
    queue::tests::seeded,
};

const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);

fn group(name: &str) -> Group {
    Group::new(name).unwrap()
}

fn queue(topic: &str, id: i32) -> QueueKey {
    QueueKey::new(topic, id).unwrap()
}

fn at(n: u64) -> QueueOffset {
    QueueOffset::new(n)
}

fn save(offsets: &ConsumerOffsets, disk: &SimDisk) {
    let to_save = offsets.to_save().unwrap();
    offsets.save(disk, to_save, NOW).unwrap();
}

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let path = FilePath::new(path);
    disk.create_dir(&path.parent()).unwrap();
    let _ = disk.remove(&path);
    disk.create(&path, bytes.len() as u64).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn offsets_are_kept_by_group_and_queue_and_survive_a_save() {
    let disk = SimDisk::new(1);
    let offsets = ConsumerOffsets::load(&disk).unwrap();
    assert!(!offsets.is_dirty() && offsets.to_save().is_none());
    for (name, topic, id, n) in
        [("g1", "A", 0, 5), ("g1", "A", 10, 6), ("g1", "B@x", 0, 7), ("g2", "A", 0, 8)]
    {
        offsets.commit(&group(name), &queue(topic, id), at(n));
    }
    offsets.commit(&group("g1"), &queue("A", 0), at(4));
    assert!(offsets.is_dirty());
    save(&offsets, &disk);
    assert!(!offsets.is_dirty());
    for offsets in [&offsets, &ConsumerOffsets::load(&disk).unwrap()] {
        assert_eq!(offsets.get(&group("g1"), &queue("A", 0)), Some(at(4)));
        assert_eq!(offsets.get(&group("g1"), &queue("A", 1)), None);
        assert_eq!(offsets.get(&group("g3"), &queue("A", 0)), None);
        let of_group = [(queue("A", 0), at(4)), (queue("A", 10), at(6)), (queue("B@x", 0), at(7))];
        assert_eq!(offsets.of_group(&group("g1")), of_group);
        let of_topic = offsets.of_topic("A");
        assert_eq!(of_topic.len(), 3);
        assert_eq!(of_topic[2], (group("g2"), queue("A", 0), at(8)));
        assert_eq!(offsets.groups(), [group("g1"), group("g2")]);
        assert_eq!(offsets.lowest(&queue("A", 0)), Some(at(4)));
    }
}

#[test]
fn only_a_change_makes_them_worth_saving() {
    let disk = SimDisk::new(1);
    let offsets = ConsumerOffsets::load(&disk).unwrap();
    offsets.commit(&group("g"), &queue("A", 0), at(1));
    let early = offsets.to_save().unwrap();
    offsets.commit(&group("g"), &queue("A", 0), at(2));
    offsets.save(&disk, early, NOW).unwrap();
    // What was committed after the snapshot is not saved.
    assert!(offsets.is_dirty());
    assert_eq!(ConsumerOffsets::load(&disk).unwrap().get(&group("g"), &queue("A", 0)), Some(at(1)));
    save(&offsets, &disk);
    offsets.commit(&group("g"), &queue("A", 0), at(2));
    assert_eq!((offsets.remove_topic("B"), offsets.remove_group(&group("h"))), (0, 0));
    assert!(!offsets.is_dirty());
    assert_eq!(offsets.remove_topic("A"), 1);
    assert!(offsets.is_dirty() && offsets.groups().is_empty());
}

#[test]
fn an_older_snapshot_does_not_take_back_what_a_newer_one_saved() {
    let disk = SimDisk::new(1);
    let offsets = ConsumerOffsets::load(&disk).unwrap();
    offsets.commit(&group("g"), &queue("A", 0), at(9));
    // Two threads save; the one that looked first comes last.
    let older = offsets.to_save().unwrap();
    offsets.commit(&group("g"), &queue("A", 0), at(3));
    save(&offsets, &disk);
    offsets.save(&disk, older, NOW).unwrap();
    assert_eq!(ConsumerOffsets::load(&disk).unwrap().get(&group("g"), &queue("A", 0)), Some(at(3)));
    assert!(!offsets.is_dirty());
}

#[test]
fn what_java_wrote_is_read_and_what_we_cannot_name_is_written_back() {
    let disk = SimDisk::new(1);
    let long = "t".repeat(300);
    let text = format!(
        "{{\"dataVersion\":{{\"counter\":41,\"stateVersion\":3,\"timestamp\":1}},\"offsetTable\":{{\
         \"TopicA@groupA\":{{0:12,1:7,2:-1}},\"noseparator\":{{0:1}},\"{long}@g\":{{0:2}}}}}}"
    );
    put(&disk, FILE, text.as_bytes());
    let offsets = ConsumerOffsets::load(&disk).unwrap();
    assert_eq!(offsets.of_group(&group("groupA")).len(), 2);
    assert_eq!(offsets.get(&group("groupA"), &queue("TopicA", 0)), Some(at(12)));
    offsets.commit(&group("groupA"), &queue("TopicA", 0), at(13));
    save(&offsets, &disk);
    let table = offsets_json::parse(&disk.read_file(FILE)).unwrap();
    let version = DataVersion { counter: 42, state_version: 3, timestamp: NOW.as_millis() };
    assert_eq!(table.data_version, version);
    assert_eq!(table.offsets["TopicA@groupA"], BTreeMap::from([(0, 13), (1, 7), (2, -1)]));
    assert_eq!(table.offsets["noseparator"], BTreeMap::from([(0, 1)]));
    assert_eq!(table.offsets[&format!("{long}@g")], BTreeMap::from([(0, 2)]));
    assert_eq!(disk.read_file(BACKUP), text.as_bytes());
}

#[test]
fn the_backup_serves_when_the_file_is_missing_empty_or_broken() {
    let good = b"{\"offsetTable\":{\"A@g\":{0:9}}}";
    for file in [None, Some(&b""[..]), Some(b"{\"offsetTa")] {
        let disk = SimDisk::new(1);
        put(&disk, BACKUP, good);
        if let Some(bytes) = file {
            put(&disk, FILE, bytes);
        }
        let offsets = ConsumerOffsets::load(&disk).unwrap();
        assert_eq!(offsets.get(&group("g"), &queue("A", 0)), Some(at(9)));
        // And stays until there is something better.
        offsets.commit(&group("g"), &queue("A", 0), at(10));
        save(&offsets, &disk);
        assert_eq!(disk.read_file(BACKUP), good);
    }
    let disk = SimDisk::new(1);
    put(&disk, FILE, b"{\"offsetTa");
    let error = ConsumerOffsets::load(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(FILE), "{error}");
}

#[test]
fn offsets_past_the_end_of_their_queue_are_pulled_back_and_told() {
    let offsets = ConsumerOffsets::default();
    for (topic, n) in [("A", 10), ("B", 10), ("Unknown", 10)] {
        offsets.commit(&group("g"), &queue(topic, 0), at(n));
    }
    let end_of = |queue: &QueueKey| match queue.topic() {
        "A" => Some(at(10)),
        "B" => Some(at(4)),
        _ => None,
    };
    let clamped = offsets.clamp(end_of);
    let expected = Clamped { group: "g".into(), queue: "B/0".into(), saved: 10, now: at(4) };
    assert_eq!(clamped, [expected]);
    assert_eq!(offsets.get(&group("g"), &queue("B", 0)), Some(at(4)));
    assert_eq!(offsets.get(&group("g"), &queue("Unknown", 0)), Some(at(10)));
    assert!(offsets.clamp(end_of).is_empty());
}

/// Saves over and over, the disk failing or halting at each call in turn: after a power failure
/// the old or the new offsets are there, and after a save that returned the new ones.
#[test]
fn a_crash_during_a_save_leaves_the_old_or_the_new_offsets() {
    let mut random = seeded();
    for call in 1.. {
        let disk = SimDisk::new(random.bits());
        let offsets = ConsumerOffsets::load(&disk).unwrap();
        offsets.commit(&group("g"), &queue("A", 0), at(1));
        save(&offsets, &disk);
        offsets.commit(&group("g"), &queue("A", 0), at(2));
        disk.set_faults(FaultPlan::none().fail_any(When::Nth(call), Fault::Io));
        let saved = offsets.save(&disk, offsets.to_save().unwrap(), NOW);
        for _ in 0..10 {
            let image = disk.power_failure(&mut random);
            let found = ConsumerOffsets::load(&image).unwrap();
            let found = found.get(&group("g"), &queue("A", 0)).unwrap();
            assert!(found == at(2) || (saved.is_err() && found == at(1)), "{call} {found}");
        }
        assert_eq!(offsets.is_dirty(), saved.is_err());
        if saved.is_ok() {
            assert!(call > 10, "no call failed");
            break;
        }
        disk.set_faults(FaultPlan::none());
        save(&offsets, &disk);
        assert!(disk.counts().of(CallKind::Rename) >= 3);
    }
}
