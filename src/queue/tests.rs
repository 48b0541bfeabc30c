//! The queues on a real directory.

use std::{collections::BTreeMap, fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::{
    disk::{Access, file::FileDisk, sim::Rng},
    error::ErrorKind,
    format::entry::QueueEntry,
    offset::StoreTime,
};

mod faults;

const FILE_BYTES: u64 = 200;

fn config(access: Access) -> QueueConfig {
    QueueConfig { file_bytes: FILE_BYTES, open_files: 16, access }
}

fn table(dir: &TempDir) -> QueueTable {
    open(dir, Access::Write, 16)
}

fn open(dir: &TempDir, access: Access, open_files: usize) -> QueueTable {
    let disk = FileDisk::open(dir.path(), access).unwrap();
    QueueTable::new(Arc::new(disk), QueueConfig { open_files, ..config(access) })
}

/// A generator whose seed is printed; `STEADFAST_SEED` replays one.
pub(crate) fn seeded() -> Rng {
    let seed = match std::env::var("STEADFAST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) * 0x9E37_79B9,
    };
    println!("STEADFAST_SEED={seed}");
    Rng::new(seed)
}

fn at(n: u64) -> QueueOffset {
    QueueOffset::new(n)
}

fn entry(n: u64) -> QueueEntry {
    QueueEntry { physical_offset: PhysicalOffset::new(n * 100), size: 100, tags_code: -(n as i64) }
}

/// Puts entries `from..to`, entry n being for the record at 100 n.
fn fill(queue: &Arc<ConsumeQueue>, from: u64, to: u64) {
    for n in from..to {
        assert_eq!(queue.put(at(n), entry(n)).unwrap(), Put::Appended);
    }
}

fn read(queue: &ConsumeQueue, from: u64, max: usize) -> Vec<QueueEntry> {
    let mut out = Vec::new();
    queue.read(at(from), max, &mut out).unwrap();
    out
}

fn entries(from: u64, to: u64) -> Vec<QueueEntry> {
    (from..to).map(entry).collect()
}

fn names(dir: &TempDir, queue: &str) -> Vec<String> {
    let dir = dir.path().join("consumequeue").join(queue);
    let mut names: Vec<_> = fs::read_dir(dir)
        .map(|list| list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

/// Lets the queues go along with a log that begins at `log_start`.
fn retain(table: &QueueTable, log_start: PhysicalOffset) -> RemovedFiles {
    table.raise_mins(log_start).unwrap();
    table.remove_files().unwrap()
}

#[test]
fn what_was_put_is_read_from_tail_files_and_across_their_borders() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 3).unwrap();
    fill(&queue, 0, 25);
    assert!(names(&dir, "T/3").is_empty());
    assert_eq!(read(&queue, 0, 100), entries(0, 25));
    table.write_out().unwrap();
    assert_eq!(table.buffered_bytes(), 0);
    assert_eq!(names(&dir, "T/3").len(), 3);
    fill(&queue, 25, 44);
    assert_eq!(table.buffered_bytes(), 19 * 20);
    for from in 0..44 {
        for max in [0, 1, 2, 7, 32, 100] {
            let to = (from + max as u64).min(44);
            assert_eq!(read(&queue, from, max), entries(from, to), "{from} {max}");
        }
    }
    assert!(read(&queue, 44, 10).is_empty());
    assert_eq!(queue.entry(at(43)).unwrap(), Some(entry(43)));
    assert_eq!(queue.entry(at(44)).unwrap(), None);
    table.sync().unwrap();
    assert_eq!(names(&dir, "T/3").last().unwrap(), "00000000000000000800");
    for name in names(&dir, "T/3") {
        let file = dir.path().join("consumequeue/T/3").join(name);
        assert_eq!(fs::metadata(file).unwrap().len(), FILE_BYTES);
    }
    let again = open(&dir, Access::Read, 16);
    again.restore(queue.key().clone(), at(0), at(44));
    assert_eq!(read(&again.get(queue.key()).unwrap(), 0, 100), entries(0, 44));
}

#[test]
fn random_puts_writes_and_reads_agree_with_a_model() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let table = open(&dir, Access::Write, 2);
    let mut model: BTreeMap<(String, i32), Vec<QueueEntry>> = BTreeMap::new();
    for _ in 0..3000 {
        let (topic, id) = (format!("T{}", random.below(3)), random.below(3) as i32);
        let queue = table.get_or_create(&topic, id).unwrap();
        let entries = model.entry((topic, id)).or_default();
        match random.below(20) {
            0 => table.write_out().unwrap(),
            1 => table.sync().unwrap(),
            2..8 => {
                let from = random.below(entries.len() as u64 + 1) as usize;
                let max = random.below(40) as usize;
                let expected = &entries[from..entries.len().min(from + max)];
                assert_eq!(read(&queue, from as u64, max), expected);
            }
            8 => {
                let missing = random.below(25);
                let end = entries.len() as u64 + missing;
                if end > missing && missing > 0 {
                    assert_eq!(queue.put(at(end), entry(end)).unwrap(), Put::Gap { missing });
                    entries.extend(vec![QueueEntry::FILLER; missing as usize]);
                    entries.push(entry(end));
                }
            }
            _ => {
                let n = entries.len() as u64;
                assert_eq!(queue.put(at(n), entry(n)).unwrap(), Put::Appended);
                entries.push(entry(n));
            }
        }
        assert!(table.files.open_count() <= 2);
    }
    table.sync().unwrap();
    for ((topic, id), entries) in &model {
        let queue = table.get_by_name(topic, *id).unwrap();
        assert_eq!(&read(&queue, 0, 10_000), entries);
        let on_disk = scan_directory(&*table.files.disk).unwrap();
        let files = on_disk.queues.iter().find(|q| q.key == *queue.key());
        let end = files.map(|f| find_end(&*table.files.disk, f, PhysicalOffset::new(1 << 40)));
        assert_eq!(end.map_or(at(0), Result::unwrap), queue.end());
    }
}

