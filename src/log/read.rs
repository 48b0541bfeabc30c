//! Reading records where they lie.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    format::{frame::ChecksumRule, layout::HEADER_V4},
    offset::PhysicalOffset,
};

use super::{CommitLog, DamagedRange, damage_in, segment::Segment};

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

    /// Hints that the bytes around `at`, where one record ends and the next one begins, are read
    /// soon: all that dispatching looks at, with some luck. They need not exist.
    #[inline]
    pub(crate) fn prefetch_border(&self, at: usize) {
        let at = self.at + at as u64;
        for line in
            [at.saturating_sub(2 * LINE), at.saturating_sub(LINE), at, at + LINE, at + HEADER_LAST]
        {
            self.segment.memory.prefetch(line);
        }
    }
}

/// The last byte that a parser needs of most records' headers, behind which the body begins.
const HEADER_LAST: u64 = HEADER_V4 as u64 - 1;
/// A line of the processor's cache.
const LINE: u64 = 64;
/// How much of a record is fetched ahead.
const PREFETCH_BYTES: u64 = 2048;

/// Where a record lies in a [`Window`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    segment: u32,
    len: u32,
    position: u64,
}

/// The log as it is at one moment, for reading many records without a lock for each. What it shows
/// stays mapped for as long as it lives.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    segments: Arc<Vec<Arc<Segment>>>,
    end: PhysicalOffset,
    /// Where the last record was: the next one is usually there, too.
    last: usize,
}

impl Window {
    /// Finds the `len` bytes at `at`.
    ///
    /// # Errors
    ///
    /// As [`CommitLog::slice`].
    pub(crate) fn locate(
        &mut self,
        log: &CommitLog,
        at: PhysicalOffset,
        len: u32,
    ) -> Result<Place> {
        let size = u64::from(len);
        if size > self.end.saturating_since(at) {
            return Err(outside(at, size, log.start(), self.end));
        }
        if !log.damage.is_empty() {
            log.refuse_damaged(at, size)?;
        }
        let here = |segment: &Arc<Segment>| segment.base <= at && at < segment.end();
        if !self.segments.get(self.last).is_some_and(here) {
            let behind = self.segments.partition_point(|segment| segment.base <= at);
            self.last =
                behind.checked_sub(1).ok_or_else(|| outside(at, size, log.start(), self.end))?;
        }
        let segment = &self.segments[self.last];
        if !here(segment) {
            return Err(damaged(at, size, "its segment is missing"));
        }
        let position = segment.position(at);
        if size > segment.len - position {
            return Err(damaged(at, size, "it reaches over the end of its segment"));
        }
        Ok(Place { segment: self.last as u32, len, position })
    }

    /// The bytes of a place that was located in this window.
    pub(crate) fn bytes(&self, place: Place) -> &[u8] {
        self.segments[place.segment as usize].memory.read(place.position, place.len.into())
    }

    /// The same, to keep.
    pub(crate) fn slice(&self, place: Place) -> LogSlice {
        let segment = self.segments[place.segment as usize].clone();
        LogSlice { segment, at: place.position, len: place.len.into() }
    }

    /// Hints that a record at `at` is read soon, if it is in the same segment as the last one.
    pub(crate) fn prefetch(&self, at: PhysicalOffset, len: u32) {
        if let Some(segment) = self.segments.get(self.last) {
            let position = at.saturating_since(segment.base);
            // Behind that much the processor has seen the pattern.
            let len = u64::from(len).min(PREFETCH_BYTES);
            for line in (position / LINE * LINE..position + len).step_by(LINE as usize) {
                segment.memory.prefetch(line);
            }
        }
    }
}

fn outside(at: PhysicalOffset, len: u64, start: PhysicalOffset, end: PhysicalOffset) -> Error {
    Error::new(
        ErrorKind::OutOfRange { start: start.get(), end: end.get() },
        format!("not in the log offset={at} size={len} start={start} end={end}"),
    )
}

impl CommitLog {
    /// The `len` bytes at `at`, which must lie in one segment and below the visible end.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](ErrorKind::OutOfRange) outside of the log; [`Damaged`](ErrorKind::Damaged)
    /// where recovery found damage or a range that reaches over a segment's end.
    pub(crate) fn slice(&self, at: PhysicalOffset, len: u64) -> Result<LogSlice> {
        let mut window = self.window();
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        let place = window.locate(self, at, bytes)?;
        Ok(window.slice(place))
    }

    /// What can be read now.
    pub(crate) fn window(&self) -> Window {
        // The end first: what is visible by then is in the segments seen afterwards.
        let end = PhysicalOffset::new(self.marks.visible().get());
        Window { segments: self.segments.snapshot(), end, last: usize::MAX }
    }

    /// Whether a record at `at` must carry a checksum of all of it. Where it must, damage to that
    /// checksum does not switch it off.
    pub(crate) fn checksum_rule(&self, at: PhysicalOffset) -> ChecksumRule {
        match self.record_crc.contains(&at) {
            true => ChecksumRule::Required,
            false => ChecksumRule::WhenPresent,
        }
    }

    fn refuse_damaged(&self, at: PhysicalOffset, len: u64) -> Result<()> {
        match self.damage_in(at, at + len) {
            None => Ok(()),
            Some(hit) => Err(damaged(hit.start, hit.end - hit.start, "recovery found it damaged")),
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
        damage_in(&self.damage, start, end)
    }
}

/// The error for bytes of the log that are not what was written.
pub(crate) fn damaged(at: PhysicalOffset, len: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::Damaged { at, len },
        format!("the log is damaged: {why} offset={at} size={len}"),
    )
}
