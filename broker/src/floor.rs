//! What waits keeps the log that it is in, however old that is.

use steadfast::{PhysicalOffset, QueueKey, QueueOffset, Result};

use crate::broker::Core;

/// Tells the store from where on the log is needed: from the oldest message that is not delivered
/// yet. Halves of transactions are not among them: some are never ended.
///
/// # Errors
///
/// What cannot be read; what was kept before is kept still.
pub(crate) fn keep(core: &Core) -> Result<()> {
    // What is dispatched later is behind it.
    let mut from = core.store.progress().dispatched;
    let waiting = core.delays.waiting().into_iter().chain([core.timers.waiting()]);
    for (queue, next) in waiting {
        from = from.min(place(core, &queue, next)?.unwrap_or(from));
    }
    core.store.keep_from(from)
}

/// Where the first message of a queue from `next` on is in the log.
fn place(core: &Core, queue: &QueueKey, next: QueueOffset) -> Result<Option<PhysicalOffset>> {
    let (min, end) = core.store.queue_range(queue).unwrap_or_default();
    let next = next.max(min);
    if next >= end {
        return Ok(None);
    }
    let items = core.store.queue_items(queue, next, 1)?;
    Ok(items.first().map(|item| item.physical_offset))
}
