//! The seam between the engine and whatever keeps its bytes.
//!
//! Everything the engine does to files goes through [`Disk`] and [`DiskFile`], so that the same
//! compiled engine runs on a real directory and on the simulated disk. Neither trait has default
//! bodies: an implementation that forgets a promise does not compile.
//!
//! What makes what durable, everywhere: a file's bytes after [`DiskFile::sync_data`]; a name that
//! was created, renamed or removed after [`Disk::sync_dir`] of its directory; both after
//! [`Disk::sync_all`].

use std::{fmt, io, ops::Range, sync::Arc};

use crate::{
    error::{Error, ErrorKind, Result},
    offset::StoreTime,
};

pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "sim")]
pub mod sim;

pub use memory::Memory;

/// A path inside the store's directory, with `/` between its parts. Empty: the directory itself.
///
/// Built only from constants, numbers and checked topics, so it never leaves the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// The store's directory.
    pub const ROOT: Self = Self(String::new());

    /// The path `parts`, joined by `/`.
    ///
    /// # Panics
    ///
    /// If a part is empty, absolute, or has a component `.` or `..`: the caller built it wrong.
    pub fn new(path: &str) -> Self {
        assert!(
            !path.is_empty() && path.split('/').all(|c| !c.is_empty() && c != "." && c != ".."),
            "not a path inside the store path={path:?}"
        );
        Self(path.to_owned())
    }

    /// `name` inside this directory. Panics as [`new`](Self::new) does.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self::new(&format!("{}/{name}", self.0)) }
    }

    /// The directory this is in.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned()))
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; nothing on disk changes.
    Read,
    /// Reading and writing.
    Write,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its directory. A name that is not UTF-8 is shown with replacements.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// The file's length in bytes, 0 for what is no file.
    pub len: u64,
}

/// Space on the file system that holds the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this process may still allocate.
    pub available: u64,
}

impl Usage {
    /// Used part in percent, 0 to 100; what is reserved for others counts as used.
    pub fn used_percent(&self) -> u8 {
        if self.total == 0 {
            return 0;
        }
        let used = u128::from(self.total.saturating_sub(self.available));
        u8::try_from(used * 100 / u128::from(self.total)).unwrap_or(100)
    }
}

/// How the log's bytes get into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendPath {
    /// Stores through a mapping of allocated blocks: the fastest, where blocks stay where they are.
    Store,
    /// Write calls: for file systems that may need a new block for an overwrite (copy on write),
    /// where a store could fault.
    Write,
}

/// A directory tree that holds one store.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Takes the exclusive lock on byte 0 of the file `path`, creating it if need be, and holds it
    /// until the guard is dropped. `Err` of kind `WouldBlock` when somebody else holds it,
    /// also when that is another open in this very process.
    fn lock(&self, path: &FilePath) -> io::Result<Box<dyn DirectoryLock>>;

    /// Whether somebody holds that lock now. Takes nothing, creates nothing.
    fn locked(&self, path: &FilePath) -> io::Result<bool>;

    /// A new file of `len` bytes, all zero, without blocks. Fails with `AlreadyExists`. Nothing is
    /// durable yet: neither length nor name.
    fn create(&self, path: &FilePath, len: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// An existing regular file. Fails with `NotFound`, `PermissionDenied` and so on; refuses what
    /// is not a regular file with `InvalidInput`.
    fn open(&self, path: &FilePath, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, sorted. `NotFound` if there is none.
    fn list(&self, dir: &FilePath) -> io::Result<Vec<DirEntry>>;

    /// When the file was last modified.
    fn modified(&self, path: &FilePath) -> io::Result<StoreTime>;

    /// Gives a file a new name, replacing the file that had it, at once for every observer. Durable
    /// after syncing the directory of the new name; that the old name is gone, after syncing both.
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;

    /// Removes a file's name. Durable after syncing its directory. What is mapped stays readable.
    fn remove(&self, path: &FilePath) -> io::Result<()>;

    /// Makes a directory; fine if it is there. Its parent must exist.
    fn create_dir(&self, path: &FilePath) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &FilePath) -> io::Result<()>;

    /// Makes the names in a directory durable as they are now.
    fn sync_dir(&self, dir: &FilePath) -> io::Result<()>;

    /// Makes everything on the file system durable as it is now: bytes and names.
    fn sync_all(&self) -> io::Result<()>;

    /// How much room there is.
    fn usage(&self) -> io::Result<Usage>;

    /// How the log may be written here.
    fn append_path(&self) -> AppendPath;

    /// How many threads may well use it at once, at least 1. With 1 all calls are made in one
    /// order, the same each time.
    fn readers(&self) -> usize;
}

