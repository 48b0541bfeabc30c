//! Topics: what there is, where their queues are, and taking one away.

use std::sync::Arc;

use serde::Serialize;
use steadfast::QueueKey;
use tracing::info;

use super::{ByQueue, MessageQueue, failed, no_topic, stored_before};
use crate::{
    broker::Core,
    names,
    namesrv::{data::TopicList, json_body},
    protocol::{Refused, Request, Response, refuse, status},
};

/// All topics and how they are.
pub(super) fn all(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    Ok(json_body(&core.topics.snapshot()))
}

/// How one topic is.
pub(super) fn one(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let name = request.fields().need("topic")?;
    Ok(json_body(&core.topics.get(name).ok_or_else(|| no_topic(name))?))
}

/// The topics that are the broker's own.
pub(super) fn own(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    let topics = core.topics.snapshot().topic_config_table.into_keys();
    let topic_list = topics.filter(|name| core.is_own_topic(name)).collect();
    Ok(json_body(&TopicList { topic_list }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicOffset {
    last_update_timestamp: i64,
    max_offset: u64,
    min_offset: u64,
}

/// Where the queues of a topic begin and end.
pub(super) fn queues(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let topic = request.fields().need("topic")?;
    let (_, read, write) = core.topics.shape(topic).ok_or_else(|| no_topic(topic))?;
    let mut table = ByQueue::default();
    for queue_id in 0..read.max(write) {
        let queue = QueueKey::new(topic, queue_id).map_err(failed)?;
        let (min, max) = core.store.queue_range(&queue).unwrap_or_default();
        let offset = TopicOffset {
            last_update_timestamp: stored_before(core, &queue, max),
            max_offset: max.get(),
            min_offset: min.get(),
        };
        table.push(&MessageQueue::new(core, topic, queue_id), &offset)?;
    }
    Ok(Response::ok().body(format!("{{\"offsetTable\":{table},\"topicPutTps\":0.0}}")))
}

/// Takes a topic away. It is durable when this is answered; done again it does nothing more.
pub(super) fn delete(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let topic = request.fields().need("topic")?;
    names::check_topic(topic).map_err(|why| refuse(status::INVALID_PARAMETER, why))?;
    if core.is_own_topic(topic) {
        let why = format!("the topic {topic} is the broker's own");
        return Err(refuse(status::INVALID_PARAMETER, why));
    }
    // Only what is on the disk is below the mark: nothing that is acknowledged later, also after a
    // crash that took the end of the log, can come to lie there.
    core.store.flush().map_err(failed)?;
    let mark = core.store.progress().durable;
    let has_messages = core.store.queues().iter().any(|queue| queue.topic() == topic);
    let was_there = core.topics.delete(topic, has_messages.then_some(mark)).map_err(failed)?;
    core.topics.save().map_err(failed)?;
    core.registry.topic_gone(core, topic);
    if was_there {
        info!(topic, "deleted; its messages stay");
    }
    Ok(Response::ok())
}
