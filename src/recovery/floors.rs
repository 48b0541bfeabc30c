//! Where the queues ended, so that no offset that was ever given is given again.

use crate::{
    checkpoint::snapshot::QueueState,
    consumer::ConsumerOffsets,
    disk::{Access, Disk},
    error::Result,
    format::{
        be::{be32, be64},
        layout::{PHYSICAL_OFFSET, QUEUE_ID, QUEUE_OFFSET, RECORD_MIN_BYTES},
        view::RecordView,
    },
    log::{DamagedRange, segment::path_of},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
    queue::{QueueOnDisk, QueueTable, find_end},
};

use super::{RecoveredLog, files::LogFiles};

type Ends = Vec<(QueueKey, QueueOffset)>;

/// Queue ends that the next offsets must not fall below.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    known: Ends,
    /// Up to here in the log they count everything.
    known_at: PhysicalOffset,
    /// There are no notes of ours: the queues' files are all there is.
    only_files: bool,
    /// How many records damage behind `known_at` may have destroyed.
    lost_most: u64,
    /// How many records the log ever had at most. No queue lacks more of them than that.
    ever_most: u64,
    /// The same as `known`, after damage, from what may itself be wrong: believed as far as it is
    /// plausible.
    hints: Ends,
    /// What a damaged record says whose topic is gone: the queue's id, and the next offset.
    nameless: Vec<(i32, QueueOffset)>,
}

impl Floors {
    /// What a snapshot as of `at` says.
    pub(crate) fn of_snapshot(at: PhysicalOffset, states: &[QueueState]) -> Self {
        let known = states.iter().map(|state| (state.key.clone(), state.end)).collect();
        Self { known, known_at: at, ..Self::default() }
    }

    /// Without a snapshot of a log that is there.
    pub(crate) fn of_files() -> Self {
        Self { only_files: true, ..Self::default() }
    }

    /// Takes in what the queues' files and damaged records tell. Without our own notes the queues
    /// are derived anew from the whole log, and what their files say counts only for offsets of
    /// which the log holds nothing any more. With notes it counts only where the log is damaged
    /// behind them: a queue's last record may be, and its offset must not be given again.
    pub(crate) fn look(
        &mut self,
        disk: &dyn Disk,
        files: &LogFiles,
        queues: &[QueueOnDisk],
        log: &RecoveredLog,
    ) -> Result<()> {
        self.ever_most = log.end.max(self.known_at).get() / u64::from(RECORD_MIN_BYTES);
        for queue in queues.iter().filter(|_| self.only_files) {
            let end = find_end(disk, queue, log.end)?;
            self.known.push((queue.key.clone(), end));
        }
        let uncounted = log.damage.iter().filter(|range| range.end > self.known_at);
        let uncounted: Vec<_> = uncounted.copied().collect();
        self.lost_most = lost_most(&uncounted);
        if uncounted.is_empty() {
            return Ok(());
        }
        for queue in queues.iter().filter(|_| !self.only_files) {
            // No reason not to open: what the files do not tell, the log may.
            if let Ok(end) = find_end(disk, queue, log.end) {
                self.hints.push((queue.key.clone(), end));
            }
        }
        self.told_by_damaged(disk, files, &uncounted);
        Ok(())
    }

