//! Following a queue of the broker's own: what all tasks have in common that go along with one.

use std::time::Duration;

use steadfast::{ErrorKind, QueueKey, QueueOffset, ReadLimit, Record};
use tracing::{error, warn};

use crate::broker::Core;

/// Before something that did not work is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// The first queue of a system topic.
pub(crate) fn queue_of(topic: &str) -> QueueKey {
    QueueKey::new(topic, 0).expect("the name of a system topic is one")
}

/// Returns when the queue has a message at `at`, or after a pause.
pub(crate) async fn arrived(core: &Core, queue: &QueueKey, at: QueueOffset) {
    if let Ok(arrival) = core.store.arrival(queue, at)
        && arrival.await.is_ok()
    {
        return;
    }
    tokio::time::sleep(PAUSE).await;
}

/// At most `most` records of a queue from `from` on, and where to go on; a damaged one is told and
/// passed by. `None` if they cannot be read now.
pub(crate) fn read(
    core: &Core,
    queue: &QueueKey,
    from: QueueOffset,
    most: usize,
) -> Option<(Vec<Record>, QueueOffset)> {
    let (min, end) = core.store.queue_range(queue).unwrap_or_default();
    let from = from.max(min);
    if from >= end {
        return Some((Vec::new(), from.min(end)));
    }
    match core.store.read(queue, from, ReadLimit::records(most)) {
        Ok(batch) => {
            let next = batch.next_offset();
            Some((batch.into_records(), next))
        }
        Err(e) if matches!(e.kind(), ErrorKind::Damaged { .. }) => {
            error!(error = %e, %queue, offset = %from, "a message that waits cannot be read");
            Some((Vec::new(), from.next()))
        }
        Err(error) => {
            warn!(%error, %queue, "messages that wait cannot be read; trying again");
            None
        }
    }
}
