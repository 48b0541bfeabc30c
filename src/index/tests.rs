//! The key index on a real directory.

use std::{collections::BTreeSet, fs, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::{
    disk::{
        file::FileDisk,
        sim::{Fault, FaultPlan, SimDisk, When},
    },
    format::index::IndexEntry,
    queue::tests::{golden, seeded},
};

const SLOTS: u32 = 7;
const ENTRIES: u32 = 20;
const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);

fn index(dir: &TempDir, access: Access) -> KeyIndex {
    let disk = FileDisk::open(dir.path(), access).unwrap();
    KeyIndex::new(Arc::new(disk), SLOTS, ENTRIES, access)
}

fn reopened(dir: &TempDir, access: Access, known: &Known) -> (KeyIndex, Restored) {
    let index = index(dir, access);
    let restored = index.restore(known).unwrap();
    (index, restored)
}

/// Record n lies at 100 n, was stored n seconds after `NOW` and has the key `k{n % 5}`.
fn key(n: u64) -> String {
    format!("k{}", n % 5)
}

fn put(index: &KeyIndex, from: u64, to: u64, batch: usize) {
    for first in (from..to).step_by(batch) {
        put_batch(index, first, to.min(first + batch as u64)).unwrap();
    }
}

fn put_batch(index: &KeyIndex, from: u64, to: u64) -> Result<()> {
    let keys: Vec<_> = (from..to).map(|n| (n, key(n))).collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|(n, key)| IndexKey {
            topic: "T",
            key,
            physical_offset: PhysicalOffset::new(n * 100),
            store_time: time(*n),
        })
        .collect();
    index.put_batch(&keys, NOW)
}

fn time(n: u64) -> StoreTime {
    StoreTime::from_millis(NOW.as_millis() + n as i64 * 1000)
}

/// The records found, as n, each checked as the store would do it.
fn query(index: &KeyIndex, wanted: &str, from: u64, to: u64, max: usize) -> Vec<u64> {
    let keep = |offset: PhysicalOffset| {
        let n = offset.get() / 100;
        Ok(key(n) == wanted && (from..=to).contains(&n))
    };
    let found = index.query("T", wanted, time(from), time(to), max, keep).unwrap();
    found.iter().map(|offset| offset.get() / 100).collect()
}

fn expected(wanted: &str, from: u64, to: u64, max: usize, end: u64) -> Vec<u64> {
    let newest_first = (from..end.min(to + 1)).rev();
    newest_first.filter(|&n| key(n) == wanted).take(max).collect()
}

/// What was put of the records before `end` is found, whatever there is of later ones.
fn check(index: &KeyIndex, start: u64, end: u64) {
    let Some(last) = end.checked_sub(1) else { return };
    for k in 0..5 {
        let wanted = format!("k{k}");
        for (from, to, max) in
            [(0, last, 1000), (0, last, 3), (end / 3, end / 2, 1000), (last, 0, 9)]
        {
            let found = query(index, &wanted, from.max(start), to, max);
            assert_eq!(found, expected(&wanted, from.max(start), to, max, end), "{from} {to}");
        }
    }
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(dir.path().join("index")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn keys_are_found_newest_first_over_many_files() {
    for batch in [1, 3, 50] {
        let dir = tempfile::tempdir().unwrap();
        let writer = index(&dir, Access::Write);
        put(&writer, 0, 105, batch);
        check(&writer, 0, 105);
        // 19 keys in each file.
        assert_eq!(files(&dir).len(), 6);
        assert_eq!(files(&dir)[1].file_name().unwrap(), "20231114221320001");
        writer.sync().unwrap();
        assert!(query(&writer, "other", 0, 105, 9).is_empty());
        drop(writer);
        let (reader, restored) = reopened(&dir, Access::Read, &Known::Complete);
        assert_eq!(restored, Restored::default());
        check(&reader, 0, 105);
        put(&reader, 105, 140, batch);
        check(&reader, 0, 140);
        assert_eq!(files(&dir).len(), 6);
    }
}

#[test]
fn records_put_again_are_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir, Access::Write);
    put(&index, 0, 30, 4);
    put(&index, 10, 35, 4);
    check(&index, 0, 35);
    let state = index.state().unwrap();
    // Only the last record is in there twice.
    assert_eq!((state.count, state.end), (1 + 35 + 1 - 19, PhysicalOffset::new(3400)));
}

