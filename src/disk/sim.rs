//! A disk in memory that fails as real ones do, all from one seed.
//!
//! [`SimDisk`] runs the very engine that runs on a directory. Meanwhile, or at the end, it gives
//! images of what another process ([`crash_process`](SimDisk::crash_process)) or the machine after
//! a power failure ([`power_failure`](SimDisk::power_failure)) would find:
//!
//! - Each 4 KiB page that no sync covers is old, new, or torn at 512-byte sectors, on its own;
//!   sometimes 16 to 256 KiB share a fate. [`background_writeback`](SimDisk::background_writeback)
//!   may have written any state between. Preallocated files come in both kinds: un-synced pages
//!   turn out as zeros, or as any mix.
//! - A created, renamed or removed name that no directory sync covers is there or not, on its own;
//!   a rename happens as a whole. A length that no sync covers is the old one or any since; a write
//!   that makes a file longer may have moved its end to the end of one of its pages.
//! - A failed sync ([`FaultPlan`]) leaves pages that look written and are not, and the next
//!   sync says that all is well.
//! - A store through a mapping to a page without a block panics: on a real disk that may be
//!   full it is SIGBUS.
//!
//! [`could_become`](SimDisk::could_become) asks the other way round: whether what was found is
//! something that a power failure can leave.
//!
//! # Limits
//!
//! Stores through a mapping are found by comparing bytes. So a store of the bytes that are there
//! already does not make a page dirty that a failed sync left clean; only a write call does, or
//! [`dirty_again`](super::DiskFile::dirty_again), which is what the engine does to such ranges.
//!
//! One thread at a time may use a disk while its files are mapped: the simulator, which runs the
//! engine's steps and calls these methods between them. Growing a mapped file past its pages and
//! shortening one panic.
//!
//! ```
//! use steadfast::disk::{Disk, FilePath, sim::{Rng, SimDisk}};
//!
//! let disk = SimDisk::new(7);
//! let path = FilePath::new("greeting");
//! let file = disk.create(&path, 5)?;
//! file.write_all_at(b"hello", 0)?;
//! file.sync_data()?;
//! disk.sync_dir(&FilePath::ROOT)?;
//! file.write_all_at(b"HELLO", 0)?; // not synced
//!
//! let image = disk.power_failure(&mut Rng::new(1));
//! let found = image.read_file("greeting");
//! assert!(found == b"hello" || found == b"HELLO");
//! # Ok::<(), std::io::Error>(())
//! ```

mod calls;
mod damage;
mod faults;
mod inode;
mod names;
mod page;
mod possible;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod walk;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

pub use self::{
    faults::{CallCounts, CallKind, Fault, FaultPlan, FaultRule, SyncFailure, When},
    possible::Found,
    rng::Rng,
    state::TracedCall,
    walk::Walk,
};
use self::{names::Node, page::PAGE, state::State};
use super::{AppendPath, FilePath};
use crate::clock::Clock;

