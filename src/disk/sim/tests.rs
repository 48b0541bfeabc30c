use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::*;
use crate::disk::{Access, Disk, DiskFile, EntryKind, memory::MemoryWriter};

const KIB: u64 = 1 << 10;

fn path(text: &str) -> FilePath {
    FilePath::new(text)
}

/// A disk with the durable file `f` that holds four pages of 1, and the file.
fn with_file(seed: u64) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    let file = disk.create(&path("f"), 16 * KIB).unwrap();
    file.write_all_at(&[1; 16 << 10], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    (disk, file)
}

fn writer(file: &dyn DiskFile) -> MemoryWriter {
    let len = file.len().unwrap();
    Arc::new(file.map(len, Access::Write).unwrap()).claim_writer().unwrap()
}

/// What `see` finds after each of many power failures.
fn after_power_failures<T: Ord>(disk: &SimDisk, see: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..300).map(|seed| see(&disk.power_failure(&mut Rng::new(seed)))).collect()
}

fn file_or_none(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.paths().iter().any(|p| p == path).then(|| disk.read_file(path))
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn panics(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn synced_bytes_under_a_synced_name_survive() {
    for seed in 0..20 {
        let (disk, _file) = with_file(seed);
        let found = after_power_failures(&disk, |after| file_or_none(after, "f"));
        assert_eq!(found, BTreeSet::from([Some(vec![1; 16 << 10])]), "seed={seed}");
        assert_eq!(disk.durable_file("f").unwrap(), vec![1; 16 << 10]);
    }
}

#[test]
fn a_name_without_a_directory_sync_is_there_or_not() {
    let disk = SimDisk::new(3);
    let file = disk.create(&path("f"), 10).unwrap();
    file.write_all_at(b"0123456789", 0).unwrap();
    let found = after_power_failures(&disk, |after| file_or_none(after, "f"));
    for expected in [None, Some(vec![]), Some(vec![0; 10]), Some(b"0123456789".to_vec())] {
        assert!(found.contains(&expected), "never {expected:?}");
    }
    assert_eq!(disk.durable_file("f"), None);
    // The bytes alone do not make the name durable.
    file.sync_data().unwrap();
    let found = after_power_failures(&disk, |after| file_or_none(after, "f"));
    assert_eq!(found, BTreeSet::from([None, Some(b"0123456789".to_vec())]));
    assert_eq!(disk.crash_process().read_file("f"), b"0123456789");
}

#[test]
fn pages_without_a_sync_are_old_new_or_torn_each_on_its_own() {
    let (disk, file) = with_file(4);
    file.write_all_at(&[2; 8 << 10], 4 * KIB).unwrap();
    let pages = after_power_failures(&disk, |after| {
        let bytes = after.read_file("f");
        assert!(
            bytes[..4 << 10].iter().all(|&b| b == 1) && bytes[12 << 10..].iter().all(|&b| b == 1)
        );
        let page = |n: usize| {
            let sectors = bytes[n << 12..(n + 1) << 12].chunks(512).map(|sector| {
                assert!(sector.iter().all(|&b| b == sector[0]), "a sector is whole");
                sector[0]
            });
            let sum: u32 = sectors.map(u32::from).sum();
            match sum {
                8 => "old",
                16 => "new",
                _ => "torn",
            }
        };
        (page(1), page(2))
    });
    assert_eq!(pages.len(), 9, "every pair, the later page without the earlier too: {pages:?}");
}

#[test]
fn unsynced_pages_of_unwritten_blocks_are_zero_or_whole() {
    let (mut zeros_only, mut mixed) = (0, 0);
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = disk.create(&path("f"), 8 * KIB).unwrap();
        file.allocate(0, 8 * KIB).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(&FilePath::ROOT).unwrap();
        writer(&*file).slice(0, 8 * KIB).fill(7);
        let torn = after_power_failures(&disk, |after| {
            let bytes = after.read_file("f");
            bytes.chunks(4096).any(|page| page.iter().any(|b| *b != page[0]))
        });
        if torn.contains(&true) { mixed += 1 } else { zeros_only += 1 }
    }
    assert!(zeros_only > 3 && mixed > 3, "{zeros_only} {mixed}");
}

#[test]
fn stores_through_a_mapping_are_seen_and_synced() {
    let (disk, file) = with_file(5);
    let mut writer = writer(&*file);
    writer.slice(5000, 3).copy_from_slice(b"abc");
    assert_eq!(&disk.read_file("f")[4999..5004], b"\x01abc\x01");
    assert_eq!(disk.dirty_pages("f"), 1);
    file.sync_data().unwrap();
    assert_eq!(disk.dirty_pages("f"), 0);
    assert_eq!(&disk.durable_file("f").unwrap()[5000..5003], b"abc");
    // A process that dies loses nothing; what it stores afterwards is nobody's.
    writer.slice(0, 1)[0] = 9;
    let next = disk.crash_process();
    writer.slice(1, 1)[0] = 9;
    assert_eq!(next.read_file("f")[..2], [9, 1]);
    assert_eq!(next.dirty_pages("f"), 1);
}

#[test]
fn writeback_in_the_background_may_leave_a_state_between() {
    let (disk, file) = with_file(6);
    file.write_all_at(&[2; 4 << 10], 0).unwrap();
    let mut rng = Rng::new(6);
    while disk.durable_file("f").unwrap()[0] == 1 {
        disk.background_writeback(&mut rng);
    }
    file.write_all_at(&[3; 4 << 10], 0).unwrap();
    let found = after_power_failures(&disk, |after| after.read_file("f")[0]);
    assert_eq!(found, BTreeSet::from([2, 3]));
}

#[test]
fn a_failed_sync_leaves_pages_that_no_later_sync_writes() {
    let (disk, file) = with_file(7);
    file.write_all_at(&[2; 4 << 10], 0).unwrap();
    disk.set_faults(FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io));
    assert!(file.sync_data().is_err());
    assert_eq!(disk.dirty_pages("f"), 0, "the only page counts as clean");
    assert_eq!(disk.read_file("f")[0], 2, "and looks written");
    file.sync_data().unwrap();
    assert_eq!(disk.durable_file("f").unwrap()[0], 1, "but is not");
    // The next process on this kernel walks into the same trap.
    let next = disk.crash_process();
    let file = next.open(&path("f"), Access::Write).unwrap();
    file.sync_data().unwrap();
    assert_eq!(next.power_failure(&mut Rng::new(1)).read_file("f")[0], 1);
    // Writing the same bytes by a call makes the page dirty again: the cure.
    file.write_all_at(&[2; 4 << 10], 0).unwrap();
    assert_eq!(next.dirty_pages("f"), 1);
    file.sync_data().unwrap();
    let found = after_power_failures(&next, |after| after.read_file("f")[0]);
    assert_eq!(found, BTreeSet::from([2]));
}

