//! One file of the log.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    disk::{self, Access, Disk, DiskFile, FilePath, Memory, failed},
    error::Result,
    offset::PhysicalOffset,
    sync::AtomicU64,
};

/// The directory of the log's files.
pub(crate) const LOG_DIR: &str = "commitlog";
const TEMP: &str = "steadfast/segment.tmp";

/// One file of the log: its place, its bytes, and how much of it may be written without asking.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: PhysicalOffset,
    pub(crate) len: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) memory: Arc<Memory>,
    /// Blocks exist for `[.., ready)` and records may go there.
    ready: AtomicU64,
}

/// The file that holds the log from `base` on.
pub(crate) fn path_of(base: PhysicalOffset) -> FilePath {
    FilePath::new(&format!("{LOG_DIR}/{:020}", base.get()))
}

impl Segment {
    /// A new segment of `len` bytes at `base`, its first `ready` bytes allocated, durable with its
    /// name. A crash leaves the whole file or none: it is made elsewhere and moved in.
    pub(crate) fn create(
        disk: &dyn Disk,
        base: PhysicalOffset,
        len: u64,
        ready: u64,
    ) -> Result<Self> {
        let (temp, path) = (FilePath::new(TEMP), path_of(base));
        disk::remove(disk, &temp)?;
        let file = disk.create(&temp, len).map_err(failed("create", &temp))?;
        let made = file
            .allocate(0, ready)
            .map_err(failed("allocate blocks for", &path))
            .and_then(|()| file.sync_data().map_err(failed("sync", &temp)))
            .and_then(|()| disk.rename(&temp, &path).map_err(failed("rename into", &path)));
        if let Err(error) = made {
            // Gives the blocks back at once: on a full disk they are what others need.
            let _ = disk.remove(&temp);
            return Err(error);
        }
        let dir = FilePath::new(LOG_DIR);
        disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))?;
        let memory = file.map(len, Access::Write).map_err(failed("map", &path))?;
        Ok(Self { base, len, file, memory: Arc::new(memory), ready: ready.into() })
    }

    /// An existing segment whose bytes below `published` may be read at once.
    pub(crate) fn open(
        disk: &dyn Disk,
        base: PhysicalOffset,
        len: u64,
        published: u64,
        access: Access,
    ) -> Result<Self> {
        let path = path_of(base);
        let file = disk.open(&path, access).map_err(failed("open", &path))?;
        let memory = file.map(len, access).map_err(failed("map", &path))?;
        memory.publish_existing(published);
        Ok(Self { base, len, file, memory: Arc::new(memory), ready: published.into() })
    }

    /// The first byte behind this segment.
    pub(crate) fn end(&self) -> PhysicalOffset {
        self.base + self.len
    }

    /// The position of `offset` in this segment.
    pub(crate) fn position(&self, offset: PhysicalOffset) -> u64 {
        debug_assert!(offset >= self.base && offset <= self.end());
        offset - self.base
    }

    /// How far blocks exist.
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Acquire)
    }

    /// Says that blocks exist up to `to`.
    pub(crate) fn set_ready(&self, to: u64) {
        debug_assert!(to <= self.len);
        self.ready.fetch_max(to, Ordering::Release);
    }

    /// The file's path in the store.
    pub(crate) fn path(&self) -> FilePath {
        path_of(self.base)
    }
}
