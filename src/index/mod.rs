//! The key index: which records carry a key, in hash files that RocketMQ reads and writes too.
//!
//! It knows hashes only, so an answer is a guess until the record was looked at. One dispatcher
//! puts, any number of readers query, one housekeeper syncs and removes. What is lost comes back
//! from the log.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    disk::{Access, Disk, FilePath, failed},
    error::{Error, ErrorKind, Result},
    format::index::{IndexGeometry, key_hash},
    offset::{PhysicalOffset, StoreTime},
    sync::{AtomicBool, Mutex, RwLock},
};

mod file;
mod name;
mod restore;
#[cfg(test)]
mod tests;

use file::{HashedKey, IndexFile, may_be_within};
#[cfg(test)]
pub(crate) use restore::Restored;
pub(crate) use restore::{Known, list};

/// The directory of all index files.
pub(crate) const INDEX_DIR: &str = "index";

/// A key of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexKey<'a> {
    /// The record's topic.
    pub(crate) topic: &'a str,
    /// One of its keys, or its unique key.
    pub(crate) key: &'a str,
    /// Where the record lies.
    pub(crate) physical_offset: PhysicalOffset,
    /// When it was stored.
    pub(crate) store_time: StoreTime,
}

/// How far the index goes: for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexState {
    /// The last file's name.
    pub(crate) file_name: String,
    /// The number of the next entry in it.
    pub(crate) count: u32,
    /// The last record in it.
    pub(crate) end: PhysicalOffset,
}

/// Keys that were put into an index that writes no files, by hash.
type Overlay = BTreeMap<u32, Vec<(PhysicalOffset, StoreTime)>>;

/// All index files of a store.
pub(crate) struct KeyIndex {
    disk: Arc<dyn Disk>,
    geometry: IndexGeometry,
    access: Access,
    /// Oldest first.
    files: RwLock<Vec<Arc<IndexFile>>>,
    overlay: Mutex<Overlay>,
    putter: Mutex<()>,
    syncer: Mutex<()>,
    /// The directory has names that are not durable.
    names_changed: AtomicBool,
    sync_failed: AtomicBool,
}

impl KeyIndex {
    /// An index with no files yet, of files with `slots` slots and `entries` entries. Nothing is
    /// read or made on disk. With [`Access::Read`] nothing is ever written: what is put stays in
    /// memory.
    ///
    /// # Panics
    ///
    /// With no slots, or fewer than two entries.
    pub(crate) fn new(disk: Arc<dyn Disk>, slots: u32, entries: u32, access: Access) -> Self {
        assert!(slots > 0 && entries > 1, "slots={slots} entries={entries}");
        Self {
            disk,
            geometry: IndexGeometry { slots, entries },
            access,
            files: RwLock::default(),
            overlay: Mutex::default(),
            putter: Mutex::default(),
            syncer: Mutex::default(),
            names_changed: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
        }
    }

    /// Adds keys, those of a record together and records in log order. Records before the last
    /// one that is indexed are skipped. `now` names a file, if one has to be made.
    ///
    /// # Errors
    ///
    /// I/O errors. The same call can be repeated: nothing is lost, and what is there twice is
    /// found once.
    pub(crate) fn put_batch(&self, keys: &[IndexKey<'_>], now: StoreTime) -> Result<()> {
        let _putter = self.putter.lock();
        let end = end_of(&self.files.read());
        let hashed: Vec<_> = keys
            .iter()
            .filter(|k| k.physical_offset >= end)
            .map(|k| HashedKey {
                hash: key_hash(k.topic, k.key),
                offset: k.physical_offset,
                time: k.store_time,
            })
            .collect();
        if self.access == Access::Read {
            let mut overlay = self.overlay.lock();
            for key in hashed {
                overlay.entry(key.hash).or_default().push((key.offset, key.time));
            }
            return Ok(());
        }
        let mut left = &hashed[..];
        while !left.is_empty() {
            let file = self.file_with_room(now)?;
            let (fitting, rest) = left.split_at(left.len().min(file.room()));
            file.append(fitting)?;
            left = rest;
        }
        Ok(())
    }

    fn file_with_room(&self, now: StoreTime) -> Result<Arc<IndexFile>> {
        let mut last_name = None;
        if let Some(last) = self.files.read().last() {
            if last.room() > 0 {
                return Ok(last.clone());
            }
            last_name = Some(last.path.name().to_owned());
        }
        loop {
            let name = name::name_after(last_name.as_deref(), now);
            let path = root().join(&name);
            match IndexFile::create(&*self.disk, path.clone(), self.geometry) {
                Ok(file) => {
                    self.names_changed.store(true, Ordering::SeqCst);
                    let file = Arc::new(file);
                    self.files.write().push(file.clone());
                    return Ok(file);
                }
                // A file that is not ours has the name: the next millisecond.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last_name = Some(name),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let dir = root();
                    self.disk.create_dir(&dir).map_err(failed("make the directory", &dir))?;
                }
                Err(e) => return Err(failed("create", &path)(e)),
            }
        }
    }