#[test]
fn lost_pages_that_are_dirty_again_are_written_by_the_next_sync() {
    for seed in 0..20 {
        let (disk, file) = with_file(seed);
        file.write_all_at(&[2; 12 << 10], 0).unwrap();
        disk.set_faults(FaultPlan::none().fail(CallKind::SyncData, When::From(1), Fault::Io));
        while disk.dirty_pages("f") > 0 {
            assert!(file.sync_data().is_err());
        }
        let next = disk.crash_process();
        let file = next.open(&path("f"), Access::Write).unwrap();
        // Parts of pages stand for the whole.
        file.dirty_again(4 * KIB - 1, 2).unwrap();
        file.sync_data().unwrap();
        let found = next.durable_file("f").unwrap();
        assert!(found[..8 << 10] == [2; 8 << 10], "seed={seed}");
        next.set_faults(FaultPlan::none().fail(CallKind::DirtyAgain, When::Nth(1), Fault::Io));
        assert!(file.dirty_again(0, 12 * KIB).is_err());
        file.dirty_again(0, 12 * KIB).unwrap();
        file.sync_data().unwrap();
        assert!(next.durable_file("f").unwrap()[..12 << 10] == [2; 12 << 10], "seed={seed}");
        assert_eq!(kind(file.dirty_again(0, 16 * KIB + 1)), io::ErrorKind::InvalidInput);
        let reading = next.open(&path("f"), Access::Read).unwrap();
        assert_eq!(kind(reading.dirty_again(0, 1)), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_store_of_other_bytes_makes_a_lost_page_dirty_again() {
    let (disk, file) = with_file(8);
    let mut writer = writer(&*file);
    disk.set_faults(FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io));
    writer.slice(0, 1)[0] = 2;
    assert!(file.sync_data().is_err());
    writer.slice(100, 1)[0] = 2;
    file.sync_data().unwrap();
    let durable = disk.durable_file("f").unwrap();
    assert_eq!((durable[0], durable[100]), (2, 2));
}

#[test]
fn lost_pages_go_back_where_the_plan_says_so_or_memory_is_short() {
    let fail = FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io);
    let (disk, file) = with_file(9);
    disk.set_faults(fail.clone().on_failed_sync(SyncFailure::Reverted));
    file.write_all_at(&[2; 10], 0).unwrap();
    assert!(file.sync_data().is_err());
    assert_eq!(disk.read_file("f")[0], 1);

    let (disk, file) = with_file(9);
    disk.set_faults(fail);
    file.write_all_at(&[2; 10], 0).unwrap();
    assert!(file.sync_data().is_err());
    let memory = file.map(16 * KIB, Access::Read).unwrap();
    disk.drop_clean_pages();
    assert_eq!(disk.read_file("f")[0], 2, "mapped");
    drop(memory);
    disk.drop_clean_pages();
    assert_eq!(disk.read_file("f")[0], 1);
}

#[test]
fn a_sync_can_lie_and_writeback_can_fail_before_it() {
    let (disk, file) = with_file(10);
    disk.set_faults(FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Lost));
    file.write_all_at(&[2; 10], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.durable_file("f").unwrap()[0], 1);

    file.write_all_at(&[3; 10], 0).unwrap();
    let mut rng = Rng::new(1);
    while disk.dirty_pages("f") > 0 {
        disk.fail_background_writeback(&mut rng);
    }
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.durable_file("f").unwrap()[0], 1);
}

