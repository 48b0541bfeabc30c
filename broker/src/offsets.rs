//! Where groups are in queues, and where queues begin and end.

use std::sync::Arc;

use steadfast::{Group, QueueKey, QueueOffset, ReadLimit, StoreTime};

use crate::{
    broker::Core,
    net::Connection,
    protocol::{Refused, Request, Response, refuse, status},
    pull::commit_by,
};

fn invalid(error: steadfast::Error) -> Refused {
    refuse(status::INVALID_PARAMETER, error.to_string())
}

fn queue_of(request: &Request) -> Result<QueueKey, Refused> {
    let fields = request.fields();
    QueueKey::new(fields.need("topic")?, fields.parse("queueId")?).map_err(invalid)
}

/// Where a group goes on in a queue.
pub(crate) fn query(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let queue = queue_of(request)?;
    let group = Group::new(request.fields().need("consumerGroup")?).map_err(invalid)?;
    if let Some(offset) = core.store.consumers().committed(&group, &queue) {
        return Ok(Response::ok().field("offset", offset));
    }
    // A new group begins a queue whose first message is still there with that message, whatever
    // its consumers would do: what was sent before they came is not lost on them.
    let range = core.store.queue_range(&queue);
    let whole = range.is_some_and(|(min, end)| min == QueueOffset::ZERO && end > min);
    if whole || request.fields().get("setZeroIfNotFound") == Some("true") {
        return Ok(Response::ok().field("offset", 0));
    }
    let why = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first";
    Err(refuse(status::QUERY_NOT_FOUND, why))
}

/// A group says where it is.
pub(crate) fn update(
    core: &Arc<Core>,
    by: &Connection,
    request: &Request,
) -> Result<Response, Refused> {
    let queue = queue_of(request)?;
    let fields = request.fields();
    let next: i64 = fields.parse("commitOffset")?;
    if let Ok(next) = u64::try_from(next) {
        let group = fields.need("consumerGroup")?;
        core.group_named_by(group, by)?;
        commit_by(by, core, group, &queue, next)?;
    }
    Ok(Response::ok())
}

/// The end of a queue.
pub(crate) fn max(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let range = core.store.queue_range(&queue_of(request)?).unwrap_or_default();
    Ok(Response::ok().field("offset", range.1))
}

/// The beginning of a queue.
pub(crate) fn min(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let range = core.store.queue_range(&queue_of(request)?).unwrap_or_default();
    Ok(Response::ok().field("offset", range.0))
}

/// The first message of a queue that was stored at a time or later.
pub(crate) fn by_time(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let queue = queue_of(request)?;
    let time = StoreTime::from_millis(request.fields().parse("timestamp")?);
    if core.store.queue_range(&queue).is_none() {
        return Ok(Response::ok().field("offset", 0));
    }
    let found = core.store.offset_by_time(&queue, time);
    let offset = found.map_err(|e| refuse(status::SYSTEM_ERROR, e.to_string()))?;
    Ok(Response::ok().field("offset", offset))
}

/// When the first message of a queue was stored.
pub(crate) fn earliest(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let queue = queue_of(request)?;
    let first = core.store.queue_range(&queue).and_then(|(min, _)| {
        let batch = core.store.read(&queue, min, ReadLimit::records(1)).ok()?;
        batch.iter().next().map(|record| record.store_time().as_millis())
    });
    Ok(Response::ok().field("timestamp", first.unwrap_or(-1)))
}
