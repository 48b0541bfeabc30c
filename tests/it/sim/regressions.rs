//! What the simulation found, each as a script of its own.

use std::time::Duration;

use steadfast::{
    ErrorKind, Finding,
    FlushMode::Async,
    FlushMode::Sync,
    Group, Message, QueueOffset, Step,
    disk::{
        AppendPath,
        sim::{CallKind, Fault, FaultPlan, Rng, SimDisk, SyncFailure, When},
    },
};

use super::scripted::*;

/// Dispatching went on with a queue that recovery had replaced in its table.
#[test]
fn what_is_appended_after_a_recovery_is_in_its_queue() {
    let disk = SimDisk::new(1);
    let store = open(&disk, Sync);
    let mut kept = puts(&store, 5);
    flush(&store);
    let image = disk.crash_process();
    store.abandon();
    let store = open(&image, Sync);
    kept.extend(puts(&store, 4));
    store.close().unwrap();
    let store = open(&image.crash_process(), Sync);
    assert_eq!(store.queue_range(&queue()).unwrap().1, QueueOffset::new(9));
    assert_has(&store, &kept);
}

/// A segment whose name was not durable yet was found after the death of the process and filled.
#[test]
fn a_crash_anywhere_in_the_first_open_leaves_a_log_that_can_be_relied_upon() {
    for call in 1.. {
        let disk = SimDisk::new(call);
        disk.set_faults(FaultPlan::none().halt_at(call));
        let whole = open_with(&disk, options(Sync)).is_ok_and(|store| {
            store.abandon();
            !disk.is_halted()
        });
        let disk = disk.halted().unwrap_or(disk).crash_process();
        let store = open(&disk, Sync);
        let kept = puts(&store, 2);
        flush(&store);
        for seed in 0..20 {
            let image = disk.power_failure(&mut Rng::new(seed));
            assert_has(&open(&image, Sync), &kept);
        }
        store.abandon();
        if whole {
            assert!(call > 20, "nothing was halted");
            break;
        }
    }
}

/// Consumer offsets were read after the death of the process and gone after a power failure.
#[test]
fn offsets_that_were_read_after_a_crash_stay() {
    let group = Group::new("billing").unwrap();
    for call in 1.. {
        let disk = SimDisk::new(call);
        let store = open(&disk, Sync);
        puts(&store, 3);
        flush(&store);
        store.consumers().commit(&group, &queue(), QueueOffset::new(2)).unwrap();
        disk.set_faults(FaultPlan::none().halt_at(disk.counts().total() + call));
        let saved = store.step(Step::SaveOffsets).is_ok();
        store.abandon();
        let disk = disk.halted().unwrap_or(disk).crash_process();
        let store = open(&disk, Sync);
        let seen = store.consumers().committed(&group, &queue());
        assert!(seen.is_some() || !saved);
        for seed in 0..20 {
            let again = open(&disk.power_failure(&mut Rng::new(seed)), Sync);
            assert_eq!(again.consumers().committed(&group, &queue()), seen, "call {call}");
        }
        store.abandon();
        if saved {
            break;
        }
    }
}

/// A retention that was interrupted left holes in the log, or queues that begin before it.
#[test]
fn retention_that_fails_or_dies_anywhere_leaves_no_hole() {
    let calls = retention_interrupted(u64::MAX / 2, false);
    assert!(calls > 20, "nothing to fail");
    for call in 1..=calls {
        retention_interrupted(call, false);
        retention_interrupted(call, true);
    }
}

/// Gives how many calls of the disk it took.
fn retention_interrupted(call: u64, halts: bool) -> u64 {
    let (disk, clock) = (SimDisk::new(call), clock());
    disk.set_clock(clock.clone());
    let mut options = options(Sync);
    options.retention.reserved = Duration::from_secs(60);
    let builder = steadfast::Store::builder_on(std::sync::Arc::new(disk.clone()));
    let store = builder.options(options).clock(clock.clone()).open_stepped().unwrap();
    let kept: Vec<_> = (0..12).map(|_| put(&store, 2500)).collect();
    flush(&store);
    store.step(Step::Checkpoint).unwrap();
    clock.advance(Duration::from_secs(3600));
    let before = disk.counts().total();
    let at = before + call;
    let plan = FaultPlan::none();
    disk.set_faults(match halts {
        true => plan.halt_at(at),
        false => plan.fail_any(When::Nth(call), Fault::Io),
    });
    let _ = store.step(Step::Retain);
    let calls = disk.counts().total() - before;
    disk.set_faults(FaultPlan::none());
    let disk = match disk.halted() {
        Some(image) => {
            store.abandon();
            image
        }
        None => {
            store.close().unwrap();
            disk
        }
    };
    for seed in 0..10 {
        let image = disk.power_failure(&mut Rng::new(seed));
        let store = open(&image, Sync);
        let start = store.progress().start.get();
        let left: Vec<_> = kept.iter().filter(|m| m.at >= start).cloned().collect();
        assert!(left.len() > 1);
        assert_has(&store, &left);
        let range = store.queue_range(&queue()).unwrap();
        assert_eq!((range.0.get(), range.1.get()), (left[0].offset, 12), "call {call}");
    }
    calls
}