#[test]
fn putting_an_entry_again_is_told_apart_from_putting_another() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 12);
    table.write_out().unwrap();
    fill(&queue, 12, 14);
    for n in [0, 11, 12, 13] {
        assert_eq!(queue.put(at(n), entry(n)).unwrap(), Put::Duplicate);
        assert_eq!(queue.put(at(n), entry(n + 1)).unwrap(), Put::Conflict);
    }
    assert_eq!(queue.end(), at(14));
    assert_eq!(read(&queue, 0, 20), entries(0, 14));
}

#[test]
fn an_offset_that_no_gap_explains_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 0).unwrap();
    assert!(queue.put(at(u64::MAX), entry(0)).is_err());
    assert!(queue.put(at(i64::MAX as u64 / 20), entry(0)).is_err());
    fill(&queue, 0, 1);
    assert!(queue.put(at(1 << 25), entry(0)).is_err());
    for size in [0, 1 << 31] {
        assert!(queue.put(at(1), QueueEntry { size, ..entry(1) }).is_err());
    }
    assert_eq!((queue.end(), table.buffered_bytes()), (at(1), 20));
}

#[test]
fn a_queue_that_begins_inside_a_file_gets_fillers_before_its_first_entry() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 25, 31);
    assert_eq!((queue.min(), queue.end()), (at(25), at(31)));
    table.sync().unwrap();
    assert_eq!(names(&dir, "T/0"), ["00000000000000000400", "00000000000000000600"]);
    let bytes = fs::read(dir.path().join("consumequeue/T/0/00000000000000000400")).unwrap();
    for (n, bytes) in bytes.as_chunks().0.iter().enumerate() {
        let expected = if n < 5 { QueueEntry::FILLER } else { entry(20 + n as u64) };
        assert_eq!(QueueEntry::decode(bytes), Some(expected));
    }
    let mut out = Vec::new();
    let error = queue.read(at(24), 1, &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange { start: 25, end: 31 });
}

#[test]
fn a_reading_table_takes_entries_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(&dir, Access::Read, 16);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 30);
    table.write_out().unwrap();
    table.sync().unwrap();
    assert_eq!(read(&queue, 0, 100), entries(0, 30));
    assert_eq!(retain(&table, PhysicalOffset::new(1500)).files, 0);
    assert_eq!(queue.min(), at(15));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn many_queues_share_few_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    for round in 0..2 {
        for id in 0..2_000 {
            let queue = table.get_or_create("T", id).unwrap();
            fill(&queue, round * 3, round * 3 + 3);
        }
        table.write_out().unwrap();
        assert!(table.files.open_count() <= 16);
    }
    table.sync().unwrap();
    assert_eq!(table.list().len(), 2_000);
    for queue in table.list() {
        assert_eq!(read(&queue, 0, 10), entries(0, 6));
        assert!(table.files.open_count() <= 16);
    }
}

