//! The files of all consume queues: where they lie, a bounded set of open ones, and what of them
//! is not durable yet.
//!
//! Locks, in the order in which they are taken: `syncer`, `writer`, then one of the small ones
//! (`cache`, `directories`, `degraded`, `pending`), which are never held during a call of the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
};

use super::{
    cache::{Dirty, FileCache},
    consume::{ConsumeQueue, Left},
};
use crate::{
    disk::{Access, Disk, DiskFile, FilePath, failed},
    error::{Error, ErrorKind, Result},
    format::entry::ENTRY_BYTES,
    name::QueueKey,
    offset::QueueOffset,
    sync::{AtomicBool, AtomicU32, AtomicUsize, Mutex},
};

/// Bytes of an entry.
pub(super) const ENTRY: u64 = ENTRY_BYTES as u64;
/// The directory of all queues.
pub(crate) const QUEUES_DIR: &str = "consumequeue";
/// From this many files and directories on, one sync of the whole file system is cheaper than one
/// for each.
pub(super) const SYNC_EACH_MAX: usize = 64;

/// How the queues' files are laid out and used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueConfig {
    /// Length of every file: a multiple of 20.
    pub(crate) file_bytes: u64,
    /// How many files may be open at once.
    pub(crate) open_files: usize,
    /// With [`Access::Read`] nothing is ever written out: what is put stays in memory.
    pub(crate) access: Access,
}

/// Which file of which queue: the queue's number in this process and the file's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) queue: u32,
    pub(super) base: u64,
}

/// What is wrong with a queue's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A sync failed: what was written since the one before may be lost.
    Unsynced,
    /// An entry is not there any more.
    Hole,
}

/// What all queues share.
pub(super) struct QueueFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: QueueConfig,
    /// One at a time writes files, so that what is durable after a sync is known.
    pub(super) writer: Mutex<()>,
    /// One at a time syncs, without keeping the writer out.
    syncer: Mutex<()>,
    cache: Mutex<FileCache>,
    /// Directories with names that are not durable yet.
    directories: Mutex<BTreeSet<FilePath>>,
    /// Queues whose files are not what was written to them.
    degraded: Mutex<BTreeMap<QueueKey, Flaw>>,
    /// Queues with something in their tail.
    pending: Mutex<Vec<Weak<ConsumeQueue>>>,
    /// Those of them with so much that it should be written soon.
    full: Mutex<Vec<Weak<ConsumeQueue>>>,
    /// Bytes in all tails.
    pub(super) buffered: AtomicUsize,
    /// Entries are derived that the files may hold already.
    pub(super) catching_up: AtomicBool,
    next_queue: AtomicU32,
}

impl QueueFiles {
    pub(super) fn new(disk: Arc<dyn Disk>, config: QueueConfig) -> Self {
        assert!(
            config.file_bytes >= ENTRY && config.file_bytes.is_multiple_of(ENTRY),
            "{config:?}"
        );
        Self {
            disk,
            config,
            writer: Mutex::default(),
            syncer: Mutex::default(),
            cache: Mutex::new(FileCache::new(config.open_files.max(1))),
            directories: Mutex::default(),
            degraded: Mutex::default(),
            pending: Mutex::default(),
            full: Mutex::default(),
            buffered: AtomicUsize::new(0),
            catching_up: AtomicBool::new(false),
            next_queue: AtomicU32::new(0),
        }
    }

    /// A number for one more queue.
    pub(super) fn number(&self) -> u32 {
        self.next_queue.fetch_add(1, Relaxed)
    }

    /// Where the file with entry `at` begins, in bytes of the queue.
    pub(super) fn base_of(&self, at: QueueOffset) -> u64 {
        // Offsets stay below `OFFSET_MAX`, so this never overflows.
        let byte = at.get() * ENTRY;
        byte - byte % self.config.file_bytes
    }

