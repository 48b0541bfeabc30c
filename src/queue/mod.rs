//! Consume queues: the projection of the log that says, for each queue of each topic, which
//! record is its message number n.
//!
//! One dispatcher puts entries in log order, any number of readers read, one housekeeper writes
//! out, syncs and removes. Nothing here is acknowledged to anybody: what is lost comes back from
//! the log.

use std::{fmt, sync::Arc, sync::atomic::Ordering::Relaxed};

use hashbrown::HashTable;

use crate::{
    disk::Disk,
    error::Result,
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
    sync::RwLock,
};

mod again;
mod before;
mod cache;
mod consume;
mod files;
mod mend;
mod recover;
mod retention;
mod search;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use before::Before;
pub(crate) use consume::{ConsumeQueue, Put};
use files::QueueFiles;
pub(crate) use files::{QUEUES_DIR, QueueConfig, file_path};
#[cfg(test)]
pub(crate) use recover::FileOnDisk;
pub(crate) use recover::{QueueOnDisk, find_end, infer_file_bytes, scan_directory};
pub(crate) use retention::RemovedFiles;
pub(crate) use search::{first_at_or_after, first_not_below};

/// All consume queues of a store.
pub(crate) struct QueueTable {
    queues: RwLock<HashTable<Arc<ConsumeQueue>>>,
    files: Arc<QueueFiles>,
}

impl QueueTable {
    /// No queues yet. Nothing is read or made on disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, config: QueueConfig) -> Self {
        Self { queues: RwLock::default(), files: Arc::new(QueueFiles::new(disk, config)) }
    }

    /// The queue with that key.
    pub(crate) fn get(&self, key: &QueueKey) -> Option<Arc<ConsumeQueue>> {
        self.get_by_name(key.topic(), key.queue_id())
    }

    /// The queue with that name. Allocates nothing.
    pub(crate) fn get_by_name(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let hash = QueueKey::hash_of(topic, queue_id);
        self.queues.read().find(hash, |q| q.key().is(topic, queue_id)).cloned()
    }

    /// The queue with that name; a new one begins with its first entry.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if nothing can be named like that.
    pub(crate) fn get_or_create(&self, topic: &str, queue_id: i32) -> Result<Arc<ConsumeQueue>> {
        if let Some(queue) = self.get_by_name(topic, queue_id) {
            return Ok(queue);
        }
        let key = QueueKey::new(topic, queue_id)?;
        let mut queues = self.queues.write();
        let queue = queues
            .entry(key.hash_value(), |q| *q.key() == key, |q| q.key().hash_value())
            .or_insert_with(|| Arc::new(self.new_queue(key.clone(), ZERO, ZERO)));
        Ok(queue.get().clone())
    }

    /// Puts the queue `key` into the table as holding the entries `min..end`, which are durable
    /// in its files. Replaces the one that is there: nobody may be using it.
    ///
    /// # Panics
    ///
    /// If `min` is past `end`.
    pub(crate) fn restore(&self, key: QueueKey, min: QueueOffset, end: QueueOffset) {
        let queue = Arc::new(self.new_queue(key, min, end));
        let mut queues = self.queues.write();
        let key = queue.key();
        let entry = queues.entry(key.hash_value(), |q| q.key() == key, |q| q.key().hash_value());
        match entry {
            hashbrown::hash_table::Entry::Occupied(mut old) => {
                self.files.buffered.fetch_sub(old.get().tail_bytes(), Relaxed);
                *old.get_mut() = queue;
            }
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(queue);
            }
        }
    }

    fn new_queue(&self, key: QueueKey, min: QueueOffset, end: QueueOffset) -> ConsumeQueue {
        ConsumeQueue::new(self.files.clone(), key, min, end)
    }

    /// All queues, sorted by key.
    pub(crate) fn list(&self) -> Vec<Arc<ConsumeQueue>> {
        let mut list: Vec<_> = self.queues.read().iter().cloned().collect();
        list.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        list
    }

    /// From now on entries are put that the files may hold already, and more behind them: what is
    /// written zeroes nothing, until [`caught_up`](Self::caught_up).
    pub(crate) fn catch_up(&self) {
        self.files.catching_up.store(true, Relaxed);
    }

    /// The queues hold all there is. [`cut`](Self::cut) each at its end.
    pub(crate) fn caught_up(&self) {
        self.files.catching_up.store(false, Relaxed);
    }

    /// Whether that is going on.
    pub(crate) fn catching_up(&self) -> bool {
        self.files.catching_up.load(Relaxed)
    }

    /// How many queues there are.
    pub(crate) fn len(&self) -> usize {
        self.queues.read().len()
    }

    /// Writes all tails into files. Durable is nothing of it yet.
    ///
    /// # Errors
    ///
    /// The first error. What could not be written stays in memory, readable, for the next call.
    pub(crate) fn write_out(&self) -> Result<()> {
        self.files.write_out()
    }

    /// Writes the long tails into files. Durable is nothing of it yet.
    ///
    /// # Errors
    ///
    /// The first error; nothing is lost.
    pub(crate) fn write_full(&self) -> Result<()> {
        self.files.write_full()
    }

    /// Makes everything durable that was put before the call: entries, files, directories.
    ///
    /// # Errors
    ///
    /// The first error. Once a file's sync failed nothing is known of what its queue got since the
    /// last one, and every sync fails until that was [written again](Self::write_again) or the
    /// queue was [`reset`](Self::reset): no checkpoint may cover it.
    pub(crate) fn sync(&self) -> Result<()> {
        self.files.sync()
    }

    /// Queues of which a file's sync failed or a file lost an entry: to be rebuilt from the log.
    pub(crate) fn degraded(&self) -> Vec<QueueKey> {
        self.files.degraded()
    }

    /// Bytes in all tails.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.files.buffered.load(Relaxed)
    }

    /// Lets every queue begin at its first entry for a record at or past `log_start`.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub(crate) fn raise_mins(&self, log_start: PhysicalOffset) -> Result<()> {
        self.list().iter().try_for_each(|queue| queue.begin_with_log(log_start))
    }

    /// Removes the files all of whose entries lie before their queue's first one. The last file of
    /// a queue stays.
    ///
    /// # Errors
    ///
    /// The first error; the other queues were done nevertheless.
    pub(crate) fn remove_files(&self) -> Result<RemovedFiles> {
        retention::remove_files(&self.files, &self.list())
    }
}

const ZERO: QueueOffset = QueueOffset::ZERO;

impl fmt::Debug for QueueTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueTable")
            .field("queues", &self.len())
            .field("files", &self.files)
            .finish()
    }
}
