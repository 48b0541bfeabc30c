//! What a directory may hold that this store does not read. Looked for before anything else, and
//! nothing is touched.

use std::io;

use super::files::LogFiles;
use crate::{
    consumer::CONFIG_DIR,
    disk::{self, Access, DirEntry, Disk, EntryKind, FilePath, failed},
    error::{Error, ErrorKind, Result},
    format::file_name,
    log::segment::{LOG_DIR, path_of},
    queue::{self, QUEUES_DIR},
};

/// Non-empty directories and files that say: kept by a part of RocketMQ that this store does not
/// read.
const UNREAD: [(&str, &str); 4] = [
    ("batchconsumequeue", "batch consume queues"),
    ("consumequeue_ext", "consume queue extension files"),
    // Of `compaction` itself every broker makes one, with an empty list of positions.
    ("compaction/compactionLog", "compacted topics"),
    ("epochFileCheckpoint", "controller mode"),
];
/// Each RocksDB has a file of this name. `rocksdbstore/`, which RocketMQ 5.5 always makes, is not
/// looked for: what it holds comes from the log.
const ROCKSDB: &str = "CURRENT";
/// Where RocksDB may keep the queues.
const QUEUE_DIRS: [&str; 2] = [QUEUES_DIR, "consumequeue_rocksdb"];

const TIMER_WHEEL: &str = "timerwheel";
/// Its files are named like segments.
const TIMER_LOG: &str = "timerlog";
const TIMER_CHECK: &str = "config/timercheck";
/// Bytes of a slot of the wheel: time, first and last position in `timerlog`, number, magic.
const SLOT_BYTES: usize = 32;
/// A slot's time is in units of so many milliseconds, unless a broker was told otherwise.
const SLOT_MS: i64 = 1000;
const WHEEL_CHUNK: usize = 2048 * SLOT_BYTES;

