//! Reading records where they lie.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    offset::PhysicalOffset,
};

use super::{CommitLog, DamagedRange, segment::Segment};

/// Bytes of one segment, kept mapped for as long as this lives.
#[derive(Clone, Debug)]
pub(crate) struct LogSlice {
    segment: Arc<Segment>,
    at: u64,
    len: u64,
}

impl LogSlice {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.segment.memory.read(self.at, self.len)
    }
}

impl CommitLog {
    /// The `len` bytes at `at`, which must lie in one segment and below the visible end.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](ErrorKind::OutOfRange) outside of the log; [`Damaged`](ErrorKind::Damaged)
    /// where recovery found damage or a range that reaches over a segment's end.
    pub(crate) fn slice(&self, at: PhysicalOffset, len: u64) -> Result<LogSlice> {
        let end = self.marks.visible().get();
        let start = self.start();
        if at < start || len > end.saturating_sub(at.get()) {
            return Err(Error::new(
                ErrorKind::OutOfRange { start: start.get(), end },
                format!("not in the log offset={at} size={len} start={start} end={end}"),
            ));
        }
        if let Some(hit) = self.damage_in(at, at + len) {
            return Err(damaged(hit.start, hit.end - hit.start, "recovery found it damaged"));
        }
        match self.segments.find(at) {
            Some(segment) if segment.position(at) + len <= segment.len => {
                Ok(LogSlice { at: segment.position(at), segment, len })
            }
            Some(_) => Err(damaged(at, len, "it reaches over the end of its segment")),
            None => Err(damaged(at, len, "its segment is missing")),
        }
    }

    /// Hints that a record at `at` is read soon.
    pub(crate) fn prefetch(&self, at: PhysicalOffset) {
        if let Some(segment) = self.segments.find(at) {
            let position = segment.position(at);
            // The header and the beginning of the body; from there the processor sees the pattern.
            for line in 0..8 {
                segment.memory.prefetch(position + line * 64);
            }
        }
    }

    /// What lies at `at` up to the end of its segment, of what is visible, or the next damage, at
    /// least one byte.
    pub(crate) fn rest(&self, at: PhysicalOffset) -> Result<LogSlice> {
        let visible = PhysicalOffset::new(self.marks.visible().get());
        let segment_end = self.segments.find(at).map_or(at + 1, |segment| segment.end());
        let end = segment_end.min(visible);
        let sound_end = self.damage_in(at, end).map_or(end, |hit| hit.start);
        self.slice(at, sound_end.saturating_since(at).max(1))
    }

    /// The first damaged range that has a byte in `[start, end)`.
    pub(crate) fn damage_in(
        &self,
        start: PhysicalOffset,
        end: PhysicalOffset,
    ) -> Option<DamagedRange> {
        self.damage.iter().find(|d| d.start < end && start < d.end).copied()
    }
}

/// The error for bytes of the log that are not what was written.
pub(crate) fn damaged(at: PhysicalOffset, len: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::Damaged { at, len },
        format!("the log is damaged: {why} offset={at} size={len}"),
    )
}
