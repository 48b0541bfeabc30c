//! Damage at rest: bytes and names change on the disk and in memory, and no sync is due for it.
//!
//! For use between runs, when nothing is mapped, or while nobody holds bytes of the range.

use std::sync::Arc;

use super::{
    SimDisk,
    inode::{Inode, PAGE},
    names::{Node, parent},
};

impl SimDisk {
    fn damage(&self, path: &str, damage: impl FnOnce(&mut Inode)) {
        let mut state = self.state.lock();
        let Some(&Node::File(ino)) = state.names.live().get(path) else {
            panic!("no such file path={path}");
        };
        damage(state.inodes.get_mut(&ino).expect("named files are kept"));
    }

    /// Puts `bytes` at `at`.
    ///
    /// # Panics
    ///
    /// If there is no such file, or it ends before. So do the others.
    pub fn overwrite(&self, path: &str, at: u64, bytes: &[u8]) {
        self.damage(path, |inode| {
            let end = at.checked_add(bytes.len() as u64);
            assert!(
                end <= Some(inode.len()) && end.is_some(),
                "behind the file path={path} at={at}"
            );
            inode.damage(at, bytes);
        });
    }

    /// Flips bit `bit` (0 is the lowest) of the byte at `at`.
    pub fn flip_bit(&self, path: &str, at: u64, bit: u8) {
        let mut byte = [0];
        self.damage(path, |inode| inode.read(at, &mut byte));
        self.overwrite(path, at, &[byte[0] ^ (1 << bit)]);
    }

    /// Turns `len` bytes at `at` into zeros.
    pub fn zero_range(&self, path: &str, at: u64, len: u64) {
        self.overwrite(path, at, &vec![0; len as usize]);
    }

    /// Puts a copy of the 4 KiB at `from` to `to`, as a write that went to the wrong place.
    pub fn misdirect(&self, path: &str, from: u64, to: u64) {
        let mut page = [0; PAGE as usize];
        self.damage(path, |inode| inode.read(from, &mut page));
        self.overwrite(path, to, &page);
    }

    /// Cuts the file short, or lengthens it by zeros.
    pub fn truncate(&self, path: &str, len: u64) {
        self.damage(path, |inode| inode.cut(len));
    }

    /// Takes the file away.
    pub fn remove_file(&self, path: &str) {
        self.damage(path, |_| {});
        let mut state = self.state.lock();
        state.names.force(&path.into(), None);
        state.collect();
    }

    /// Makes a file with these bytes, durable, in place of what was there; with the directories
    /// above it.
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state.lock();
        let mut above = parent(path);
        while !above.is_empty() {
            assert!(!matches!(state.names.live().get(above), Some(Node::File(_))), "file {above}");
            state.names.force(&above.into(), Some(Node::Directory));
            above = parent(above);
        }
        let path: Arc<str> = path.into();
        let ino = state.new_inode(&path, bytes.len() as u64);
        let inode = state.inodes.get_mut(&ino).expect("just made");
        if !bytes.is_empty() {
            inode.damage(0, bytes);
        }
        inode.sync();
        state.names.force(&path, Some(Node::File(ino)));
        state.collect();
    }

    /// Makes `to` a durable copy of `from`.
    pub fn copy_file(&self, from: &str, to: &str) {
        self.write_file(to, &self.read_file(from));
    }
}
