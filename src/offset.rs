//! Positions and times that must not be mixed up, and the only arithmetic that makes sense on them.

use std::{fmt, ops};

/// A byte position in the whole commit log. As an end it is exclusive, so `0` says "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalOffset(u64);

impl PhysicalOffset {
    /// The beginning of every log.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` bytes into the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The plain number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The bytes from `earlier` to here, 0 if it is not earlier.
    pub const fn saturating_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ops::Add<u64> for PhysicalOffset {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl ops::Sub for PhysicalOffset {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for PhysicalOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in one queue, counted in messages from 0. As an end it is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOffset(u64);

impl QueueOffset {
    /// The beginning of every queue.
    pub const ZERO: Self = Self(0);

    /// The position of message number `index`.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The plain index.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position right behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The messages from `earlier` to here, 0 if it is not earlier.
    pub const fn saturating_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ops::Add<u64> for QueueOffset {
    type Output = Self;

    fn add(self, messages: u64) -> Self {
        Self(self.0 + messages)
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A wall-clock time as records carry it: milliseconds since 1970-01-01 UTC.
///
/// Never used for a deadline: clocks step back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime(i64);

impl StoreTime {
    /// `millis` milliseconds after 1970-01-01 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
