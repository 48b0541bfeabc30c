//! Whether a tree is one that a power failure can leave: what is drawn elsewhere, asked backwards.

use std::collections::BTreeMap;

use super::{SimDisk, names::Node};

#[cfg(test)]
mod tests;

/// What has a name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A file with these bytes.
    File(Vec<u8>),
}

impl SimDisk {
    /// From here on each new file keeps all that its pages held since its last sync, and a power
    /// failure may leave any of it, as when the kernel had written it just then. What
    /// [`background_writeback`](Self::background_writeback) and
    /// [`write_zeros`](crate::disk::DiskFile::write_zeros) write is not decided before.
    ///
    /// For comparing with a real disk, whose kernel does not tell what it has written. Costs memory
    /// with each call that writes.
    pub fn remember_writes(&self) {
        self.state.lock().remembers = true;
    }

    /// All paths as processes see them, and what they lead to.
    pub fn tree(&self) -> BTreeMap<String, Found> {
        let state = self.state.lock();
        let found = |node: &Node| match node {
            Node::Directory => Found::Directory,
            Node::File(ino) => {
                let inode = &state.inodes[ino];
                let mut bytes = vec![0; inode.len() as usize];
                inode.read(0, &mut bytes);
                Found::File(bytes)
            }
        };
        state.names.live().iter().map(|(path, node)| (path.to_string(), found(node))).collect()
    }

    /// Whether a power failure now can leave just this, by the rules by which
    /// [`power_failure`](Self::power_failure) draws.
    ///
    /// # Errors
    ///
    /// Why not: which file, which byte, and what it could be.
    pub fn could_become(&self, found: &BTreeMap<String, Found>) -> Result<(), String> {
        let mut state = self.checked(true);
        state.remember_stores();
        let inodes = &state.inodes;
        state.names.could_become(found, &mut |path, ino| match found.get(path) {
            Some(Found::File(bytes)) => inodes[&ino].could_become(bytes),
            _ => Err("is no file".into()),
        })
    }
}