/// After a failed checkpoint the next one overwrote the snapshot that the failed one names, which
/// the page cache still holds.
#[test]
fn a_checkpoint_that_fails_and_one_that_is_torn_leave_a_sound_one() {
    for call in 1..40 {
        let disk = SimDisk::new(call);
        let store = open(&disk, Sync);
        let kept = puts(&store, 3);
        flush(&store);
        store.step(Step::Checkpoint).unwrap();
        disk.set_faults(
            FaultPlan::none()
                .fail(CallKind::SyncData, When::Nth(1), Fault::Io)
                .under("steadfast/checkpoint"),
        );
        store.step(Step::Checkpoint).unwrap_err();
        let mut kept = kept;
        kept.push(put(&store, 70));
        flush(&store);
        disk.set_faults(FaultPlan::none().halt_at(disk.counts().total() + call));
        let _ = store.step(Step::Checkpoint);
        store.abandon();
        let disk = disk.halted().unwrap_or(disk);
        for seed in 0..20 {
            let image = match seed {
                0 => disk.crash_process(),
                _ => disk.power_failure(&mut Rng::new(seed)),
            };
            let store = open(&image, Sync);
            let findings = &store.recovery().findings;
            let strange =
                |f: &Finding| matches!(f, Finding::ForeignWriter { .. } | Finding::Rebuilt { .. });
            assert!(!findings.iter().any(strange), "call {call} {}", store.recovery());
            assert_has(&store, &kept);
        }
    }
}

/// The zeros over a cut tail were lost in a failed sync, and the tail came back later.
#[test]
fn what_was_cut_stays_cut_when_the_sync_of_the_cut_failed() {
    let disk = SimDisk::new(1);
    let store = open(&disk, Async);
    let kept = puts(&store, 2);
    flush(&store);
    let rest = puts(&store, 3);
    // All of it reaches the disk but for the first of the unsynced messages.
    disk.zero_range(LOG, rest[0].at, rest[0].size);
    let torn = disk.read_file(LOG);
    let disk = disk.crash_process();
    store.abandon();
    disk.write_file(LOG, &torn);
    disk.set_faults(
        FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io).under("commitlog/"),
    );
    open_with(&disk, options(Sync)).unwrap_err();
    let disk = disk.crash_process();
    let store = open(&disk, Sync);
    assert_eq!(store.recovery().log_end.get(), rest[0].at);
    store.abandon();
    for seed in 0..20 {
        let image = disk.power_failure(&mut Rng::new(seed));
        let store = open(&image, Sync);
        let cut = |f: &Finding| matches!(f, Finding::Cut { .. });
        assert!(!store.recovery().findings.iter().any(cut), "{}", store.recovery());
        assert_has(&store, &kept);
    }
}

/// "Full" means that nothing was appended and a later try may succeed: not so when the log failed.
#[test]
fn a_write_of_the_log_that_finds_no_room_is_a_failure_of_the_log() {
    let disk = SimDisk::new(1);
    disk.set_append_path(AppendPath::Write);
    let store = open(&disk, Async);
    disk.set_faults(
        FaultPlan::none().fail(CallKind::Write, When::Nth(1), Fault::NoSpace).under("commitlog/"),
    );
    let queue = queue();
    let error = store.append(&Message::new(&queue, b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Faulted, "{error}");
    assert!(!error.is_transient());
    store.abandon();
}

/// A failed sync leaves pages that look written: what is acknowledged after a reopen is kept by
/// the next power failure all the same.
#[test]
fn a_failed_sync_then_a_reopen_then_a_power_failure_keeps_what_was_acknowledged() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let store = open(&disk, Sync);
        let mut kept = puts(&store, 2);
        flush(&store);
        let unknown = puts(&store, 3);
        disk.set_faults(
            FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io).under("commitlog/"),
        );
        assert_eq!(store.step(Step::Flush).unwrap_err().kind(), ErrorKind::Faulted);
        assert_eq!(store.step(Step::Flush).unwrap_err().kind(), ErrorKind::Faulted);
        let queue = queue();
        let refused = store.append(&Message::new(&queue, b"x")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Faulted);
        assert_has(&store, &kept);
        let image = disk.crash_process();
        store.abandon();
        let store = open(&image, Sync);
        let survived: Vec<_> = unknown.into_iter().filter(|m| has(&store, m)).collect();
        kept.extend(survived);
        kept.extend(puts(&store, 2));
        flush(&store);
        for power in 0..5 {
            let image = image.power_failure(&mut Rng::new(power));
            assert_has(&open(&image, Sync), &kept);
        }
        store.abandon();
    }
}

