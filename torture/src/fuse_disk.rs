//! A file system in user space that keeps everything in memory. Only what is synced goes to a
//! directory on another disk, so killing its process is a power failure. It can fail to write
//! pages back, and to sync. Runs in a process of its own, which is told and asked by lines:
//!
//! | line | meaning |
//! |---|---|
//! | `fail write-back 3 commitlog/` | so many times, in files with this in their path |
//! | `fail sync 1 commitlog/` | the same for the sync itself |
//! | `well` | from now on nothing fails |
//! | `tell` | answers `FAILED path count syncs` for each file that failed, then `TOLD` |

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, BufRead},
    path::PathBuf,
    process::{self, ExitCode},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use fuser::{
    FileAttr, Filesystem, KernelConfig, MountOption, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, consts,
};

use crate::{
    fuse_tree::{Errno, Tree},
    writer::say,
};

const EIO: i32 = 5;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;
/// The kernel need not ask again: nobody else changes anything.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// In `write_flags`: from the page cache, not from a process that waits.
const WRITE_CACHE: u32 = 1;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What is durable
    backing: PathBuf,
    /// Where it is mounted
    mounted: PathBuf,
    /// Names are durable at once; without it, when their directory is synced
    #[arg(long)]
    names_at_once: bool,
    /// Of so many pages that are written back one gets to the disk without a sync
    #[arg(long, default_value_t = 0)]
    leak: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What is to fail, and what did.
#[derive(Debug, Default)]
struct Faults {
    sync: bool,
    left: u64,
    within: String,
    failed: BTreeMap<String, Failed>,
}

#[derive(Debug, Default)]
struct Failed {
    count: u64,
    /// Syncs that reached the file system after the first failure.
    syncs: u64,
}

impl Faults {
    /// Takes a line, see the module.
    fn take(&mut self, line: &str) {
        let parts: Vec<_> = line.split(' ').collect();
        match parts[..] {
            ["fail", what, count, within] => {
                self.sync = what == "sync";
                self.left = count.parse().unwrap_or(0);
                self.within = within.to_owned();
            }
            ["tell"] => {
                for (path, Failed { count, syncs }) in &self.failed {
                    say(&format!("FAILED {path} {count} {syncs}"));
                }
                say("TOLD");
            }
            _ => (self.left, self.failed) = (0, BTreeMap::new()),
        }
    }

    /// Whether the write-back, or the sync, of a part of `path` fails now.
    fn fails(&mut self, sync: bool, path: &str) -> bool {
        if sync && let Some(failed) = self.failed.get_mut(path) {
            failed.syncs += 1;
        }
        if self.left == 0 || self.sync != sync || !path.contains(&self.within) {
            return false;
        }
        self.left -= 1;
        self.failed.entry(path.to_owned()).or_default().count += 1;
        true
    }
}

struct Disk {
    tree: Tree,
    faults: Arc<Mutex<Faults>>,
}

/// Serves until it is killed or unmounted.
pub(crate) fn run(args: &Args) -> ExitCode {
    let served =
        Tree::load(&args.backing, args.names_at_once, args.leak, args.seed).and_then(|tree| {
            let faults = Arc::<Mutex<Faults>>::default();
            let told = faults.clone();
            thread::spawn(move || {
                for line in io::stdin().lock().lines().map_while(Result::ok) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
                }
                // Nobody is left who wants it.
                process::exit(0);
            });
            let options = [MountOption::FSName("steadfast-torture".into())];
            let mut session = fuser::Session::new(Disk { tree, faults }, &args.mounted, &options)?;
            say("MOUNTED");
            session.run()
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("fuse-disk: {e}");
            ExitCode::FAILURE
        }
    }
}

impl Disk {
    fn fails(&self, sync: bool, ino: u64) -> bool {
        let path = self.tree.path(ino);
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).fails(sync, &path)
    }

    fn entry(&self, found: Result<u64, Errno>, reply: ReplyEntry) {
        match found.and_then(|ino| self.tree.attr(ino)) {
            Ok(attr) => reply.entry(&FOR_EVER, &attr, 0),
            Err(errno) => reply.error(errno),
        }
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn attr_or(result: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match result {
        Ok(attr) => reply.attr(&FOR_EVER, &attr),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Disk {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), i32> {
        // Writes wait in the page cache, as on a disk.
        config.add_capabilities(consts::FUSE_WRITEBACK_CACHE).map_err(|_| ENOSYS)
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        self.entry(self.tree.lookup(parent, name), reply);
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _fh: Option<u64>, reply: ReplyAttr) {
        attr_or(self.tree.attr(ino), reply);
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<u64>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size
            && let Err(errno) = self.tree.set_len(ino, size)
        {
            return reply.error(errno);
        }
        if let Some(TimeOrNow::SpecificTime(at)) = mtime {
            self.tree.set_modified(ino, at);
        }
        attr_or(self.tree.attr(ino), reply);
    }

    fn mkdir(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.tree.make_dir(parent, name);
        self.entry(made, reply);
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.tree.make_file(parent, name).and_then(|ino| self.tree.attr(ino)) {
            Ok(attr) => reply.created(&FOR_EVER, &attr, 0, 0, 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        done(self.tree.remove(parent, name), reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        done(self.tree.remove(parent, name), reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        if flags != 0 {
            return reply.error(EOPNOTSUPP);
        }
        done(self.tree.rename((parent, name), (new_parent, new_name)), reply);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _fh: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyData,
    ) {
        match self.tree.read(ino, offset as u64, u64::from(size)) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _fh: u64,
        offset: i64,
        data: &[u8],
        write_flags: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        if write_flags & WRITE_CACHE != 0 && self.fails(false, ino) {
            return reply.error(EIO);
        }
        match self.tree.write(ino, offset as u64, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&mut self, _: &Request<'_>, _ino: u64, _fh: u64, _owner: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, ino: u64, _fh: u64, _data: bool, reply: ReplyEmpty) {
        if self.fails(true, ino) {
            // The kernel holds the pages for clean, so nobody will write them again.
            self.tree.forget_unsynced(ino);
            return reply.error(EIO);
        }
        done(self.tree.sync(ino), reply);
    }

    fn fsyncdir(&mut self, _: &Request<'_>, ino: u64, _fh: u64, _data: bool, reply: ReplyEmpty) {
        done(self.tree.sync_dir(ino), reply);
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _fh: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        match self.tree.list(ino) {
            Ok(entries) => {
                for (n, (ino, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
                    if reply.add(*ino, n as i64 + 1, *kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _fh: u64,
        offset: i64,
        length: i64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(EOPNOTSUPP);
        }
        done(self.tree.extend(ino, (offset + length) as u64), reply);
    }

    fn statfs(&mut self, _: &Request<'_>, _ino: u64, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
