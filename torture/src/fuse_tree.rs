//! Files and directories in memory, with what of them is durable: a tree in a directory of another
//! file system, to which synced bytes and names go.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use fuser::{FUSE_ROOT_ID, FileAttr, FileType};
use steadfast::disk::sim::Rng;

/// The kernel's number of an error.
pub(crate) type Errno = i32;

const ENOENT: Errno = 2;
const EIO: Errno = 5;
const EEXIST: Errno = 17;
const ENOTDIR: Errno = 20;
const EISDIR: Errno = 21;
const ENOTEMPTY: Errno = 39;

const PAGE: u64 = 4096;

/// Below the backing directory: what is durable, by name.
pub(crate) const NAMES: &str = "names";
/// Below it, too: what is durable of each file, by number. Names are further links to these.
const BYTES: &str = "bytes";

pub(crate) struct Tree {
    backing: PathBuf,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    names_at_once: bool,
    leak: u64,
    rng: Rng,
}

struct Node {
    /// From the root, without a slash at its beginning.
    path: String,
    modified: SystemTime,
    content: Content,
}

enum Content {
    Dir {
        entries: BTreeMap<OsString, u64>,
        /// What a power failure leaves.
        durable: BTreeMap<OsString, u64>,
    },
    File {
        bytes: Vec<u8>,
        /// Pages that are not in the durable file.
        unsynced: BTreeSet<u64>,
    },
}

impl Tree {
    /// What is durable in `backing`.
    pub(crate) fn load(
        backing: &Path,
        names_at_once: bool,
        leak: u64,
        seed: u64,
    ) -> io::Result<Self> {
        let (names, bytes) = (backing.join(NAMES), backing.join(BYTES));
        fs::create_dir_all(&names)?;
        // The names keep what still counts.
        let _ = fs::remove_dir_all(&bytes);
        fs::create_dir(&bytes)?;
        let mut tree = Self {
            backing: backing.to_owned(),
            nodes: BTreeMap::new(),
            next: FUSE_ROOT_ID + 1,
            names_at_once,
            leak,
            rng: Rng::new(seed),
        };
        tree.load_dir(FUSE_ROOT_ID, &names, "")?;
        Ok(tree)
    }

    fn load_dir(&mut self, ino: u64, dir: &Path, path: &str) -> io::Result<()> {
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let child = self.number();
            let below = join(path, &entry.file_name());
            if entry.file_type()?.is_dir() {
                self.load_dir(child, &entry.path(), &below)?;
            } else {
                fs::hard_link(entry.path(), self.durable_bytes(child))?;
                let content =
                    Content::File { bytes: fs::read(entry.path())?, unsynced: BTreeSet::new() };
                let modified = entry.metadata()?.modified()?;
                self.nodes.insert(child, Node { path: below, modified, content });
            }
            entries.insert(entry.file_name(), child);
        }
        let content = Content::Dir { durable: entries.clone(), entries };
        let node = Node { path: path.to_owned(), modified: SystemTime::now(), content };
        self.nodes.insert(ino, node);
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn durable_bytes(&self, ino: u64) -> PathBuf {
        self.backing.join(BYTES).join(ino.to_string())
    }

    /// From the root.
    pub(crate) fn path(&self, ino: u64) -> String {
        self.nodes.get(&ino).map(|node| node.path.clone()).unwrap_or_default()
    }

    fn entries(&mut self, ino: u64) -> Result<&mut BTreeMap<OsString, u64>, Errno> {
        match &mut self.nodes.get_mut(&ino).ok_or(ENOENT)?.content {
            Content::Dir { entries, .. } => Ok(entries),
            Content::File { .. } => Err(ENOTDIR),
        }
    }

