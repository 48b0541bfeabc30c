//! Random calls, the same on several disks.

use std::{collections::VecDeque, fmt, io, ops::Range, sync::Arc};

use super::{page::PAGE, rng::Rng};
use crate::disk::{Access, Disk, DiskFile, EntryKind, FilePath, replace};

/// Files grow up to about this.
const BYTES: u64 = 12 * PAGE;
const DIRS: [&str; 3] = ["", "a", "b"];
const NAMES: [&str; 4] = ["1", "2", "3", "4"];
const OPEN_MOST: usize = 6;
/// Last calls that are told.
const TOLD: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Open,
    Write,
    Append,
    WriteZeros,
    Store,
    Allocate,
    DirtyAgain,
    SetLen,
    SyncData,
    Rename,
    Replace,
    Remove,
    CreateDir,
    RemoveDir,
    SyncDir,
    SyncAll,
}

/// With how often each comes, as far as a walk does not change that.
const KINDS: [(Kind, u64); 17] = [
    (Kind::Create, 6),
    (Kind::Open, 2),
    (Kind::Write, 12),
    (Kind::Append, 6),
    (Kind::WriteZeros, 3),
    (Kind::Store, 8),
    (Kind::Allocate, 3),
    (Kind::DirtyAgain, 2),
    (Kind::SetLen, 4),
    (Kind::SyncData, 6),
    (Kind::Rename, 4),
    (Kind::Replace, 2),
    (Kind::Remove, 3),
    (Kind::CreateDir, 3),
    (Kind::RemoveDir, 1),
    (Kind::SyncDir, 4),
    (Kind::SyncAll, 1),
];

/// The same file on each disk.
type Everywhere = Vec<Arc<dyn DiskFile>>;

/// Makes the calls that the engine makes, in random order and with random bytes below 0x80, on
/// several disks in lock step. All have to answer alike; the first is asked what there is.
pub struct Walk {
    disks: Vec<Arc<dyn Disk>>,
    rng: Rng,
    weights: Vec<(Kind, u64)>,
    open: VecDeque<(FilePath, Everywhere)>,
    told: VecDeque<String>,
}

impl Walk {
    /// A walk over these disks, which are empty.
    pub fn new(disks: Vec<Arc<dyn Disk>>, mut rng: Rng) -> Self {
        // Some calls often, some never: rare combinations come up.
        let weights = KINDS.map(|(kind, n)| (kind, n * rng.pick(&[0, 1, 1, 1, 4])));
        let mut weights = weights.to_vec();
        weights.push((Kind::Create, 1));
        Self { disks, rng, weights, open: VecDeque::new(), told: VecDeque::new() }
    }

