//! A clock that the threads' naps move, the same in each run of a schedule.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{Clock, StoreTime};

// Not shuttle's: looking at the clock is no step.
static ELAPSED_US: AtomicU64 = AtomicU64::new(0);
const BEGIN: StoreTime = StoreTime::from_millis(1_700_000_000_000);

/// Sets it to where it begins.
pub(crate) fn begin() {
    ELAPSED_US.store(0, Relaxed);
}

/// Moves it by `time`.
pub(crate) fn pass(time: Duration) {
    ELAPSED_US.fetch_add(time.as_micros() as u64, Relaxed);
}

#[derive(Debug)]
pub(crate) struct Naps;

impl Clock for Naps {
    fn now(&self) -> StoreTime {
        StoreTime::from_millis(BEGIN.as_millis() + self.elapsed().as_millis() as i64)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(ELAPSED_US.load(Relaxed))
    }
}
