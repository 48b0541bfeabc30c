//! When old segments go.

use std::{sync::Arc, time::Duration};

use steadfast::{FlushMode::Sync, Step, Store, disk::sim::SimDisk};

use super::scripted::{clock, flush, options, put};

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
