//! Following a queue of the broker's own: what all tasks have in common that go along with one.

use std::time::Duration;

use steadfast::{Error, ErrorKind, QueueKey, QueueOffset, ReadLimit, Record};
use tracing::{error, warn};

use crate::broker::Core;

/// Before something that did not work is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What a task does after a step of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Pause(Duration),
    /// Waits for a message at that offset, for so long at most.
    Arrival(QueueOffset, Duration),
}

/// The first queue of a system topic.
pub(crate) fn queue_of(topic: &str) -> QueueKey {
    QueueKey::new(topic, 0).expect("the name of a system topic is one")
}

/// Waits as said. Returns whether to go on; a stop ends only what waits, no step of the work.
pub(crate) async fn wait(core: &Core, queue: &QueueKey, then: Then) -> bool {
    let wait = async {
        match then {
            Then::GoOn => tokio::task::yield_now().await,
            Then::Pause(pause) => tokio::time::sleep(pause).await,
            Then::Arrival(at, most) => tokio::select! {
                () = arrived(core, queue, at) => {}
                () = tokio::time::sleep(most) => {}
            },
        }
    };
    tokio::select! {
        biased;
        () = core.stop.stopped() => false,
        () = wait => true,
    }
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

/// Whether a message that cannot be read never will be: it is damaged or gone.
pub(crate) fn is_lost(error: &Error) -> bool {
    use ErrorKind::{Damaged, NotFound, OutOfRange};
    matches!(error.kind(), Damaged { .. } | OutOfRange { .. } | NotFound)
}

/// At most `most` records of a queue from `from` on, and where to go on; a damaged one is told and
/// passed by. `None` if they cannot be read now: then the caller pauses.
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
        // It has a message there: what is not read now is not passed by.
        Ok(batch) if batch.next_offset() <= from => None,
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
