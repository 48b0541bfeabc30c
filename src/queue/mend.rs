//! Putting one entry right: one that a file lost, or that a record with a wrong queue offset took.

use super::{
    ConsumeQueue,
    consume::Put,
    files::{ENTRY, file_path},
};
use crate::{
    disk::{Access, failed},
    error::Result,
    format::entry::QueueEntry,
    offset::QueueOffset,
};

impl ConsumeQueue {
    /// What to do about `entry` for a place `at` before the queue's end.
    pub(super) fn compare(&self, at: QueueOffset, entry: QueueEntry) -> Result<Put> {
        let there = match self.entry(at)? {
            Some(there) if there != entry => there,
            _ => return Ok(Put::Duplicate),
        };
        // A record with a wrong queue offset left a gap, or took this one's place behind it.
        if there.is_filler() || self.was_behind_gap(at) {
            self.mend(at, &entry)?;
            return Ok(Put::Duplicate);
        }
        Ok(Put::Conflict)
    }

    /// Puts `entry` at `at`, where another one or none is, and the log says this one. In a file it
    /// is durable after the next sync of the queues. The files of a store that is only read stay as
    /// they are.
    ///
    /// # Errors
    ///
    /// I/O errors; the file is then as it was.
    pub(crate) fn mend(&self, at: QueueOffset, entry: &QueueEntry) -> Result<()> {
        // Whoever writes the tail out works on a copy of it: not meanwhile.
        let _writer = self.files().writer.lock();
        if self.replace_in_tail(at, entry) || at < self.min() {
            return Ok(());
        }
        if self.files().config.access == Access::Read {
            return Ok(());
        }
        let base = self.files().base_of(at);
        let (file, _) = self.files().open_or_create(self.key(), self.id(base))?;
        let path = file_path(self.key(), base);
        file.write_all_at(&entry.encode(), at.get() * ENTRY - base)
            .map_err(failed("write", &path))?;
        self.files().mended(self.key());
        Ok(())
    }
}
