//! The commit log: fixed-size segments, one append path, one place that syncs.
//!
//! Knows records, segments and watermarks. Does not know queues, keys or consumers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    clock::Clock,
    disk::{AppendPath, Disk},
    error::Error,
    format::record::RecordLimits,
    offset::PhysicalOffset,
    options::RecordChecksum,
    sync::{AtomicBool, AtomicU64, Mutex, RwLock},
};

pub(crate) mod append;
pub(crate) mod flush;
pub(crate) mod marks;
pub(crate) mod prepare;
pub(crate) mod read;
pub(crate) mod segment;
pub(crate) mod segments;
pub(crate) mod sequence;
pub(crate) mod stage;

use append::AppendState;
use flush::FlushState;
use marks::Marks;
use prepare::Warm;
use segment::Segment;
use segments::Segments;
use sequence::Sequence;
use stage::Stage;

/// What the log needs to know of the options.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    pub(crate) limits: RecordLimits,
    pub(crate) segment_bytes: u64,
    pub(crate) append_path: AppendPath,
    pub(crate) checksum: RecordChecksum,
    pub(crate) max_unflushed_bytes: u64,
    pub(crate) append_timeout: Duration,
    pub(crate) store_host: SocketAddr,
}

/// A stretch of the log whose bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedRange {
    pub(crate) start: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
}

/// The first of `damage`, which is in order and does not overlap, that has a byte in
/// `[start, end)`.
pub(crate) fn damage_in(
    damage: &[DamagedRange],
    start: PhysicalOffset,
    end: PhysicalOffset,
) -> Option<DamagedRange> {
    let before = damage.partition_point(|range| range.end <= start);
    damage.get(before).filter(|range| range.start < end).copied()
}

/// Records, in the order they were appended.
#[derive(Debug)]
pub(crate) struct CommitLog {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    config: LogConfig,
    marks: Arc<Marks>,
    segments: Segments,
    damage: Vec<DamagedRange>,
    /// Where every record carries a checksum of all of it.
    record_crc: Range<PhysicalOffset>,
    /// Why appends are refused for the time being, if so (a disk nearly full).
    refused: RwLock<Option<Error>>,
    /// Whether there is such a reason: looked at by every append.
    refusing: AtomicBool,
    /// What the last sync made durable, in bytes.
    group_bytes: AtomicU64,
    // Lock order: flush, then warm, then spare, then blocks, then staged, then append.
    flush: Mutex<FlushState>,
    /// How far pages are warm; of the one who warms them.
    warm: Mutex<Warm>,
    /// Held while the next segment is made or taken away.
    spare: Mutex<()>,
    /// Held while blocks are allocated, by whoever needs them.
    blocks: Mutex<()>,
    /// The stage that is being written, or empty, while the other one is filled.
    staged: Mutex<Stage>,
    append: Mutex<AppendState>,
    /// Where records begin, in steps of [`FRAME_MOST`](crate::checkpoint::frames::FRAME_MOST)
    /// bytes or more, ahead of the last frame. Locked last of all.
    boundaries: Mutex<VecDeque<PhysicalOffset>>,
}

/// What recovery found, for the log to go on from.
pub(crate) struct LogState {
    /// Published up to the log's end; the last one is where appends go on.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: PhysicalOffset,
    pub(crate) sequence: Sequence,
    pub(crate) damage: Vec<DamagedRange>,
    /// Where records begin in what is not durable yet, ascending.
    pub(crate) boundaries: Vec<PhysicalOffset>,
    /// Where every record carries a checksum of all of it.
    pub(crate) record_crc: Range<PhysicalOffset>,
}

impl CommitLog {
    /// The log as recovery left it. `state.segments` is not empty and its last one holds or ends at
    /// `state.end`; what of it is not durable by `marks` becomes so by the next flush.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: LogConfig,
        marks: Arc<Marks>,
        state: LogState,
    ) -> Self {
        let append = AppendState::new(&config, &state.segments, state.end, state.sequence);
        Self {
            flush: Mutex::new(FlushState::new(disk.clone())),
            warm: Mutex::new(Warm::new(state.end)),
            spare: Mutex::default(),
            blocks: Mutex::default(),
            staged: Mutex::new(append::new_stage(&config)),
            append: Mutex::new(append),
            boundaries: Mutex::new(state.boundaries.into()),
            refused: RwLock::new(None),
            refusing: AtomicBool::new(false),
            group_bytes: 0.into(),
            segments: Segments::new(state.segments),
            damage: state.damage,
            record_crc: state.record_crc,
            disk,
            clock,
            config,
            marks,
        }
    }

    /// How far everything got.
    pub(crate) fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The first byte that is still there.
    pub(crate) fn start(&self) -> PhysicalOffset {
        self.segments.start()
    }

    /// The segments, for retention and tools.
    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Refuses appends with `error` until called with `None`.
    pub(crate) fn refuse(&self, error: Option<Error>) {
        let mut refused = self.refused.write();
        self.refusing.store(error.is_some(), Ordering::Release);
        *refused = error;
    }

    /// Where every record carries a checksum of all of it.
    pub(crate) fn record_crc(&self) -> Range<PhysicalOffset> {
        self.record_crc.clone()
    }

    /// Says where the queues go on, once they are known.
    pub(crate) fn set_sequence(&self, sequence: Sequence) {
        self.append.lock().set_sequence(sequence);
    }

    pub(crate) fn config(&self) -> &LogConfig {
        &self.config
    }
}
