//! A segment's bytes, a window of them at a time.
//!
//! With read calls, not through a mapping: a bad sector is an error here, not a fault.

use std::{ops::Range, sync::Arc};

use crate::{
    disk::{Access, DiskFile, failed},
    error::Result,
    log::segment::path_of,
    offset::PhysicalOffset,
};

use super::scan::Extent;

/// Read at a time: many records, and little enough that they are still in the processor's own cache
/// when they are checked. The system reads ahead of it.
pub(super) const READ_BYTES: usize = 192 << 10;

/// One segment's file with a window of its bytes.
pub(crate) struct Reader {
    file: Arc<dyn DiskFile>,
    /// Where the segment begins.
    pub(crate) base: PhysicalOffset,
    /// How long it is.
    pub(super) len: u64,
    window: Vec<u8>,
    at: u64,
}

impl Reader {
    /// Opens the segment of `extent` that begins at `base`.
    pub(crate) fn open(extent: &Extent<'_>, base: PhysicalOffset) -> Result<Self> {
        let path = path_of(base);
        let file = extent.disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        Ok(Self { file, base, len: extent.segment_bytes, window: Vec::new(), at: 0 })
    }

    /// What may hold bytes that are not zero from `position` on, ascending. To be asked before
    /// anything is read: later the system counts as data what it read ahead of us from blocks that
    /// were never written, and going after that would read all of them.
    pub(super) fn data_from(&self, position: u64) -> Result<Vec<Range<u64>>> {
        let path = path_of(self.base);
        let mut data: Vec<Range<u64>> = Vec::new();
        while let Some(next) = self
            .file
            .next_data(data.last().map_or(position, |last| last.end))
            .map_err(failed("look for data in", &path))?
        {
            data.push(next);
        }
        Ok(data)
    }

    /// At least `need` bytes from `position` on, fewer only at the end of the segment.
    pub(crate) fn bytes(&mut self, position: u64, need: usize) -> Result<&[u8]> {
        let left = (self.len - position) as usize;
        let need = need.min(left);
        let have =
            self.at <= position && position + need as u64 <= self.at + self.window.len() as u64;
        if !have {
            let take = need.max(READ_BYTES).min(left);
            self.window.resize(take, 0);
            let path = path_of(self.base);
            self.file
                .read_exact_at(&mut self.window, position)
                .map_err(failed(&format!("read at {position} of"), &path))?;
            self.at = position;
        }
        Ok(&self.window[(position - self.at) as usize..])
    }
}