#[test]
fn restoring_at_any_checkpoint_and_putting_the_rest_again_gives_the_same_answers() {
    let mut random = seeded();
    for round in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let first = index(&dir, Access::Write);
        let durable = random.below(60);
        put(&first, 0, durable, 1 + random.below(9) as usize);
        let state = first.state();
        put(&first, durable, durable + random.below(40), 1 + random.below(9) as usize);
        drop(first);
        // What was not durable is anything: later entries, any slot that was written meanwhile.
        if let Some(state) = &state {
            let path = dir.path().join("index").join(&state.file_name);
            let mut bytes = fs::read(&path).unwrap();
            let end = 40 + 4 * SLOTS as usize + 20 * state.count as usize;
            random.fill(&mut bytes[end..]);
            fs::write(path, bytes).unwrap();
        }
        let access = if round % 2 == 0 { Access::Write } else { Access::Read };
        let (index, restored) = reopened(&dir, access, &Known::UpTo(state.clone()));
        assert_eq!(restored, Restored::default());
        check(&index, 0, durable);
        assert_eq!(index.state(), state);
        put(&index, durable, durable + 50, 7);
        check(&index, 0, durable + 50);
        index.sync().unwrap();
    }
}

#[test]
fn a_file_that_does_not_check_out_is_dropped_with_all_later_ones() {
    for (damage, kept) in [(0, 0), (1, 1), (2, 2)] {
        for kind in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let writer = index(&dir, Access::Write);
            put(&writer, 0, 50, 5);
            let mut state = writer.state().unwrap();
            drop(writer);
            let path = &files(&dir)[damage];
            let mut bytes = fs::read(path).unwrap();
            match kind {
                0 => drop(bytes.pop()),
                1 => bytes[36..40].copy_from_slice(&(ENTRIES + 1).to_be_bytes()),
                2 => bytes[16] = 1,
                // Wrong only where it is the checkpoint's file.
                _ if damage == 2 => state.end = PhysicalOffset::new(4800),
                _ => continue,
            }
            fs::write(path, bytes).unwrap();
            let (index, restored) = reopened(&dir, Access::Write, &Known::UpTo(Some(state)));
            let from = if kept == 0 { 0 } else { kept as u64 * 19 - 1 };
            assert_eq!(restored.rebuild_from, Some(PhysicalOffset::new(from * 100)), "{kind}");
            assert_eq!((restored.problems.len(), files(&dir).len()), (1, kept));
            put(&index, from, 60, 5);
            check(&index, 0, 60);
        }
    }
}

#[test]
fn without_knowledge_everything_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    put(&index(&dir, Access::Write), 0, 50, 5);
    fs::write(dir.path().join("index/stray"), "").unwrap();
    let (reader, _) = reopened(&dir, Access::Read, &Known::Nothing);
    assert!(query(&reader, "k1", 0, 50, 9).is_empty());
    assert_eq!(files(&dir).len(), 4);
    let (writer, restored) = reopened(&dir, Access::Write, &Known::Nothing);
    assert_eq!(restored.rebuild_from, Some(PhysicalOffset::ZERO));
    assert_eq!(restored.problems, ["index/stray is no index file"]);
    assert_eq!(files(&dir).len(), 1);
    put(&writer, 0, 50, 5);
    check(&writer, 0, 50);
}

#[test]
fn retention_removes_files_of_removed_records_but_never_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir, Access::Write);
    put(&index, 0, 50, 5);
    assert_eq!(index.remove_before(PhysicalOffset::new(1800)).unwrap(), 0);
    assert_eq!(index.remove_before(PhysicalOffset::new(1801)).unwrap(), 1);
    check(&index, 19, 50);
    assert_eq!(index.remove_before(PhysicalOffset::new(1 << 40)).unwrap(), 1);
    assert_eq!(files(&dir).len(), 1);
    put(&index, 50, 90, 5);
    check(&index, 38, 90);
}

#[test]
fn loops_and_garbage_end_a_chain() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    put(&index(&dir, Access::Write), 0, 19, 5);
    let path = &files(&dir)[0];
    let sound = fs::read(path).unwrap();
    let entries = 40 + 4 * SLOTS as usize;
    for round in 0..500 {
        let mut bytes = sound.clone();
        match round {
            // Every entry its own predecessor.
            0 => {
                for (n, bytes) in bytes[entries..].as_chunks_mut::<20>().0.iter_mut().enumerate() {
                    let entry = IndexEntry { previous: n as u32, ..IndexEntry::decode(bytes) };
                    *bytes = entry.encode();
                }
            }
            _ => {
                let from = 40 + random.below(bytes.len() as u64 - 40) as usize;
                let len = random.below(60) as usize;
                let to = bytes.len().min(from + len);
                random.fill(&mut bytes[from..to]);
            }
        }
        fs::write(path, &bytes).unwrap();
        let (reader, _) = reopened(&dir, Access::Read, &Known::Complete);
        for k in 0..5 {
            let key = format!("k{k}");
            let (begin, end) = (StoreTime::from_millis(i64::MIN), StoreTime::from_millis(i64::MAX));
            let found = reader.query("T", &key, begin, end, 100, |_| Ok(true)).unwrap();
            assert!(found.len() < ENTRIES as usize);
        }
        let state = IndexState {
            file_name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            count: random.below(25) as u32,
            end: PhysicalOffset::new(random.below(20) * 100),
        };
        reopened(&dir, Access::Write, &Known::UpTo(Some(state)));
    }
}

