//! Binary search in a queue, around entries that say nothing.

use super::ConsumeQueue;
use crate::{
    error::Result,
    format::entry::QueueEntry,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
};

/// Entries looked at in one read when a run of fillers has to be passed.
const CHUNK: usize = 64;

/// The first message stored at or after `time`, the queue's end if there is none. `time_of` says
/// when an entry's record was stored, `None` if that cannot be told; fillers are not asked about.
///
/// # Errors
///
/// What `time_of` or reading the queue returns.
pub(crate) fn first_at_or_after(
    queue: &ConsumeQueue,
    time: StoreTime,
    mut time_of: impl FnMut(&QueueEntry) -> Result<Option<StoreTime>>,
) -> Result<QueueOffset> {
    first_where(queue, queue.end(), |entry| Ok(time_of(entry)?.map(|t| t >= time)))
}

/// The first message that lies at or past `start` in the log, the queue's end if there is none.
/// A rotten entry can send a search too far: what lies right before the answer is looked at, too.
pub(crate) fn first_not_below(queue: &ConsumeQueue, start: PhysicalOffset) -> Result<QueueOffset> {
    let holds = |entry: &QueueEntry| Ok(Some(entry.physical_offset >= start));
    let mut found = first_where(queue, queue.end(), holds)?;
    let mut entries = Vec::new();
    while found > queue.min() {
        let from = queue.min().get().max(found.get().saturating_sub(CHUNK as u64));
        let before = (found.get() - from) as usize;
        entries.clear();
        queue.read(QueueOffset::new(from), before + 1, &mut entries)?;
        let next = entries.get(before).filter(|entry| !entry.is_filler());
        let next = next.map_or(PhysicalOffset::new(u64::MAX), |entry| entry.physical_offset);
        let fits = |entry: &QueueEntry| {
            !entry.is_filler() && (start..next).contains(&entry.physical_offset)
        };
        let Some(place) = entries.iter().take(before).position(fits) else { break };
        found = first_where(queue, QueueOffset::new(from + place as u64), holds)?;
    }
    Ok(found)
}

/// The first entry before `end` for which `holds` is true, given that it is so from some entry on,
/// or `end`. Entries of which it is not known are passed over.
fn first_where(
    queue: &ConsumeQueue,
    end: QueueOffset,
    mut holds: impl FnMut(&QueueEntry) -> Result<Option<bool>>,
) -> Result<QueueOffset> {
    let (mut low, mut high) = (queue.min().get(), end.get());
    let mut answer = high;
    // Known entries before `low` do not hold, from `high` on the answer is the best one.
    while low < high {
        let middle = low + (high - low) / 2;
        match first_known(queue, middle, high, &mut holds)? {
            // Each entry is passed over once: the next look ends at `middle`.
            None => high = middle,
            Some((at, true)) => (answer, high) = (at, middle),
            Some((at, false)) => low = at + 1,
        }
    }
    Ok(QueueOffset::new(answer))
}

fn first_known(
    queue: &ConsumeQueue,
    from: u64,
    to: u64,
    holds: &mut impl FnMut(&QueueEntry) -> Result<Option<bool>>,
) -> Result<Option<(u64, bool)>> {
    let mut entries = Vec::new();
    let (mut at, mut chunk) = (from, 1);
    while at < to {
        entries.clear();
        queue.read(QueueOffset::new(at), chunk.min((to - at) as usize), &mut entries)?;
        if entries.is_empty() {
            return Ok(None);
        }
        for entry in &entries {
            if !entry.is_filler()
                && let Some(answer) = holds(entry)?
            {
                return Ok(Some((at, answer)));
            }
            at += 1;
        }
        chunk = CHUNK;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        disk::{Access, file::FileDisk},
        name::QueueKey,
        queue::{QueueConfig, QueueTable},
    };

    #[test]
    fn a_rotten_entry_does_not_let_a_queue_begin_behind_others() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FileDisk::open(dir.path(), Access::Read).unwrap());
        let config = QueueConfig { file_bytes: 200, open_files: 16, access: Access::Read };
        let table = QueueTable::new(disk, config);
        for rotten in 0..300 {
            let key = QueueKey::new("T", rotten).unwrap();
            let queue = table.get_or_create(key.topic(), rotten).unwrap();
            for n in 0..300 {
                let at = if n == rotten as u64 { 0 } else { n * 100 };
                let physical_offset = PhysicalOffset::new(at);
                let entry = QueueEntry { physical_offset, size: 100, tags_code: 0 };
                queue.put(QueueOffset::new(n), entry).unwrap();
            }
            queue.begin_with_log(PhysicalOffset::new(500)).unwrap();
            // What says that it is before the log's beginning cannot be told from what is.
            let first = if rotten == 5 { 6 } else { 5 };
            assert_eq!(queue.min(), QueueOffset::new(first), "{rotten}");
        }
    }
}