    /// Records that may have this key and may have been stored in `begin..=end`, newest first, at
    /// most `max`. `keep` is asked about each: it has to look at the record, for different keys
    /// have the same hash and times are kept in seconds.
    ///
    /// # Errors
    ///
    /// I/O errors, and what `keep` returns.
    pub(crate) fn query(
        &self,
        topic: &str,
        key: &str,
        begin: StoreTime,
        end: StoreTime,
        max: usize,
        mut keep: impl FnMut(PhysicalOffset) -> Result<bool>,
    ) -> Result<Vec<PhysicalOffset>> {
        let mut found = Vec::new();
        if max == 0 {
            return Ok(found);
        }
        let hash = key_hash(topic, key);
        let mut last_seen = None;
        let mut visit = |offset| {
            // A record put again after a crash, or with two keys of one hash.
            if last_seen.replace(offset) != Some(offset)
                && !found.contains(&offset)
                && keep(offset)?
            {
                found.push(offset);
            }
            let full = found.len() >= max;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let memory = self.overlay.lock().get(&hash).cloned().unwrap_or_default();
        let mut done = ControlFlow::Continue(());
        for (offset, time) in memory.into_iter().rev() {
            if done.is_continue() && (begin..=end).contains(&time) {
                done = visit(offset)?;
            }
        }
        let files = self.files.read().clone();
        for file in files.iter().rev() {
            if done.is_break() {
                break;
            }
            let header = file.header();
            done = file.walk(hash, |number, entry| {
                if may_be_within(&header, number, entry, begin, end) {
                    visit(entry.physical_offset)
                } else {
                    Ok(ControlFlow::Continue(()))
                }
            })?;
        }
        Ok(found)
    }

    /// How far the index goes, `None` without any entry. What is named here is durable after the
    /// next [`sync`](Self::sync) that begins later and succeeds.
    pub(crate) fn state(&self) -> Option<IndexState> {
        let files = self.files.read();
        files.iter().rev().find_map(|file| {
            let header = file.header();
            (header.entry_count > 1).then(|| IndexState {
                file_name: file.path.name().to_owned(),
                count: header.entry_count,
                end: header.end_offset,
            })
        })
    }

    /// Makes everything durable that was put before the call.
    ///
    /// # Errors
    ///
    /// I/O errors. After a failed sync of a file every later one fails too, as nothing is known
    /// of the file any more: no checkpoint may name it until the store was opened again.
    pub(crate) fn sync(&self) -> Result<()> {
        let _syncer = self.syncer.lock();
        let files = self.files.read().clone();
        for file in &files {
            if let Err(e) = file.sync() {
                self.sync_failed.store(true, Ordering::SeqCst);
                return Err(e);
            }
        }
        if self.names_changed.swap(false, Ordering::SeqCst) {
            for dir in [root(), FilePath::ROOT] {
                if let Err(e) = self.disk.sync_dir(&dir) {
                    self.names_changed.store(true, Ordering::SeqCst);
                    return Err(failed("sync the directory", &dir)(e));
                }
            }
        }
        if self.sync_failed.load(Ordering::SeqCst) {
            let text = "an earlier sync of the key index failed, it ends where it was durable";
            return Err(Error::new(ErrorKind::Io, text));
        }
        Ok(())
    }

    /// Removes files that only know records before `log_start`, but never the last one. Gives how
    /// many.
    ///
    /// # Errors
    ///
    /// I/O errors; what was removed until then stays removed.
    pub(crate) fn remove_before(&self, log_start: PhysicalOffset) -> Result<usize> {
        let _putter = self.putter.lock();
        if self.access == Access::Read {
            return Ok(0);
        }
        let mut removed = 0;
        loop {
            let oldest = match &self.files.read()[..] {
                [oldest, _, ..] if oldest.header().end_offset < log_start => oldest.clone(),
                _ => break,
            };
            self.disk.remove(&oldest.path).map_err(failed("remove", &oldest.path))?;
            self.files.write().remove(0);
            removed += 1;
        }
        if removed > 0 {
            self.disk.sync_dir(&root()).map_err(failed("sync the directory", &root()))?;
        }
        Ok(removed)
    }
}

/// The last record in the files.
fn end_of(files: &[Arc<IndexFile>]) -> PhysicalOffset {
    let last = files.iter().rev().map(|f| f.header()).find(|header| header.entry_count > 1);
    last.map_or(PhysicalOffset::ZERO, |header| header.end_offset)
}

/// [`INDEX_DIR`] as a path.
pub(crate) fn root() -> FilePath {
    FilePath::new(INDEX_DIR)
}

impl fmt::Debug for KeyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyIndex")
            .field("geometry", &self.geometry)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
