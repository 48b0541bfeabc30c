//! Files and nothing as memory. The one `unsafe` of these measurements is here: they are about
//! storing into a mapped file, which no crate can offer as safe.
#![allow(unsafe_code)]

use std::{
    hint::black_box,
    io,
    ops::{Deref, DerefMut},
};

use common::{Args, Failure};
use memmap2::{Advice, MmapMut, MmapOptions};

use crate::scratch::Scratch;

/// The size that every page has on the machines we measure.
pub(crate) const PAGE: usize = 4096;

/// When the pages of a mapping are made present.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Populate {
    /// By the call that maps.
    Mapping,
    /// On first touch.
    Touch,
}

/// The first bytes of a scratch file, shared with the page cache. Nobody writes to the file by
/// calls meanwhile: it is borrowed for as long.
pub(crate) struct Mapping<'a> {
    bytes: MmapMut,
    scratch: &'a mut Scratch,
}

impl<'a> Mapping<'a> {
    /// Maps `len` bytes, which must be in the file: touching what lies behind it would fault.
    pub(crate) fn new(
        scratch: &'a mut Scratch,
        len: u64,
        populate: Populate,
    ) -> Result<Self, Failure> {
        let there = scratch.file().metadata()?.len();
        if there < len {
            return Err(format!("mapping {len} bytes of a file that has {there}").into());
        }
        let mut options = MmapOptions::new();
        options.len(usize::try_from(len)?);
        if populate == Populate::Mapping {
            options.populate();
        }
        // SAFETY: the mapping would be wrong to hand out as slices if the file changed or shrank
        // under it. This process created the file (`create_new`) in a directory that it is given
        // for measuring, so no other one knows it; here it is borrowed exclusively while the
        // mapping lives, and `Mapping` itself only syncs it.
        let bytes = unsafe { options.map_mut(scratch.file())? };
        Ok(Self { bytes, scratch })
    }

    /// fdatasync of the file.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.scratch.file().sync_data()
    }

    /// fsync of the file.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.scratch.file().sync_all()
    }

    /// msync of `len` bytes at `at`.
    pub(crate) fn msync(&self, at: usize, len: usize) -> io::Result<()> {
        self.bytes.flush_range(at, len)
    }

    /// madvise of all of it.
    pub(crate) fn advise(&self, advice: Advice) -> io::Result<()> {
        self.bytes.advise(advice)
    }
}

impl Deref for Mapping<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Mapping<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Stores one byte to each page.
pub(crate) fn touch(bytes: &mut [u8], value: u8) {
    for page in bytes.chunks_mut(PAGE) {
        page[0] = value;
    }
    black_box(bytes);
}

/// `prewarm [bytes=]`: makes the guest's free pages real. On a virtual machine whose balloon hands
/// free pages back to the host, the first touch of each costs a host fault (several microseconds)
/// that would otherwise fall on whichever case runs next.
pub(crate) fn prewarm(args: &Args) -> Result<(), Failure> {
    let mut bytes = MmapMut::map_anon(usize::try_from(args.number("bytes", 3 << 30)?)?)?;
    // Only to be quicker; not every kernel has huge pages.
    let _ = bytes.advise(Advice::HugePage);
    touch(&mut bytes, 1);
    Ok(())
}