#[test]
fn a_rename_happens_as_a_whole_or_not() {
    let disk = SimDisk::new(11);
    disk.write_file("d/new", b"new");
    disk.write_file("old", b"old");
    disk.rename(&path("d/new"), &path("old")).unwrap();
    let see = |after: &SimDisk| (file_or_none(after, "d/new"), file_or_none(after, "old"));
    let before = (Some(b"new".to_vec()), Some(b"old".to_vec()));
    let renamed = (None, Some(b"new".to_vec()));
    assert_eq!(see(&disk.crash_process()), renamed);
    assert_eq!(after_power_failures(&disk, see), BTreeSet::from([before, renamed.clone()]));
    disk.sync_dir(&FilePath::ROOT).unwrap();
    assert_eq!(after_power_failures(&disk, see), BTreeSet::from([renamed]));
}

#[test]
fn changes_of_names_are_independent() {
    let disk = SimDisk::new(12);
    disk.write_file("a", b"a");
    disk.write_file("b", b"b");
    disk.remove(&path("a")).unwrap();
    disk.rename(&path("b"), &path("c")).unwrap();
    disk.create(&path("d"), 0).unwrap();
    assert_eq!(after_power_failures(&disk, SimDisk::paths).len(), 8);
    disk.sync_all().unwrap();
    assert_eq!(after_power_failures(&disk, SimDisk::paths), BTreeSet::from([disk.paths()]));
    assert_eq!(disk.paths(), ["c", "d"]);
}

