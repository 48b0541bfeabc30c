//! How much clients may make a broker remember. Whoever can connect can say any number of names;
//! these limits are far above what a client needs and far below what takes others' memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Groups of producers and consumers that one connection may be in, so also those of a heartbeat.
pub(crate) const MEMBERSHIPS_MOST: usize = 1000;
/// Subscriptions that one heartbeat may carry, or that one group may have.
pub(crate) const SUBSCRIPTIONS_MOST: usize = 10_000;
/// Groups and topics that come into being because one connection names them.
pub(crate) const NAMES_BY_ONE_MOST: usize = 20_000;
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
/// Objects in the body of a request about all that: somewhat more than the limits allow.
pub(crate) const OBJECTS_MOST: usize = 20_000;
/// Objects in the body of a registration: two for each topic.
pub(crate) const REGISTERED_OBJECTS_MOST: usize = 2 * TOPICS_MOST + 100;
/// Queues that are locked for somebody.
pub(crate) const LOCKS_MOST: usize = 1 << 18;
/// Queues that one request may lock.
pub(crate) const LOCKS_AT_ONCE_MOST: usize = 10_000;

/// Entries of a queue that one pull looks at: its filter may leave all of them out.
pub(crate) const ENTRIES_A_PULL_MOST: usize = 16_000;
/// Tags in one filter, and bytes of what tells of them.
pub(crate) const TAGS_MOST: usize = 1000;
pub(crate) const EXPRESSION_MOST: usize = 16 << 10;
/// Pulls of one connection that wait; more are answered at once.
pub(crate) const WAITING_BY_ONE_MOST: usize = 4096;
/// All pulls that wait.
pub(crate) const WAITING_MOST: usize = 200_000;

/// Brokers that a name server knows.
pub(crate) const BROKERS_MOST: usize = 1000;
/// Topics of all of them, each counted once for each broker that has it.
pub(crate) const ROUTES_MOST: usize = 1_000_000;

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

    /// One less.
    pub(crate) fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many less.
    pub(crate) fn give_back_many(&self, number: usize) {
        let less = |n: usize| Some(n.saturating_sub(number));
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How many there are.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one connection made the broker remember.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) names: Count,
    pub(crate) positions: Count,
    /// Pulls that wait.
    pub(crate) waiting: Count,
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
        count.give_back();
        assert_eq!(count.get(), 2);
    }
}