    /// The last calls, oldest first.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        self.told.iter().map(String::as_str)
    }

    /// Makes a call, or a few that belong together.
    ///
    /// # Errors
    ///
    /// The disks do not answer alike, or with an error that no healthy disk gives.
    pub fn step(&mut self) -> Result<(), String> {
        let whole: u64 = self.weights.iter().map(|(_, n)| n).sum();
        let mut drawn = self.rng.below(whole);
        let chosen = self.weights.iter().find(|(_, n)| {
            let here = drawn < *n;
            drawn = drawn.saturating_sub(*n);
            here
        });
        let kind = chosen.map_or(Kind::Create, |(kind, _)| *kind);
        match kind {
            Kind::Create | Kind::Open => self.create_or_open(kind == Kind::Create),
            Kind::Rename | Kind::Replace | Kind::Remove => self.change_name(kind),
            Kind::CreateDir | Kind::RemoveDir | Kind::SyncDir | Kind::SyncAll => self.about(kind),
            _ => self.change_file(kind),
        }
    }

    /// Makes one call on each disk.
    fn each<T>(
        &mut self,
        what: String,
        call: impl Fn(&dyn Disk) -> io::Result<T>,
    ) -> Result<Vec<T>, String> {
        let answers = self.disks.iter().map(|disk| call(&**disk)).collect();
        self.tell(what, answers)
    }

    fn tell<T>(&mut self, what: String, answers: Vec<io::Result<T>>) -> Result<Vec<T>, String> {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        let done = answers.into_iter().collect::<io::Result<Vec<T>>>();
        let done = done.map_err(|error| format!("{what} failed: {error}"));
        self.told.push_back(what);
        done
    }

    fn path(&mut self) -> FilePath {
        let dir = *self.rng.pick(&DIRS);
        let dir = if self.has_dir(dir) { dir } else { "" };
        let name = *self.rng.pick(&NAMES);
        if dir.is_empty() { FilePath::new(name) } else { FilePath::new(dir).join(name) }
    }

    fn dir(&mut self) -> FilePath {
        let dirs: Vec<_> = DIRS.into_iter().filter(|dir| self.has_dir(dir)).collect();
        directory(dirs[self.rng.below(dirs.len() as u64) as usize])
    }

    fn has_dir(&self, dir: &str) -> bool {
        self.disks[0].list(&directory(dir)).is_ok()
    }

    fn has_file(&self, path: &FilePath) -> bool {
        let entries = self.disks[0].list(&path.parent()).unwrap_or_default();
        entries.iter().any(|e| e.name == path.name() && e.kind == EntryKind::File)
    }

    fn keep_open(&mut self, path: FilePath, files: Everywhere) {
        if self.open.len() == OPEN_MOST {
            let n = self.rng.below(OPEN_MOST as u64) as usize;
            self.open.remove(n);
        }
        self.open.push_back((path, files));
    }

    fn create_or_open(&mut self, create: bool) -> Result<(), String> {
        let path = self.path();
        if self.has_file(&path) {
            let what = format!("open {path}");
            let files = self.each(what, |disk| disk.open(&path, Access::Write))?;
            self.keep_open(path, files);
        } else if create {
            let len = *self.rng.pick(&[0, 0, PAGE, 4 * PAGE, BYTES]);
            let len = if self.rng.chance(1, 4) { self.rng.below(BYTES) } else { len };
            let files =
                self.each(format!("create {path} len={len}"), |disk| disk.create(&path, len))?;
            self.keep_open(path, files);
            if self.rng.chance(1, 2) {
                let (path, files) = self.open[self.open.len() - 1].clone();
                self.in_file(format!("allocate {path} 0..{len}"), &files, |f| f.allocate(0, len))?;
            }
        }
        Ok(())
    }

    fn change_name(&mut self, kind: Kind) -> Result<(), String> {
        let (path, to) = (self.path(), self.path());
        let there = self.has_file(&path);
        match kind {
            Kind::Replace => {
                let mut bytes = vec![0; self.rng.below(2 * PAGE) as usize];
                self.fill(&mut bytes);
                let what = format!("replace {to} by {path} len={}", bytes.len());
                self.each(what, |disk| {
                    if path == to { Ok(()) } else { replace(disk, &path, &to, &bytes) }
                        .map_err(io::Error::other)
                })?;
            }
            Kind::Rename if there => {
                self.each(format!("rename {path} to {to}"), |disk| disk.rename(&path, &to))?;
            }
            Kind::Remove if there => {
                self.each(format!("remove {path}"), |disk| disk.remove(&path))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Calls about a directory, or all of the disk.
    fn about(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::CreateDir => {
                let dir = directory(self.rng.pick::<&str>(&DIRS[1..]));
                self.each(format!("create_dir {dir}"), |disk| disk.create_dir(&dir))?;
            }
            Kind::RemoveDir => {
                let dir = directory(self.rng.pick::<&str>(&DIRS[1..]));
                if self.disks[0].list(&dir).is_ok_and(|entries| entries.is_empty()) {
                    self.each(format!("remove_dir {dir}"), |disk| disk.remove_dir(&dir))?;
                }
            }
            Kind::SyncDir => {
                let dir = self.dir();
                self.each(format!("sync_dir {dir:?}"), |disk| disk.sync_dir(&dir))?;
            }
            _ => drop(self.each("sync_all".into(), |disk| disk.sync_all())?),
        }
        Ok(())
    }

    fn in_file(
        &mut self,
        what: String,
        files: &Everywhere,
        call: impl Fn(&dyn DiskFile) -> io::Result<()>,
    ) -> Result<(), String> {
        let answers = files.iter().map(|file| call(&**file)).collect();
        self.tell(what, answers).map(drop)
    }

    /// Calls about one of the open files.
    fn change_file(&mut self, kind: Kind) -> Result<(), String> {
        if self.open.is_empty() {
            return self.create_or_open(true);
        }
        let n = self.rng.below(self.open.len() as u64) as usize;
        let (path, files) = self.open[n].clone();
        let len = files[0].len().map_err(|e| e.to_string())?;
        let Range { start, end } = self.range(len, kind == Kind::Append);
        let what = format!("{kind:?} {path} {start}..{end} of {len}");
        match kind {
            Kind::SyncData => return self.in_file(what, &files, |file| file.sync_data()),
            Kind::SetLen => {
                let to = if self.rng.chance(2, 3) { len.max(end) } else { start };
                let to = if self.rng.chance(1, 2) { to } else { self.rng.below(BYTES) };
                let what = format!("{kind:?} {path} {to} was {len}");
                return self.in_file(what, &files, |file| file.set_len(to));
            }
            _ if start == end => return Ok(()),
            _ => {}
        }
        let mut bytes = vec![0; (end - start) as usize];
        self.fill(&mut bytes);
        if kind == Kind::Store {
            // Stores of what is there already are not seen by a simulated disk.
            bytes.iter_mut().for_each(|byte| *byte |= 1);
        }
        let part = end - start;
        self.in_file(what, &files, |file| match kind {
            Kind::WriteZeros => file.write_zeros(start, part),
            Kind::Allocate => file.allocate(start, part),
            Kind::DirtyAgain => file.dirty_again(start, part),
            Kind::Store => {
                file.allocate(start, part)?;
                let memory = Arc::new(file.map(len, Access::Write)?);
                let mut writer = memory.claim_writer().ok_or(io::ErrorKind::ResourceBusy)?;
                writer.slice(start, part).copy_from_slice(&bytes);
                Ok(())
            }
            _ => file.write_all_at(&bytes, start),
        })
    }

    /// A part of a file of `len` bytes, or behind it.
    fn range(&mut self, len: u64, behind: bool) -> Range<u64> {
        let most = *self.rng.pick(&[64, 700, PAGE, PAGE, 3 * PAGE]);
        let part = self.rng.below(most) + 1;
        if behind {
            return if len < 2 * BYTES { len..len + part } else { len..len };
        }
        if len == 0 {
            return 0..0;
        }
        let mut start = self.rng.below(len);
        let mut end = start + part;
        if self.rng.chance(1, 2) {
            (start, end) = (start / PAGE * PAGE, end.next_multiple_of(PAGE));
        }
        start..end.min(len)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        if self.rng.chance(9, 10) {
            self.rng.fill(bytes);
            bytes.iter_mut().for_each(|byte| *byte &= 0x7f);
        }
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("told", &self.told).finish_non_exhaustive()
    }
}

fn directory(dir: &str) -> FilePath {
    if dir.is_empty() { FilePath::ROOT } else { FilePath::new(dir) }
}
