//! Room ahead of the appender: blocks, warm pages, the next segment. Whatever is ready costs an
//! append nothing; whatever is not, the append makes itself and gets the error if it cannot.

use std::sync::{Arc, atomic::Ordering};

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
/// Zeros are worth writing for syncs of at most this many bytes. They save the file system's own
/// writes in each sync, and cost the disk's time for as many bytes again.
const ZERO_GROUP_MOST: u64 = 384 << 10;
/// Pages are made ready in pieces of a large page, which keep others from mapping memory only
/// shortly.
const WARM_BYTES: u64 = 2 << 20;
const WINDOW_LEAST: u64 = 8 << 20;
const WINDOW_MOST: u64 = 256 << 20;
const PAGE: u64 = 4096;

/// How far pages are warm (store path).
#[derive(Debug)]
pub(super) struct Warm {
    end: PhysicalOffset,
    /// How far ahead of the appender; grows when the appender gets there first.
    window: u64,
}

impl Warm {
    pub(super) fn new(end: PhysicalOffset) -> Self {
        Self { end, window: WINDOW_LEAST }
    }
}

/// The one or two segments that lie ahead of the appender.
struct Ahead {
    now: PhysicalOffset,
    active: Arc<Segment>,
    spare: Option<Arc<Segment>>,
}

impl Ahead {
    /// The segment that holds `at`, if it is made already.
    fn segment(&self, at: PhysicalOffset) -> Option<&Arc<Segment>> {
        let all = [Some(&self.active), self.spare.as_ref()];
        all.into_iter().flatten().find(|segment| segment.base <= at && at < segment.end())
    }

    /// `bytes` from now, but not after the next roll, and not now.
    fn later(&self, bytes: u64) -> PhysicalOffset {
        (self.now + bytes).min(self.active.end()).max(self.now + 1)
    }

    /// Up to where blocks exist.
    fn blocks(&self) -> PhysicalOffset {
        match &self.spare {
            Some(spare) if self.active.ready() == self.active.len => spare.base + spare.ready(),
            _ => self.active.base + self.active.ready(),
        }
    }
}

impl CommitLog {
    fn ahead(&self) -> Ahead {
        let state = self.append.lock();
        let active = state.active.clone();
        Ahead { now: active.base + state.position, active, spare: state.spare.clone() }
    }

    /// Does one piece of preparing, if any is due. Returns the log position from which on the next
    /// one will be, at once when it is not past the present end.
    pub(crate) fn prepare_step(&self) -> Result<PhysicalOffset> {
        let mut warm = self.warm.lock();
        let ahead = self.ahead();
        let now = ahead.now;
        let low = self.low_water();
        if ahead.blocks() < now + low {
            if self.extend_step(now)? {
                return Ok(now);
            }
            // The next segment is not there yet.
            return Ok(ahead.later(low / 2));
        }
        if self.config.append_path == AppendPath::Write {
            return Ok(ahead.later(low / 2));
        }
        if warm.end < now {
            warm.end = now;
            warm.window = (warm.window * 2).min(WINDOW_MOST);
        }
        let far = now + warm.window;
        if warm.end < far.min(ahead.blocks())
            && let Some(segment) = ahead.segment(warm.end)
        {
            let at = segment.position(warm.end);
            let next = (at + 1).next_multiple_of(WARM_BYTES).min(segment.ready());
            segment.memory.populate(at, next - at).map_err(failed("populate", &segment.path()))?;
            warm.end = segment.base + next;
            return Ok(now);
        }
        if ahead.blocks() < far && self.extend_step(now)? {
            return Ok(now);
        }
        // Half the window is used up: time for the next piece.
        Ok(ahead.later((warm.window / 2).min(low / 2)))
    }

    /// Makes the next segment if it is due. Returns the log position from which on it will be.
    pub(crate) fn spare_step(&self) -> Result<PhysicalOffset> {
        let ahead = self.ahead();
        let end = ahead.active.end();
        if ahead.spare.is_some() {
            return Ok(end);
        }
        // Early: making it waits for the disk, which has much to do when appends come fast.
        let due = ahead.active.base + ahead.active.len / 2;
        if ahead.now < due {
            return Ok(due);
        }
        self.make_spare()?;
        Ok(end)
    }

