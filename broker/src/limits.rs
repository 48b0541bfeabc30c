//! How much clients may make a broker remember. Whoever can connect can say any number of names;
//! these limits are far above what a client needs and far below what takes others' memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Groups of producers and consumers that one connection may be in, so also those of a heartbeat.
pub(crate) const MEMBERSHIPS_MOST: usize = 1000;
/// Subscriptions that one heartbeat may carry, or that one group may have.
pub(crate) const SUBSCRIPTIONS_MOST: usize = 10_000;
/// Groups and topics that come into being because one connection names them.
pub(crate) const NAMES_BY_ONE_MOST: usize = 1000;
/// Consumer groups of one broker.
pub(crate) const GROUPS_MOST: usize = 50_000;
/// Topics of one broker, those of retries and dead letters included.
pub(crate) const TOPICS_MOST: usize = 150_000;
/// Queues of all topics together.
pub(crate) const QUEUES_MOST: usize = 1 << 18;
/// Offsets of groups in queues that one connection may be the first to commit.
pub(crate) const POSITIONS_BY_ONE_MOST: usize = 100_000;
/// Such offsets of one broker.
pub(crate) const POSITIONS_MOST: usize = 1_000_000;
/// Queues that are locked for somebody.
pub(crate) const LOCKS_MOST: usize = 1 << 18;
/// Queues that one request may lock.
pub(crate) const LOCKS_AT_ONCE_MOST: usize = 10_000;

/// A number that does not get above a limit.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    /// Begins with so many.
    pub(crate) fn of(number: usize) -> Self {
        Self(AtomicUsize::new(number))
    }

    /// Counts one more, unless there are `most` already. Returns whether it did.
    pub(crate) fn take(&self, most: usize) -> bool {
        let one_more = |n| (n < most).then_some(n + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// What one connection made the broker remember.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) names: Count,
    pub(crate) positions: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_ends_at_its_limit() {
        let count = Count::of(1);
        assert!(count.take(2));
        assert!(!count.take(2) && !count.take(0));
        assert!(count.take(3));
    }
}
