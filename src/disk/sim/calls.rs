//! The simulated disk's side of the seam.

use std::{fmt, io, ops::Range, sync::Arc};

use parking_lot::Mutex;

use super::{
    SimDisk,
    faults::{CallKind, Fault, SyncFailure},
    inode::Inode,
    names::{Ino, Node, parent},
    shared,
    state::{About, State, call, check_stores_of},
};
use crate::{
    disk::{
        Access, AppendPath, DirEntry, DirectoryLock, Disk, DiskFile, EntryKind, FilePath, Memory,
        Usage,
    },
    offset::StoreTime,
};

type Shared = Arc<Mutex<State>>;

impl SimDisk {
    fn call<T>(
        &self,
        kind: CallKind,
        path: &FilePath,
        body: impl FnOnce(&mut State, &Arc<str>, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = shared(path);
        call(&self.state, About(kind, &path, 0, 0), |state, fault| body(state, &path, fault))
    }

    fn wrap(&self, state: &State, ino: Ino, access: Access) -> Arc<dyn DiskFile> {
        let open = Arc::clone(&state.inodes[&ino].handles);
        Arc::new(SimFile { state: Arc::clone(&self.state), ino, access, _open: open })
    }
}

impl State {
    /// The file that `path` leads to.
    fn file(&self, path: &str) -> io::Result<Ino> {
        match self.names.live().get(path) {
            Some(Node::File(ino)) => Ok(*ino),
            Some(Node::Directory) => Err(io::ErrorKind::InvalidInput.into()),
            None if path.is_empty() => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Checks that there is a directory for `path` to be in.
    fn parent_exists(&self, path: &str) -> io::Result<()> {
        if self.names.has_directory(parent(path)) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn create_file(&mut self, path: &Arc<str>, len: u64) -> io::Result<Ino> {
        self.parent_exists(path)?;
        if path.is_empty() || self.names.live().contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.room() == 0 {
            return Err(Fault::NoSpace.error());
        }
        let ino = self.new_inode(path, len);
        self.names.link(path, ino);
        Ok(ino)
    }

    fn write(&mut self, ino: Ino, data: &[u8], at: u64, fault: Option<Fault>) -> io::Result<()> {
        let room = self.room();
        let now = self.now();
        let Self { inodes, rng, .. } = self;
        let inode = inodes.get_mut(&ino).expect("open files are kept");
        check_stores_of(inode, true);
        let stops_early = matches!(fault, Some(Fault::NoSpace | Fault::Quota | Fault::Short));
        let data = match fault {
            None | Some(Fault::Lost) => data,
            Some(_) if stops_early && !data.is_empty() => {
                &data[..rng.below(data.len() as u64) as usize]
            }
            Some(_) => &[],
        };
        if !data.is_empty() {
            inode.modified = now;
            inode.write(data, at, room).map_err(|_| Fault::NoSpace.error())?;
        }
        match fault {
            None | Some(Fault::Lost) => Ok(()),
            Some(Fault::Short) => Err(io::ErrorKind::WriteZero.into()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn sync_file(&mut self, ino: Ino, fault: Option<Fault>) -> io::Result<()> {
        let now = self.now();
        let failure = self.faults.sync_failure();
        let Self { inodes, rng, .. } = self;
        let inode = inodes.get_mut(&ino).expect("open files are kept");
        check_stores_of(inode, true);
        match fault {
            None => {
                if inode.sync() && inode.is_stored_to() {
                    inode.modified = now;
                }
                // Reported once, although what could be written now was.
                if std::mem::take(&mut inode.writeback_failed) {
                    return Err(Fault::Io.error());
                }
                Ok(())
            }
            Some(Fault::Lost) => {
                inode.fail_sync(SyncFailure::KeptClean, rng);
                Ok(())
            }
            Some(fault) => {
                inode.fail_sync(failure, rng);
                Err(fault.error())
            }
        }
    }

    fn sync_everything(&mut self, fault: Option<Fault>) -> io::Result<()> {
        let mut result = Ok(());
        for ino in self.inodes.keys().copied().collect::<Vec<_>>() {
            let fault = fault.filter(|_| self.rng.chance(1, 2));
            result = self.sync_file(ino, fault).and(result);
        }
        match fault {
            None => self.names.sync(None),
            Some(Fault::Lost) => {}
            Some(fault) => result = Err(fault.error()),
        }
        self.collect();
        result
    }
}

impl Disk for SimDisk {
    fn lock(&self, path: &FilePath) -> io::Result<Box<dyn DirectoryLock>> {
        self.call(CallKind::Lock, path, |state, path, _| {
            if state.locks.contains(path) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let ino = match state.file(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => state.create_file(path, 0)?,
                found => found?,
            };
            if state.inodes[&ino].len() == 0 {
                state.write(ino, b"lock", 0, None)?;
            }
            state.locks.insert(Arc::clone(path));
            let (state, path) = (Arc::clone(&self.state), Arc::clone(path));
            Ok(Box::new(SimLock { state, path }) as _)
        })
    }

    fn locked(&self, path: &FilePath) -> io::Result<bool> {
        self.call(CallKind::Lock, path, |state, path, _| Ok(state.locks.contains(path)))
    }

    fn create(&self, path: &FilePath, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.call(CallKind::Create, path, |state, path, _| {
            let ino = state.create_file(path, len)?;
            Ok(self.wrap(state, ino, Access::Write))
        })
    }

    fn open(&self, path: &FilePath, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.call(CallKind::Open, path, |state, path, _| {
            let ino = state.file(path)?;
            Ok(self.wrap(state, ino, access))
        })
    }

    fn list(&self, dir: &FilePath) -> io::Result<Vec<DirEntry>> {
        self.call(CallKind::List, dir, |state, dir, _| {
            if !state.names.has_directory(dir) {
                let is_file = state.names.live().contains_key(dir);
                let no =
                    if is_file { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound };
                return Err(no.into());
            }
            let entry = |(name, node): (&str, Node)| {
                let (kind, len) = match node {
                    Node::Directory => (EntryKind::Directory, 0),
                    Node::File(ino) => (EntryKind::File, state.inodes[&ino].len()),
                };
                DirEntry { name: name.to_owned(), kind, len }
            };
            Ok(state.names.children(dir).map(entry).collect())
        })
    }

    fn modified(&self, path: &FilePath) -> io::Result<StoreTime> {
        self.call(CallKind::Modified, path, |state, path, _| {
            let ino = state.file(path)?;
            Ok(state.inodes[&ino].modified)
        })
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.call(CallKind::Rename, from, |state, from, _| {
            let ino = state.file(from)?;
            state.parent_exists(to.as_str())?;
            if state.names.has_directory(to.as_str()) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let to = shared(to);
            if *from != to {
                state.names.rename(&to, ino);
                if let Some(inode) = state.inodes.get_mut(&ino) {
                    inode.path = to;
                }
                state.collect();
            }
            Ok(())
        })
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.call(CallKind::Remove, path, |state, path, _| {
            let ino = state.file(path).map_err(|e| match e.kind() {
                io::ErrorKind::InvalidInput => io::ErrorKind::IsADirectory.into(),
                _ => e,
            })?;
            state.names.unlink(path, ino);
            state.collect();
            Ok(())
        })
    }

    fn create_dir(&self, path: &FilePath) -> io::Result<()> {
        self.call(CallKind::CreateDir, path, |state, path, _| {
            if state.names.has_directory(path) {
                return Ok(());
            }
            state.parent_exists(path)?;
            if state.names.live().contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.names.make_dir(path);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &FilePath) -> io::Result<()> {
        self.call(CallKind::RemoveDir, path, |state, path, _| {
            match state.names.live().get(path) {
                None => return Err(io::ErrorKind::NotFound.into()),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                Some(Node::Directory) => {}
            }
            if state.names.children(path).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            state.names.remove_dir(path);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &FilePath) -> io::Result<()> {
        self.call(CallKind::SyncDir, dir, |state, dir, _| {
            if !state.names.has_directory(dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.names.sync(Some(dir));
            state.collect();
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call(CallKind::SyncAll, &FilePath::ROOT, |state, _, fault| {
            state.sync_everything(fault)
        })
    }

    fn usage(&self) -> io::Result<Usage> {
        self.call(CallKind::Usage, &FilePath::ROOT, |state, _, _| {
            let (total, available) = state.usage();
            Ok(Usage { total, available })
        })
    }

    fn append_path(&self) -> AppendPath {
        self.state.lock().append_path
    }

    fn readers(&self) -> usize {
        // A schedule must replay.
        1
    }
}

struct SimLock {
    state: Shared,
    path: Arc<str>,
}

impl DirectoryLock for SimLock {}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}

struct SimFile {
    state: Shared,
    ino: Ino,
    access: Access,
    /// Keeps the file's bytes when it loses its name.
    _open: Arc<()>,
}

impl SimFile {
    fn call<T>(
        &self,
        kind: CallKind,
        at: u64,
        len: u64,
        body: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = Arc::clone(&self.state.lock().inodes[&self.ino].path);
        let changes = matches!(
            kind,
            CallKind::Write
                | CallKind::DirtyAgain
                | CallKind::SetLen
                | CallKind::Allocate
                | CallKind::WriteZeros
        );
        call(&self.state, About(kind, &path, at, len), |state, fault| {
            if changes && self.access == Access::Read {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            body(state, fault)
        })
    }

    fn inode<'a>(&self, state: &'a mut State) -> &'a mut Inode {
        state.inodes.get_mut(&self.ino).expect("open files are kept")
    }

    /// `InvalidInput` unless the range lies in the file.
    fn inside(&self, state: &mut State, at: u64, len: u64) -> io::Result<()> {
        match at.checked_add(len) {
            Some(end) if end <= self.inode(state).len() => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.call(CallKind::Len, 0, 0, |state, _| Ok(self.inode(state).len()))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let len = buf.len() as u64;
        self.call(CallKind::Read, offset, len, |state, _| {
            self.inside(state, offset, len).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            self.inode(state).read(offset, buf);
            Ok(())
        })
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.call(CallKind::Len, offset, 0, |state, _| {
            let len = self.inode(state).len();
            Ok((offset < len).then_some(offset..len))
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.call(CallKind::Write, offset, bytes.len() as u64, |state, fault| {
            state.write(self.ino, bytes, offset, fault)
        })
    }

    fn dirty_again(&self, offset: u64, len: u64) -> io::Result<()> {
        self.call(CallKind::DirtyAgain, offset, len, |state, fault| {
            self.inside(state, offset, len)?;
            check_stores_of(self.inode(state), true);
            let (room, now) = (state.room(), state.now());
            let part = match fault {
                None | Some(Fault::Lost) => len,
                Some(_) => state.rng.below(len + 1),
            };
            let inode = self.inode(state);
            inode.modified = now;
            inode.dirty_again(offset, part, room).map_err(|_| Fault::NoSpace.error())?;
            match fault {
                None | Some(Fault::Lost) => Ok(()),
                Some(fault) => Err(fault.error()),
            }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(CallKind::SetLen, 0, len, |state, _| {
            let now = state.now();
            let inode = self.inode(state);
            check_stores_of(inode, true);
            inode.set_len(len);
            inode.modified = now;
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.call(CallKind::Allocate, offset, len, |state, fault| {
            self.inside(state, offset, len)?;
            check_stores_of(self.inode(state), true);
            let room = state.room();
            match fault {
                None | Some(Fault::Lost) => {
                    let inode = self.inode(state);
                    inode.allocate(offset, len, room).map_err(|_| Fault::NoSpace.error())?;
                    inode.may_end_at(offset + len);
                    Ok(())
                }
                Some(fault) => {
                    // Some of it may have been allocated all the same.
                    let part = state.rng.below(4).min(room);
                    let _ = self.inode(state).allocate(offset, len, part);
                    Err(fault.error())
                }
            }
        })
    }

    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        self.call(CallKind::WriteZeros, offset, len, |state, fault| {
            self.inside(state, offset, len)?;
            state.write(self.ino, &vec![0; len as usize], offset, fault)?;
            // Pushed out, but with no more promise than the kernel's own writing.
            let mut rng = state.rng.split();
            self.inode(state).background_writeback(true, &mut rng);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(CallKind::SyncData, 0, 0, |state, fault| state.sync_file(self.ino, fault))
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Memory> {
        self.call(CallKind::Map, 0, len, |state, _| {
            self.inside(state, 0, len)?;
            let for_stores = access == Access::Write;
            if for_stores && self.access == Access::Read {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if for_stores {
                state.watch_stores(self.ino);
            }
            let block = self.inode(state).map(for_stores);
            Ok(Memory::shared_heap(block, len, access))
        })
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("ino", &self.ino).finish_non_exhaustive()
    }
}
