//! The queues on a disk that fails.

use super::*;
use crate::disk::sim::{CallKind, Fault, FaultPlan, SimDisk, SyncFailure, When};

fn table(disk: &SimDisk, open_files: usize) -> QueueTable {
    QueueTable::new(Arc::new(disk.clone()), QueueConfig { open_files, ..config(Access::Write) })
}

/// Checks that what a power failure leaves holds entries 0 to `end` of all queues.
fn check_durable(disk: &SimDisk, queues: &QueueTable, random: &mut crate::disk::sim::Rng) {
    let image = disk.power_failure(random);
    let again = table(&image, 4);
    for queue in queues.list() {
        again.restore(queue.key().clone(), queue.min(), queue.end());
        let problem = again.check_files(queue.key(), PhysicalOffset::new(1 << 40)).unwrap();
        assert_eq!(problem, None);
        let (min, end) = (queue.min().get(), queue.end().get());
        let found = read(&again.get(queue.key()).unwrap(), min, 1000);
        assert_eq!(found, entries(min, end));
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_told() {
    for call in [CallKind::Write, CallKind::Create, CallKind::CreateDir] {
        let disk = SimDisk::new(1);
        let queues = table(&disk, 4);
        let queue = queues.get_or_create("T", 0).unwrap();
        disk.set_faults(FaultPlan::none().fail(call, When::From(1), Fault::NoSpace));
        for round in 1..4 {
            fill(&queue, round * 7 - 7, round * 7);
            assert_eq!(queues.write_out().unwrap_err().kind(), ErrorKind::Full);
            assert_eq!(queues.sync().unwrap_err().kind(), ErrorKind::Full);
            assert_eq!(read(&queue, 0, 100).len(), round as usize * 7);
        }
        assert_eq!(queues.buffered_bytes(), 21 * 20);
        disk.set_faults(FaultPlan::none());
        queues.sync().unwrap();
        assert_eq!((queues.buffered_bytes(), queues.degraded().len()), (0, 0));
        check_durable(&disk, &queues, &mut seeded());
    }
}

#[test]
fn fillers_that_did_not_fit_are_written_later() {
    let disk = SimDisk::new(1);
    let queues = table(&disk, 4);
    let queue = queues.get_or_create("T", 0).unwrap();
    fill(&queue, 5, 7);
    disk.set_faults(FaultPlan::none().fail(CallKind::Write, When::Nth(1), Fault::NoSpace));
    queues.write_out().unwrap_err();
    queues.write_out().unwrap();
    let scan = scan_directory(&disk).unwrap();
    let end = find_end(&disk, &scan.queues[0], PhysicalOffset::new(1 << 40)).unwrap();
    assert_eq!(end, at(7));
}

/// Lets each call fail in turn, with few places for open files so that files are synced to make
/// room, and after a failure does what the store would: tries again, rebuilds what is degraded.
#[test]
fn a_sync_that_succeeds_kept_everything_whichever_call_failed_before() {
    let mut random = seeded();
    for failure in [SyncFailure::KeptClean, SyncFailure::Reverted] {
        let mut failed = 0;
        for call in 1.. {
            let disk = SimDisk::new(random.bits());
            let queues = table(&disk, 2);
            let plan = FaultPlan::none().fail_any(When::Nth(call), Fault::Io);
            disk.set_faults(plan.on_failed_sync(failure));
            let mut errors = 0;
            for round in 0..3 {
                for id in 0..4 {
                    fill(&queues.get_or_create("T", id).unwrap(), round * 8, round * 8 + 8);
                }
                errors += usize::from(queues.write_out().is_err());
                match queues.sync() {
                    Ok(()) => check_durable(&disk, &queues, &mut random),
                    Err(_) => errors += 1,
                }
            }
            for key in queues.degraded() {
                assert!(queues.sync().is_err());
                let end = queues.get(&key).unwrap().end();
                queues.reset(&key);
                fill(&queues.get(&key).unwrap(), 0, end.get());
                queues.cut(&key, end).unwrap();
            }
            queues.sync().unwrap();
            check_durable(&disk, &queues, &mut random);
            failed += errors;
            if errors == 0 && disk.counts().total() < call {
                break;
            }
        }
        assert!(failed > 50, "{failed}");
    }
}

/// Lets each call fail in turn; what a failed sync may have taken is derived again from the last
/// good one on.
#[test]
fn what_a_failed_sync_took_is_written_again_and_kept() {
    const BEGINS: [u64; 4] = [0, 0, 3, 14];
    let mut random = seeded();
    for failure in [SyncFailure::KeptClean, SyncFailure::Reverted] {
        let mut again = 0;
        for call in 1.. {
            let disk = SimDisk::new(random.bits());
            let queues = table(&disk, 2);
            let plan = FaultPlan::none().fail_any(When::Nth(call), Fault::Io);
            disk.set_faults(plan.on_failed_sync(failure));
            let mut ends = BEGINS;
            let mut durable = [None; 4];
            for round in 0..6 {
                for (id, end) in ends.iter_mut().enumerate() {
                    let more = if round < 5 { random.below(9) } else { 0 };
                    fill(&queues.get_or_create("T", id as i32).unwrap(), *end, *end + more);
                    *end += more;
                }
                let _ = queues.write_out();
                for key in queues.unsynced() {
                    let id = key.queue_id() as usize;
                    let derived = queues.in_memory();
                    if let Some(end) = durable[id] {
                        derived.restore(key.clone(), at(end), at(end));
                    }
                    let more = ends[id] + 1;
                    let from = durable[id].unwrap_or(BEGINS[id]);
                    fill(&derived.get_or_create("T", id as i32).unwrap(), from, more);
                    again += usize::from(queues.write_again(&key, &derived).is_ok());
                }
                if queues.sync().is_ok() {
                    durable = ends.map(Some);
                    check_durable(&disk, &queues, &mut random);
                }
            }
            assert_eq!(durable, ends.map(Some), "call {call}");
            let image = disk.power_failure(&mut random);
            for found in scan_directory(&image).unwrap().queues {
                let end = find_end(&image, &found, PhysicalOffset::new(1 << 40)).unwrap();
                assert_eq!(end, queues.get(&found.key).unwrap().end(), "call {call}");
            }
            if disk.counts().total() < call {
                break;
            }
        }
        assert!(again > 5, "{again}");
    }
}

/// A reader that meets what a failed sync took meets it no more when that was taken back.
#[test]
fn entries_that_were_taken_back_are_read_from_memory() {
    let disk = SimDisk::new(1);
    let queues = table(&disk, 4);
    let queue = queues.get_or_create("T", 0).unwrap();
    fill(&queue, 0, 4);
    queues.sync().unwrap();
    fill(&queue, 4, 13);
    let plan = FaultPlan::none().fail(CallKind::SyncData, When::From(1), Fault::Io);
    disk.set_faults(plan.on_failed_sync(SyncFailure::Reverted));
    queues.sync().unwrap_err();
    assert!(queue.entry(at(6)).is_err(), "nothing was taken");
    disk.set_faults(FaultPlan::none());
    let derived = queues.in_memory();
    derived.restore(queue.key().clone(), at(4), at(4));
    fill(&derived.get(queue.key()).unwrap(), 4, 13);
    queues.write_again(queue.key(), &derived).unwrap();
    assert_eq!(read(&queue, 0, 100), entries(0, 13));
    fill(&queue, 13, 15);
    queues.sync().unwrap();
    assert_eq!((queues.buffered_bytes(), queues.degraded().len()), (0, 0));
    assert_eq!(read(&queue, 0, 100), entries(0, 15));
    check_durable(&disk, &queues, &mut seeded());
}

/// Lets the next syncs of queue files fail, then derives `T/0` again: `known` is where its durable
/// entries ended, `to` where it ends. Gives the end that a power failure leaves in the files.
fn end_after_a_failed_sync(
    disk: &SimDisk,
    queues: &QueueTable,
    failure: SyncFailure,
    known: Option<u64>,
    (from, to): (u64, u64),
) -> QueueOffset {
    let plan = FaultPlan::none().fail(CallKind::SyncData, When::From(1), Fault::Io);
    disk.set_faults(plan.on_failed_sync(failure));
    queues.sync().unwrap_err();
    disk.set_faults(FaultPlan::none());
    let key = QueueKey::new("T", 0).unwrap();
    let derived = queues.in_memory();
    if let Some(end) = known {
        derived.restore(key.clone(), at(end), at(end));
    }
    fill(&derived.get_or_create("T", 0).unwrap(), from, to);
    queues.write_again(&key, &derived).unwrap();
    queues.sync().unwrap();
    let image = disk.power_failure(&mut seeded());
    let scan = scan_directory(&image).unwrap();
    find_end(&image, &scan.queues[0], PhysicalOffset::new(1 << 40)).unwrap()
}

#[test]
fn fillers_that_a_failed_sync_took_are_written_again() {
    for failure in [SyncFailure::KeptClean, SyncFailure::Reverted] {
        let disk = SimDisk::new(1);
        let queues = table(&disk, 4);
        fill(&queues.get_or_create("T", 0).unwrap(), 3, 7);
        assert_eq!(end_after_a_failed_sync(&disk, &queues, failure, None, (3, 7)), at(7));
    }
}

#[test]
fn zeros_that_a_failed_sync_took_are_written_again() {
    for failure in [SyncFailure::KeptClean, SyncFailure::Reverted] {
        let disk = SimDisk::new(1);
        let queues = table(&disk, 4);
        let queue = queues.get_or_create("T", 0).unwrap();
        fill(&queue, 0, 9);
        queues.sync().unwrap();
        queues.cut(queue.key(), at(4)).unwrap();
        assert_eq!(end_after_a_failed_sync(&disk, &queues, failure, Some(4), (4, 4)), at(4));
    }
}

#[test]
fn what_was_synced_survives_whatever_was_written_after_it() {
    let mut random = seeded();
    for _ in 0..100 {
        let disk = SimDisk::new(random.bits());
        let queues = table(&disk, 3);
        let mut ends = [0; 4];
        let mut durable = ends;
        for _ in 0..random.below(30) {
            let id = random.below(4) as usize;
            let more = random.below(15);
            fill(&queues.get_or_create("T", id as i32).unwrap(), ends[id], ends[id] + more);
            ends[id] += more;
            match random.below(4) {
                0 => queues.write_out().unwrap(),
                1 => {
                    queues.sync().unwrap();
                    durable = ends;
                }
                _ => disk.background_writeback(&mut random),
            }
        }
        let image = disk.power_failure(&mut random);
        let again = table(&image, 3);
        for (id, end) in durable.into_iter().enumerate() {
            let key = QueueKey::new("T", id as i32).unwrap();
            again.restore(key.clone(), at(0), at(end));
            assert_eq!(again.check_files(&key, PhysicalOffset::new(1 << 40)).unwrap(), None);
            // The log was cut there and goes on with other records: what was ahead is gone.
            again.cut(&key, at(end)).unwrap();
            let queue = again.get(&key).unwrap();
            fill(&queue, end, end + 3);
            assert_eq!(read(&queue, 0, 1000), (0..end + 3).map(entry).collect::<Vec<_>>());
        }
        again.sync().unwrap();
        for found in scan_directory(&image).unwrap().queues {
            let end = find_end(&image, &found, PhysicalOffset::new(1 << 40)).unwrap();
            assert_eq!(end, again.get(&found.key).unwrap().end());
        }
    }
}

#[test]
fn twenty_thousand_queues_need_few_open_files_and_few_syncs() {
    let disk = SimDisk::new(1);
    let queues = table(&disk, 16);
    for id in 0..20_000 {
        fill(&queues.get_or_create("T", id).unwrap(), 0, 2);
    }
    queues.write_out().unwrap();
    assert!(queues.files.open_count() <= 16);
    assert_eq!(queues.buffered_bytes(), 0);
    let before = disk.counts();
    queues.sync().unwrap();
    let syncs = |kind| disk.counts().of(kind) - before.of(kind);
    // Files that had to make room are durable already; their names and the last ones are not.
    let all = [CallKind::SyncData, CallKind::SyncDir, CallKind::SyncAll].map(syncs);
    assert_eq!(all, [0, 0, 1]);
    let queue = queues.get_by_name("T", 19_999).unwrap();
    assert_eq!(read(&queue, 0, 9), [entry(0), entry(1)]);
    check_durable(&disk, &queues, &mut seeded());
}

#[test]
fn a_reader_needs_no_sync_when_every_open_file_waits_for_one() {
    let disk = SimDisk::new(1);
    let queues = table(&disk, 2);
    for id in 0..3 {
        fill(&queues.get_or_create("T", id).unwrap(), 0, 2);
    }
    queues.sync().unwrap();
    for id in 0..2 {
        fill(&queues.get_by_name("T", id).unwrap(), 2, 4);
    }
    queues.write_out().unwrap();
    let before = disk.counts();
    assert_eq!(read(&queues.get_by_name("T", 2).unwrap(), 0, 9).len(), 2);
    assert_eq!(disk.counts().of(CallKind::SyncData), before.of(CallKind::SyncData));
    assert_eq!(queues.files.open_count(), 2);
    queues.sync().unwrap();
    check_durable(&disk, &queues, &mut seeded());
}

/// An entry for each of 100,000 queues, written out: memory for each, table and names included.
#[test]
#[ignore = "a measurement"]
fn memory_per_idle_queue() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let dir = tempfile::tempdir().unwrap();
    let disk = crate::disk::file::FileDisk::open(dir.path(), Access::Write).unwrap();
    let config = QueueConfig { file_bytes: 6_000_000, open_files: 4096, access: Access::Write };
    let queues = QueueTable::new(Arc::new(disk), config);
    let before = resident();
    let start = std::time::Instant::now();
    for id in 0..100_000 {
        let topic = format!("a-topic-with-an-ordinary-name-{}", id / 8);
        fill(&queues.get_or_create(&topic, id % 8).unwrap(), 0, 3);
    }
    println!("put {:?}, buffered {} bytes/queue", start.elapsed(), (resident() - before) / 100_000);
    queues.write_out().unwrap();
    println!("written {:?}", start.elapsed());
    queues.sync().unwrap();
    println!("synced {:?}", start.elapsed());
    println!("struct {} bytes", size_of::<ConsumeQueue>());
    println!("{} bytes/queue", (resident() - before) / 100_000);
}

/// Nanoseconds of a look-up and a put.
#[test]
#[ignore = "a measurement"]
fn speed_of_put() {
    let disk = SimDisk::new(1);
    let config = QueueConfig { file_bytes: 6_000_000, open_files: 64, access: Access::Read };
    let queues = QueueTable::new(Arc::new(disk), config);
    let n = 4_000_000_u64;
    for id in 0..64 {
        queues.get_or_create("an-ordinary-topic", id).unwrap();
    }
    let start = std::time::Instant::now();
    for k in 0..n {
        let queue = queues.get_by_name("an-ordinary-topic", (k % 64) as i32).unwrap();
        queue.put(at(k / 64), entry(k)).unwrap();
    }
    println!("{} ns", start.elapsed().as_nanos() / u128::from(n));
}