#[test]
fn retention_moves_the_beginning_and_removes_all_files_but_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let (long, gone) = (table.get_or_create("T", 0).unwrap(), table.get_or_create("T", 1).unwrap());
    fill(&long, 0, 45);
    fill(&gone, 0, 30);
    table.sync().unwrap();
    let removed = retain(&table, PhysicalOffset::new(3450));
    assert_eq!(removed, RemovedFiles { files: 3 + 2, bytes: 5 * FILE_BYTES });
    assert_eq!((long.min(), long.end()), (at(35), at(45)));
    assert_eq!((gone.min(), gone.end()), (at(30), at(30)));
    assert_eq!(names(&dir, "T/0"), ["00000000000000000600", "00000000000000000800"]);
    assert_eq!(names(&dir, "T/1"), ["00000000000000000400"]);
    assert_eq!(read(&long, 35, 100), entries(35, 45));
    assert_eq!(retain(&table, PhysicalOffset::new(3450)), RemovedFiles::default());
    fill(&gone, 30, 33);
    table.sync().unwrap();
    assert_eq!(read(&gone, 30, 10), entries(30, 33));
    retain(&table, PhysicalOffset::new(9_999_999));
    assert_eq!(names(&dir, "T/1"), ["00000000000000000600"]);
}

#[test]
fn searching_by_time_finds_the_first_message_around_fillers_and_lost_records() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let table = table(&dir);
        let queue = table.get_or_create("S", round).unwrap();
        let mut n = random.below(20);
        for _ in 0..random.below(120) {
            queue.put(at(n), entry(n)).unwrap();
            n += if random.below(6) == 0 { random.below(30) + 1 } else { 1 };
        }
        table.write_out().unwrap();
        let lost = |n: u64| n.is_multiple_of(5);
        for time in 0..n + 2 {
            let found = first_at_or_after(&queue, StoreTime::from_millis(time as i64), |e| {
                assert!(!e.is_filler());
                let n = e.physical_offset.get() / 100;
                Ok((!lost(n)).then(|| StoreTime::from_millis(n as i64)))
            });
            let expected = (queue.min().get()..queue.end().get()).find(|&n| {
                !queue.entry(at(n)).unwrap().unwrap().is_filler() && !lost(n) && n >= time
            });
            assert_eq!(found.unwrap(), expected.map_or(queue.end(), at), "{time}");
        }
    }
}

#[test]
fn a_cut_zeroes_the_rest_removes_later_files_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    for (id, cut) in [(0, 14), (1, 20), (2, 0), (3, 45)] {
        let table = table(&dir);
        let queue = table.get_or_create("T", id).unwrap();
        fill(&queue, 0, 45);
        table.sync().unwrap();
        for _ in 0..2 {
            table.cut(queue.key(), at(cut)).unwrap();
            table.sync().unwrap();
        }
        let queue = table.get(queue.key()).unwrap();
        assert_eq!((queue.min(), queue.end()), (at(0), at(cut)));
        let scan = scan_directory(&*table.files.disk).unwrap();
        let files = scan.queues.iter().find(|q| q.key == *queue.key()).unwrap();
        assert!(files.files.iter().all(|f| f.base <= cut * 20));
        let log_end = PhysicalOffset::new(1 << 40);
        assert_eq!(find_end(&*table.files.disk, files, log_end).unwrap(), at(cut));
        assert_eq!(table.check_files(queue.key(), log_end).unwrap(), None);
        fill(&queue, cut, 50);
        table.sync().unwrap();
        assert_eq!(read(&queue, 0, 100), entries(0, 50));
    }
}

#[test]
fn a_queue_is_rebuilt_over_its_old_files() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let old = table.get_or_create("T", 0).unwrap();
    fill(&old, 0, 28);
    table.sync().unwrap();
    table.reset(old.key());
    let queue = table.get(old.key()).unwrap();
    assert_eq!(queue.end(), at(0));
    fill(&queue, 13, 18);
    table.cut(queue.key(), at(18)).unwrap();
    table.sync().unwrap();
    let queue = table.get(old.key()).unwrap();
    assert_eq!((queue.min(), queue.end()), (at(13), at(18)));
    let bytes = fs::read(dir.path().join("consumequeue/T/0/00000000000000000200")).unwrap();
    let found: Vec<_> = bytes.as_chunks().0.iter().map_while(QueueEntry::decode).collect();
    assert_eq!(found[..3], [QueueEntry::FILLER; 3]);
    assert_eq!(found[3..], entries(13, 18));
    assert!(bytes[160..].iter().all(|&b| b == 0));
    assert_eq!(names(&dir, "T/0").len(), 2);
}

