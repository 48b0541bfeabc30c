//! When old segments go.

use std::{sync::Arc, time::Duration};

use steadfast::{FlushMode::Sync, PhysicalOffset, Step, Store, disk::sim::SimDisk};

use super::scripted::{assert_has, clock, flush, options, put, puts};

/// A minute before and after four o'clock on the wall, which is 22:15 UTC.
#[test]
fn expired_segments_go_in_the_hours_of_local_time() {
    for (utc_offset_minutes, goes) in [(345, true), (0, false), (-345, false)] {
        let (disk, clock) = (SimDisk::new(1), clock());
        disk.set_clock(clock.clone());
        let mut options = options(Sync);
        options.retention.reserved = Duration::from_secs(60);
        options.retention.delete_hours = vec![4];
        options.retention.utc_offset_minutes = utc_offset_minutes;
        let builder = Store::builder_on(Arc::new(disk.clone())).options(options);
        let store = builder.clock(clock.clone()).open_stepped().unwrap();
        (0..12).for_each(|_| drop(put(&store, 2500)));
        flush(&store);
        // It is 22:13:20.
        clock.advance(Duration::from_secs(70));
        store.step(Step::Keep).unwrap();
        assert_eq!(store.progress().start.get(), 0, "removed before four o'clock");
        clock.advance(Duration::from_secs(60));
        store.step(Step::Keep).unwrap();
        assert_eq!(store.progress().start.get() > 0, goes, "offset {utc_offset_minutes}");
        store.close().unwrap();
    }
}

/// What an embedder still has to come back to.
#[test]
fn retention_does_not_go_past_what_is_kept() {
    let (disk, clock) = (SimDisk::new(1), clock());
    disk.set_clock(clock.clone());
    let mut options = options(Sync);
    options.retention.reserved = Duration::from_secs(60);
    let builder = Store::builder_on(Arc::new(disk.clone())).options(options);
    let store = builder.clock(clock.clone()).open_stepped().unwrap();
    let mut kept = puts(&store, 3);
    kept.extend((0..12).map(|_| put(&store, 2500)));
    flush(&store);
    clock.advance(Duration::from_secs(3600));
    let mut starts = Vec::new();
    // Going back does not bring back what is gone.
    for first in [0, 5, 1, 9] {
        store.keep_from(PhysicalOffset::new(kept[first].at)).unwrap();
        store.step(Step::Retain).unwrap();
        assert_has(&store, &kept[first.max(5 * usize::from(first == 1))..]);
        starts.push(store.progress().start.get());
    }
    assert!(starts[0] == 0 && starts[1] > 0, "{starts:?}");
    assert!(starts[1] == starts[2] && starts[2] < starts[3], "{starts:?}");
    store.close().unwrap();
}
