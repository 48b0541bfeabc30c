//! Room ahead of the appender: blocks, warm pages, the next segment. Whatever is ready costs an
//! append nothing; whatever is not, the append makes itself and gets the error if it cannot.

use std::sync::Arc;

use crate::{
    disk::{AppendPath, failed},
    error::Result,
    offset::PhysicalOffset,
};

use super::{CommitLog, segment::Segment};

/// Blocks are allocated in steps of this many bytes, so that a small store stays small.
const ALLOCATE_BYTES: u64 = 64 << 20;
/// Zeros are written and pushed out in pieces no sync has to wait long for.
const ZERO_BYTES: u64 = 4 << 20;
/// Pages are made ready in pieces that a waiting appender can overtake.
const WARM_BYTES: u64 = 2 << 20;
const WINDOW_LEAST: u64 = 8 << 20;
const WINDOW_MOST: u64 = 256 << 20;
const PAGE: u64 = 4096;

/// Where preparing stands. Its lock is held while blocks are allocated, by whoever needs them.
#[derive(Debug)]
pub(super) struct PrepareState {
    /// Pages below are warm (store path).
    warm: PhysicalOffset,
    /// How far ahead of the appender pages are kept warm; grows when the appender gets there first.
    window: u64,
}

impl PrepareState {
    pub(super) fn new(end: PhysicalOffset) -> Self {
        Self { warm: end, window: WINDOW_LEAST }
    }
}

impl CommitLog {
    /// Does one piece of preparing, if any is due. Returns the log position from which on the next
    /// one will be, at once when it is not past the present end.
    pub(crate) fn prepare_step(&self) -> Result<PhysicalOffset> {
        let mut prepare = self.prepare.lock();
        let (active, position, has_spare) = {
            let state = self.append.lock();
            (state.active.clone(), state.position, state.spare.is_some())
        };
        let now = active.base + position;
        let low = self.low_water();
        if active.ready() < active.len && active.ready() < position + low {
            let from = active.ready();
            let to = (from + self.piece(position, from)).min(active.len);
            self.extend(&active, from, to, position)?;
            return Ok(now);
        }
        if !has_spare && active.len - position < (active.len / 4).max(low) {
            drop(prepare);
            self.make_spare()?;
            return Ok(now);
        }
        if self.config.append_path == AppendPath::Store {
            if prepare.warm < now {
                prepare.warm = now;
                prepare.window = (prepare.window * 2).min(WINDOW_MOST);
            }
            let ahead = prepare.warm - now;
            let end = active.base + active.ready();
            if ahead < prepare.window && prepare.warm < end {
                let at = active.position(prepare.warm);
                let len = WARM_BYTES.min(active.ready() - at);
                active.memory.populate(at, len).map_err(failed("populate", &active.path()))?;
                prepare.warm = prepare.warm + len;
                return Ok(now);
            }
            // Half the window is used up: time for the next piece.
            return Ok(now + (prepare.window / 2).min(low / 2).max(1));
        }
        Ok(now + (low / 2).max(1))
    }

    /// How much is kept ready ahead of the appender.
    fn low_water(&self) -> u64 {
        match self.config.append_path {
            AppendPath::Store => ALLOCATE_BYTES / 2,
            AppendPath::Write => 4 * ZERO_BYTES,
        }
    }

    /// How much is made ready at once.
    fn piece(&self, position: u64, ready: u64) -> u64 {
        match self.config.append_path {
            AppendPath::Store => ALLOCATE_BYTES,
            // An appender right behind is faster than zeros can be written: it gets plain blocks.
            AppendPath::Write if ready < position + ZERO_BYTES / 4 => ALLOCATE_BYTES / 4,
            AppendPath::Write => ZERO_BYTES,
        }
    }

    /// Makes `[from, to)` of `segment` ready. The caller holds the prepare lock, and nobody else
    /// touches these bytes before they are: here begins what the appender may write.
    fn extend(&self, segment: &Segment, from: u64, to: u64, position: u64) -> Result<()> {
        debug_assert!(segment.ready() == from && position <= from);
        let path = segment.path();
        let allocate_to = from.max(to).next_multiple_of(ALLOCATE_BYTES).min(segment.len);
        segment
            .file
            .allocate(from, allocate_to - from)
            .map_err(failed("allocate blocks for", &path))?;
        let zeros = self.config.append_path == AppendPath::Write && to - from <= ZERO_BYTES;
        if zeros && from.is_multiple_of(PAGE) && from >= position + ZERO_BYTES / 4 {
            // Blocks that were written once make the syncs to come cheaper than blocks that were
            // only promised. It is a help: a failure here will show where it matters.
            let _ = segment.file.write_zeros(from, to - from);
        }
        segment.set_ready(to);
        Ok(())
    }

    /// Makes `segment` ready at least up to `need`, for an append that got there first.
    pub(super) fn make_ready(&self, segment: &Arc<Segment>, need: u64) -> Result<()> {
        let _prepare = self.prepare.lock();
        let from = segment.ready();
        if from >= need {
            return Ok(());
        }
        let step = match self.config.append_path {
            AppendPath::Store => ALLOCATE_BYTES,
            AppendPath::Write => ALLOCATE_BYTES / 4,
        };
        // Page-aligned, so that zeros can go on from there.
        let to = (need.max(from + step)).next_multiple_of(PAGE).min(segment.len);
        match self.extend(segment, from, to, from) {
            Ok(()) => Ok(()),
            // With little room left, what is needed now may still fit.
            Err(_) if need < to => {
                self.extend(segment, from, need.next_multiple_of(PAGE).min(segment.len), from)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the next segment, if there is none in reserve.
    pub(super) fn make_spare(&self) -> Result<()> {
        let _prepare = self.prepare.lock();
        let base = {
            let state = self.append.lock();
            if state.spare.is_some() {
                return Ok(());
            }
            state.active.end()
        };
        let len = self.config.segment_bytes;
        let ready = len.min(self.low_water() / 2);
        let spare = Segment::create(&*self.disk, base, len, ready)?;
        let mut state = self.append.lock();
        // Nobody can have rolled meanwhile: rolling takes the spare that was not there.
        assert!(state.spare.is_none() && state.active.end() == base, "two makers of segments");
        state.spare = Some(Arc::new(spare));
        Ok(())
    }

    /// Takes the unused next segment away, as the Java store does at a clean stop.
    pub(crate) fn drop_spare(&self) -> Result<()> {
        let _prepare = self.prepare.lock();
        let Some(spare) = self.append.lock().spare.take() else { return Ok(()) };
        let path = spare.path();
        self.disk.remove(&path).map_err(failed("remove", &path))?;
        let dir = path.parent();
        self.disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))
    }
}
