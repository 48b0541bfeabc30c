//! Records whose queue entry is broken, found in the log: a rotten entry loses no message.

use crate::{
    engine::Engine,
    error::Result,
    format::{
        entry::{DelayLevels, QueueEntry},
        layout::RECORD_MIN_BYTES,
    },
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
    queue::ConsumeQueue,
    read::LogItem,
};

/// Entries around the broken one that are looked at for one that is right: more than a page has.
const NEIGHBOURS: u64 = 512;
/// Bytes of the log that a read looks through at most; beyond that `steadfast repair` has to.
const LOOKED_THROUGH: u64 = 256 << 20;

impl Engine {
    /// The entry that `queue` should have at `offset`. Its record is looked for between those of
    /// the entries around it; `None` if it is not there, or too many entries are broken to tell
    /// where that would be.
    ///
    /// # Errors
    ///
    /// I/O errors of reading the log.
    pub(crate) fn relocate(
        &self,
        queue: &ConsumeQueue,
        offset: QueueOffset,
    ) -> Result<Option<QueueEntry>> {
        let (min, end) = (queue.min().get(), queue.end().get());
        let at = offset.get();
        if self.log_differs(queue, at) {
            return Ok(None);
        }
        let before = (min.max(at.saturating_sub(NEIGHBOURS))..at).rev();
        let mut from = before.map(|near| self.entry_of(queue, near)).find_map(|entry| entry);
        if from.is_none() && at.saturating_sub(min) <= NEIGHBOURS {
            from = Some(QueueEntry { physical_offset: self.log.start(), size: 0, tags_code: 0 });
        }
        let behind = at + 1..end.min(at.saturating_add(NEIGHBOURS));
        let until = behind.map(|near| self.entry_of(queue, near)).find_map(|entry| entry);
        let visible = PhysicalOffset::new(self.log.marks().visible().get());
        let until = match until {
            Some(entry) => entry.physical_offset.min(visible),
            None if end.saturating_sub(at) <= NEIGHBOURS => visible,
            None => return Ok(None),
        };
        let Some(from) = from else { return Ok(None) };
        let until = until.min(from.end() + LOOKED_THROUGH);
        self.find_record(queue.key(), offset, from.end(), until)
    }

    /// Whether the entry at `at` and those beside it bear each other out although more than one of
    /// them finds no record at all. Then the log holds something else there, such as a file of
    /// another store, and a record in it that bears the right numbers is not the right one.
    fn log_differs(&self, queue: &ConsumeQueue, at: u64) -> bool {
        let near = queue.min().get().max(at.saturating_sub(1))..queue.end().get().min(at + 2);
        let stored = near.map(|near| queue.entry(QueueOffset::new(near)).ok().flatten());
        let Some(stored) = stored.collect::<Option<Vec<_>>>() else { return false };
        let in_order = stored.windows(2).all(|pair| pair[0].end() <= pair[1].physical_offset);
        let whole = stored.iter().all(|entry| entry.size >= RECORD_MIN_BYTES);
        // Sound records of other queues are where a file of another queue leads.
        let lost = stored.iter().filter(|e| self.record(e.physical_offset, e.size).is_err());
        in_order && whole && lost.count() > 1
    }

    /// The entry at `at` of `queue`, if it is that of a record which belongs there.
    fn entry_of(&self, queue: &ConsumeQueue, at: u64) -> Option<QueueEntry> {
        let at = QueueOffset::new(at);
        let entry = queue.entry(at).ok().flatten().filter(|entry| !entry.is_filler())?;
        let record = self.record(entry.physical_offset, entry.size).ok()?;
        let view = record.view();
        let right = queue.key().is(view.topic(), view.queue_id()) && view.queue_offset() == at;
        right.then_some(entry)
    }

    fn find_record(
        &self,
        key: &QueueKey,
        offset: QueueOffset,
        from: PhysicalOffset,
        until: PhysicalOffset,
    ) -> Result<Option<QueueEntry>> {
        let mut at = from;
        while at < until {
            let Some((item, next)) = self.item_at(at)? else { break };
            if let LogItem::Record(record) = item {
                let view = record.view();
                let named = key.is(view.topic(), view.queue_id()) && view.has_queue_entry();
                if named && view.queue_offset() == offset {
                    return Ok(Some(QueueEntry::of(&view, &DelayLevels::default())));
                }
            }
            at = next;
        }
        Ok(None)
    }
}