/// Lets each call fail in turn; what failed is done again, as the dispatcher would.
#[test]
fn a_put_that_failed_can_be_repeated_and_a_sync_that_succeeds_kept_everything() {
    let mut random = seeded();
    let mut failed = 0;
    for call in 1.. {
        let disk = SimDisk::new(random.bits());
        let index = KeyIndex::new(Arc::new(disk.clone()), SLOTS, ENTRIES, Access::Write);
        disk.set_faults(FaultPlan::none().fail_any(When::Nth(call), Fault::NoSpace));
        let mut synced = None;
        let mut end = 0;
        while end < 45 {
            if put_batch(&index, end, end + 5).is_ok() {
                end += 5;
            } else {
                failed += 1;
                // Everything before is found although slots lead to what was not added.
                disk.set_faults(FaultPlan::none());
                check(&index, 0, end);
            }
            let state = index.state();
            if end % 15 == 0 {
                if index.sync().is_ok() {
                    synced = Some((state, end));
                } else {
                    failed += 1;
                }
            }
        }
        let done = disk.counts().total() < call;
        disk.set_faults(FaultPlan::none());
        check(&index, 0, 45);
        for access in [Access::Write, Access::Read] {
            let Some((state, end)) = &synced else { continue };
            let image = disk.power_failure(&mut random);
            let again = KeyIndex::new(Arc::new(image), SLOTS, ENTRIES, access);
            let restored = again.restore(&Known::UpTo(state.clone())).unwrap();
            assert_eq!(restored, Restored::default());
            check(&again, 0, *end);
            put(&again, *end, 60, 4);
            check(&again, 0, 60);
        }
        if done {
            break;
        }
    }
    assert!(failed > 40, "{failed}");
}

/// The keys of a golden record, in the order in which Java indexes them.
fn keys_of(record: &serde_json::Value) -> Vec<&str> {
    let props = &record["props"];
    let keys = props["KEYS"].as_str().unwrap_or("");
    let all = props["UNIQ_KEY"].as_str().into_iter().chain(keys.split(' '));
    all.filter(|key| !key.is_empty()).collect()
}

#[test]
fn java_index_files_answer_as_java_does() {
    for name in ["clean-crc", "clean-fit", "clean-mixed", "halt-torn", "expired-preblank"] {
        let (dir, queries) = golden(name, "query");
        let disk = FileDisk::open(&dir.path().join(name), Access::Read).unwrap();
        let index = KeyIndex::new(Arc::new(disk), 1000, 4000, Access::Read);
        assert_eq!(index.restore(&Known::Complete).unwrap(), Restored::default());
        assert!(!queries.is_empty());
        let (_, store) = golden(name, "store");
        let log_end = PhysicalOffset::new(store[0]["maxPhyOffset"].as_u64().unwrap());
        for line in queries {
            let (topic, key) = (line["topic"].as_str().unwrap(), line["key"].as_str().unwrap());
            let (begin, end) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
            let found =
                index.query(topic, key, begin, end, 64, |offset| Ok(offset < log_end)).unwrap();
            let found: BTreeSet<_> = found.iter().map(|offset| offset.get()).collect();
            let offsets = line["physOffsets"].as_array().unwrap().iter();
            let expected: BTreeSet<_> = offsets.map(|o| o.as_u64().unwrap()).collect();
            assert_eq!(found, expected, "{name} {line}");
        }
    }
}

#[test]
fn our_index_files_are_what_java_writes() {
    for name in ["clean-crc", "clean-fit", "clean-mixed"] {
        let (java, records) = golden(name, "record");
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(dir.path(), Access::Write).unwrap();
        let index = KeyIndex::new(Arc::new(disk), 1000, 4000, Access::Write);
        for record in &records {
            // Messages that were rolled back are not indexed.
            if record["sysFlag"].as_u64().unwrap() & 12 == 12 {
                continue;
            }
            let keys = keys_of(record).into_iter().map(|key| IndexKey {
                topic: record["topic"].as_str().unwrap(),
                key,
                physical_offset: PhysicalOffset::new(record["physOffset"].as_u64().unwrap()),
                store_time: StoreTime::from_millis(record["storeTs"].as_i64().unwrap()),
            });
            index.put_batch(&keys.collect::<Vec<_>>(), NOW).unwrap();
        }
        let golden_dir = java.path().join(name).join("index");
        let theirs = fs::read_dir(golden_dir).unwrap().next().unwrap().unwrap().path();
        assert!(fs::read(theirs).unwrap() == fs::read(&files(&dir)[0]).unwrap(), "{name}");
    }
}
