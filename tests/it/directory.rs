//! A small store in a real directory, what was put into it, and what every byte of it is.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hasher},
    os::unix::fs::FileTypeExt,
    path::Path,
    thread,
    time::Duration,
};

use steadfast::{
    Batch, ErrorKind, FlushMode, Message, OnDamage, Options, PhysicalOffset, QueueKey, QueueOffset,
    ReadLimit, Store,
};

pub(crate) const SEGMENT_BYTES: u64 = 16 << 10;
pub(crate) const QUEUES: i32 = 3;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Segments and queue files so small that a few hundred messages fill several.
pub(crate) fn options() -> Options {
    let mut options = Options::default().flush(FlushMode::Sync).segment_bytes(SEGMENT_BYTES);
    options.queue_file_bytes = 1000;
    options.index_slots = 100;
    options.index_entries = 200;
    options
}

pub(crate) fn queue(id: i32) -> QueueKey {
    QueueKey::new("orders", id).unwrap()
}

pub(crate) fn body(number: usize) -> Vec<u8> {
    format!("message {number} {}", "x".repeat(number * 37 % 300)).into_bytes()
}

pub(crate) fn key(number: usize) -> String {
    format!("k{number}")
}

/// One message that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) number: usize,
    pub(crate) queue: i32,
    pub(crate) offset: QueueOffset,
    pub(crate) at: PhysicalOffset,
    pub(crate) size: u32,
}

/// Puts `count` messages more, round robin over the queues.
pub(crate) fn put(store: &Store, kept: &mut Vec<Kept>, count: usize) {
    for number in kept.len()..kept.len() + count {
        let id = number as i32 % QUEUES;
        let (queue, text, key) = (queue(id), body(number), key(number));
        let receipt = store.append(&Message::new(&queue, &text).key(&key)).unwrap().wait().unwrap();
        let place = receipt.placement;
        kept.push(Kept {
            number,
            queue: id,
            offset: place.queue_offset,
            at: place.physical_offset,
            size: place.size,
        });
    }
    for message in kept.iter().rev().take(QUEUES as usize) {
        assert!(store.wait_for(&queue(message.queue), message.offset, LONG).unwrap());
    }
    // A message's keys are put into the index a little after its queue shows it.
    while store.progress().dispatched < store.progress().written {
        thread::yield_now();
    }
}

/// How the store was left: closed, or killed some time after it was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Closed,
    Killed,
}

/// A store in `dir` with `count` messages.
pub(crate) fn filled(dir: &Path, count: usize, left: Left) -> Vec<Kept> {
    let store = Store::builder(dir).options(options()).open().unwrap();
    let mut kept = Vec::new();
    put(&store, &mut kept, count / 2);
    store.close().unwrap();
    let store = Store::builder(dir).options(options()).open().unwrap();
    put(&store, &mut kept, count - count / 2);
    match left {
        Left::Closed => store.close().unwrap(),
        Left::Killed => store.abandon(),
    }
    kept
}

/// Opens with what is said about damage.
pub(crate) fn open(dir: &Path, on_damage: OnDamage) -> steadfast::Result<Store> {
    Store::builder(dir).options(options().on_damage(on_damage)).open()
}

fn read_one(store: &Store, message: &Kept) -> steadfast::Result<Batch> {
    store.read(&queue(message.queue), message.offset, ReadLimit::records(1))
}

/// Checks that each message is there as it was put, but for those that `lost` says: they answer
/// `Damaged`.
pub(crate) fn check(store: &Store, kept: &[Kept], lost: impl Fn(&Kept) -> bool) {
    for message in kept {
        let read = read_one(store, message);
        if lost(message) {
            let error = read.expect_err("a damaged record was handed out");
            let ErrorKind::Damaged { .. } = error.kind() else { panic!("{message:?}: {error}") };
            continue;
        }
        let batch = read.unwrap_or_else(|e| panic!("{message:?}: {e}"));
        let record = batch.iter().next().unwrap_or_else(|| panic!("{message:?} is gone"));
        assert_eq!(record.body(), body(message.number), "{message:?}");
        assert_eq!(record.queue_offset(), message.offset);
        assert_eq!(record.physical_offset(), message.at);
    }
}

/// Every name under `dir` with what it is and a hash of its bytes.
pub(crate) fn listing(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    walk(dir, dir, &mut all);
    all
}

fn walk(root: &Path, dir: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let what = if kind.is_dir() {
            walk(root, &path, all);
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_fifo() {
            "pipe".to_owned()
        } else {
            let bytes = fs::read(&path).unwrap();
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes);
            format!("{} bytes, hash {:016x}", bytes.len(), hasher.finish())
        };
        all.insert(path.strip_prefix(root).unwrap().display().to_string(), what);
    }
}

/// Copies the whole of `from` to `to`, holes and all times aside.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// The file that holds the log's byte at `at`, and where in it.
pub(crate) fn segment_of(dir: &Path, at: u64) -> (std::path::PathBuf, u64) {
    let base = at / SEGMENT_BYTES * SEGMENT_BYTES;
    (dir.join("commitlog").join(format!("{base:020}")), at - base)
}
