//! Files to measure on.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use common::{Args, Failure};
use rustix::fs::{FallocateFlags, fallocate};

/// What a new file has: its length, blocks, bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Neither length nor blocks.
    Empty,
    /// A length without blocks.
    Sparse,
    /// Blocks that were never written.
    Allocated,
    /// Zeros, written and synced.
    Zeroed,
}

impl Fill {
    /// By the name that the cases have for it.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "empty" => Ok(Self::Empty),
            "sparse" => Ok(Self::Sparse),
            "falloc" => Ok(Self::Allocated),
            "zeroed" => Ok(Self::Zeroed),
            other => Err(format!("no such kind of file: {other:?}").into()),
        }
    }
}

/// A file of our own, removed in the end.
pub(crate) struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    /// A new file of that name in `dir=`, in place of one that may be there.
    pub(crate) fn create(args: &Args, name: &str, len: u64, fill: Fill) -> Result<Self, Failure> {
        let dir = args.dir()?;
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let path = dir.join(name);
        // A new inode: the blocks of an old one would count.
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let scratch = Self { file, path };
        scratch.fill(len, fill).map_err(|e| format!("{}: {e}", scratch.path.display()))?;
        Ok(scratch)
    }

    fn fill(&self, len: u64, fill: Fill) -> std::io::Result<()> {
        match fill {
            Fill::Empty => Ok(()),
            Fill::Sparse => self.file.set_len(len),
            Fill::Allocated => Ok(fallocate(&self.file, FallocateFlags::empty(), 0, len)?),
            Fill::Zeroed => {
                self.write_all(&vec![0; 1 << 20], len)?;
                self.file.sync_all()
            }
        }
    }

    /// Writes `piece` over and over until `len` bytes are written.
    pub(crate) fn write_all(&self, piece: &[u8], len: u64) -> std::io::Result<()> {
        let mut at = 0;
        while at < len {
            let part = &piece[..piece.len().min((len - at) as usize)];
            self.file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
