//! A store in a real directory.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::UNIX_EPOCH,
};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{FallocateFlags, fallocate, fstatfs, fstatvfs, syncfs},
    io::{Errno, retry_on_intr},
};

use super::{
    Access, AppendPath, DirEntry, DirectoryLock, Disk, DiskFile, EntryKind, FilePath, Memory,
    Usage, memory,
};
use crate::{Error, ErrorKind, Result, offset::StoreTime};

/// Most bytes of zeros in one write call.
const ZEROS_BYTES: usize = 1 << 20;

/// Most bytes that are read and written back at once.
const COPY_BYTES: u64 = 1 << 20;
/// More threads than this read no faster than a disk delivers.
const READERS_MOST: usize = 8;

/// What a block can be assumed to be aligned to when looking for holes.
const BLOCK_BYTES: usize = 4096;

/// A directory on a file system of this machine.
pub(crate) struct FileDisk {
    root: PathBuf,
    /// The root, open: for calls about the file system as a whole.
    directory: File,
    access: Access,
    file_system: FileSystem,
}

/// The file systems that are known to keep a block in its place when it is overwritten, and the
/// rest, which may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileSystem {
    Ext,
    /// In place too, but for blocks shared by `cp --reflink`, which allocating unshares.
    Xfs,
    Tmpfs,
    Other,
}

impl FileSystem {
    fn of(directory: &File) -> io::Result<Self> {
        // The kernel's magic numbers; the field's width and sign differ between platforms.
        #[allow(clippy::unnecessary_cast)]
        let magic = retry_on_intr(|| fstatfs(directory))?.f_type as u32;
        Ok(match magic {
            0xEF53 => Self::Ext,
            0x5846_5342 => Self::Xfs,
            0x0102_1994 => Self::Tmpfs,
            _ => Self::Other,
        })
    }
}

impl FileDisk {
    /// The directory `root`. For [`Access::Write`] it is made, with its parents, if it is missing,
    /// and is then durable; for [`Access::Read`] nothing is ever changed through this disk.
    ///
    /// Fails with [`ErrorKind::NotFound`] if it is missing, [`ErrorKind::InvalidInput`] if it is
    /// no directory, [`ErrorKind::Io`] if the system says no.
    pub(crate) fn open(root: &Path, access: Access) -> Result<Self> {
        if access == Access::Write {
            create_dirs(root).map_err(explain("create", root))?;
        }
        let directory = open_dir(root).map_err(explain("open", root))?;
        let file_system = FileSystem::of(&directory).map_err(explain("examine", root))?;
        Ok(Self { root: root.to_owned(), directory, access, file_system })
    }

    fn full(&self, path: &FilePath) -> PathBuf {
        if path.as_str().is_empty() { self.root.clone() } else { self.root.join(path.as_str()) }
    }

    fn writable(&self) -> io::Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn wrap(&self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile { file, file_system: self.file_system })
    }
}

impl fmt::Debug for FileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDisk")
            .field("root", &self.root)
            .field("access", &self.access)
            .field("file_system", &self.file_system)
            .finish_non_exhaustive()
    }
}

/// For `map_err`: the error of doing `what` to the directory `root`.
fn explain(what: &str, root: &Path) -> impl FnOnce(io::Error) -> Error {
    move |e| {
        let message = format!("cannot {what} the directory {}: {e}", root.display());
        match e.kind() {
            io::ErrorKind::NotFound => Error::with_source(ErrorKind::NotFound, message, e),
            io::ErrorKind::NotADirectory => Error::with_source(ErrorKind::InvalidInput, message, e),
            _ => Error::io(message, e),
        }
    }
}

/// Makes `root` and what is missing above it, durably: from the top down, each name synced into
/// its parent before the next depends on it.
fn create_dirs(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if parent != root {
        create_dirs(parent)?;
    }
    match fs::create_dir(root) {
        // Somebody else was faster; if it is no directory, opening it says so.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    open_dir(parent)?.sync_all()
}

fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(path)
}