#[test]
fn the_place_behind_the_last_entry_is_never_an_old_entry() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let old = table.get_or_create("T", 0).unwrap();
    fill(&old, 0, 9);
    table.sync().unwrap();
    table.reset(old.key());
    let queue = table.get(old.key()).unwrap();
    fill(&queue, 0, 4);
    table.sync().unwrap();
    let scan = scan_directory(&*table.files.disk).unwrap();
    let log_end = PhysicalOffset::new(1 << 40);
    assert_eq!(find_end(&*table.files.disk, &scan.queues[0], log_end).unwrap(), at(4));
}

/// Whoever dies over it leaves no hole among entries that were there before.
#[test]
fn entries_derived_once_more_go_over_old_ones_without_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let first = table(&dir);
    fill(&first.get_or_create("T", 0).unwrap(), 0, 9);
    first.sync().unwrap();
    let table = table(&dir);
    table.catch_up();
    let key = QueueKey::new("T", 0).unwrap();
    table.restore(key.clone(), at(0), at(2));
    fill(&table.get(&key).unwrap(), 2, 5);
    table.write_out().unwrap();
    let end_on_disk = || {
        let scan = scan_directory(&*table.files.disk).unwrap();
        find_end(&*table.files.disk, &scan.queues[0], PhysicalOffset::new(1 << 40)).unwrap()
    };
    assert_eq!(end_on_disk(), at(9));
    table.caught_up();
    table.cut(&key, at(5)).unwrap();
    assert_eq!(end_on_disk(), at(5));
}

fn write(dir: &TempDir, path: &str, bytes: &[u8]) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_scan_reports_what_is_strange_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = "00000000000000000000";
    write(&dir, &format!("consumequeue/T/0/{good}"), &[0; 200]);
    write(&dir, "consumequeue/T/0/00000000000000000200", b"");
    for path in ["T/01/x", "T/-1/x", "T/x/x", "T/file", "file", "T/0/a", "T/0/99999999999999999999"]
    {
        write(&dir, &format!("consumequeue/{path}"), b"x");
    }
    let table = open(&dir, Access::Read, 16);
    let scan = scan_directory(&*table.files.disk).unwrap();
    assert_eq!(scan.problems.len(), 7, "{:?}", scan.problems);
    let files = [FileOnDisk { base: 0, len: 200 }, FileOnDisk { base: 200, len: 0 }];
    assert_eq!(scan.queues.len(), 1);
    assert_eq!(scan.queues[0].files, files);
    assert_eq!(infer_file_bytes(&scan.queues), Some(200));
    // One that is too long, and one cut short within an entry, do not stand for all.
    for (queue, len) in [(1, 220), (2, 200), (3, 190)] {
        write(&dir, &format!("consumequeue/T/{queue}/{good}"), &vec![0; len]);
        let scan = scan_directory(&*table.files.disk).unwrap();
        assert_eq!(infer_file_bytes(&scan.queues), Some(200), "{queue}");
    }
}

#[test]
fn garbage_in_files_ends_a_queue_and_never_panics() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let log_end = PhysicalOffset::new(5000);
    for round in 0..200 {
        let id = round % 4;
        let len = random.below(230) as usize;
        let mut bytes = vec![0; len];
        random.fill(&mut bytes);
        let sound = random.below(len as u64 / 20 + 1);
        for n in 0..sound {
            bytes[n as usize * 20..][..20].copy_from_slice(&entry(n).encode());
        }
        write(&dir, &format!("consumequeue/G/{id}/00000000000000000000"), &bytes);
        let disk = FileDisk::open(dir.path(), Access::Read).unwrap();
        let scan = scan_directory(&disk).unwrap();
        let queue = scan.queues.iter().find(|q| q.key.queue_id() == id).unwrap();
        let end = find_end(&disk, queue, log_end).unwrap();
        assert!(end >= at(sound) && end <= at(len as u64 / 20), "{end} {sound}");
        let table = open(&dir, Access::Read, 16);
        table.restore(queue.key.clone(), at(0), at(12));
        assert!(table.check_files(&queue.key, log_end).unwrap().is_some());
        let mut out = Vec::new();
        let _ = table.get(&queue.key).unwrap().read(at(0), 12, &mut out);
        assert!(out.len() < 12);
    }
}

#[test]
fn a_lost_entry_is_an_error_where_it_is_and_marks_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 8);
    table.sync().unwrap();
    let path = dir.path().join("consumequeue/T/0/00000000000000000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..80].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(read(&queue, 0, 8), entries(0, 3));
    assert!(queue.read(at(3), 1, &mut Vec::new()).is_err());
    assert_eq!(table.degraded(), [queue.key().clone()]);
    assert!(table.sync().is_err());
    table.reset(queue.key());
    table.sync().unwrap();
}

