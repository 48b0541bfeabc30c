//! What opening a store needs to know of the queues' files and do to them. Looking never changes
//! anything; [`cut`](QueueTable::cut) and [`reset`](QueueTable::reset) are told what to do.

use std::collections::BTreeMap;

use super::{
    QueueTable,
    files::{ENTRY, file_path, queue_dir, root},
};
use crate::{
    disk::{self, Access, Disk, EntryKind, FilePath, failed},
    error::Result,
    format::{entry::QueueEntry, file_name},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
};

/// No queue gets that far; with it no arithmetic on names overflows.
const BASE_MAX: u64 = i64::MAX as u64 / 2;
/// Bytes looked at in one read.
const CHUNK: u64 = 20 * 1024;

/// One file of a queue, as its name and length say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileOnDisk {
    /// Its first byte in the queue.
    pub(crate) base: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
}

/// The files of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueOnDisk {
    /// Which queue.
    pub(crate) key: QueueKey,
    /// Its files, sorted.
    pub(crate) files: Vec<FileOnDisk>,
}

/// Everything under `consumequeue`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryScan {
    /// The queues, sorted by key.
    pub(crate) queues: Vec<QueueOnDisk>,
    /// What does not belong there, in words.
    pub(crate) problems: Vec<String>,
}

/// Lists the queues' directories and files.
///
/// # Errors
///
/// I/O errors. What is strange is no error but a problem in the result.
pub(crate) fn scan_directory(disk: &dyn Disk) -> Result<DirectoryScan> {
    let mut scan = DirectoryScan::default();
    for topic in disk::list(disk, &root())? {
        let topic_dir = root().join(&topic.name);
        if topic.kind != EntryKind::Directory || QueueKey::new(&topic.name, 0).is_err() {
            scan.problems.push(format!("{topic_dir} is no topic's directory"));
            continue;
        }
        for queue in disk::list(disk, &topic_dir)? {
            let dir = topic_dir.join(&queue.name);
            let id = queue.name.parse::<i32>().ok().filter(|id| id.to_string() == queue.name);
            let key = id.and_then(|id| QueueKey::new(&topic.name, id).ok());
            match key {
                Some(key) if queue.kind == EntryKind::Directory => {
                    let files = list_files(disk, &dir, &mut scan.problems)?;
                    scan.queues.push(QueueOnDisk { key, files });
                }
                _ => scan.problems.push(format!("{dir} is no queue's directory")),
            }
        }
    }
    scan.queues.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(scan)
}

/// The files of the queue whose directory is `dir`, sorted; none without the directory. What else
/// is there goes to `problems`.
pub(super) fn list_files(
    disk: &dyn Disk,
    dir: &FilePath,
    problems: &mut Vec<String>,
) -> Result<Vec<FileOnDisk>> {
    let mut files = Vec::new();
    for entry in disk::list(disk, dir)? {
        match file_name::position(&entry.name) {
            Some(base) if entry.kind == EntryKind::File && base <= BASE_MAX => {
                files.push(FileOnDisk { base, len: entry.len });
            }
            _ => problems.push(format!("{dir}/{} is no consume queue file", entry.name)),
        }
    }
    files.sort_unstable_by_key(|f| f.base);
    Ok(files)
}

/// So many lengths that are equally frequent are compared: each with all names.
const EQUALS_MOST: usize = 16;

/// The length that most files of a directory have, `None` where none has one that queue files can
/// have. The others are broken: their queues are derived again from the log. An empty file says
/// nothing: a crash may leave the names of several new files and the lengths of only some.
pub(crate) fn infer_file_bytes(queues: &[QueueOnDisk]) -> Option<u64> {
    let files = || queues.iter().flat_map(|queue| &queue.files);
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for file in files() {
        if file.len > 0 && file.len % ENTRY == 0 && file.len <= i32::MAX as u64 {
            *counts.entry(file.len).or_default() += 1;
        }
    }
    let most = counts.values().max().copied()?;
    let equals = counts.into_iter().rev().filter(|(_, count)| *count == most).map(|(len, _)| len);
    // Among equals the one that more names are multiples of, and the longest of those. Where so
    // many lengths are equally frequent none of them is right.
    let fits = |len: &u64| (files().filter(|file| file.base % len == 0).count(), *len);
    equals.take(EQUALS_MOST).max_by_key(fits)
}

/// Where a queue ends as its files tell: at the first bytes that are no entry, or are one for a
/// record that does not end by `log_end`. For directories without our own notes.
///
/// Looks at the last file with anything in it, from its beginning on.
///
/// # Errors
///
/// I/O errors.
pub(crate) fn find_end(
    disk: &dyn Disk,
    queue: &QueueOnDisk,
    log_end: PhysicalOffset,
) -> Result<QueueOffset> {
    let mut end = queue.files.first().map_or(0, |f| f.base);
    for file in queue.files.iter().rev() {
        if file.base % ENTRY != 0 {
            continue;
        }
        let entries = sound_entries(disk, &file_path(&queue.key, file.base), file.len, log_end)?;
        if entries > 0 {
            end = file.base.saturating_add(entries * ENTRY);
            break;
        }
    }
    Ok(QueueOffset::new(end / ENTRY))
}

/// How many entries at the beginning of a file are for records before `log_end`.
fn sound_entries(
    disk: &dyn Disk,
    path: &FilePath,
    len: u64,
    log_end: PhysicalOffset,
) -> Result<u64> {
    let file = disk.open(path, Access::Read).map_err(failed("open", path))?;
    let len = len - len % ENTRY;
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < len {
        buffer.resize(CHUNK.min(len - at) as usize, 0);
        file.read_exact_at(&mut buffer, at).map_err(failed("read", path))?;
        for bytes in buffer.as_chunks().0 {
            match QueueEntry::decode(bytes) {
                Some(entry) if entry.is_filler() || entry.end() <= log_end => {}
                _ => return Ok(at / ENTRY),
            }
            at += ENTRY;
        }
    }
    Ok(at / ENTRY)
}

