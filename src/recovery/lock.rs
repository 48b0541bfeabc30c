//! Who has the store open: the lock, and what of a living writer's log may be shown.

use std::io;

use crate::{
    disk::{DirectoryLock, Disk, FilePath, failed, load},
    error::{Error, ErrorKind, Result},
    offset::PhysicalOffset,
    options::FlushMode,
};

use super::ABORT;

/// RocketMQ's own lock file.
const LOCK: &str = "lock";

/// Takes the lock. To be done before anything is looked at.
///
/// # Errors
///
/// [`Locked`](ErrorKind::Locked) if another process or another open has it.
pub(crate) fn take(disk: &dyn Disk) -> Result<Box<dyn DirectoryLock>> {
    let path = FilePath::new(LOCK);
    match disk.lock(&path) {
        Ok(lock) => Ok(lock),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            let holder = load(disk, &FilePath::new(ABORT), 64).ok().flatten();
            let holder = holder
                .map_or("unknown".into(), |pid| String::from_utf8_lossy(&pid).trim().to_owned());
            Err(Error::with_source(
                ErrorKind::Locked,
                format!(
                    "another process has this store open; stop it first \
                     last_known_pid={holder}"
                ),
                e,
            ))
        }
        Err(e) => Err(failed("lock", &path)(e)),
    }
}

/// Whether somebody has the lock now.
pub(crate) fn is_held(disk: &dyn Disk) -> Result<bool> {
    let path = FilePath::new(LOCK);
    disk.locked(&path).map_err(failed("look at", &path))
}

/// Beside a living SYNC_FLUSH writer: the end of what it synced. Records behind that were not
/// acknowledged and must not be shown. `None` where there is no such limit: without a writer,
/// beside an ASYNC_FLUSH one, and beside another program, which does not say what it synced.
///
/// To be asked after the log was read: a writer says what it is before its first record, so the
/// answer is about whoever wrote what was read.
pub(crate) fn synced_by_writer(disk: &dyn Disk) -> Result<Option<PhysicalOffset>> {
    if !is_held(disk)? {
        return Ok(None);
    }
    let inspected = super::inspect(disk)?;
    let ours = inspected.checkpoint.as_ref().filter(|_| inspected.foreign.is_none());
    Ok(ours.filter(|last| last.flush == FlushMode::Sync).map(|_| inspected.durable_end))
}