    /// How much is kept ready ahead of the appender.
    fn low_water(&self) -> u64 {
        match self.config.append_path {
            AppendPath::Store => ALLOCATE_BYTES / 2,
            AppendPath::Write => 4 * ZERO_BYTES,
        }
    }

    /// Makes one more piece ready behind what is. Returns whether there was a segment for it.
    fn extend_step(&self, now: PhysicalOffset) -> Result<bool> {
        let _blocks = self.blocks.lock();
        let ahead = self.ahead();
        let from = ahead.blocks();
        let Some(segment) = ahead.segment(from) else { return Ok(false) };
        let step = match self.config.append_path {
            AppendPath::Store => ALLOCATE_BYTES,
            // An appender right behind is faster than zeros can be written: it gets plain blocks.
            AppendPath::Write if from < now + ZERO_BYTES / 4 || self.groups_are_large() => {
                ALLOCATE_BYTES / 4
            }
            AppendPath::Write => ZERO_BYTES,
        };
        let at = segment.position(from);
        self.extend(segment, at, (at + step).min(segment.len), from.saturating_since(now))?;
        Ok(true)
    }

    fn groups_are_large(&self) -> bool {
        self.group_bytes.load(Ordering::Relaxed) > ZERO_GROUP_MOST
    }

    /// Makes `[from, to)` of `segment` ready, which is `distance` ahead of the appender. The caller
    /// holds the lock on blocks, and nobody else touches these bytes before they are ready: here
    /// begins what the appender may write.
    fn extend(&self, segment: &Segment, from: u64, to: u64, distance: u64) -> Result<()> {
        debug_assert!(segment.ready() == from);
        let path = segment.path();
        let allocate_to = from.max(to).next_multiple_of(ALLOCATE_BYTES).min(segment.len);
        segment
            .file
            .allocate(from, allocate_to - from)
            .map_err(failed("allocate blocks for", &path))?;
        let zeros = self.config.append_path == AppendPath::Write && to - from <= ZERO_BYTES;
        if zeros && from.is_multiple_of(PAGE) && distance >= ZERO_BYTES / 4 {
            // Blocks that were written once make the syncs to come cheaper than blocks that were
            // only promised. It is a help: a failure here will show where it matters.
            let _ = segment.file.write_zeros(from, to - from);
        }
        segment.set_ready(to);
        Ok(())
    }

    /// Makes `segment` ready at least up to `need`, for an append that got there first.
    pub(super) fn make_ready(&self, segment: &Arc<Segment>, need: u64) -> Result<()> {
        let _blocks = self.blocks.lock();
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
        match self.extend(segment, from, to, 0) {
            Ok(()) => Ok(()),
            // With little room left, what is needed now may still fit.
            Err(_) if need < to => {
                self.extend(segment, from, need.next_multiple_of(PAGE).min(segment.len), 0)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the next segment, if there is none in reserve.
    pub(super) fn make_spare(&self) -> Result<()> {
        let _spare = self.spare.lock();
        let base = {
            let state = self.append.lock();
            if state.spare.is_some() {
                return Ok(());
            }
            state.active.end()
        };
        let len = self.config.segment_bytes;
        let ready = match self.config.append_path {
            AppendPath::Store => len.min(ALLOCATE_BYTES / 4),
            // The rest gets zeros.
            AppendPath::Write => len.min(ZERO_BYTES / 4),
        };
        let spare = Segment::create(&*self.disk, base, len, ready)?;
        let mut state = self.append.lock();
        // Nobody can have rolled meanwhile: rolling takes the spare that was not there.
        assert!(state.spare.is_none() && state.active.end() == base, "two makers of segments");
        state.spare = Some(Arc::new(spare));
        Ok(())
    }

    /// Takes the unused next segment away, as the Java store does at a clean stop.
    pub(crate) fn drop_spare(&self) -> Result<()> {
        let _spare = self.spare.lock();
        let Some(spare) = self.append.lock().spare.take() else { return Ok(()) };
        let path = spare.path();
        self.disk.remove(&path).map_err(failed("remove", &path))?;
        let dir = path.parent();
        self.disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))
    }
}
