//! The bytes of a segment, and the calls that no safe crate offers: the only file with `unsafe`.
//!
//! One rule carries it: bytes below `published` are never stored to again, bytes at or above it
//! are seen by nobody but the one [`MemoryWriter`]. Whoever maps a file promises that nothing else
//! writes into the published part or shortens the file; the directory lock keeps other stores out.
#![allow(unsafe_code)]

use std::{
    alloc, fmt,
    fs::File,
    io,
    os::fd::AsRawFd,
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::Access;
use crate::sync::{AtomicU64, Mutex};

/// The bytes of one segment: a mapping of a file, or heap memory. Readable below `published`,
/// which only grows. Dropping it unmaps.
pub struct Memory {
    bytes: Bytes,
    len: usize,
    access: Access,
    published: AtomicU64,
    /// Whether the writer was handed out. Held while publishing without one.
    claimed: Mutex<bool>,
}

enum Bytes {
    Mapped(MmapRaw),
    #[cfg_attr(not(any(test, feature = "sim")), allow(dead_code))]
    Heap(Arc<HeapBlock>),
    /// A mapping of nothing, which the system refuses.
    Empty,
}

impl Memory {
    /// Maps the first `len` bytes of `file`, shared with everybody else who maps it.
    ///
    /// Fails with `InvalidInput` if the file is shorter: touching what lies behind would fault.
    pub(crate) fn map_file(file: &File, len: u64, access: Access) -> io::Result<Self> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "mapping past the file");
        if file.metadata()?.len() < len {
            return Err(too_long());
        }
        let len = usize::try_from(len).map_err(|_| too_long())?;
        let mut options = MmapOptions::new();
        options.len(len);
        let bytes = match access {
            _ if len == 0 => Bytes::Empty,
            Access::Read => Bytes::Mapped(options.map_raw_read_only(file)?),
            Access::Write => Bytes::Mapped(options.map_raw(file)?),
        };
        Ok(Self::over(bytes, len, access))
    }

    /// `len` bytes of heap, all zero, that nobody else sees.
    #[cfg(test)]
    pub(crate) fn heap(len: u64) -> Self {
        Self::shared_heap(Arc::new(HeapBlock::new(len)), len, Access::Write)
    }

    /// The first `len` bytes of `block`, which the simulated disk keeps looking at.
    ///
    /// # Panics
    ///
    /// If the block is shorter.
    #[cfg_attr(not(any(test, feature = "sim")), allow(dead_code))]
    pub(crate) fn shared_heap(block: Arc<HeapBlock>, len: u64, access: Access) -> Self {
        assert!(len <= block.len(), "memory longer than its block len={len}");
        Self::over(Bytes::Heap(block), len as usize, access)
    }

    fn over(bytes: Bytes, len: usize, access: Access) -> Self {
        Self { bytes, len, access, published: AtomicU64::new(0), claimed: Mutex::new(false) }
    }

    /// Bytes in all, published or not.
    // A segment of no bytes is a caller's mistake, not a state to ask for.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// The end of what can be read.
    pub(crate) fn published(&self) -> u64 {
        // Acquire: pairs with the Release in `raise`, so that the bytes below are seen, too.
        self.published.load(Ordering::Acquire)
    }

    /// `len` bytes from `from` on.
    ///
    /// # Panics
    ///
    /// If they are not all published.
    pub(crate) fn read(&self, from: u64, len: u64) -> &[u8] {
        let end = from.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.published()),
            "read of unpublished bytes from={from} len={len} published={}",
            self.published()
        );
        // SAFETY: the range lies in this memory, because published <= self.len (`raise` asserts
        // it) and it was just checked against published. It stays mapped while `self` is borrowed.
        // Nobody stores there any more: a writer's slices begin at or above published, and
        // published never shrinks; other processes are kept out by the directory lock, our own
        // write calls by the log, which never changes what it published (`dirty_again` may write
        // over them, where the kernel leaves it no other way, the very bytes that are there). The
        // heap is initialised (allocated zeroed), as is a mapping.
        unsafe { slice::from_raw_parts(self.base().add(from as usize), len as usize) }
    }

    /// The right to write, for the first who asks. `None` for all others, and for a mapping that
    /// was made for reading.
    pub(crate) fn claim_writer(self: &Arc<Self>) -> Option<MemoryWriter> {
        let mut claimed = self.claimed.lock();
        if *claimed || self.access == Access::Read {
            return None;
        }
        if let Bytes::Heap(block) = &self.bytes
            && !block.claim()
        {
            return None;
        }
        *claimed = true;
        Some(MemoryWriter { memory: Arc::clone(self) })
    }

    /// Makes bytes readable that are in the file already: a segment found at open, or one that
    /// another process appends to. Does nothing if they are readable.
    ///
    /// # Panics
    ///
    /// If `to` lies behind the end, or a writer was claimed: it alone publishes then.
    pub(crate) fn publish_existing(&self, to: u64) {
        // Held until published was raised: a writer claimed meanwhile would slice below it.
        let claimed = self.claimed.lock();
        assert!(!*claimed, "published beside the writer to={to}");
        self.raise(to);
    }

    fn raise(&self, to: u64) {
        assert!(to <= self.len(), "published past the end to={to} len={}", self.len);
        // Release: whoever sees the new end sees the bytes stored before. Max: never shrinks.
        self.published.fetch_max(to, Ordering::Release);
    }

    /// Makes the whole pages in `len` bytes at `at` present and writable, so that storing there
    /// does not wait for a page fault. The blocks must be allocated.
    ///
    /// Kernels that cannot do it are no error; nor is heap memory, which has nothing to do.
    pub(crate) fn populate(&self, at: u64, len: u64) -> io::Result<()> {
        let Bytes::Mapped(map) = &self.bytes else { return Ok(()) };
        let page = page_bytes();
        let end = at.saturating_add(len).min(self.len());
        let (from, to) = (at.next_multiple_of(page), end / page * page);
        if from >= to || self.access == Access::Read {
            return Ok(());
        }
        match map.advise_range(Advice::PopulateWrite, from as usize, (to - from) as usize) {
            // Before Linux 5.14.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    }

    /// Hints that the byte at `at` is read soon. Nothing happens if there is none. Into the second
    /// level of the cache, which has more room for what is on its way than the first.
    pub(crate) fn prefetch(&self, at: u64) {
        if at >= self.len() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint: it never faults and touches no memory in the language's sense. The
            // address is in this memory, as just checked; every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.base().add(at as usize).cast_const().cast()) }
        }
    }

    fn base(&self) -> *mut u8 {
        match &self.bytes {
            Bytes::Mapped(map) => map.as_mut_ptr(),
            Bytes::Heap(block) => block.base(),
            Bytes::Empty => NonNull::dangling().as_ptr(),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("len", &self.len)
            .field("access", &self.access)
            .field("published", &self.published())
            .finish_non_exhaustive()
    }
}

/// The right to write one segment. There is never more than one for a memory.
#[derive(Debug)]
pub(crate) struct MemoryWriter {
    memory: Arc<Memory>,
}

impl MemoryWriter {
    /// `len` bytes at `at`, to be filled and then [published](Self::publish). The blocks must be
    /// allocated, or storing faults.
    ///
    /// # Panics
    ///
    /// If some of them are published, or do not exist.
    pub(crate) fn slice(&mut self, at: u64, len: u64) -> &mut [u8] {
        let memory = &*self.memory;
        let published = memory.published();
        assert!(
            published <= at && at.checked_add(len).is_some_and(|end| end <= memory.len()),
            "slice outside of the unpublished bytes at={at} len={len} published={published} of={}",
            memory.len
        );
        // SAFETY: the range lies in this memory, as just checked, and stays mapped: we hold an
        // Arc. It was mapped writable (`claim_writer` refuses the rest). It is exclusive: readers'
        // slices end at or below published, which cannot grow past `at` while the result lives,
        // because only this writer publishes once it exists (`publish_existing` asserts) and
        // it is borrowed; and there is one writer per memory (`claimed`), per heap block, and per
        // mapped file, because the log maps a segment for writing once. The simulated disk looks
        // at the heap block by pointer only, between the steps of the thread that drives it.
        unsafe { slice::from_raw_parts_mut(memory.base().add(at as usize), len as usize) }
    }

    /// Makes the bytes below `to` readable, for ever. Does nothing if they are.
    ///
    /// # Panics
    ///
    /// If `to` lies behind the end.
    pub(crate) fn publish(&mut self, to: u64) {
        self.memory.raise(to);
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        // The file can be opened, mapped and written again; this very Memory cannot.
        if let Bytes::Heap(block) = &self.memory.bytes {
            block.release();
        }
    }
}

/// Bytes on the heap, zero at first, that a [`Memory`] and the simulated disk look at together.
/// Up to 1 MiB are aligned to a page; more are not, because then the system's zero pages are used.
/// It gives out no references, only copies, so it cannot alias a writer's slice.
pub(crate) struct HeapBlock {
    base: NonNull<u8>,
    len: usize,
    /// Whether a [`MemoryWriter`] of some memory over this block lives.
    written: AtomicBool,
}

// SAFETY: the block owns its allocation and hands out no references. Copies out of it run beside
// stores only where the caller allows it: the simulated disk is driven by one thread at a time.
unsafe impl Send for HeapBlock {}
// SAFETY: as above.
unsafe impl Sync for HeapBlock {}

#[cfg_attr(not(any(test, feature = "sim")), allow(dead_code))]
impl HeapBlock {
    /// `len` bytes, all zero.
    ///
    /// # Panics
    ///
    /// If so many cannot exist. Aborts if there is no memory.
    pub(crate) fn new(len: u64) -> Self {
        let len = usize::try_from(len).expect("a block fits into memory");
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { alloc::handle_alloc_error(layout) };
        Self { base, len, written: AtomicBool::new(false) }
    }

    fn layout(len: usize) -> alloc::Layout {
        let align = if len <= 1 << 20 { 4096 } else { 16 };
        alloc::Layout::from_size_align(len.max(1), align).expect("a block fits into memory")
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The address of `len` bytes at `at`, all of them inside.
    fn at(&self, at: u64, len: usize) -> *mut u8 {
        assert!(
            at.checked_add(len as u64).is_some_and(|end| end <= self.len()),
            "outside of the block at={at} len={len} of={}",
            self.len
        );
        // SAFETY: inside of the allocation, as just checked.
        unsafe { self.base().add(at as usize) }
    }

    /// Fills `to` with the bytes from `at` on. Panics if they are not all there.
    pub(crate) fn copy_out(&self, at: u64, to: &mut [u8]) {
        // SAFETY: `at()` checked the source; `to` is a reference, so it is no part of the block
        // (a reader's slice of it is shared, a writer's is exclusive and not held now).
        unsafe { ptr::copy_nonoverlapping(self.at(at, to.len()), to.as_mut_ptr(), to.len()) }
    }

    /// Stores `from` at `at`, but only what differs: rewriting what readers hold is no store then.
    /// Panics if there is no room.
    pub(crate) fn copy_in(&self, at: u64, from: &[u8]) {
        let mut at = at;
        for part in from.chunks(512) {
            if !self.equals(at, part) {
                // SAFETY: `at()` checked the destination. No reader's slice covers it: as with a
                // write call on a mapped file, the log writes only above what it published.
                unsafe { ptr::copy(part.as_ptr(), self.at(at, part.len()), part.len()) }
            }
            at += part.len() as u64;
        }
    }

    /// Whether the bytes from `at` on are `other`. Panics if they are not all there.
    pub(crate) fn equals(&self, at: u64, other: &[u8]) -> bool {
        let address = self.at(at, other.len());
        // SAFETY: both ranges are readable for the length given, `at()` checked the first.
        unsafe { libc::memcmp(address.cast(), other.as_ptr().cast(), other.len()) == 0 }
    }

    /// Stores `len` zeros at `at`. Panics if there is no room.
    pub(crate) fn zero(&self, at: u64, len: u64) {
        // SAFETY: `at()` checked the range; who may read it is as for `copy_in`.
        unsafe { ptr::write_bytes(self.at(at, len as usize), 0, len as usize) }
    }

    /// Whether the `len` bytes at `at` are all zero. Panics if they are not all there.
    pub(crate) fn is_zero(&self, at: u64, len: u64) -> bool {
        const ZEROS: [u8; 4096] = [0; 4096];
        let end = at.saturating_add(len);
        (at..end)
            .step_by(ZEROS.len())
            .all(|part| self.equals(part, &ZEROS[..(end - part).min(4096) as usize]))
    }

    /// Takes the one right to write through a mapping; `false` if it is taken.
    fn claim(&self) -> bool {
        !self.written.swap(true, Ordering::AcqRel)
    }

    fn release(&self) {
        self.written.store(false, Ordering::Release);
    }
}

impl Drop for HeapBlock {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and freed nowhere else.
        unsafe { alloc::dealloc(self.base(), Self::layout(self.len)) }
    }
}

impl fmt::Debug for HeapBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapBlock").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Bytes in a page of memory: 4096, or more on some aarch64 systems.
fn page_bytes() -> u64 {
    // SAFETY: no pointers involved; asks for a constant.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096).max(4096)
}

/// Makes the pages that hold `len` bytes at `offset` dirty, the first and the last one too, by the
/// faults that stores would cause. Nothing is stored, so no byte changes, whoever else writes.
///
/// Fails where the kernel cannot (before Linux 5.14), or a page cannot be read or has no block.
pub(crate) fn make_dirty(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // A mapping of all of it would cost as much memory for page tables at once.
    const PIECE: u64 = 64 << 20;
    let end = offset + len;
    let mut at = offset - offset % page_bytes();
    while at < end {
        let piece = (end - at).min(PIECE);
        let map = MmapOptions::new().offset(at).len(piece as usize).map_raw(file)?;
        map.advise(Advice::PopulateWrite)?;
        at += piece;
    }
    Ok(())
}

/// Starts writing the dirty pages among `len` bytes at `offset`, and waits for it. **Never**
/// durability: neither the device's cache nor the file's metadata is flushed.
pub(crate) fn sync_file_range(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = |n| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, len) = (range(offset)?, range(len)?);
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no pointers involved; the descriptor is open while `file` is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
