//! The one write path: offsets, encoding and publishing under one short lock.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    checkpoint::frames::FRAME_MOST,
    disk::{AppendPath, memory::MemoryWriter},
    error::{Error, ErrorKind, Result},
    format::{
        layout,
        record::{RecordPlan, encode_blank},
    },
    message::Placement,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
};

use super::{CommitLog, LogConfig, segment::Segment, sequence::Sequence, stage::Stage};

/// Every full segment ends in a blank record, and its header is this long.
const BLANK_BYTES: u64 = layout::BLANK_BYTES as u64;
/// A producer's clock reading this much older than the last one is a step of the clock.
const CLOCK_STEP_MILLIS: i64 = 1000;
/// Records may pile up to here before an appender writes them out itself.
const STAGE_BYTES: usize = 4 << 20;

/// What the append lock guards.
#[derive(Debug)]
pub(super) struct AppendState {
    pub(super) active: Arc<Segment>,
    /// The right to store into `active`; on the write path the bytes go through `stage`.
    writer: Option<MemoryWriter>,
    pub(super) position: u64,
    pub(super) spare: Option<Arc<Segment>>,
    sequence: Sequence,
    pub(super) stage: Stage,
    /// Of the record appended last.
    store_time: StoreTime,
    /// Where a record begins, told to the flusher.
    boundary: PhysicalOffset,
}

/// What an append must see to before it can have its place.
enum Want {
    Nothing,
    Spare,
    Ready(Arc<Segment>, u64),
    StageRoom,
}

/// The stage for a log, of no size where records are stored in place.
pub(super) fn new_stage(config: &LogConfig) -> Stage {
    Stage::new(match config.append_path {
        AppendPath::Store => 0,
        AppendPath::Write => STAGE_BYTES.min(2 * config.segment_bytes as usize),
    })
}

fn writer_of(config: &LogConfig, segment: &Arc<Segment>) -> Option<MemoryWriter> {
    match config.append_path {
        AppendPath::Store => segment.memory.claim_writer(),
        AppendPath::Write => None,
    }
}

impl AppendState {
    pub(super) fn new(
        config: &LogConfig,
        segments: &[Arc<Segment>],
        end: PhysicalOffset,
        sequence: Sequence,
    ) -> Self {
        let active = segments.last().expect("recovery leaves at least one segment").clone();
        Self {
            position: active.position(end),
            writer: writer_of(config, &active),
            active,
            spare: None,
            sequence,
            stage: new_stage(config),
            store_time: StoreTime::default(),
            boundary: end,
        }
    }

    pub(super) fn set_sequence(&mut self, sequence: Sequence) {
        self.sequence = sequence;
    }

    fn end(&self) -> PhysicalOffset {
        self.active.base + self.position
    }

    /// Whether `total` bytes can be placed now, rolling to the next segment if need be.
    fn make_room(&mut self, log: &CommitLog, total: u64) -> Want {
        if self.position + total + BLANK_BYTES > self.active.len {
            let Some(next) = self.spare.take() else { return Want::Spare };
            self.roll(log, next);
        }
        let need = self.position + total + BLANK_BYTES;
        if need > self.active.ready() {
            return Want::Ready(self.active.clone(), need);
        }
        let staged = log.config.append_path == AppendPath::Write;
        if staged && !self.stage.has_room(total as usize) {
            return Want::StageRoom;
        }
        Want::Nothing
    }

    /// Ends the active segment with a blank record and goes on in `next`, which is durable with
    /// its name already.
    fn roll(&mut self, log: &CommitLog, next: Arc<Segment>) {
        let room = self.active.len - self.position;
        if room > 0 {
            // Each append left these eight bytes free and ready.
            assert!(room >= BLANK_BYTES, "a record reaches into the room of the blank one");
            let mut blank = [0; BLANK_BYTES as usize];
            encode_blank(&mut blank, room as u32);
            match &mut self.writer {
                Some(writer) => {
                    writer.slice(self.position, BLANK_BYTES).copy_from_slice(&blank);
                    writer.publish(self.active.len);
                }
                None => {
                    let out = self.stage.take_room(&self.active, self.position, blank.len());
                    out.copy_from_slice(&blank);
                    self.stage.seal();
                }
            }
        }
        log.segments.push(next.clone());
        self.writer = writer_of(&log.config, &next);
        self.active = next;
        self.position = 0;
        self.stage.set_end(self.end());
        log.marks.appended.advance(self.end().get());
    }

    /// The store time of records that were planned at `now`. Producers take the time before they
    /// take the lock, so one may come a moment late; a clock that really stepped back is believed.
    fn advance_time(&mut self, now: StoreTime) -> StoreTime {
        let behind = self.store_time.as_millis().saturating_sub(now.as_millis());
        if !(0..CLOCK_STEP_MILLIS).contains(&behind) {
            self.store_time = now;
        }
        self.store_time
    }

