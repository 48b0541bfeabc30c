//! Time comes into the engine here and nowhere else, so that a test can hold the hands.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::offset::StoreTime;

/// Where the engine asks what time it is.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Wall-clock time, for what is written into records. May step back.
    fn now(&self) -> StoreTime;

    /// Time since some fixed moment, for deadlines and intervals. Never steps back.
    fn elapsed(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`elapsed`](Clock::elapsed) counts from now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> StoreTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        StoreTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to.
#[cfg(feature = "sim")]
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: std::sync::atomic::AtomicI64,
    elapsed_us: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "sim")]
impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: StoreTime) -> Self {
        Self { wall_ms: now.as_millis().into(), elapsed_us: 0.into() }
    }

    /// Moves both times forward by `by`.
    pub fn advance(&self, by: Duration) {
        use std::sync::atomic::Ordering::Relaxed;
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.elapsed_us.fetch_add(us, Relaxed);
        self.wall_ms.fetch_add(i64::try_from(us / 1000).unwrap_or(i64::MAX), Relaxed);
    }

    /// Sets the wall clock only, back or forth, as an operator or a bad time server would.
    pub fn set_wall(&self, now: StoreTime) {
        self.wall_ms.store(now.as_millis(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(feature = "sim")]
impl Clock for ManualClock {
    fn now(&self) -> StoreTime {
        StoreTime::from_millis(self.wall_ms.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us.load(std::sync::atomic::Ordering::Relaxed))
    }
}