/// A simulated disk, see the [module](self). Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without end. The seed decides what the disk draws by itself: kinds of files,
    /// pages lost in failed syncs.
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(Rng::new(seed)))
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Where modification times come from. Without a clock they are all 0.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.state.lock().clock = Some(clock);
    }

    /// What [`Disk::append_path`](super::Disk::append_path) answers: [`AppendPath::Store`] unless
    /// set.
    pub fn set_append_path(&self, path: AppendPath) {
        self.state.lock().append_path = path;
    }

    /// How many bytes fit on the disk, in whole blocks of 4 KiB. What is there stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity_blocks = Some(bytes / PAGE);
    }

    /// The failures from now on, in place of those planned before.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.state.lock().faults = plan;
    }

    /// What the next process on this machine finds when this one dies now: every byte stored so
    /// far, durable or not, and nobody's locks. The kernel's knowledge stays, such as pages that a
    /// failed sync made clean.
    ///
    /// A disk of its own: the old one, its open files and mappings go on without being seen there.
    /// Faults, counts and trace begin anew; capacity and clock stay.
    #[must_use]
    pub fn crash_process(&self) -> Self {
        Self::with(self.checked(true).fork())
    }

    /// What the machine finds when power fails now, one of the many possible results. Otherwise as
    /// [`crash_process`](Self::crash_process).
    #[must_use]
    pub fn power_failure(&self, rng: &mut Rng) -> Self {
        let mut state = self.checked(true);
        state.remember_stores();
        Self::with(state.after_power_failure(rng))
    }

    /// The image made when [`FaultPlan::halt_at`] struck, as by
    /// [`crash_process`](Self::crash_process); once. `None` if it did not strike.
    #[must_use]
    pub fn halted(&self) -> Option<Self> {
        self.state.lock().halted_image.take().map(|image| Self::with(*image))
    }

    /// Whether [`FaultPlan::halt_at`] struck.
    pub fn is_halted(&self) -> bool {
        self.state.lock().halted
    }

    /// The kernel writes some pages of some files by itself, as it may at any time.
    pub fn background_writeback(&self, rng: &mut Rng) {
        self.write_back(true, rng);
    }

    /// The kernel tries the same and fails: the pages are lost as in a failed sync, and the next
    /// sync of the file reports it.
    pub fn fail_background_writeback(&self, rng: &mut Rng) {
        self.write_back(false, rng);
    }

    fn write_back(&self, succeeds: bool, rng: &mut Rng) {
        for inode in self.checked(true).inodes.values_mut() {
            if rng.chance(1, 2) {
                inode.background_writeback(succeeds, rng);
            }
        }
    }

    /// Memory gets short: clean pages are dropped and will be read from the disk again, which
    /// shows what a failed sync lost. Files that are mapped keep theirs.
    pub fn drop_clean_pages(&self) {
        for inode in self.checked(true).inodes.values_mut() {
            inode.drop_clean_pages();
        }
    }

    /// Looks for stores to pages without a block, thoroughly; every call looks briefly.
    ///
    /// # Panics
    ///
    /// If there are any.
    pub fn check_stores(&self) {
        drop(self.checked(true));
    }

    fn checked(&self, thorough: bool) -> parking_lot::MutexGuard<'_, State> {
        let state = self.state.lock();
        state.check_stores(thorough);
        state
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        let state = self.state.lock();
        let is_file = |node: &Node| matches!(node, Node::File(_));
        let files = state.names.live().iter().filter(|(_, node)| is_file(node));
        files.map(|(path, _)| path.to_string()).collect()
    }

    /// The bytes of a file, as processes see them.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn read_file(&self, path: &str) -> Vec<u8> {
        let state = self.state.lock();
        let inode = state.named(path);
        let mut bytes = vec![0; inode.len() as usize];
        inode.read(0, &mut bytes);
        bytes
    }

    /// The bytes that a power failure now is sure to leave in the file of this name, as far as it
    /// does not get newer ones; `None` if the name is not durable.
    pub fn durable_file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        match state.names.durable().get(path)? {
            Node::File(ino) => Some(state.inodes.get(ino)?.durable_bytes()),
            Node::Directory => None,
        }
    }

    /// How many pages of a file a sync would write now.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn dirty_pages(&self, path: &str) -> usize {
        self.state.lock().named(path).dirty_pages().len()
    }

    /// How many calls there were since the disk, or this image of it, was made.
    pub fn counts(&self) -> CallCounts {
        self.state.lock().counts
    }

    /// The last calls, oldest first: to be printed when a test fails.
    pub fn trace(&self) -> Vec<TracedCall> {
        self.state.lock().trace.iter().cloned().collect()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never waits: a panic in the middle of a call may print this.
        let mut shown = f.debug_struct("SimDisk");
        if let Some(state) = self.state.try_lock() {
            shown.field("files", &state.names.live().len()).field("calls", &state.counts.total());
        }
        shown.finish_non_exhaustive()
    }
}

/// The path as the simulator keeps it.
fn shared(path: &FilePath) -> Arc<str> {
    path.as_str().into()
}