    fn file(&mut self, ino: u64) -> Result<(&mut Vec<u8>, &mut BTreeSet<u64>), Errno> {
        match &mut self.nodes.get_mut(&ino).ok_or(ENOENT)?.content {
            Content::File { bytes, unsynced } => Ok((bytes, unsynced)),
            Content::Dir { .. } => Err(EISDIR),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        match &self.nodes.get(&parent).ok_or(ENOENT)?.content {
            Content::Dir { entries, .. } => entries.get(name).copied().ok_or(ENOENT),
            Content::File { .. } => Err(ENOTDIR),
        }
    }

    pub(crate) fn attr(&self, ino: u64) -> Result<FileAttr, Errno> {
        let node = self.nodes.get(&ino).ok_or(ENOENT)?;
        let (kind, size) = match &node.content {
            Content::Dir { .. } => (FileType::Directory, 0),
            Content::File { bytes, .. } => (FileType::RegularFile, bytes.len() as u64),
        };
        Ok(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: node.modified,
            ctime: node.modified,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    pub(crate) fn set_modified(&mut self, ino: u64, at: SystemTime) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.modified = at;
        }
    }

    pub(crate) fn make_dir(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.make(parent, name, Content::Dir { entries: BTreeMap::new(), durable: BTreeMap::new() })
    }

    pub(crate) fn make_file(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        let content = Content::File { bytes: Vec::new(), unsynced: BTreeSet::new() };
        self.make(parent, name, content)
    }

    fn make(&mut self, parent: u64, name: &OsStr, content: Content) -> Result<u64, Errno> {
        let ino = self.number();
        let path = join(&self.path(parent), name);
        let entries = self.entries(parent)?;
        if entries.contains_key(name) {
            return Err(EEXIST);
        }
        entries.insert(name.to_owned(), ino);
        if matches!(content, Content::File { .. }) {
            File::create(self.durable_bytes(ino)).map_err(|_| EIO)?;
        }
        self.nodes.insert(ino, Node { path, modified: SystemTime::now(), content });
        self.names_changed(parent)?;
        Ok(ino)
    }

    pub(crate) fn remove(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        if self.entries(ino).is_ok_and(|entries| !entries.is_empty()) {
            return Err(ENOTEMPTY);
        }
        // The file itself stays: somebody may have it open.
        self.entries(parent)?.remove(name);
        self.names_changed(parent)
    }

    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        let ino = self.lookup(from.0, from.1)?;
        let path = join(&self.path(to.0), to.1);
        self.entries(to.0)?.insert(to.1.to_owned(), ino);
        if from != to {
            self.entries(from.0)?.remove(from.1);
        }
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.path = path;
        }
        // Never in neither of them.
        self.names_changed(to.0)?;
        self.names_changed(from.0)
    }

    pub(crate) fn list(&self, ino: u64) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let Content::Dir { entries, .. } = &self.nodes.get(&ino).ok_or(ENOENT)?.content else {
            return Err(ENOTDIR);
        };
        let mut list = vec![(ino, FileType::Directory, ".".into())];
        list.push((ino, FileType::Directory, "..".into()));
        for (name, child) in entries {
            list.push((*child, self.attr(*child)?.kind, name.clone()));
        }
        Ok(list)
    }

    pub(crate) fn read(&mut self, ino: u64, at: u64, len: u64) -> Result<&[u8], Errno> {
        let (bytes, _) = self.file(ino)?;
        let from = at.min(bytes.len() as u64);
        let to = (at + len).min(bytes.len() as u64);
        Ok(&bytes[from as usize..to as usize])
    }

    pub(crate) fn write(&mut self, ino: u64, at: u64, data: &[u8]) -> Result<(), Errno> {
        let end = at + data.len() as u64;
        self.extend(ino, end)?;
        let (bytes, unsynced) = self.file(ino)?;
        bytes[at as usize..end as usize].copy_from_slice(data);
        let pages = at / PAGE..end.div_ceil(PAGE);
        unsynced.extend(pages.clone());
        for page in pages {
            if self.leak > 0 && self.rng.chance(1, self.leak) {
                self.write_through(ino, Some(page))?;
            }
        }
        Ok(())
    }

    /// Makes the file at least `len` long.
    pub(crate) fn extend(&mut self, ino: u64, len: u64) -> Result<(), Errno> {
        let (bytes, _) = self.file(ino)?;
        if len > bytes.len() as u64 { self.set_len(ino, len) } else { Ok(()) }
    }

    pub(crate) fn set_len(&mut self, ino: u64, len: u64) -> Result<(), Errno> {
        let (bytes, unsynced) = self.file(ino)?;
        let before = bytes.len() as u64;
        bytes.resize(len as usize, 0);
        // Zeros behind a cut must not be old bytes on the disk.
        unsynced.extend(before.min(len) / PAGE..len.max(before).div_ceil(PAGE));
        Ok(())
    }

    /// What is not durable of a file never will be, unless it is written again.
    pub(crate) fn forget_unsynced(&mut self, ino: u64) {
        if let Ok((_, unsynced)) = self.file(ino) {
            unsynced.clear();
        }
    }

    /// Makes a file durable; not its name.
    pub(crate) fn sync(&mut self, ino: u64) -> Result<(), Errno> {
        self.write_through(ino, None)
    }

    /// Writes one page to the durable file, or all and its length.
    fn write_through(&mut self, ino: u64, only: Option<u64>) -> Result<(), Errno> {
        let path = self.durable_bytes(ino);
        let (bytes, unsynced) = self.file(ino)?;
        let file = File::options().write(true).open(path).map_err(|_| EIO)?;
        let pages = only.map_or_else(|| std::mem::take(unsynced), |page| BTreeSet::from([page]));
        for page in pages {
            let from = ((page * PAGE) as usize).min(bytes.len());
            let to = (from + PAGE as usize).min(bytes.len());
            file.write_all_at(&bytes[from..to], page * PAGE).map_err(|_| EIO)?;
        }
        if only.is_none() {
            file.set_len(bytes.len() as u64).map_err(|_| EIO)?;
        }
        Ok(())
    }

    fn names_changed(&mut self, ino: u64) -> Result<(), Errno> {
        if self.names_at_once { self.sync_dir(ino) } else { Ok(()) }
    }

    /// Makes the names in a directory durable, with the directory's own.
    pub(crate) fn sync_dir(&mut self, ino: u64) -> Result<(), Errno> {
        let dir = self.backing.join(NAMES).join(self.path(ino));
        let Content::Dir { entries, durable } = &self.nodes.get(&ino).ok_or(ENOENT)?.content else {
            return Err(ENOTDIR);
        };
        self.make_durable(&dir, entries, durable).map_err(|_| EIO)?;
        if let Content::Dir { entries, durable } =
            &mut self.nodes.get_mut(&ino).ok_or(ENOENT)?.content
        {
            durable.clone_from(entries);
        }
        Ok(())
    }

    fn make_durable(
        &self,
        dir: &Path,
        entries: &BTreeMap<OsString, u64>,
        durable: &BTreeMap<OsString, u64>,
    ) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for (name, ino) in entries.iter().filter(|(name, ino)| durable.get(*name) != Some(ino)) {
            let path = dir.join(name);
            if matches!(self.nodes.get(ino).map(|n| &n.content), Some(Content::Dir { .. })) {
                fs::create_dir_all(path)?;
            } else {
                let new = self.backing.join(BYTES).join("new");
                fs::hard_link(self.durable_bytes(*ino), &new)?;
                fs::rename(&new, path)?;
            }
        }
        for name in durable.keys().filter(|name| !entries.contains_key(*name)) {
            let path = dir.join(name);
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }
}

fn join(dir: &str, name: &OsStr) -> String {
    let name = name.to_string_lossy();
    if dir.is_empty() { name.into_owned() } else { format!("{dir}/{name}") }
}
