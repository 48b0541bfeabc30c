//! Writing out again what a failed sync may have taken. Nothing is known of what was written to a
//! file since its last sync that succeeded: pages may count as clean that are not on the disk, or
//! hold what they held before. So the entries are derived from the log once more, taken back into
//! the queue's tail, and go the way of new ones.

use super::{QueueConfig, QueueTable};
use crate::{disk::Access, error::Result, name::QueueKey};

impl QueueTable {
    /// Queues of which a file's sync failed.
    pub(crate) fn unsynced(&self) -> Vec<QueueKey> {
        self.files.unsynced()
    }

    /// Another table, without queues, that writes nothing: to derive entries into.
    pub(crate) fn in_memory(&self) -> Self {
        let config = QueueConfig { access: Access::Read, ..self.files.config };
        Self::new(self.files.disk.clone(), config)
    }

    /// Takes the entries of the queue `key` back into memory, from where `derived` has any on, as
    /// they are there. What comes before has to be durable. The next [`sync`](Self::sync) covers
    /// the queue again. Nobody may be putting entries; readers may be reading.
    ///
    /// # Errors
    ///
    /// I/O errors; the call can be repeated.
    pub(crate) fn write_again(&self, key: &QueueKey, derived: &Self) -> Result<()> {
        let _writer = self.files.writer.lock();
        if let Some(queue) = self.get(key) {
            queue.write_zeros_behind()?;
            if let Some((start, entries)) = derived.get(key).map(|again| again.tail_entries()) {
                queue.take_back(start, entries);
            }
        }
        self.files.restart(key);
        Ok(())
    }
}
