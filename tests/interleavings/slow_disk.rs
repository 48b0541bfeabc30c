//! The simulated disk, with other threads running before, in the middle of, and after its calls.

use std::{io, ops::Range, sync::Arc};

use crate::{
    StoreTime,
    disk::{
        Access, AppendPath, DirEntry, DirectoryLock, Disk, DiskFile, FilePath, Memory, Usage,
        sim::SimDisk,
    },
    sync::{AtomicBool, Ordering::SeqCst},
};

/// Here any other thread may run.
fn step() {
    AtomicBool::new(false).load(SeqCst);
}

#[derive(Debug)]
pub(crate) struct SlowDisk(pub(crate) SimDisk);

#[derive(Debug)]
struct SlowFile(Arc<dyn DiskFile>);

fn slow(file: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
    Ok(Arc::new(SlowFile(file?)))
}

impl Disk for SlowDisk {
    fn lock(&self, path: &FilePath) -> io::Result<Box<dyn DirectoryLock>> {
        self.0.lock(path)
    }

    fn locked(&self, path: &FilePath) -> io::Result<bool> {
        self.0.locked(path)
    }

    fn create(&self, path: &FilePath, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        step();
        slow(self.0.create(path, len))
    }

    fn open(&self, path: &FilePath, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        step();
        slow(self.0.open(path, access))
    }

    fn list(&self, dir: &FilePath) -> io::Result<Vec<DirEntry>> {
        step();
        self.0.list(dir)
    }

    fn modified(&self, path: &FilePath) -> io::Result<StoreTime> {
        step();
        self.0.modified(path)
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        step();
        self.0.rename(from, to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        step();
        self.0.remove(path)
    }

    fn create_dir(&self, path: &FilePath) -> io::Result<()> {
        step();
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &FilePath) -> io::Result<()> {
        step();
        self.0.remove_dir(path)
    }

    fn sync_dir(&self, dir: &FilePath) -> io::Result<()> {
        step();
        let done = self.0.sync_dir(dir);
        step();
        done
    }

    fn sync_all(&self) -> io::Result<()> {
        step();
        let done = self.0.sync_all();
        step();
        done
    }

    fn usage(&self) -> io::Result<Usage> {
        self.0.usage()
    }

    fn append_path(&self) -> AppendPath {
        self.0.append_path()
    }

    fn readers(&self) -> usize {
        1
    }
}

impl DiskFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        step();
        self.0.read_exact_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.0.next_data(offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        step();
        // Half of it can be seen before the other half.
        let (front, back) = bytes.split_at(bytes.len() / 2);
        self.0.write_all_at(front, offset)?;
        step();
        self.0.write_all_at(back, offset + front.len() as u64)
    }

    fn dirty_again(&self, offset: u64, len: u64) -> io::Result<()> {
        step();
        self.0.dirty_again(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        step();
        self.0.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        step();
        self.0.allocate(offset, len)
    }

    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        step();
        self.0.write_zeros(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        step();
        // What comes while it lasts is not covered.
        let done = self.0.sync_data();
        step();
        done
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Memory> {
        step();
        self.0.map(len, access)
    }
}