/// Opens a regular file without waiting for the other end of a pipe.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    let file = match options.custom_flags(nix::libc::O_NONBLOCK).open(path) {
        // A socket, or a pipe that nobody reads.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::NXIO) => return Err(refused()),
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => return Err(refused()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

/// An exclusive lock on byte 0, where the Java store takes its own.
fn first_byte() -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

impl Disk for FileDisk {
    fn lock(&self, path: &FilePath) -> io::Result<Box<dyn DirectoryLock>> {
        self.writable()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular(&self.full(path), &mut options)?;
        // Of the open file description: excludes a second open in this process, too, and is not
        // dropped when some other descriptor of the file is closed. Java's lock conflicts with it.
        fcntl(&file, FcntlArg::F_OFD_SETLK(&first_byte())).map_err(|e| match e {
            nix::Error::EAGAIN | nix::Error::EACCES => io::ErrorKind::WouldBlock.into(),
            e => io::Error::from(e),
        })?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(b"lock", 0)?;
        }
        Ok(Box::new(FileLock { _file: file }))
    }

    fn locked(&self, path: &FilePath) -> io::Result<bool> {
        let file = match open_regular(&self.full(path), OpenOptions::new().read(true)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let mut range = first_byte();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range)).map_err(io::Error::from)?;
        Ok(range.l_type != nix::libc::F_UNLCK as nix::libc::c_short)
    }

    fn create(&self, path: &FilePath, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.writable()?;
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(self.full(path))?;
        if let Err(e) = retry_on_intr(|| rustix::fs::ftruncate(&file, len)) {
            // What was not asked for does not stay behind; the first error is the one to tell.
            let _ = fs::remove_file(self.full(path));
            return Err(e.into());
        }
        Ok(self.wrap(file))
    }

    fn open(&self, path: &FilePath, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        if access == Access::Write {
            self.writable()?;
            options.write(true);
        }
        Ok(self.wrap(open_regular(&self.full(path), &mut options)?))
    }

    fn list(&self, dir: &FilePath) -> io::Result<Vec<DirEntry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.full(dir))? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed since its name was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let (kind, len) = match metadata.file_type() {
                t if t.is_file() => (EntryKind::File, metadata.len()),
                t if t.is_dir() => (EntryKind::Directory, 0),
                _ => (EntryKind::Other, 0),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(DirEntry { name, kind, len });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn modified(&self, path: &FilePath) -> io::Result<StoreTime> {
        let at = fs::metadata(self.full(path))?.modified()?;
        // Before 1970 on a machine with a broken clock: negative, as `StoreTime` allows.
        let millis = match at.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Ok(StoreTime::from_millis(millis))
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.writable()?;
        fs::rename(self.full(from), self.full(to))
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.writable()?;
        fs::remove_file(self.full(path))
    }

    fn create_dir(&self, path: &FilePath) -> io::Result<()> {
        self.writable()?;
        let full = self.full(path);
        match fs::create_dir(&full) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            made => made,
        }
    }

    fn remove_dir(&self, path: &FilePath) -> io::Result<()> {
        self.writable()?;
        fs::remove_dir(self.full(path))
    }

    fn sync_dir(&self, dir: &FilePath) -> io::Result<()> {
        self.writable()?;
        open_dir(&self.full(dir))?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.writable()?;
        Ok(syncfs(&self.directory)?)
    }

    fn usage(&self) -> io::Result<Usage> {
        let stat = retry_on_intr(|| fstatvfs(&self.directory))?;
        Ok(Usage {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            // Not f_bfree: the blocks reserved for root are not ours.
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn append_path(&self) -> AppendPath {
        match self.file_system {
            FileSystem::Ext | FileSystem::Xfs | FileSystem::Tmpfs => AppendPath::Store,
            FileSystem::Other => AppendPath::Write,
        }
    }

    fn readers(&self) -> usize {
        thread::available_parallelism().map_or(1, |n| n.get().min(READERS_MOST))
    }
}

/// The lock lasts as long as the open file.
#[derive(Debug)]
struct FileLock {
    _file: File,
}

impl DirectoryLock for FileLock {}

#[derive(Debug)]
struct OpenFile {
    file: File,
    file_system: FileSystem,
}

impl OpenFile {
    /// Whether `len` bytes at `offset` lie in the file: `InvalidInput` if not.
    fn inside(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= i64::MAX as u64) && end <= Some(self.file.metadata()?.len())
        {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "range outside of the file"))
        }
    }

    fn fallocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
        retry_on_intr(|| fallocate(&self.file, mode, offset, len))
    }

    /// Reads bytes and writes them back.
    fn write_over_itself(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut bytes = vec![0; len.min(COPY_BYTES) as usize];
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let part = (end - at).min(COPY_BYTES) as usize;
            self.read_exact_at(&mut bytes[..part], at)?;
            self.write_all_at(&bytes[..part], at)?;
            at += part as u64;
        }
        Ok(())
    }

    /// For file systems without fallocate: writes zeros where there are zeros now. A block with
    /// anything else in it exists already and is left alone.
    fn fill_holes(&self, offset: u64, len: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let mut block = [0; BLOCK_BYTES];
        let end = offset + len;
        let mut at = offset;
        while at < end {
            // Up to the next boundary: the first and the last piece may be smaller.
            let next = (at / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64;
            let part = (next.min(end) - at) as usize;
            self.read_exact_at(&mut block[..part], at)?;
            if block[..part] == ZEROS[..part] {
                self.write_all_at(&ZEROS[..part], at)?;
            }
            at += part as u64;
        }
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // The standard library repeats interrupted and short calls, here and below.
        FileExt::read_exact_at(&self.file, buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        use rustix::fs::{SeekFrom, seek};
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // No holes are known here: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                let len = self.len()?;
                return Ok((offset < len).then_some(offset..len));
            }
            Err(e) => return Err(e.into()),
        };
        let end = seek(&self.file, SeekFrom::Hole(start))?;
        // Somebody punched a hole in between.
        Ok(Some(start..end.max(start + 1)))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, bytes, offset)
    }

    fn dirty_again(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inside(offset, len)?;
        let by_faults = self.file_system != FileSystem::Other;
        if by_faults && memory::make_dirty(&self.file, offset, len).is_ok() {
            return Ok(());
        }
        // A kernel before 5.14, no block for a page, a bad sector: calls do it, or say what it is.
        self.write_over_itself(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.file, len))?)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.inside(offset, len)?;
        if self.file_system == FileSystem::Xfs {
            // A plain fallocate leaves blocks shared that a copy with reflinks made so, and a
            // store to one needs a new block. Not every xfs can share: then it says so.
            match self.fallocate(FallocateFlags::UNSHARE_RANGE, offset, len) {
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
                done => return Ok(done?),
            }
        }
        match self.fallocate(FallocateFlags::empty(), offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill_holes(offset, len),
            done => Ok(done?),
        }
    }

    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inside(offset, len)?;
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(len).unwrap_or(ZEROS_BYTES))];
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let part = zeros.len().min(usize::try_from(end - at).unwrap_or(zeros.len()));
            self.write_all_at(&zeros[..part], at)?;
            // Each piece on its own: a big backlog would be in the way of the appender's sync.
            match memory::sync_file_range(&self.file, at, part as u64) {
                // Not every file system can; then the next sync of data has more to do.
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::INVAL)) => {
                }
                pushed => pushed?,
            }
            at += part as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // The bare call, which the standard library would repeat when interrupted: nothing is
        // known about the pages of a failed sync, so a second one proves nothing.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Memory> {
        Memory::map_file(&self.file, len, access)
    }
}

#[cfg(test)]
mod tests;