/// A power failure may leave any new file empty, also one before a whole one.
#[test]
fn an_empty_queue_file_before_a_whole_one_is_rebuilt() {
    let disk = SimDisk::new(1);
    let store = open(&disk, Sync);
    let kept = puts(&store, 25);
    flush(&store);
    store.step(Step::Checkpoint).unwrap();
    let image = disk.crash_process();
    store.abandon();
    image.truncate("consumequeue/orders/0/00000000000000000000", 0);
    let store = open(&image, Sync);
    assert_has(&store, &kept);
    let range = store.queue_range(&queue()).unwrap();
    assert_eq!((range.0.get(), range.1.get()), (0, 25));
}

/// An ASYNC store serves before it syncs: what it calls durable meanwhile is no more than was, and
/// the sync in the background covers what an earlier one lost.
#[test]
fn an_async_store_that_opens_before_it_syncs_says_so_and_makes_up_for_a_failed_sync() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        disk.set_append_path(*Rng::new(seed).pick(&[AppendPath::Store, AppendPath::Write]));
        let store = open(&disk, Async);
        let kept = puts(&store, 2);
        flush(&store);
        let durable = store.progress().durable;
        let late = puts(&store, 3);
        disk.set_faults(
            FaultPlan::none().fail(CallKind::SyncData, When::Nth(1), Fault::Io).under("commitlog/"),
        );
        assert_eq!(store.step(Step::Flush).unwrap_err().kind(), ErrorKind::Faulted);
        let image = disk.crash_process();
        store.abandon();
        let syncs = image.counts().of(CallKind::SyncData);
        let store = open(&image, Async);
        let log_synced = |call: &steadfast::disk::sim::TracedCall| {
            call.kind == CallKind::SyncData && call.path.starts_with("commitlog/")
        };
        assert!(
            !image.trace().iter().any(log_synced) && image.counts().of(CallKind::SyncData) > syncs
        );
        let progress = store.progress();
        assert_eq!((progress.durable, progress.dispatched), (durable, progress.written));
        assert_eq!(store.recovery().to_sync, progress.written.get() - durable.get());
        assert_has(&store, &kept);
        assert_has(&store, &late);
        let newest = put(&store, 90);
        for power in 0..5 {
            let image = image.power_failure(&mut Rng::new(power));
            let store = open(&image, Async);
            assert_has(&store, &kept);
            assert!(store.progress().durable >= durable);
            store.abandon();
        }
        // No checkpoint before the log is there.
        store.step(Step::Keep).unwrap();
        assert_eq!(store.progress().durable, durable);
        store.step(Step::Flush).unwrap();
        assert_eq!(store.progress().durable, store.progress().written);
        store.step(Step::Keep).unwrap();
        for power in 0..5 {
            let image = image.power_failure(&mut Rng::new(power));
            let store = open(&image, Sync);
            assert_has(&store, &kept);
            assert_has(&store, &late);
            assert_has(&store, std::slice::from_ref(&newest));
            assert!(store.recovery().dispatched_from >= progress.written, "{}", store.recovery());
            store.abandon();
        }
        store.abandon();
    }
}

/// Frames and checkpoints of a store that checks whole records must not speak for those of a
/// process before that did not.
#[test]
fn records_without_a_checksum_are_not_taken_for_torn_after_the_checksum_was_turned_on() {
    let mut plain = options(Async);
    plain.record_checksum = steadfast::RecordChecksum::Off;
    let disk = SimDisk::new(1);
    let store = open_with(&disk, plain).unwrap();
    let kept = puts(&store, 4);
    let image = disk.crash_process();
    store.abandon();
    let store = open(&image, Async);
    let again = image.crash_process();
    store.abandon();
    let store = open(&again, Async);
    assert_has(&store, &kept);
    let last = again.crash_process();
    store.abandon();
    assert_has(&open(&last, Sync), &kept);
}

/// Nor must the older slot of the checkpoint, where the newer one rots.
#[test]
fn records_without_a_checksum_are_sound_where_only_the_slot_before_is_left() {
    let mut plain = options(Async);
    plain.record_checksum = steadfast::RecordChecksum::Off;
    for slot in [0, 4096] {
        let disk = SimDisk::new(1);
        let store = open(&disk, Async);
        // Nothing is flushed: a checkpoint would follow, and be in both slots.
        let mut kept = puts(&store, 4);
        let disk = disk.crash_process();
        store.abandon();
        let store = open_with(&disk, plain.clone()).unwrap();
        kept.extend(puts(&store, 4));
        let image = disk.crash_process();
        store.abandon();
        image.flip_bit("steadfast/checkpoint", slot + 20, 1);
        let store = open(&image, Async);
        assert_has(&store, &kept);
        store.abandon();
    }
}

