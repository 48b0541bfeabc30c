//! Where records wait on the write path: encoded under the append lock, written by whoever
//! flushes, in one call per segment.

use std::sync::Arc;

use crate::{disk::failed, error::Result, offset::PhysicalOffset};

use super::segment::Segment;

/// A run of bytes for one segment.
#[derive(Debug)]
struct Chunk {
    segment: Arc<Segment>,
    at: u64,
    from: usize,
    len: usize,
    /// The blank record that ends the segment: what is behind it counts as written too.
    seals: bool,
}

/// Records that have their place in the log but are not in its files yet. Two of them take turns.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Kept zero-filled at full length, so that taking room costs no clearing.
    bytes: Vec<u8>,
    used: usize,
    chunks: Vec<Chunk>,
    end: PhysicalOffset,
}

impl Stage {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], used: 0, chunks: Vec::new(), end: PhysicalOffset::ZERO }
    }

    /// Whether `len` more bytes fit without growing, or it is empty and grows for them.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.used == 0 || self.used + len <= self.bytes.len()
    }

    /// Room for `len` bytes that belong at `at` of `segment`. Its content is arbitrary.
    pub(crate) fn take_room(&mut self, segment: &Arc<Segment>, at: u64, len: usize) -> &mut [u8] {
        let from = self.used;
        self.used += len;
        if self.used > self.bytes.len() {
            self.bytes.resize(self.used, 0);
        }
        match self.chunks.last_mut() {
            Some(last)
                if last.at + last.len as u64 == at && Arc::ptr_eq(&last.segment, segment) =>
            {
                last.len += len;
            }
            _ => self.chunks.push(Chunk { segment: segment.clone(), at, from, len, seals: false }),
        }
        &mut self.bytes[from..self.used]
    }

    /// Says that the room taken last ends its segment.
    pub(crate) fn seal(&mut self) {
        if let Some(last) = self.chunks.last_mut() {
            last.seals = true;
        }
    }

    /// Says that everything below `end` is in here or was written before.
    pub(crate) fn set_end(&mut self, end: PhysicalOffset) {
        self.end = end;
    }

    /// Writes all of it to the segments and empties it. Returns the end of the log that is now
    /// written, `None` if there was nothing.
    pub(crate) fn write_out(&mut self) -> Result<Option<PhysicalOffset>> {
        if self.used == 0 {
            return Ok(None);
        }
        for chunk in &self.chunks {
            let bytes = &self.bytes[chunk.from..chunk.from + chunk.len];
            let path = chunk.segment.path();
            chunk.segment.file.write_all_at(bytes, chunk.at).map_err(failed("write", &path))?;
        }
        for chunk in &self.chunks {
            let end = if chunk.seals { chunk.segment.len } else { chunk.at + chunk.len as u64 };
            chunk.segment.memory.publish_existing(end);
        }
        self.chunks.clear();
        self.used = 0;
        Ok(Some(self.end))
    }
}
