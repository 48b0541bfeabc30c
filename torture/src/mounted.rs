//! A real file system in an image file, which can lose its power.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use steadfast::disk::sim::Rng;
use tempfile::TempDir;

const PAGE: u64 = 4096;

/// Kinds of file systems. Those in an image file can lose their power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
    /// Its upper layer is a tmpfs.
    Overlay,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlay => "overlay",
        }
    }

    /// The smallest that is made; the file of an image is sparse.
    fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Tmpfs | Self::Overlay => 8 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    fn in_memory(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Overlay)
    }
}

/// A mounted file system. Unmounted and removed when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    kind: Kind,
    home: TempDir,
    mounted: bool,
}

impl Mounted {
    /// Makes and mounts an empty file system.
    ///
    /// # Errors
    ///
    /// What this machine or user cannot do.
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        Self::sized(kind, kind.least_bytes().max(128 << 20))
    }

    /// The one in `place`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// What this machine or user cannot do.
    pub(crate) fn once(place: &mut Option<Self>, kind: Kind) -> Result<&mut Self> {
        match place {
            Some(mounted) => Ok(mounted),
            none => Ok(none.insert(Self::new(kind)?)),
        }
    }

    /// Makes and mounts the smallest that there is.
    ///
    /// # Errors
    ///
    /// What this machine or user cannot do.
    pub(crate) fn small(kind: Kind) -> Result<Self> {
        Self::sized(kind, kind.least_bytes())
    }

    fn sized(kind: Kind, bytes: u64) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("steadfast-mounted-").tempdir()?;
        let mut this = Self { kind, home, mounted: false };
        fs::create_dir(this.root())?;
        if kind.in_memory() {
            this.mount_in_memory(bytes)?;
            return Ok(this);
        }
        File::create(this.image())?.set_len(bytes)?;
        let force = if kind == Kind::Ext4 { "-F" } else { "-f" };
        run(Command::new(format!("mkfs.{}", kind.name())).args(["-q", force]).arg(this.image()))?;
        this.mount()?;
        Ok(this)
    }

    fn mount_in_memory(&mut self, bytes: u64) -> Result<()> {
        let size = format!("size={bytes}");
        let root = self.root();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&root))?;
        self.mounted = true;
        if self.kind == Kind::Overlay {
            let at = |name: &str| root.join(name).display().to_string();
            for name in ["lower", "upper", "work", "merged"] {
                fs::create_dir(root.join(name))?;
            }
            let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
            let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            let merged = root.join("merged");
            run(Command::new("mount")
                .args(["-t", "overlay", "-o", &layers, "overlay"])
                .arg(merged))?;
        }
        Ok(())
    }

    /// Where files can be made.
    pub(crate) fn top(&self) -> PathBuf {
        if self.kind == Kind::Overlay { self.root().join("merged") } else { self.root() }
    }

    /// Changes how it is mounted.
    ///
    /// # Errors
    ///
    /// The system says no.
    pub(crate) fn remount(&self, options: &str) -> Result<()> {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.top()))
    }

    /// The file that holds it. While it is mounted, nobody else may use it.
    pub(crate) fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// Mounts it, with what its journal has to replay.
    ///
    /// # Errors
    ///
    /// It cannot be mounted.
    pub(crate) fn mount(&mut self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.root()))?;
        self.mounted = true;
        Ok(())
    }

    /// Lets some pages of the files below `dir` reach the disk without a sync, and perhaps what the
    /// file system knows of names, sizes and blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be written back.
    pub(crate) fn write_some_back(&self, dir: &Path, rng: &mut Rng) -> Result<()> {
        let mut files = Vec::new();
        list(dir, &mut files);
        for _ in 0..rng.below(6) {
            if files.is_empty() {
                break;
            }
            let (path, len) = &files[rng.below(files.len() as u64) as usize];
            let pages = len.div_ceil(PAGE).max(1);
            let mut command = Command::new("xfs_io");
            for _ in 0..rng.within(1..8) {
                let from = rng.below(pages) * PAGE;
                let bytes = rng.within(1..17) * PAGE;
                command.args(["-c", &format!("sync_range -b -w -a {from} {bytes}")]);
            }
            match run(command.arg(path)) {
                // Removed or renamed by the process that is running, perhaps made anew since.
                Err(e) if e.to_string().contains("No such file") => {}
                done => done?,
            }
        }
        if rng.chance(1, 3) {
            // The journal of any file is everybody's: this one takes the others' sizes, names and
            // blocks along, not their bytes.
            let other = self.root().join("other");
            fs::write(&other, b"x")?;
            File::open(&other)?.sync_all()?;
        }
        Ok(())
    }

    /// What is missing for cutting the power on this machine, if anything is.
    pub(crate) fn missing(kind: Kind) -> Option<String> {
        let tried = Self::new(kind).and_then(|mut mounted| mounted.cut(&mut Rng::new(0)));
        tried.err().map(|e| format!("{e:#}"))
    }

    /// Cuts the power, with or without what the journal has in memory, and starts again.
    ///
    /// # Errors
    ///
    /// The file system cannot be shut down or mounted again.
    pub(crate) fn cut(&mut self, rng: &mut Rng) -> Result<()> {
        self.shut_down(rng)?;
        self.restart()
    }

    /// From here on nothing reaches the disk, and calls fail.
    ///
    /// # Errors
    ///
    /// The file system cannot be shut down.
    pub(crate) fn shut_down(&self, rng: &mut Rng) -> Result<()> {
        let how = if rng.chance(1, 4) { "shutdown -f" } else { "shutdown" };
        run(Command::new("xfs_io").args(["-x", "-c", how]).arg(self.root()))
    }

    /// Mounts it again, as after the power is back. Nobody may have a file open.
    ///
    /// # Errors
    ///
    /// It cannot be mounted again.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Unmounts it; nobody may have a file open.
    ///
    /// # Errors
    ///
    /// It stays busy.
    pub(crate) fn unmount(&mut self) -> Result<()> {
        if self.kind == Kind::Overlay {
            let _ = run(Command::new("umount").arg("-l").arg(self.top()));
        }
        let mut tries = 0;
        // A process that was killed lets go of its mappings a little later.
        while let Err(error) = run(Command::new("umount").arg(self.root())) {
            tries += 1;
            ensure!(tries < 100, error);
            thread::sleep(Duration::from_millis(20));
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            let _ = run(Command::new("umount").arg("-l").arg(self.root()));
        }
    }
}

/// Regular files below `dir` with their lengths.
fn list(dir: &Path, files: &mut Vec<(PathBuf, u64)>) {
    // What goes away meanwhile is of no interest.
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list(&entry.path(), files),
            Ok(metadata) => files.push((entry.path(), metadata.len())),
            Err(_) => {}
        }
    }
}

/// Runs it to its end.
///
/// # Errors
///
/// It cannot be run or fails, with what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("{program} fails: {}", why.trim());
    }
    Ok(())
}