/// A queue file whose sync failed once kept every later checkpoint away, and so retention.
#[test]
fn a_failed_sync_of_a_queue_file_holds_up_one_checkpoint_and_loses_nothing() {
    for (seed, failure) in (0..20).zip([SyncFailure::KeptClean, SyncFailure::Reverted].repeat(10)) {
        let (disk, clock) = (SimDisk::new(seed), clock());
        disk.set_clock(clock.clone());
        let mut options = options(Sync);
        options.retention.reserved = Duration::from_secs(60);
        let builder = steadfast::Store::builder_on(std::sync::Arc::new(disk.clone()));
        let store = builder.options(options).clock(clock.clone()).open_stepped().unwrap();
        let checkpoints = seed % 3;
        let mut kept = Vec::new();
        for _ in 0..checkpoints {
            kept.extend(puts(&store, 11));
            flush(&store);
            store.step(Step::Checkpoint).unwrap();
        }
        kept.extend(puts(&store, 14));
        flush(&store);
        let plan = FaultPlan::none();
        let plan = plan.fail(CallKind::SyncData, When::Nth(1), Fault::Io).under("consumequeue/");
        disk.set_faults(plan.on_failed_sync(failure));
        store.step(Step::Checkpoint).unwrap_err();
        kept.extend(puts(&store, 3));
        flush(&store);
        store.step(Step::Checkpoint).unwrap();
        store.step(Step::Keep).unwrap();
        store.health().unwrap();
        assert_has(&store, &kept);
        for power in 0..5 {
            let image = disk.power_failure(&mut Rng::new(power));
            let store = open(&image, Sync);
            let rebuilt = |f: &Finding| matches!(f, Finding::Rebuilt { .. });
            assert!(!store.recovery().findings.iter().any(rebuilt), "{}", store.recovery());
            assert_eq!(store.recovery().dispatched_from, store.progress().written);
            assert_has(&store, &kept);
            store.abandon();
        }
        kept.extend((0..6).map(|_| put(&store, 2500)));
        flush(&store);
        clock.advance(Duration::from_secs(3600));
        store.step(Step::Retain).unwrap();
        let start = store.progress().start.get();
        assert!(start > 0, "retention did nothing");
        kept.retain(|message| message.at >= start);
        assert_has(&store, &kept);
        store.close().unwrap();
        let store = open(&disk.power_failure(&mut Rng::new(seed)), Sync);
        assert!(store.recovery().was_clean, "{}", store.recovery());
        assert_has(&store, &kept);
    }
}

/// A bit flipped in the checksum of any record is named by the next open.
fn assert_checksums_count(image: &SimDisk, kept: &[Kept], seed: u64) {
    for message in kept {
        let image = image.crash_process();
        image.flip_bit(LOG, message.end() - 15, 1);
        let error = open_with(&image, options(Sync)).map(drop).unwrap_err();
        let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(at.get(), message.at, "seed={seed} {error}");
    }
}

/// `disk` after a store that makes no checksums was opened on it, and the power failed. From then
/// on only frames speak for the records before.
fn opened_without(disk: &SimDisk, seed: u64) -> SimDisk {
    let mut plain = options(Sync);
    plain.record_checksum = steadfast::RecordChecksum::Off;
    let store = open_with(disk, plain).unwrap();
    let image = disk.power_failure(&mut Rng::new(seed));
    store.abandon();
    image
}

/// A checkpoint was durable before the frames below its durable end were: without them a flip in
/// a record's checksum switched it off.
#[test]
fn a_flip_in_a_checksum_is_named_after_a_checkpoint_and_a_power_failure() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let store = open(&disk, Sync);
        let kept = puts(&store, 4);
        flush(&store);
        store.step(Step::Checkpoint).unwrap();
        let image = disk.power_failure(&mut Rng::new(seed));
        store.abandon();
        assert_checksums_count(&image, &kept, seed);
        assert_checksums_count(&opened_without(&image, seed), &kept, seed);
    }
}

/// So were frames that a process left in memory only, once the next one had written its checkpoint.
#[test]
fn a_flip_in_a_checksum_is_named_after_a_kill_an_open_and_a_power_failure() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let store = open(&disk, Sync);
        let kept = puts(&store, 4);
        flush(&store);
        let disk = disk.crash_process();
        store.abandon();
        assert_checksums_count(&opened_without(&disk.crash_process(), seed), &kept, seed);
        let store = open(&disk, Sync);
        let image = disk.power_failure(&mut Rng::new(seed));
        store.abandon();
        assert_checksums_count(&image, &kept, seed);
    }
}