#[test]
fn a_directory_that_was_not_synced_takes_its_files_with_it() {
    let disk = SimDisk::new(13);
    disk.create_dir(&path("d")).unwrap();
    let file = disk.create(&path("d/f"), 1).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&path("d")).unwrap();
    let found = after_power_failures(&disk, |after| after.paths().len());
    assert_eq!(found, BTreeSet::from([0, 1]));
    disk.sync_dir(&FilePath::ROOT).unwrap();
    assert_eq!(after_power_failures(&disk, SimDisk::paths).len(), 1);
}

#[test]
fn a_file_that_was_shortened_has_the_old_or_the_new_length() {
    let (disk, file) = with_file(14);
    file.set_len(5000).unwrap();
    file.set_len(12 * KIB).unwrap();
    let found = after_power_failures(&disk, |after| {
        let bytes = after.read_file("f");
        (bytes.len() as u64, bytes.iter().filter(|&&b| b == 1).count())
    });
    assert!(found.contains(&(16 * KIB, 16 << 10)), "{found:?}");
    assert!(found.contains(&(5000, 5000)) && found.contains(&(12 * KIB, 5000)), "{found:?}");
    file.sync_data().unwrap();
    let found = after_power_failures(&disk, |after| after.read_file("f"));
    let mut expected = vec![0; 12 << 10];
    expected[..5000].fill(1);
    assert!(found == BTreeSet::from([expected]));
}

#[test]
fn a_full_disk_refuses_and_frees() {
    let disk = SimDisk::new(15);
    disk.set_capacity(16 * KIB);
    let file = disk.create(&path("f"), 64 * KIB).unwrap();
    file.allocate(0, 8 * KIB).unwrap();
    file.allocate(0, 8 * KIB).unwrap();
    assert_eq!(disk.usage().unwrap().available, 8 * KIB);
    assert_eq!(kind(file.allocate(8 * KIB, 12 * KIB)), io::ErrorKind::StorageFull);
    assert_eq!(kind(file.write_all_at(&[1; 100], 60 * KIB)), io::ErrorKind::StorageFull);
    assert_eq!(kind(disk.create(&path("g"), 0)), io::ErrorKind::StorageFull);
    file.write_all_at(&[1; 16 << 10], 0).unwrap();
    disk.remove(&path("f")).unwrap();
    assert_eq!(disk.usage().unwrap().available, 0, "open files keep their blocks");
    drop(file);
    disk.create(&path("g"), 5).unwrap().write_all_at(b"fits", 0).unwrap();
}

#[test]
fn a_store_without_a_block_is_found_at_the_next_call() {
    let (disk, _f) = with_file(16);
    let file = disk.create(&path("s"), 16 * KIB).unwrap();
    file.allocate(0, 4 * KIB).unwrap();
    let mut writer = writer(&*file);
    writer.slice(0, 4 * KIB).fill(1);
    disk.check_stores();
    disk.usage().unwrap();
    writer.slice(4 * KIB, 1).fill(1);
    assert!(panics(|| disk.check_stores()));
    assert!(panics(|| drop(disk.usage())));
    assert!(panics(|| drop(file.sync_data())));
    assert!(panics(|| drop(disk.crash_process())));
    writer.slice(4 * KIB, 1).fill(0);
    disk.check_stores();
    file.allocate(4 * KIB, 4 * KIB).unwrap();
    writer.slice(4 * KIB, 1).fill(1);
    disk.check_stores();
}

#[test]
fn allocated_blocks_need_a_sync_too() {
    let (disk, _f) = with_file(17);
    let file = disk.create(&path("s"), 4 * KIB).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    file.allocate(0, 4 * KIB).unwrap();
    let store = |after: &SimDisk| {
        let file = after.open(&path("s"), Access::Write).unwrap();
        writer(&*file).slice(0, 1).fill(1);
        panics(|| after.check_stores())
    };
    assert_eq!(after_power_failures(&disk, store), BTreeSet::from([false, true]));
    file.sync_data().unwrap();
    assert_eq!(after_power_failures(&disk, store), BTreeSet::from([false]));
}

