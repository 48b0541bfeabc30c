//! The bytes of one simulated file: what processes see, and what the disk has.

use std::{ops::Range, sync::Arc};

use super::{
    faults::SyncFailure,
    page::{PAGE, PageBytes, Stored, ZEROS, bytes, cut_at, stored},
    rng::Rng,
};
use crate::{disk::memory::HeapBlock, offset::StoreTime};

mod power;

/// Files up to so many pages are searched whole for stores without a block, at every call.
const SEARCHED_PAGES: u64 = 64;

#[derive(Clone, Debug, Default)]
struct PageState {
    durable: Stored,
    /// What the page held when a sync failed to write it: while memory still holds just this, the
    /// page counts as clean. Cleared by a write call, which makes the page dirty whatever it
    /// writes.
    clean: Option<Arc<PageBytes>>,
    /// Has a block. Stores to a page without one are what a real system answers with SIGBUS.
    allocated: bool,
    /// The block survives a power failure.
    allocated_durably: bool,
    /// Was written to its block once; before, a block of an "unwritten" file reads as zeros.
    converted: bool,
    /// Written to by a call since it was last known to be clean.
    touched: bool,
    /// How many lengths the file had had when `durable` was written, see [`Inode::cut_since`].
    since: usize,
    /// What it held since the last sync, oldest first, where that is remembered.
    versions: Vec<Version>,
}

/// A state of a page that the kernel may have written at any time since.
#[derive(Clone, Debug)]
struct Version {
    bytes: Stored,
    /// As for the page.
    since: usize,
}

/// A length that the disk may have.
#[derive(Clone, Copy, Debug)]
struct Length {
    len: u64,
    /// Whether the file got it by being shortened: what lies behind is gone.
    shortened: bool,
}

impl Length {
    fn at(len: u64) -> Self {
        Self { len, shortened: false }
    }
}

pub(super) struct Inode {
    block: Arc<HeapBlock>,
    len: u64,
    /// All lengths that the disk may have: the durable one, and each since, in order.
    lens: Vec<Length>,
    /// Pages that ever had anything, by number; those behind never did.
    pages: Vec<PageState>,
    /// Preallocated blocks read as zeros until writing a page has completed (ext4, xfs). Else
    /// the blocks hold what was written to them, in any state.
    unwritten: bool,
    /// Mapped for writing once: any allocated page may have been stored to.
    stored_to: bool,
    /// A writeback in the background failed; the next sync is told, once.
    pub(super) writeback_failed: bool,
    /// The last name it had.
    pub(super) path: Arc<str>,
    pub(super) modified: StoreTime,
    /// Cloned into every open file.
    pub(super) handles: Arc<()>,
    /// Whether pages keep their versions.
    pub(super) remembers: bool,
}

/// A write found no block.
pub(super) struct NoBlocks;

impl Inode {
    pub(super) fn new(path: &Arc<str>, len: u64, modified: StoreTime, rng: &mut Rng) -> Self {
        Self {
            block: Arc::new(HeapBlock::new(len.next_multiple_of(PAGE))),
            len,
            lens: vec![Length::at(0), Length::at(len)],
            pages: Vec::new(),
            unwritten: rng.chance(1, 2),
            stored_to: false,
            writeback_failed: false,
            path: Arc::clone(path),
            modified,
            handles: Arc::new(()),
            remembers: false,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Blocks in use.
    pub(super) fn blocks(&self) -> u64 {
        self.pages.iter().filter(|page| page.allocated).count() as u64
    }

    pub(super) fn is_open(&self) -> bool {
        Arc::strong_count(&self.handles) > 1 || self.is_mapped()
    }

    fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.block) > 1
    }

    pub(super) fn is_stored_to(&self) -> bool {
        self.stored_to
    }

    /// The block to map.
    pub(super) fn map(&mut self, for_stores: bool) -> Arc<HeapBlock> {
        self.stored_to |= for_stores;
        Arc::clone(&self.block)
    }

    /// The caller checks the end.
    pub(super) fn read(&self, at: u64, to: &mut [u8]) {
        self.block.copy_out(at, to);
    }

