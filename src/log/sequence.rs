//! The next offset of every queue. Owned by the append lock: whoever places a record holds it.

use hashbrown::HashTable;

use crate::{name::QueueKey, offset::QueueOffset};

/// Hands out queue offsets, dense and ascending per queue.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    next: HashTable<(QueueKey, u64)>,
}

impl Sequence {
    /// Goes on where the queues end, as recovery found them.
    pub(crate) fn new(ends: impl IntoIterator<Item = (QueueKey, QueueOffset)>) -> Self {
        let mut sequence = Self::default();
        for (key, end) in ends {
            *sequence.slot(&key) = end.get();
        }
        sequence
    }

    /// Takes the next offset of `key`.
    pub(crate) fn take(&mut self, key: &QueueKey) -> QueueOffset {
        let next = self.slot(key);
        let taken = *next;
        *next += 1;
        QueueOffset::new(taken)
    }

    fn slot(&mut self, key: &QueueKey) -> &mut u64 {
        let hash = key.hash_value();
        let entry = self.next.entry(hash, |(k, _)| k == key, |(k, _)| k.hash_value());
        &mut entry.or_insert_with(|| (key.clone(), 0)).into_mut().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_dense_per_queue_and_go_on_after_recovery() {
        let [a, b] = [0, 1].map(|id| QueueKey::new("T", id).unwrap());
        let mut sequence = Sequence::new([(b.clone(), QueueOffset::new(40))]);
        let taken = [&a, &b, &a, &b, &a].map(|key| sequence.take(key).get());
        assert_eq!(taken, [0, 40, 1, 41, 2]);
    }
}