    /// Encodes `plans` at the present position and publishes them together.
    fn place(
        &mut self,
        log: &CommitLog,
        plans: &[RecordPlan<'_>],
        total: u64,
        now: StoreTime,
        placed: &mut dyn FnMut(Placement),
    ) -> PhysicalOffset {
        let store_time = self.advance_time(now);
        let mut at = self.end();
        let mut room = match &mut self.writer {
            Some(writer) => writer.slice(self.position, total),
            None => self.stage.take_room(&self.active, self.position, total as usize),
        };
        for plan in plans {
            let size = plan.size();
            let (out, rest) = room.split_at_mut(size as usize);
            room = rest;
            let queue_offset = match plan.takes_queue_offset() {
                true => self.sequence.take(plan.queue()),
                false => QueueOffset::ZERO,
            };
            plan.encode(out, queue_offset, at, store_time);
            placed(Placement { queue_offset, physical_offset: at, size, store_time });
            at = at + u64::from(size);
        }
        self.position += total;
        if at.saturating_since(self.boundary) >= FRAME_MOST {
            self.boundary = at;
            log.boundaries.lock().push_back(at);
        }
        match &mut self.writer {
            Some(writer) => writer.publish(self.position),
            None => self.stage.set_end(at),
        }
        log.marks.appended.advance(at.get());
        at
    }
}

impl CommitLog {
    /// Appends `plans` as one contiguous group that becomes visible at once and never straddles
    /// segments. Calls `placed` for each in order, under the append lock, and returns the end of
    /// the group. `in_hand`: return only once the operating system has the bytes.
    ///
    /// # Errors
    ///
    /// [`Faulted`](ErrorKind::Faulted) after a failure of the log, [`Busy`](ErrorKind::Busy) when
    /// too much waits for the disk, [`Full`](ErrorKind::Full) without room; nothing was appended
    /// then. An error after the place was given means that the outcome is unknown, and the log
    /// has failed.
    pub(crate) fn append(
        &self,
        plans: &[RecordPlan<'_>],
        now: StoreTime,
        in_hand: InHand,
        mut placed: impl FnMut(Placement),
    ) -> Result<PhysicalOffset> {
        let total = plans.iter().map(|p| u64::from(p.size())).sum::<u64>();
        if total + BLANK_BYTES > self.config.segment_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the batch does not fit a segment bytes={total} segment_bytes={}",
                    self.config.segment_bytes
                ),
            ));
        }
        let now = if self.hold_back(total)? { self.clock.now() } else { now };
        let end = loop {
            let mut state = self.append.lock();
            self.marks.durable.check_open()?;
            match state.make_room(self, total) {
                Want::Nothing => break state.place(self, plans, total, now, &mut placed),
                want => {
                    drop(state);
                    self.provide(want)?;
                }
            }
        };
        if self.config.append_path == AppendPath::Write && in_hand == InHand::Yes {
            self.write_out()?;
        }
        Ok(end)
    }

    /// Does what an append found missing, outside of the append lock.
    fn provide(&self, want: Want) -> Result<()> {
        match want {
            Want::Nothing => Ok(()),
            Want::Spare => self.make_spare(),
            Want::Ready(segment, need) => self.make_ready(&segment, need),
            Want::StageRoom => self.write_out(),
        }
    }

    /// Waits while too many bytes wait for the disk. Returns whether it did.
    fn hold_back(&self, total: u64) -> Result<bool> {
        if self.refusing.load(Ordering::Acquire)
            && let Some(refused) = &*self.refused.read()
        {
            return Err(refused.clone());
        }
        let max = self.config.max_unflushed_bytes;
        let ahead = |log: &Self| log.marks.unsynced() + total;
        if ahead(self) <= max {
            return Ok(false);
        }
        let deadline = self.clock.elapsed() + self.config.append_timeout;
        let target = (self.marks.appended.get() + total).saturating_sub(max);
        self.marks.durable.wait(target, &*self.clock, deadline);
        self.marks.durable.check_open()?;
        // Others may have taken the room meanwhile; a little over the limit does no harm, a loop
        // without an end would.
        if self.marks.durable.get() >= target {
            return Ok(true);
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!(
                "too many bytes wait for the disk; try again in about {} ms waiting={} \
                 max_unflushed_bytes={max}",
                self.config.append_timeout.as_millis(),
                ahead(self),
            ),
        ))
    }

    /// Hands everything that is staged to the operating system. A failure fails the log.
    pub(super) fn write_out(&self) -> Result<()> {
        if self.config.append_path == AppendPath::Store {
            return Ok(());
        }
        let mut staged = self.staged.lock();
        // After a write that failed nothing behind it is written: its bytes are missing before.
        self.marks.durable.check_open()?;
        std::mem::swap(&mut *staged, &mut self.append.lock().stage);
        match staged.write_out() {
            Ok(None) => Ok(()),
            Ok(Some(end)) => {
                self.marks.written().advance(end.get());
                Ok(())
            }
            Err(error) => {
                self.marks.fail("writing", &error);
                // Not the error itself: this is no full disk that a later try may find emptier.
                self.marks.durable.check_open()
            }
        }
    }
}

/// Whether an append returns only once the bytes survive the death of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InHand {
    Yes,
    /// The caller waits for the sync anyway.
    No,
}
