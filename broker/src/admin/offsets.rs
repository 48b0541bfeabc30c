//! Setting where groups go on.

use std::sync::Arc;

use steadfast::{Group, QueueKey, QueueOffset, StoreTime};
use tracing::info;

use super::{ByQueue, MessageQueue, ROWS_MOST, clients::topics_consumed, failed, groups, no_topic};
use crate::{
    broker::Core,
    limits::POSITIONS_MOST,
    names,
    protocol::{Refused, Request, Response, refuse, request, status},
};

/// Sets where a group goes on in a topic: by time, or -1 at the end. Its consumers are told, and
/// go on there; a group that nobody is of does when somebody comes.
pub(super) fn reset(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let (topic, name) = (fields.need("topic")?, fields.need("group")?);
    let time: i64 = fields.parse("timestamp")?;
    let force = fields.parse_or("isForce", false)?;
    let only: i32 = fields.parse_or("queueId", -1)?;
    let said: i64 = fields.parse_or("offset", -1)?;
    let (_, read, write) = core.topics.shape(topic).ok_or_else(|| no_topic(topic))?;
    groups::known(core, name)?;
    let group = Group::new(name).map_err(failed)?;
    let queues = match only {
        -1 => 0..read.max(write),
        id if (0..read.max(write)).contains(&id) => id..id + 1,
        id => {
            let why = format!("topic {topic} has no queue {id}");
            return Err(refuse(status::INVALID_PARAMETER, why));
        }
    };
    let mut table = ByQueue::default();
    for queue_id in queues {
        let queue = QueueKey::new(topic, queue_id).map_err(failed)?;
        let known = core.store.consumers().committed(&group, &queue);
        let Some((min, end)) = core.store.queue_range(&queue) else {
            table.push(&MessageQueue::new(core, topic, queue_id), &0)?;
            continue;
        };
        let wanted = match u64::try_from(said) {
            Ok(said) if only >= 0 => QueueOffset::new(said).clamp(min, end),
            _ if time < 0 => end,
            _ => {
                let time = StoreTime::from_millis(time);
                core.store.offset_by_time(&queue, time).map_err(failed)?
            }
        };
        // Without force nobody jumps over what is not consumed, except to the end.
        let next = match known {
            Some(known) if !force && time >= 0 && only < 0 => known.min(wanted),
            _ => wanted,
        };
        set(core, &group, &queue, next)?;
        table.push(&MessageQueue::new(core, topic, queue_id), &next.get())?;
    }
    core.store.consumers().save().map_err(failed)?;
    let body = format!("{{\"offsetTable\":{table}}}");
    let members = core.clients.consumers(name).map(|seen| seen.members).unwrap_or_default();
    let told = [
        ("topic", topic.to_owned().into()),
        ("group", name.to_owned().into()),
        ("timestamp", time.to_string().into()),
        ("isForce", force.to_string().into()),
    ];
    for member in &members {
        member.connection.push(request::RESET_CONSUMER_CLIENT_OFFSET, &told, body.as_bytes());
    }
    info!(topic, group = name, members = members.len(), "offsets were reset");
    Ok(Response::ok().body(body))
}

/// Lets a group go on where another one is.
pub(super) fn clone(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let (from, to) = (fields.need("srcGroup")?, fields.need("destGroup")?);
    names::check_group(to).map_err(|why| refuse(status::INVALID_PARAMETER, why))?;
    core.group(to)?;
    let (source, target) = (Group::new(from).map_err(failed)?, Group::new(to).map_err(failed)?);
    let topics = match fields.get("topic").filter(|topic| !topic.is_empty()) {
        Some(topic) => [topic.to_owned()].into(),
        None => topics_consumed(core, from),
    };
    let all = core.store.consumers().of_group(&source);
    let chosen: Vec<_> = all.into_iter().filter(|(q, _)| topics.contains(q.topic())).collect();
    if chosen.len() > ROWS_MOST {
        let why = format!("{from} has more than {ROWS_MOST} offsets; name a topic");
        return Err(refuse(status::SYSTEM_ERROR, why));
    }
    for (queue, next) in &chosen {
        // Its retries are its own.
        if !names::is_of_group(queue.topic()) {
            set(core, &target, queue, *next)?;
        }
    }
    core.store.consumers().save().map_err(failed)?;
    Ok(Response::ok())
}

fn set(core: &Core, group: &Group, queue: &QueueKey, next: QueueOffset) -> Result<(), Refused> {
    let consumers = core.store.consumers();
    if consumers.committed(group, queue).is_none() && !core.positions.take(POSITIONS_MOST) {
        let why = format!("a broker has at most {POSITIONS_MOST} offsets of groups in queues");
        return Err(refuse(status::SYSTEM_ERROR, why));
    }
    consumers.commit(group, queue, next).map_err(failed)
}