    /// Ends the queues, which hold what the log does, where they ended: not below what is known,
    /// and not below those hints that the lost records explain. After damage the `consumers` hint,
    /// too. Returns how many fillers that took.
    pub(crate) fn raise(mut self, queues: &QueueTable, consumers: &ConsumerOffsets) -> u64 {
        if self.lost_most > 0 {
            self.hints.extend(consumers.all());
        }
        let raise = |(key, floor): &(QueueKey, QueueOffset)| match queues.get(key) {
            // All of it is gone from the log; only its end is left to know.
            None => {
                queues.restore(key.clone(), *floor, *floor);
                0
            }
            Some(queue) if queue.end() == QueueOffset::ZERO && *floor > QueueOffset::ZERO => {
                queues.restore(key.clone(), *floor, *floor);
                0
            }
            Some(queue) if floor.get().saturating_sub(queue.end().get()) > self.ever_most => 0,
            Some(queue) => queue.pad(*floor),
        };
        let lost: u64 = self.known.iter().map(raise).sum();
        let nameless = self
            .nameless
            .iter()
            .filter_map(|(id, next)| Some((next_of(queues, *id, *next)?, *next)));
        let nameless: Vec<_> = nameless.collect();
        // All looked at before any is believed: one must not make the next plausible.
        let plausible: Vec<_> = self
            .hints
            .iter()
            .filter(|(key, at)| {
                let Some(queue) = queues.get(key) else { return false };
                at.get().saturating_sub(queue.end().get()) <= self.lost_most
            })
            .collect();
        lost + plausible.into_iter().chain(&nameless).map(raise).sum::<u64>()
    }

    /// The next queue offsets by records whose checksums are wrong but which still lie where they
    /// say they do. Hints: any field may be what is damaged.
    fn told_by_damaged(&mut self, disk: &dyn Disk, files: &LogFiles, damage: &[DamagedRange]) {
        let Some(segment_bytes) = files.segment_bytes else { return };
        for range in damage {
            for base in &files.bases {
                let from = range.start.max(*base);
                let until = range.end.min(*base + segment_bytes);
                if from < until {
                    let len = (until - from).min(LOOK_MOST) as usize;
                    let mut bytes = vec![0; len];
                    // What cannot be read tells nothing.
                    let read = disk
                        .open(&path_of(*base), Access::Read)
                        .and_then(|file| file.read_exact_at(&mut bytes, from - *base));
                    if read.is_ok() {
                        self.told_by_bytes(&bytes, from);
                    }
                }
            }
        }
    }

    fn told_by_bytes(&mut self, bytes: &[u8], from: PhysicalOffset) {
        let mut at = 0;
        while bytes.len() - at >= RECORD_MIN_BYTES as usize {
            let offset = from + at as u64;
            let rest = &bytes[at..];
            let here = rest[PHYSICAL_OFFSET..].starts_with(&offset.get().to_be_bytes());
            match here.then(|| RecordView::parse(rest)) {
                Some(Ok(view)) => {
                    let key = QueueKey::new(view.topic(), view.queue_id());
                    if let Ok(key) = key
                        && view.has_queue_entry()
                        && let Some(next) = view.queue_offset().get().checked_add(1)
                    {
                        self.hints.push((key, QueueOffset::new(next)));
                    }
                    at += view.size() as usize;
                }
                Some(Err(_)) if self.nameless.len() < NAMELESS_MOST => {
                    let id = be32(rest, QUEUE_ID) as i32;
                    if let Some(next) = be64(rest, QUEUE_OFFSET).checked_add(1) {
                        self.nameless.push((id, QueueOffset::new(next)));
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }
}

/// The only queue with this id that goes on one before `next`.
fn next_of(queues: &QueueTable, id: i32, next: QueueOffset) -> Option<QueueKey> {
    let mut all = queues.list().into_iter();
    let mut goes_on = all.by_ref().filter(|q| q.key().queue_id() == id && q.end().next() == next);
    let found = goes_on.next()?;
    goes_on.next().is_none().then(|| found.key().clone())
}

/// So many damaged records without a topic are believed at most: each is held against all queues.
const NAMELESS_MOST: usize = 64;
/// Of each damaged range at most this much is looked at.
const LOOK_MOST: u64 = 8 << 20;

/// How many records damage may have destroyed. No queue lost more offsets than that.
fn lost_most(damage: &[DamagedRange]) -> u64 {
    damage.iter().map(|d| d.end.saturating_since(d.start) / u64::from(RECORD_MIN_BYTES)).sum()
}
