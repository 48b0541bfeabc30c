//! The one place that syncs the log: one sync for everybody who waits, across a segment border
//! too.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    checkpoint::frames::{self, Frame, FrameWriter},
    disk::{Disk, failed},
    error::{Error, Result},
    format::crc::crc32,
    offset::PhysicalOffset,
    options::RecordChecksum,
};

use super::{CommitLog, segment::Segment};

/// What the flush lock guards.
#[derive(Debug)]
pub(super) struct FlushState {
    frames: FrameWriter,
    /// Why frames could not be kept, if so. The log does not depend on them.
    degraded: Option<Error>,
}

impl FlushState {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { frames: FrameWriter::new(disk), degraded: None }
    }
}

impl CommitLog {
    /// Makes everything that was appended before the call durable. Returns whether there was
    /// anything to do.
    ///
    /// # Errors
    ///
    /// The first failure of a write or sync latches: this and every later call fail, and so do all
    /// who wait. The sync is never tried again: the kernel may have dropped the bytes and would
    /// answer that all is well.
    pub(crate) fn flush(&self) -> Result<bool> {
        let mut state = self.flush.lock();
        self.marks.durable.check_open()?;
        self.write_out()?;
        let start = PhysicalOffset::new(self.marks.durable.get());
        let end = PhysicalOffset::new(self.marks.written().get());
        if start == end {
            return Ok(false);
        }
        let touched = self.touched(start, end);
        for segment in &touched {
            if let Err(e) = segment.file.sync_data() {
                let error = failed("sync", &segment.path())(e);
                self.marks.fail("syncing", &error);
                return self.marks.durable.check_open().map(|()| false);
            }
        }
        // Before the tickets settle: the frame is what tells a later open that these bytes had
        // been promised.
        let boundaries = self.boundaries_below(end);
        for segment in &touched {
            if let Err(error) = self.write_frames(&mut state, segment, start, &boundaries, end) {
                state.degraded = Some(error);
            }
        }
        self.group_bytes.store(end - start, Ordering::Relaxed);
        self.marks.durable.advance(end.get());
        Ok(true)
    }

    /// The segments with bytes in `[start, end)`.
    fn touched(&self, start: PhysicalOffset, end: PhysicalOffset) -> Vec<Arc<Segment>> {
        let all = self.segments.snapshot();
        // Nearly always the last one or two, so the search begins at the end.
        let first = all.iter().rposition(|s| s.base <= start).unwrap_or(0);
        all[first..].iter().filter(|s| s.base < end && start < s.end()).cloned().collect()
    }

    /// Takes the boundaries between frames that lie before `end`.
    fn boundaries_below(&self, end: PhysicalOffset) -> Vec<PhysicalOffset> {
        let mut ahead = self.boundaries.lock();
        let below = ahead.partition_point(|boundary| *boundary < end);
        ahead.drain(..below).collect()
    }

    /// Writes the frames of `[start, end)` that are in `segment`, from one boundary to the next.
    fn write_frames(
        &self,
        state: &mut FlushState,
        segment: &Segment,
        start: PhysicalOffset,
        boundaries: &[PhysicalOffset],
        end: PhysicalOffset,
    ) -> Result<()> {
        let all_record_crc = self.config.checksum == RecordChecksum::On;
        let (start, end) = (start.max(segment.base), end.min(segment.end()));
        for (start, len) in frames::parts(start, end, boundaries) {
            // Records that check themselves need no second checksum over all of them.
            let bytes_crc = (!all_record_crc)
                .then(|| crc32(segment.memory.read(segment.position(start), len.into())));
            let frame = Frame { start, len, all_record_crc, bytes_crc };
            state.frames.append(segment.base, &frame)?;
        }
        Ok(())
    }

    /// Makes the frames written so far durable. Returns why frames were lost, if so.
    pub(crate) fn sync_frames(&self) -> Option<Error> {
        // Not under the lock: who waits for the log does not wait for its frames.
        let unsynced = self.flush.lock().frames.take_unsynced();
        let failed = unsynced.and_then(|unsynced| unsynced.sync().err());
        let mut state = self.flush.lock();
        if failed.is_some() {
            state.degraded = failed;
        }
        state.degraded.clone()
    }
}
