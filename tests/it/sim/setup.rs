//! What is drawn once per schedule, and the options of each open.

use std::{fmt, time::Duration};

use steadfast::{
    FlushMode, KeyIndexing, OnDamage, Options, QueueKey, RecordChecksum,
    disk::{AppendPath, sim::Rng},
};

use super::faults::FaultKind;

/// What each operation weighs, in the order of `World::op`.
const WEIGHTS: [u64; 14] = [40, 8, 12, 10, 3, 3, 4, 3, 3, 4, 4, 3, 2, 1];

/// Which operations and which faults a schedule has at all: rare combinations come up only where
/// most others are off.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) weights: [u64; WEIGHTS.len()],
    pub(crate) faults: Vec<FaultKind>,
    /// In how many of a hundred crashes a copy is damaged at rest.
    pub(crate) damage: u64,
}

impl Swarm {
    fn draw(rng: &mut Rng) -> Self {
        let mut weights = WEIGHTS;
        if rng.chance(1, 2) {
            // Without appends nothing would be tried.
            for weight in weights.iter_mut().skip(1) {
                *weight *= *rng.pick(&[0, 0, 1, 1, 1, 4]);
            }
        }
        let mut faults = FaultKind::ALL.to_vec();
        if rng.chance(3, 4) {
            faults.retain(|_| rng.chance(1, 3));
        }
        Self { weights, faults, damage: *rng.pick(&[0, 0, 5, 30]) }
    }
}

/// Everything about a schedule that does not change while it runs.
pub(crate) struct Setup {
    pub(crate) options: Options,
    pub(crate) append_path: AppendPath,
    pub(crate) queues: Vec<QueueKey>,
    /// Now and then one session runs with the other mode or checksum rule.
    pub(crate) changes: bool,
    /// Bytes of a small disk, if it is one.
    pub(crate) capacity: Option<u64>,
    pub(crate) rounds: u64,
    pub(crate) ops: u64,
    pub(crate) largest_body: u64,
    pub(crate) swarm: Swarm,
}

impl Setup {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut options = Options::default();
        options.segment_bytes = 4096 * rng.within(1..5);
        let entries = *rng.pick(&[101, 101, 1000]);
        options.queue_file_bytes = 20 * rng.within(10..entries);
        options.index_slots = rng.within(1..20) as u32;
        options.index_entries = rng.within(3..40) as u32;
        options.flush = *rng.pick(&[FlushMode::Sync, FlushMode::Async]);
        if rng.chance(1, 4) {
            options.key_index = KeyIndexing::Off;
        }
        if rng.chance(1, 4) {
            options.record_checksum = RecordChecksum::Off;
        }
        if rng.chance(1, 4) {
            options.on_damage = OnDamage::Serve;
        }
        options.open_queue_files = rng.within(8..20) as usize;
        if rng.chance(1, 2) {
            options.retention.reserved = Duration::from_secs(rng.within(1..4) * 3600);
            options.retention.delete_hours = (0..24).collect();
        }
        let queues = (0..rng.within(1..6)).map(|n| {
            let topic = ["orders", "payments", "a-topic-with-a-long-name"][n as usize % 3];
            QueueKey::new(topic, n as i32 / 2).unwrap()
        });
        Self {
            queues: queues.collect(),
            append_path: *rng.pick(&[AppendPath::Store, AppendPath::Store, AppendPath::Write]),
            changes: rng.chance(1, 4),
            capacity: rng.chance(1, 10).then(|| 4096 * rng.within(10..80)),
            rounds: rng.within(2..6),
            ops: *rng.pick(&[12, 40, 40, 120]),
            largest_body: *rng.pick(&[60, 600, 3000]),
            swarm: Swarm::draw(rng),
            options,
        }
    }

    /// The options of the next open.
    pub(crate) fn next_options(&self, rng: &mut Rng) -> Options {
        let mut options = self.options.clone();
        if self.changes && rng.chance(1, 3) {
            options.flush = match options.flush {
                FlushMode::Sync => FlushMode::Async,
                FlushMode::Async => FlushMode::Sync,
            };
        }
        if self.changes && rng.chance(1, 3) {
            options.record_checksum = *rng.pick(&[RecordChecksum::On, RecordChecksum::Off]);
        }
        options
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = &self.options;
        write!(
            f,
            "segment_bytes={} queue_file_bytes={} index={}x{} {:?} flush={:?} checksum={:?} \
             on_damage={:?} append_path={:?} queues={} changes={} capacity={:?} reserved={:?} \
             rounds={} ops={} largest_body={} {:?}",
            o.segment_bytes,
            o.queue_file_bytes,
            o.index_slots,
            o.index_entries,
            o.key_index,
            o.flush,
            o.record_checksum,
            o.on_damage,
            self.append_path,
            self.queues.len(),
            self.changes,
            self.capacity,
            o.retention.reserved,
            self.rounds,
            self.ops,
            self.largest_body,
            self.swarm
        )
    }
}