#[test]
fn the_lock_lives_as_long_as_guard_and_process() {
    let disk = SimDisk::new(18);
    let held = disk.lock(&path("lock")).unwrap();
    assert_eq!(kind(disk.lock(&path("lock"))), io::ErrorKind::WouldBlock);
    let next = disk.crash_process();
    let other = next.lock(&path("lock")).unwrap();
    drop(held);
    drop(disk.lock(&path("lock")).unwrap());
    assert_eq!(kind(next.lock(&path("lock"))), io::ErrorKind::WouldBlock);
    drop(other);
    assert_eq!(next.read_file("lock"), b"lock");
}

#[test]
fn rules_pick_their_calls() {
    let (disk, file) = with_file(19);
    disk.write_file("commitlog/0", &[0; 10]);
    let log = disk.open(&path("commitlog/0"), Access::Write).unwrap();
    let plan = FaultPlan::none()
        .fail(CallKind::Write, When::From(2), Fault::NoSpace)
        .under("commitlog/")
        .fail(CallKind::Read, When::Nth(2), Fault::Short);
    disk.set_faults(plan);
    for _ in 0..3 {
        file.write_all_at(b"x", 0).unwrap();
    }
    log.write_all_at(b"x", 0).unwrap();
    assert_eq!(kind(log.write_all_at(b"x", 0)), io::ErrorKind::StorageFull);
    assert_eq!(kind(log.write_all_at(b"x", 0)), io::ErrorKind::StorageFull);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(kind(log.read_exact_at(&mut byte, 0)), io::ErrorKind::UnexpectedEof);
    log.read_exact_at(&mut byte, 0).unwrap();
    let trace = disk.trace();
    assert!(trace.last().unwrap().to_string().contains("Read commitlog/0 at=0 len=1"));
    assert!(trace.iter().any(|call| call.error == Some(io::ErrorKind::StorageFull)));
    let every = FaultPlan::none().fail_any(When::PerMillion(1_000_000), Fault::ReadOnly);
    disk.set_faults(every);
    assert_eq!(kind(disk.usage()), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn every_call_can_be_made_to_fail() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        disk.create_dir(&path("d"))?;
        let file = disk.create(&path("d/f"), 8 * KIB)?;
        file.allocate(0, 8 * KIB)?;
        file.write_all_at(&[1; 100], 0)?;
        file.dirty_again(0, 100)?;
        file.sync_data()?;
        disk.rename(&path("d/f"), &path("g"))?;
        disk.sync_dir(&FilePath::ROOT)?;
        disk.open(&path("g"), Access::Read)?.map(100, Access::Read)?;
        disk.remove(&path("g"))
    };
    let disk = SimDisk::new(20);
    run(&disk).unwrap();
    let calls = disk.counts().total();
    assert_eq!((calls, disk.counts().of(CallKind::Rename)), (11, 1));
    for n in 1..=calls {
        let disk = SimDisk::new(20);
        disk.set_faults(FaultPlan::none().fail_any(When::Nth(n), Fault::Io));
        assert!(run(&disk).is_err(), "call {n} did not fail");
        assert_eq!(disk.counts().total(), n);
    }
}

#[test]
fn a_halt_keeps_the_moment() {
    let (disk, file) = with_file(21);
    disk.set_faults(FaultPlan::none().halt_at(disk.counts().total() + 2));
    file.write_all_at(&[2], 0).unwrap();
    assert!(disk.halted().is_none());
    assert!(file.write_all_at(&[3], 0).is_err());
    assert!(file.sync_data().is_err() && disk.list(&FilePath::ROOT).is_err());
    let image = disk.halted().unwrap();
    assert_eq!(image.read_file("f")[0], 2);
    let found = after_power_failures(&image, |after| after.read_file("f")[0]);
    assert_eq!(found, BTreeSet::from([1, 2]));
}