/// Holds the directory's lock until dropped.
pub trait DirectoryLock: fmt::Debug + Send + Sync {}

/// One open file. All methods take `&self`; calls for different ranges may run at the same time.
// Asking the length is a call to the system; nobody asks whether it is 0.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` on. `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// The first stretch from `offset` on that may hold bytes that are not zero, never empty;
    /// `None` if there is none. A file without holes says all from `offset` to its end. Reading
    /// beside a stretch may make it longer, because the system reads ahead and keeps the zeros.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Writes all of `bytes` at `offset`. A missing block is `StorageFull`, never a fault. Not
    /// durable until the next [`sync_data`](Self::sync_data).
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes `len` bytes at `offset` count as never written out, contents unchanged: the next
    /// [`sync_data`](Self::sync_data) writes them, also where an earlier sync failed and the system
    /// took the pages for clean. `InvalidInput` unless they lie in the file; `StorageFull` where a
    /// block is missing and there is none. After an error some of them may count so.
    fn dirty_again(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes the file `len` bytes long; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Gives `len` bytes at `offset` real blocks, contents unchanged, so that storing there cannot
    /// fail for want of space. `StorageFull` when there is none.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Writes zeros over `len` bytes at `offset` and pushes them to the disk, so that a later sync
    /// of data there is cheap. Promises nothing about durability.
    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes all bytes written or stored so far durable, and the length needed to read them.
    /// After an error nothing about the bytes since the last success is known, and a retry proves
    /// nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Maps the first `len` bytes. The mapping stays valid after the file is closed or removed.
    fn map(&self, len: u64, access: Access) -> io::Result<Memory>;
}

/// The whole of a small file, or `None` if there is none. A file longer than `max_bytes` is an
/// error: nothing is allocated for it.
pub(crate) fn load(disk: &dyn Disk, path: &FilePath, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open", path)(e)),
    };
    let len = file.len().map_err(failed("read the length of", path))?;
    if len > max_bytes {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{path} is larger than any such file can be len={len} max={max_bytes}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

/// The names in a directory, sorted; none if there is no such directory.
pub(crate) fn list(disk: &dyn Disk, dir: &FilePath) -> Result<Vec<DirEntry>> {
    match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(failed("list", dir)),
    }
}

/// Removes a file's name; fine if there is none. Durable after syncing its directory.
pub(crate) fn remove(disk: &dyn Disk, path: &FilePath) -> Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

/// Replaces the file `path` by one with `bytes`, so that a crash leaves the old one or the new one,
/// whole. Durable when this returns. The temporary file is `temp`, on the same file system.
pub(crate) fn replace(
    disk: &dyn Disk,
    temp: &FilePath,
    path: &FilePath,
    bytes: &[u8],
) -> Result<()> {
    remove(disk, temp)?;
    let file = disk.create(temp, bytes.len() as u64).map_err(failed("create", temp))?;
    file.write_all_at(bytes, 0).map_err(failed("write", temp))?;
    file.sync_data().map_err(failed("sync", temp))?;
    disk.rename(temp, path).map_err(failed("rename into", path))?;
    disk.sync_dir(&path.parent()).map_err(failed("sync the directory of", path))
}

/// For `map_err`: the error of doing `what` to `path`.
pub(crate) fn failed(what: &str, path: &FilePath) -> impl FnOnce(io::Error) -> Error {
    move |e| {
        let shown = if path.as_str().is_empty() { "the store's directory" } else { path.as_str() };
        Error::io(format!("cannot {what} {shown}: {e}"), e)
    }
}
