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
    first_where(queue, |entry| Ok(time_of(entry)?.map(|t| t >= time)))
}

/// The first message that lies at or past `start` in the log, the queue's end if there is none.
pub(crate) fn first_not_below(queue: &ConsumeQueue, start: PhysicalOffset) -> Result<QueueOffset> {
    first_where(queue, |entry| Ok(Some(entry.physical_offset >= start)))
}

/// The first entry for which `holds` is true, given that it is so from some entry on. Entries of
/// which it is not known are passed over.
fn first_where(
    queue: &ConsumeQueue,
    mut holds: impl FnMut(&QueueEntry) -> Result<Option<bool>>,
) -> Result<QueueOffset> {
    let (mut low, mut high) = (queue.min().get(), queue.end().get());
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