/// Refuses directories that hold what this store does not read, whoever wrote last.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) naming it, why, and the way out. I/O errors.
pub(super) fn refuse(disk: &dyn Disk) -> Result<()> {
    for (name, what) in UNREAD {
        let path = FilePath::new(name);
        let used = match disk.list(&path) {
            Ok(entries) => !entries.is_empty(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => is_filled(disk, &path)?,
            Err(e) => return Err(failed("list", &path)(e)),
        };
        if used {
            return Err(unread(format!(
                "{name} holds {what}, which this version does not read; only the broker that \
                 wrote them serves this directory"
            )));
        }
    }
    for dir in QUEUE_DIRS {
        let path = FilePath::new(dir).join(ROCKSDB);
        if is_filled(disk, &path)? {
            return Err(unread(format!(
                "{path} says that the broker kept its queues in RocksDB, which this version does \
                 not read; run a RocketMQ 5.5 broker with storeType=default until it has made them \
                 as files, then move RocksDB's files out of {dir}"
            )));
        }
    }
    for entry in disk::list(disk, &FilePath::new(CONFIG_DIR))? {
        let dir = FilePath::new(CONFIG_DIR).join(&entry.name);
        if entry.kind == EntryKind::Directory && is_filled(disk, &dir.join(ROCKSDB))? {
            return Err(unread(format!(
                "{} says that the broker kept its consumer offsets or its configuration in \
                 RocksDB, which this version does not read; let the broker export them (mqadmin \
                 rocksDBConfigToJson), then move {dir} away",
                dir.join(ROCKSDB)
            )));
        }
    }
    Ok(())
}

/// Refuses a log of another program of which only a part is here: it is spread over several
/// directories (`storePathCommitLog` with commas), or lies elsewhere altogether.
///
/// # Errors
///
/// As [`refuse`].
pub(super) fn refuse_part_of_a_log(disk: &dyn Disk, files: &LogFiles) -> Result<()> {
    let Some(segment_bytes) = files.segment_bytes else {
        return refuse_queues_without_a_log(disk);
    };
    refuse_segments_elsewhere(disk, files, segment_bytes)?;
    // Segments go round the directories in turn, so in each of them no two are adjacent. Lost
    // segments look like that only when most are.
    let mut pairs = files.bases.windows(2).map(|pair| (pair[0], pair[1]));
    let Some((first, next)) = pairs.clone().next() else { return Ok(()) };
    if pairs.any(|(base, next)| base + segment_bytes == next) {
        return Ok(());
    }
    Err(unread(format!(
        "{} is missing between {} and {}, and no two segments are adjacent: the log seems to be \
         spread over several directories (storePathCommitLog); move all segments into {LOG_DIR}; \
         if they are lost, put a file of zeros in the place of one to have the rest served \
         segment_bytes={segment_bytes}",
        path_of(first + segment_bytes),
        path_of(first),
        path_of(next),
    )))
}

fn refuse_queues_without_a_log(disk: &dyn Disk) -> Result<()> {
    let found = queue::scan_directory(disk)?;
    let Some(queue) = found.queues.iter().find(|queue| !queue.files.is_empty()) else {
        return Ok(());
    };
    let path = queue::file_path(&queue.key, queue.files[0].base);
    Err(unread(format!(
        "{path} belongs to a log that is not here; move its segments into {LOG_DIR} (they may lie \
         elsewhere: storePathCommitLog), or {QUEUES_DIR} away to begin anew"
    )))
}

/// Looks for segments that follow ours in the store's other directories and in those inside of
/// `commitlog`. Those that may not be listed (`lost+found`) are no part of a store.
fn refuse_segments_elsewhere(disk: &dyn Disk, files: &LogFiles, segment_bytes: u64) -> Result<()> {
    for parent in [FilePath::ROOT, FilePath::new(LOG_DIR)] {
        for dir in disk::list(disk, &parent)? {
            let path = parent.join(&dir.name);
            if dir.kind != EntryKind::Directory || [LOG_DIR, TIMER_LOG].contains(&path.as_str()) {
                continue;
            }
            let Ok(entries) = disk.list(&path) else { continue };
            let Some(segment) = entries.iter().find(|e| is_missing(e, files, segment_bytes)) else {
                continue;
            };
            return Err(unread(format!(
                "{} looks like a segment of this log: it seems to be spread over several \
                 directories (storePathCommitLog); move all segments into {LOG_DIR}, or {path} \
                 away if it is none",
                path.join(&segment.name)
            )));
        }
    }
    Ok(())
}

/// Whether this could be the segment behind one that is here, and is not here itself.
fn is_missing(entry: &DirEntry, files: &LogFiles, segment_bytes: u64) -> bool {
    let base = file_name::position(&entry.name);
    let Some(before) = base.and_then(|base| base.checked_sub(segment_bytes)) else { return false };
    let here = |base: u64| files.bases.binary_search_by_key(&base, |b| b.get()).is_ok();
    entry.kind == EntryKind::File
        && entry.len == segment_bytes
        && here(before)
        && !here(before + segment_bytes)
}

/// Says how many timer messages another broker had not delivered yet, if any: the engine delivers
/// none.
///
/// # Errors
///
/// I/O errors.
pub(super) fn pending_timers(disk: &dyn Disk) -> Result<Option<String>> {
    let path = FilePath::new(TIMER_WHEEL);
    let wheel = match disk.open(&path, Access::Read) {
        Ok(wheel) => wheel,
        Err(e) if is_no_file(&e) => return Ok(None),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    let delivered_until = delivered_until(disk)?;
    let len = wheel.len().map_err(failed("read the length of", &path))?;
    let (mut at, mut pending) = (0, 0_u64);
    let mut buffer = vec![0; WHEEL_CHUNK];
    while at < len {
        let part = &mut buffer[..len.saturating_sub(at).min(WHEEL_CHUNK as u64) as usize];
        wheel.read_exact_at(part, at).map_err(failed("read", &path))?;
        for slot in part.as_chunks::<SLOT_BYTES>().0 {
            let [time, _, _, last] = slot.as_chunks::<8>().0 else { continue };
            let time = i64::from_be_bytes(*time).saturating_mul(SLOT_MS);
            let number = i32::from_be_bytes([last[0], last[1], last[2], last[3]]);
            if time > delivered_until {
                pending = pending.saturating_add(u64::try_from(number).unwrap_or(0));
            }
        }
        at += part.len() as u64;
    }
    Ok((pending > 0).then(|| {
        format!(
            "timer messages of the other broker were not delivered yet; the engine delivers none, \
             a Steadfast broker on this store does. They stay in the log while retention lets \
             them, and so do {TIMER_WHEEL}, {TIMER_LOG} and {TIMER_CHECK} messages={pending}"
        )
    }))
}

/// Up to when the other broker delivered timer messages, in milliseconds; 0 if that is not known.
fn delivered_until(disk: &dyn Disk) -> Result<i64> {
    let path = FilePath::new(TIMER_CHECK);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if is_no_file(&e) => return Ok(0),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    let mut time = [0; 8];
    match file.read_exact_at(&mut time, 0) {
        Ok(()) => Ok(i64::from_be_bytes(time)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(e) => Err(failed("read", &path)(e)),
    }
}

/// Whether there is a regular file with anything in it.
fn is_filled(disk: &dyn Disk, path: &FilePath) -> Result<bool> {
    match disk.open(path, Access::Read) {
        Ok(file) => Ok(file.len().map_err(failed("read the length of", path))? > 0),
        Err(e) if is_no_file(&e) => Ok(false),
        Err(e) => Err(failed("open", path)(e)),
    }
}

/// What opening says where there is nothing, or something else than a regular file.
fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput)
}

fn unread(text: String) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{text}; nothing was touched"))
}