impl QueueTable {
    /// What is wrong with a queue's files, given what the queue is said to hold: a file missing
    /// or too short, or a last entry that is none or lies past `log_end`. `None` if nothing is.
    ///
    /// # Errors
    ///
    /// I/O errors other than a missing directory or file.
    pub(crate) fn check_files(
        &self,
        key: &QueueKey,
        log_end: PhysicalOffset,
    ) -> Result<Option<String>> {
        let Some(queue) = self.get(key) else { return Ok(None) };
        let (min, end) = (queue.min(), queue.end());
        if min == end {
            return Ok(None);
        }
        let files = list_files(&*self.files.disk, &queue_dir(key), &mut Vec::new())?;
        let file_bytes = self.files.config.file_bytes;
        let last = self.files.base_of(QueueOffset::new(end.get() - 1));
        let mut base = self.files.base_of(min);
        while base <= last {
            match files.binary_search_by_key(&base, |f| f.base).map(|n| files[n].len) {
                Ok(len) if len == file_bytes => {}
                Ok(len) => {
                    let path = file_path(key, base);
                    return Ok(Some(format!("{path} has the wrong length len={len}")));
                }
                Err(_) => return Ok(Some(format!("{} is missing", file_path(key, base)))),
            }
            // What opens or ends a file is looked at too: a file that is rotten as a whole is seen.
            let from = (base / ENTRY).max(min.get());
            let to = ((base + file_bytes) / ENTRY).min(end.get());
            // The last one of all comes below.
            for at in [from, to - 1].into_iter().filter(|at| at + 1 < end.get()) {
                if let Err(e) = queue.entry(QueueOffset::new(at)) {
                    return Ok(Some(e.to_string()));
                }
            }
            base += file_bytes;
        }
        Ok(match queue.entry(QueueOffset::new(end.get() - 1)) {
            Ok(Some(entry)) if entry.is_filler() || entry.end() <= log_end => None,
            Ok(_) => Some(format!("the last entry lies past the log's end queue={key} end={end}")),
            Err(e) => Some(e.to_string()),
        })
    }

    /// Ends a queue at `at`: entries from there on are zeroed in its files, later files removed.
    /// Durable after the next [`sync`](Self::sync). Nobody may be reading the queue: it gets a new
    /// object in the table.
    ///
    /// Zeroing stops at the first long run of zeros. Entries behind one are never met: each write
    /// zeroes the place behind its last entry.
    ///
    /// # Errors
    ///
    /// I/O errors; the queue is then as it was, and the call can be repeated.
    ///
    /// # Panics
    ///
    /// If the queue ends before `at`.
    pub(crate) fn cut(&self, key: &QueueKey, at: QueueOffset) -> Result<()> {
        let Some(queue) = self.get(key) else { return Ok(()) };
        assert!(at <= queue.end(), "a cut past the end queue={key} at={at}");
        if self.files.config.access == Access::Write {
            let _writer = self.files.writer.lock();
            queue.write_tail()?;
            self.cut_files(&queue, at)?;
        }
        self.restore(key.clone(), queue.min().min(at), at);
        Ok(())
    }

    fn cut_files(&self, queue: &super::ConsumeQueue, at: QueueOffset) -> Result<()> {
        let dir = queue_dir(queue.key());
        let files = list_files(&*self.files.disk, &dir, &mut Vec::new())?;
        if !files.is_empty() {
            // The process before may have died between making these names and syncing them.
            for dir in [dir.parent().parent(), dir.parent(), dir.clone()] {
                self.files.changed(dir);
            }
        }
        let at_byte = at.get() * ENTRY;
        // From the last one backwards, so that a crash in between leaves no gap of files.
        for (n, file) in files.iter().enumerate().rev() {
            if file.base > at_byte && n > 0 {
                let path = file_path(queue.key(), file.base);
                self.files.forget(queue.id(file.base));
                self.files.disk.remove(&path).map_err(failed("remove", &path))?;
            } else if file.base + self.files.config.file_bytes > at_byte {
                self.zero_run(queue, file.base, at_byte.saturating_sub(file.base))?;
            }
        }
        Ok(())
    }

    /// Zeroes what is not zero in a file from `from` on, up to a chunk that is zero already.
    fn zero_run(&self, queue: &super::ConsumeQueue, base: u64, from: u64) -> Result<()> {
        let path = file_path(queue.key(), base);
        let (file, _) = self.files.open_or_create(queue.key(), queue.id(base))?;
        let len = self.files.config.file_bytes;
        let mut buffer = Vec::new();
        let mut at = from;
        while at < len {
            buffer.resize(CHUNK.min(len - at) as usize, 0);
            file.read_exact_at(&mut buffer, at).map_err(failed("read", &path))?;
            if buffer.iter().all(|&b| b == 0) {
                break;
            }
            buffer.fill(0);
            file.write_all_at(&buffer, at).map_err(failed("write", &path))?;
            at += buffer.len() as u64;
        }
        Ok(())
    }

    /// Forgets what a queue holds, so that it can be put anew from the log. Its files stay and
    /// are overwritten; [`cut`](Self::cut) it at its new end when that is done. Nobody may be
    /// reading the queue: it gets a new object in the table.
    pub(crate) fn reset(&self, key: &QueueKey) {
        self.files.restart(key);
        self.restore(key.clone(), super::ZERO, super::ZERO);
    }
}