#[test]
fn damage_is_in_memory_and_on_disk_and_not_dirty() {
    let (disk, _file) = with_file(22);
    disk.flip_bit("f", 10, 3);
    disk.zero_range("f", 4 * KIB, 512);
    disk.misdirect("f", 4 * KIB, 8 * KIB);
    assert_eq!(disk.dirty_pages("f"), 0);
    for bytes in [disk.read_file("f"), disk.durable_file("f").unwrap()] {
        assert_eq!((bytes[10], bytes[4096], bytes[8191], bytes[8192]), (9, 0, 1, 0));
    }
    disk.truncate("f", 100);
    disk.copy_file("f", "x/y/g");
    disk.remove_file("f");
    let after = disk.power_failure(&mut Rng::new(1));
    assert_eq!(after.paths(), ["x/y/g"]);
    assert_eq!((after.read_file("x/y/g").len(), after.read_file("x/y/g")[10]), (100, 9));
}

#[test]
fn names_answer_as_on_a_real_disk() {
    let (disk, file) = with_file(23);
    disk.create_dir(&path("d")).unwrap();
    disk.create_dir(&path("d")).unwrap();
    disk.create(&path("d-1"), 3).unwrap();
    disk.create(&path("d/inner"), 0).unwrap();
    let listed = disk.list(&FilePath::ROOT).unwrap();
    let seen: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.kind, e.len)).collect();
    let file_kind = EntryKind::File;
    assert_eq!(
        seen,
        [("d", EntryKind::Directory, 0), ("d-1", file_kind, 3), ("f", file_kind, 16 * KIB)]
    );
    assert_eq!(disk.list(&path("d")).unwrap().len(), 1);
    assert_eq!(kind(disk.list(&path("no"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create(&path("f"), 0)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create(&path("no/f"), 0)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open(&path("d"), Access::Read)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.open(&path("no"), Access::Read)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create_dir(&path("f"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.remove(&path("d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove_dir(&path("d"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.sync_dir(&path("no"))), io::ErrorKind::NotFound);
    assert_eq!(kind(file.read_exact_at(&mut [0; 2], 16 * KIB - 1)), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.allocate(16 * KIB, 1)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(file.map(16 * KIB + 1, Access::Read)), io::ErrorKind::InvalidInput);
    let reading = disk.open(&path("f"), Access::Read).unwrap();
    assert!(reading.write_all_at(b"x", 0).is_err() && reading.map(1, Access::Write).is_err());
    disk.remove(&path("f")).unwrap();
    assert_eq!(file.len().unwrap(), 16 * KIB, "open files outlive their names");
    let memory = file.map(1, Access::Read).unwrap();
    memory.publish_existing(1);
    assert_eq!(memory.read(0, 1), [1]);
    assert!(panics(|| drop(file.write_all_at(b"end", 40 * KIB))), "a mapped file cannot grow");
}

#[test]
fn files_grow_by_writing_behind_their_end() {
    let disk = SimDisk::new(24);
    let file = disk.create(&path("f"), 0).unwrap();
    for at in 0..100 {
        file.write_all_at(&[at as u8; 100], at * 100).unwrap();
    }
    assert_eq!(file.len().unwrap(), 10_000);
    assert!(disk.read_file("f").iter().enumerate().all(|(i, &b)| b as usize == i / 100));
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let (disk, file) = with_file(seed);
        let mut rng = Rng::new(seed);
        disk.set_faults(FaultPlan::none().fail(
            CallKind::Write,
            When::PerMillion(300_000),
            Fault::Short,
        ));
        for at in 0..50 {
            let _ = file.write_all_at(&[at as u8; 1000], rng.below(15_000));
            disk.background_writeback(&mut rng);
        }
        disk.power_failure(&mut rng).read_file("f")
    };
    assert!(history(1) == history(1));
    assert!(history(1) != history(2));
}