    /// The file of `queue` that begins at byte `base`, opened for reading (and for writing, so
    /// that one descriptor does for both). Never evicts a file that has to be synced first: with
    /// nothing else in the cache this one stays outside of it.
    pub(super) fn open(&self, key: &QueueKey, id: FileId) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.cache.lock().get(id) {
            return Ok(file);
        }
        let path = file_path(key, id.base);
        let file = self.disk.open(&path, self.config.access).map_err(failed("open", &path))?;
        self.cache.lock().insert(id, key, &file);
        Ok(file)
    }

    /// The file of a queue that begins at byte `base`, made if need be, and whether it was; with
    /// the writer's lock held. It counts as dirty at once, so that no reader takes its place.
    pub(super) fn open_or_create(
        &self,
        key: &QueueKey,
        id: FileId,
    ) -> Result<(Arc<dyn DiskFile>, bool)> {
        if let Some(file) = self.cache.lock().get_to_write(id) {
            return Ok((file, false));
        }
        let path = file_path(key, id.base);
        let (file, created) = match self.disk.open(&path, Access::Write) {
            Ok(file) => {
                // A crash between create and sync may leave it short.
                let len = file.len().map_err(failed("read the length of", &path))?;
                if len != self.config.file_bytes {
                    file.set_len(self.config.file_bytes).map_err(failed("extend", &path))?;
                }
                (file, len == 0)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (self.create(&path)?, true),
            Err(e) => return Err(failed("open", &path)(e)),
        };
        if !self.cache.lock().insert_to_write(id, key, &file) {
            // Everything in the cache waits for a sync. It has to come before the descriptors go:
            // an error of writing back may not reach one that is opened later.
            let dirty = self.cache.lock().take_dirty();
            let synced = self.sync_files(&dirty);
            let inserted = self.cache.lock().insert_to_write(id, key, &file);
            assert!(inserted, "no place in a cache without dirty files");
            synced?;
        }
        Ok((file, created))
    }

    fn create(&self, path: &FilePath) -> Result<Arc<dyn DiskFile>> {
        let queue_dir = path.parent();
        let created = match self.disk.create(path, self.config.file_bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let topic_dir = queue_dir.parent();
                let root = topic_dir.parent();
                for dir in [&root, &topic_dir, &queue_dir] {
                    self.disk.create_dir(dir).map_err(failed("make the directory", dir))?;
                }
                let mut directories = self.directories.lock();
                directories.extend([FilePath::ROOT, root, topic_dir]);
                drop(directories);
                self.disk.create(path, self.config.file_bytes)
            }
            other => other,
        };
        let file = created.map_err(failed("create", path))?;
        self.directories.lock().insert(queue_dir);
        Ok(file)
    }

    /// Notes that `dir` has names that are not durable.
    pub(super) fn changed(&self, dir: FilePath) {
        self.directories.lock().insert(dir);
    }

    /// Forgets the open file, before or after its name is removed.
    pub(super) fn forget(&self, id: FileId) {
        self.cache.lock().remove(id);
    }

    /// Remembers a queue that got its first buffered entry.
    pub(super) fn has_tail(&self, queue: Weak<ConsumeQueue>) {
        if self.config.access == Access::Write {
            self.pending.lock().push(queue);
        }
    }

    /// Remembers a queue whose tail got long.
    pub(super) fn has_full_tail(&self, queue: Weak<ConsumeQueue>) {
        if self.config.access == Access::Write {
            self.full.lock().push(queue);
        }
    }

    /// Writes the long tails into files.
    pub(super) fn write_full(&self) -> Result<()> {
        let full = std::mem::take(&mut *self.full.lock());
        if full.is_empty() {
            return Ok(());
        }
        let _writer = self.writer.lock();
        full.iter().filter_map(Weak::upgrade).try_for_each(|queue| queue.write_tail().map(|_| ()))
    }

    /// Writes all tails into files, with the writer's lock held. What fails stays in its tail and
    /// is tried again the next time; the first error is returned.
    fn write_pending(&self) -> Result<()> {
        let pending = std::mem::take(&mut *self.pending.lock());
        let mut result = Ok(());
        let mut left = Vec::new();
        for weak in pending {
            let Some(queue) = weak.upgrade() else { continue };
            queue.unlist();
            let kept = match queue.write_tail() {
                Ok(Left::Nothing) => false,
                Ok(Left::Entries) => true,
                Err(e) => {
                    result = result.and(Err(e));
                    true
                }
            };
            if kept && queue.relist() {
                left.push(weak);
            }
        }
        self.pending.lock().append(&mut left);
        result
    }

    pub(super) fn write_out(&self) -> Result<()> {
        let _writer = self.writer.lock();
        self.write_pending()
    }

    pub(super) fn sync(&self) -> Result<()> {
        let _syncer = self.syncer.lock();
        let (written, dirty, directories) = {
            // Whoever evicts dirty files syncs them under this lock: what is clean now is durable.
            let _writer = self.writer.lock();
            let written = self.write_pending();
            let dirty = self.cache.lock().take_dirty();
            (written, dirty, std::mem::take(&mut *self.directories.lock()))
        };
        let synced = self.sync_taken(&dirty, directories);
        written?;
        synced?;
        match self.degraded.lock().first_key_value() {
            None => Ok(()),
            Some((key, flaw)) => Err(Error::new(
                ErrorKind::Io,
                match flaw {
                    Flaw::Unsynced => format!("an earlier sync of a queue file failed queue={key}"),
                    Flaw::Hole => format!("a queue file lost an entry queue={key}"),
                },
            )),
        }
    }

    fn sync_taken(&self, dirty: &[Dirty], directories: BTreeSet<FilePath>) -> Result<()> {
        if dirty.len() + directories.len() > SYNC_EACH_MAX {
            let synced = self.sync_everything(dirty);
            if synced.is_err() {
                self.directories.lock().extend(directories);
            }
            return synced;
        }
        let mut result = self.sync_files(dirty);
        for dir in directories {
            if let Err(e) = self.disk.sync_dir(&dir) {
                result = result.and(Err(failed("sync the directory", &dir)(e)));
                self.directories.lock().insert(dir);
            }
        }
        result
    }

    fn sync_files(&self, dirty: &[Dirty]) -> Result<()> {
        if dirty.len() > SYNC_EACH_MAX {
            return self.sync_everything(dirty);
        }
        let mut result = Ok(());
        for Dirty { key, base, file } in dirty {
            if let Err(e) = file.sync_data() {
                result = result.and(Err(failed("sync", &file_path(key, *base))(e)));
                self.degraded.lock().insert(key.clone(), Flaw::Unsynced);
            }
        }
        result
    }

    fn sync_everything(&self, dirty: &[Dirty]) -> Result<()> {
        self.disk.sync_all().map_err(|e| {
            self.degraded.lock().extend(dirty.iter().map(|d| (d.key.clone(), Flaw::Unsynced)));
            failed("sync the file system of", &FilePath::ROOT)(e)
        })
    }

    /// Marks a queue of which a file lost an entry.
    pub(super) fn degrade(&self, key: &QueueKey) {
        // After a failed sync that is no wonder, and what was lost is written again.
        self.degraded.lock().entry(key.clone()).or_insert(Flaw::Hole);
    }

    /// A lost entry is in its place again. If others are lost, whoever meets them says so.
    pub(super) fn mended(&self, key: &QueueKey) {
        let mut degraded = self.degraded.lock();
        if degraded.get(key) == Some(&Flaw::Hole) {
            degraded.remove(key);
        }
    }

    /// The queue is going to be written again.
    pub(super) fn restart(&self, key: &QueueKey) {
        self.degraded.lock().remove(key);
    }

    pub(super) fn degraded(&self) -> Vec<QueueKey> {
        self.degraded.lock().keys().cloned().collect()
    }

    /// Those of them of which a sync failed.
    pub(super) fn unsynced(&self) -> Vec<QueueKey> {
        let degraded = self.degraded.lock();
        let unsynced = degraded.iter().filter(|(_, flaw)| **flaw == Flaw::Unsynced);
        unsynced.map(|(key, _)| key.clone()).collect()
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.cache.lock().len()
    }
}

impl fmt::Debug for QueueFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFiles").field("config", &self.config).finish_non_exhaustive()
    }
}

/// [`QUEUES_DIR`] as a path.
pub(super) fn root() -> FilePath {
    FilePath::new(QUEUES_DIR)
}

/// The directory of one queue.
pub(super) fn queue_dir(key: &QueueKey) -> FilePath {
    FilePath::new(&format!("{QUEUES_DIR}/{}/{}", key.topic(), key.queue_id()))
}

/// The file of a queue that begins at byte `base`.
pub(crate) fn file_path(key: &QueueKey, base: u64) -> FilePath {
    FilePath::new(&format!("{QUEUES_DIR}/{}/{}/{base:020}", key.topic(), key.queue_id()))
}
