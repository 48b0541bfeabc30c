//! What is still known of the queue offsets that damaged records were given.

use crate::{
    disk::{Access, Disk},
    format::{
        layout::{PHYSICAL_OFFSET, RECORD_MIN_BYTES},
        view::RecordView,
    },
    log::{DamagedRange, segment::path_of},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
};

use super::files::LogFiles;

/// Of each damaged range at most this much is looked at.
const LOOK_MOST: u64 = 8 << 20;

/// How many records damage may have destroyed. No queue lost more offsets than that.
pub(crate) fn lost_most(damage: &[DamagedRange]) -> u64 {
    damage.iter().map(|d| d.end.saturating_since(d.start) / u64::from(RECORD_MIN_BYTES)).sum()
}

/// The next queue offsets by records whose checksums are wrong but which still lie where they say
/// they do. Hints: any field may be what is damaged.
pub(crate) fn told_by_damaged(
    disk: &dyn Disk,
    files: &LogFiles,
    damage: &[DamagedRange],
) -> Vec<(QueueKey, QueueOffset)> {
    let mut told = Vec::new();
    let Some(segment_bytes) = files.segment_bytes else { return told };
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
                    told_by_bytes(&bytes, from, &mut told);
                }
            }
        }
    }
    told
}

fn told_by_bytes(bytes: &[u8], from: PhysicalOffset, told: &mut Vec<(QueueKey, QueueOffset)>) {
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
                    told.push((key, QueueOffset::new(next)));
                }
                at += view.size() as usize;
            }
            _ => at += 1,
        }
    }
}