/// The golden directory `name`, extracted, and the lines of its answers of one type.
pub(crate) fn golden(name: &str, kind: &str) -> (TempDir, Vec<serde_json::Value>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::open(golden.join(format!("{name}.tar.gz"))).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(dir.path()).unwrap();
    let text = fs::read_to_string(golden.join(format!("{name}.jsonl"))).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let lines = lines.filter(|l| l["type"] == kind).collect();
    (dir, lines)
}

#[test]
fn our_queue_files_are_what_java_writes_with_fillers_before_the_first_entry() {
    let (java, lines) = golden("expired-preblank", "msg");
    let java = java.path().join("expired-preblank");
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(dir.path(), Access::Write).unwrap();
    let config = QueueConfig { file_bytes: 1000, open_files: 4, access: Access::Write };
    let table = QueueTable::new(Arc::new(disk), config);
    for line in &lines {
        let entry = QueueEntry {
            physical_offset: PhysicalOffset::new(line["physOffset"].as_u64().unwrap()),
            size: line["cqSize"].as_u64().unwrap().try_into().unwrap(),
            tags_code: line["tagsCode"].as_i64().unwrap(),
        };
        let id = line["queueId"].as_i64().unwrap() as i32;
        let queue = table.get_or_create(line["topic"].as_str().unwrap(), id).unwrap();
        queue.put(at(line["cqOffset"].as_u64().unwrap()), entry).unwrap();
    }
    table.sync().unwrap();
    let theirs = FileDisk::open(&java, Access::Read).unwrap();
    let (ours, theirs) = (scan_directory(&*table.files.disk), scan_directory(&theirs));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours, theirs);
    assert!(ours.queues.iter().any(|q| q.files[0].base == 2000));
    for queue in &ours.queues {
        for file in &queue.files {
            let path = files::file_path(&queue.key, file.base);
            let read = |root: &Path| fs::read(root.join(path.as_str())).unwrap();
            assert!(read(dir.path()) == read(&java), "{path}");
        }
    }
}

#[test]
fn java_queues_end_where_java_says() {
    for name in ["clean-mixed", "expired-preblank", "halt-torn", "halt-mixed"] {
        let (java, lines) = golden(name, "queue");
        let (_keep, store) = golden(name, "store");
        let log_end = PhysicalOffset::new(store[0]["maxPhyOffset"].as_u64().unwrap());
        let log_start = PhysicalOffset::new(store[0]["minPhyOffset"].as_u64().unwrap());
        let disk = Arc::new(FileDisk::open(&java.path().join(name), Access::Read).unwrap());
        let scan = scan_directory(&*disk).unwrap();
        let file_bytes = infer_file_bytes(&scan.queues).unwrap();
        assert_eq!(file_bytes, store[0]["consumeQueueFileSize"].as_u64().unwrap());
        let config = QueueConfig { file_bytes, ..config(Access::Read) };
        let table = QueueTable::new(disk.clone(), config);
        for line in &lines {
            let id = line["queueId"].as_i64().unwrap() as i32;
            let key = QueueKey::new(line["topic"].as_str().unwrap(), id).unwrap();
            let files = scan.queues.iter().find(|q| q.key == key).unwrap();
            let end = find_end(&*disk, files, log_end).unwrap();
            table.restore(key.clone(), at(files.files[0].base / 20), end);
            retain(&table, log_start);
            let queue = table.get(&key).unwrap();
            assert_eq!(queue.end(), at(line["maxOffset"].as_u64().unwrap()), "{name} {key}");
            assert_eq!(queue.min(), at(line["minOffset"].as_u64().unwrap()), "{name} {key}");
            assert_eq!(table.check_files(&key, log_end).unwrap(), None);
        }
    }
}

#[test]
fn a_long_gap_goes_through_files_not_memory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(dir.path(), Access::Write).unwrap();
    let config = QueueConfig { file_bytes: 6_000_000, ..config(Access::Write) };
    let table = QueueTable::new(Arc::new(disk), config);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 1);
    let missing = 1_000_000;
    assert_eq!(queue.put(at(missing + 1), entry(missing + 1)).unwrap(), Put::Gap { missing });
    assert!(table.buffered_bytes() < 2_000_000, "{}", table.buffered_bytes());
    assert_eq!(read(&queue, missing, 10), [QueueEntry::FILLER, entry(missing + 1)]);
    assert_eq!(read(&queue, 0, 2), [entry(0), QueueEntry::FILLER]);
}

#[test]
fn a_gap_longer_than_the_log_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let queue = table.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 5);
    let refused = queue.put(at(500), entry(6)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    fill(&queue, 5, 6);
}
