//! What goes from the queues when the beginning of the log goes.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    ConsumeQueue,
    files::{QueueFiles, SYNC_EACH_MAX, file_path, queue_dir},
    first_not_below,
    recover::list_files,
};
use crate::{
    disk::{Access, FilePath, failed},
    error::Result,
    offset::PhysicalOffset,
};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemovedFiles {
    /// How many files.
    pub(crate) files: u64,
    /// Their lengths together.
    pub(crate) bytes: u64,
}

impl ConsumeQueue {
    /// Lets the queue begin at its first entry for a record at or past `log_start`.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub(crate) fn begin_with_log(&self, log_start: PhysicalOffset) -> Result<()> {
        // Most queues are not touched: one look, no search.
        match self.entry(self.min())? {
            Some(first) if first.is_filler() || first.physical_offset < log_start => {
                self.raise_min(first_not_below(self, log_start)?);
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn remove_files(
    files: &QueueFiles,
    queues: &[Arc<ConsumeQueue>],
) -> Result<RemovedFiles> {
    let mut removed = RemovedFiles::default();
    let mut directories = Vec::new();
    let mut result = Ok(());
    for queue in queues {
        let before = removed.files;
        result = result.and(remove_files_of(files, queue, &mut removed));
        if removed.files > before {
            directories.push(queue_dir(queue.key()));
        }
    }
    if directories.len() > SYNC_EACH_MAX {
        files.disk.sync_all().map_err(failed("sync the file system of", &FilePath::ROOT))?;
    } else {
        for dir in &directories {
            files.disk.sync_dir(dir).map_err(failed("sync the directory", dir))?;
        }
    }
    result.map(|()| removed)
}

/// Removes the files that end at or before the queue's first entry.
fn remove_files_of(
    files: &QueueFiles,
    queue: &ConsumeQueue,
    removed: &mut RemovedFiles,
) -> Result<()> {
    let keep = files.base_of(queue.min());
    if queue.lowest_base().load(Relaxed) >= keep || files.config.access == Access::Read {
        return Ok(());
    }
    let _writer = files.writer.lock();
    let dir = queue_dir(queue.key());
    let mut on_disk = list_files(&*files.disk, &dir, &mut Vec::new())?;
    // Java takes a queue without files for a new one.
    let Some(last) = on_disk.pop() else { return Ok(()) };
    for file in on_disk.iter().filter(|file| file.base < keep) {
        let path = file_path(queue.key(), file.base);
        files.forget(queue.id(file.base));
        files.disk.remove(&path).map_err(failed("remove", &path))?;
        removed.files += 1;
        removed.bytes += file.len;
    }
    queue.lowest_base().store(keep.min(last.base), Relaxed);
    Ok(())
}