    fn state(&mut self, page: u64) -> &mut PageState {
        let index = page as usize;
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, PageState::default);
        }
        &mut self.pages[index]
    }

    fn live(&self, page: u64) -> PageBytes {
        let mut bytes = ZEROS;
        self.block.copy_out(page * PAGE, &mut bytes);
        bytes
    }

    /// Gives blocks to the pages of a range, at most `room` new ones. Answers how many it took, or
    /// up to where it got.
    pub(super) fn allocate(&mut self, at: u64, len: u64, room: u64) -> Result<u64, u64> {
        let mut taken = 0;
        if len == 0 {
            return Ok(0);
        }
        for page in at / PAGE..(at + len).div_ceil(PAGE) {
            if self.state(page).allocated {
                continue;
            }
            if taken == room {
                return Err((page * PAGE).max(at));
            }
            self.state(page).allocated = true;
            taken += 1;
        }
        Ok(taken)
    }

    /// Writes as a call does, with at most `room` new blocks: what has blocks is written.
    pub(super) fn write(&mut self, data: &[u8], at: u64, room: u64) -> Result<(), NoBlocks> {
        let end = at + data.len() as u64;
        if end > self.len {
            self.grow_block(end);
        }
        let covered = self.allocate(at, data.len() as u64, room);
        let data = match covered {
            Ok(_) => data,
            Err(to) => &data[..(to - at) as usize],
        };
        if !data.is_empty() {
            let end = at + data.len() as u64;
            self.grow_by_writing(end);
            self.block.copy_in(at, data);
            self.touch(at, end);
            self.remember(at / PAGE..end.div_ceil(PAGE));
        }
        covered.map(drop).map_err(|_| NoBlocks)
    }

    /// The kernel moves the end when pages behind it have been written, up to where they were.
    fn grow_by_writing(&mut self, end: u64) {
        while self.len < end {
            self.len = end.min((self.len / PAGE + 1) * PAGE);
            self.lens.push(Length::at(self.len));
        }
    }

    /// A range that ends at `end` was given blocks: ext4 moves an end that it had not moved yet
    /// as far as there.
    pub(super) fn may_end_at(&mut self, end: u64) {
        let before = self.lens.iter().any(|length| length.len < end);
        if before && end < self.len && self.lens.iter().all(|length| length.len != end) {
            self.lens.extend([Length::at(end), Length::at(self.len)]);
        }
    }

    /// Where the file being shortened cuts what was written when it had had `since` lengths, on a
    /// disk that has the length of number `epoch`.
    fn cut_since(&self, since: usize, epoch: usize) -> u64 {
        let later = self.lens.get(since + 1..=epoch).unwrap_or_default();
        let cuts = later.iter().filter(|length| length.shortened).map(|length| length.len);
        cuts.min().unwrap_or(u64::MAX)
    }

    /// A page as the disk has it, as far as the file was not shortened since.
    fn uncut(&self, page: u64) -> Stored {
        let state = self.pages.get(page as usize)?;
        cut_at(&state.durable, page, self.cut_since(state.since, self.lens.len() - 1))
    }

    /// The pages of `[at, end)` are dirty, whatever they hold.
    fn touch(&mut self, at: u64, end: u64) {
        for page in at / PAGE..end.div_ceil(PAGE) {
            let state = self.state(page);
            state.touched = true;
            state.clean = None;
        }
    }

    /// Keeps what these pages hold, as far as a sync would write it.
    fn remember(&mut self, pages: Range<u64>) {
        if !self.remembers {
            return;
        }
        for page in pages {
            if !self.is_dirty(page) {
                continue;
            }
            let (bytes, since) = (stored(self.live(page)), self.lens.len() - 1);
            let versions = &mut self.state(page).versions;
            if versions.last().is_none_or(|last| last.bytes != bytes) {
                versions.push(Version { bytes, since });
            }
        }
    }

    /// Keeps what was stored through mappings.
    pub(super) fn remember_stores(&mut self) {
        self.remember(0..self.pages.len() as u64);
    }

    /// Makes pages dirty as a call does that writes what they hold, with at most `room` new blocks.
    pub(super) fn dirty_again(&mut self, at: u64, len: u64, room: u64) -> Result<(), NoBlocks> {
        let covered = self.allocate(at, len, room);
        let end = covered.map_or_else(|to| to, |_| at + len);
        if at < end {
            self.touch(at, end);
        }
        covered.map(drop).map_err(|_| NoBlocks)
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            assert!(!self.is_mapped(), "shortening a mapped file path={}", self.path);
            self.block.zero(len, self.len - len);
            let kept = len.div_ceil(PAGE) as usize;
            for state in self.pages.iter_mut().skip(kept) {
                *state = PageState {
                    durable: state.durable.take(),
                    since: state.since,
                    versions: std::mem::take(&mut state.versions),
                    touched: true,
                    ..PageState::default()
                };
            }
            if !len.is_multiple_of(PAGE)
                && let Some(state) = self.pages.get_mut(kept - 1)
            {
                state.touched = true;
                state.clean = None;
            }
        } else {
            self.grow_block(len);
        }
        if len != self.len {
            self.lens.push(Length { len, shortened: len < self.len });
            self.len = len;
            // What is left of the last page.
            self.remember(len / PAGE..len.div_ceil(PAGE).min(self.pages.len() as u64));
        }
    }

    /// Makes room for `len` bytes.
    fn grow_block(&mut self, len: u64) {
        if len <= self.block.len() {
            return;
        }
        assert!(!self.is_mapped(), "a mapped file outgrows what is simulated path={}", self.path);
        let grown = HeapBlock::new(len.max(self.block.len() * 2).next_multiple_of(PAGE));
        for page in self.pages_with_bytes() {
            grown.copy_in(page * PAGE, &self.live(page));
        }
        self.block = Arc::new(grown);
    }

    /// Pages of the block that may hold anything but zeros.
    fn pages_with_bytes(&self) -> impl Iterator<Item = u64> {
        let allocated = |(page, state): (usize, &PageState)| state.allocated.then_some(page as u64);
        self.pages.iter().enumerate().filter_map(allocated)
    }

    /// The offset of a page that was stored to without having a block, if there is one. In a
    /// large file a quick look searches only the next pages behind each run of blocks.
    pub(super) fn store_without_block(&self, thorough: bool) -> Option<u64> {
        if !self.stored_to {
            return None;
        }
        let pages = self.block.len() / PAGE;
        let all = thorough || pages <= SEARCHED_PAGES;
        let mut since_block = 0;
        for page in 0..pages {
            if self.pages.get(page as usize).is_some_and(|state| state.allocated) {
                since_block = 0;
                continue;
            }
            since_block += 1;
            if (all || since_block <= 2) && !self.block.is_zero(page * PAGE, PAGE) {
                return Some(page * PAGE);
            }
            // Nothing was ever known about the pages from here on.
            let unknown = page >= self.pages.len() as u64;
            if unknown && since_block > if thorough { 1 << 14 } else { SEARCHED_PAGES } {
                return None;
            }
        }
        None
    }

    fn is_dirty(&self, page: u64) -> bool {
        let Some(state) = self.pages.get(page as usize) else { return false };
        let looks_written = state.touched || (self.stored_to && state.allocated);
        if !looks_written {
            return false;
        }
        let known = state.clean.as_deref().unwrap_or_else(|| bytes(&state.durable));
        !self.block.equals(page * PAGE, known)
    }

    pub(super) fn dirty_pages(&self) -> Vec<u64> {
        (0..self.pages.len() as u64).filter(|page| self.is_dirty(*page)).collect()
    }

    fn write_back(&mut self, page: u64) {
        let (live, since) = (stored(self.live(page)), self.lens.len() - 1);
        let state = self.state(page);
        (state.durable, state.clean) = (live, None);
        (state.converted, state.since) = (true, since);
        state.versions.clear();
    }

    /// A sync that succeeds. Pages that count as clean are not written: that is the trap.
    /// Answers whether there was anything to write.
    pub(super) fn sync(&mut self) -> bool {
        let dirty = self.dirty_pages();
        for &page in &dirty {
            self.write_back(page);
        }
        for page in 0..self.pages.len() {
            let cut = self.cut_since(self.pages[page].since, self.lens.len() - 1);
            let state = &mut self.pages[page];
            if cut <= page as u64 * PAGE {
                // Blocks that were given back are gone, even if their pages were not written.
                state.durable = None;
            }
            // Zeros that were written are written, too.
            state.converted |= state.touched && state.allocated;
            state.touched = false;
            state.allocated_durably = state.allocated;
            state.since = 0;
            state.versions.clear();
        }
        self.lens = vec![Length::at(self.len)];
        !dirty.is_empty()
    }

    /// A sync that fails: of the dirty pages at least one is lost, as `failure` says; of the rest
    /// some are written and some stay dirty.
    pub(super) fn fail_sync(&mut self, failure: SyncFailure, rng: &mut Rng) {
        let dirty = self.dirty_pages();
        let sure = if dirty.is_empty() { 0 } else { rng.below(dirty.len() as u64) as usize };
        for (i, page) in dirty.into_iter().enumerate() {
            if i == sure || rng.chance(1, 2) {
                self.lose(page, failure);
            } else if rng.chance(1, 2) {
                self.write_back(page);
            }
        }
    }

    fn lose(&mut self, page: u64, failure: SyncFailure) {
        if failure == SyncFailure::Reverted && !self.is_mapped() {
            self.block.copy_in(page * PAGE, bytes(&self.uncut(page)));
            self.state(page).touched = false;
            self.state(page).versions.clear();
        } else {
            let live = self.live(page);
            let state = self.state(page);
            state.clean = Some(Arc::new(live));
            state.touched = false;
            state.versions.clear();
        }
    }

    /// The kernel writes some dirty pages by itself, or fails to: then they are lost, and the next
    /// sync is told.
    pub(super) fn background_writeback(&mut self, succeeds: bool, rng: &mut Rng) {
        if self.remembers && succeeds {
            // What was remembered may be on the disk or not: nothing is decided here.
            return;
        }
        for page in self.dirty_pages() {
            if rng.chance(1, 2) {
                continue;
            }
            if !succeeds {
                self.lose(page, SyncFailure::KeptClean);
                self.writeback_failed = true;
            } else if !self.unwritten || self.pages[page as usize].converted || rng.chance(1, 2) {
                self.write_back(page);
            }
        }
    }

    /// Clean pages go out of memory and are read from the disk again: what a failed sync lost is
    /// gone for readers, too. Not while mapped: bytes that a reader holds must not change.
    pub(super) fn drop_clean_pages(&mut self) {
        if self.is_mapped() {
            return;
        }
        for page in 0..self.pages.len() as u64 {
            if self.pages[page as usize].clean.is_some() && !self.is_dirty(page) {
                self.pages[page as usize].clean = None;
                self.block.copy_in(page * PAGE, bytes(&self.uncut(page)));
            }
        }
    }

    /// The same file, seen by nobody: for an image of this moment.
    pub(super) fn fork(&self) -> Self {
        let block = HeapBlock::new(self.block.len());
        for page in self.pages_with_bytes() {
            block.copy_in(page * PAGE, &self.live(page));
        }
        Self {
            block: Arc::new(block),
            lens: self.lens.clone(),
            pages: self.pages.clone(),
            path: Arc::clone(&self.path),
            handles: Arc::new(()),
            ..*self
        }
    }

    /// Damage at rest: changes bytes in memory and on disk, and no page becomes dirty by it.
    pub(super) fn damage(&mut self, at: u64, data: &[u8]) {
        for page in at / PAGE..(at + data.len() as u64).div_ceil(PAGE) {
            let from = (page * PAGE).max(at);
            let to = ((page + 1) * PAGE).min(at + data.len() as u64);
            let part = &data[(from - at) as usize..(to - at) as usize];
            let inside = (from - page * PAGE) as usize;
            let damaged = |page: &PageBytes| {
                let mut copy = *page;
                copy[inside..inside + part.len()].copy_from_slice(part);
                copy
            };
            let state = self.state(page);
            state.durable = stored(damaged(bytes(&state.durable)));
            state.clean = state.clean.as_deref().map(|page| Arc::new(damaged(page)));
            (state.allocated, state.allocated_durably, state.converted) = (true, true, true);
            self.block.copy_in(from, part);
        }
    }

    /// Damage at rest: the file ends at `len`, in memory and on disk.
    pub(super) fn cut(&mut self, len: u64) {
        self.set_len(len);
        self.pages.truncate(len.div_ceil(PAGE) as usize);
        self.lens = vec![Length::at(len)];
        for (page, state) in self.pages.iter_mut().enumerate() {
            state.since = 0;
            state.durable = cut_at(&state.durable, page as u64, len);
            if let Some(clean) = state.clean.take() {
                state.clean = Some(Arc::new(*bytes(&cut_at(&Some(clean), page as u64, len))));
            }
        }
    }
}
