//! The entries of a queue.

use std::sync::Arc;

use serde::Serialize;
use steadfast::{QueueKey, QueueOffset};

use super::{failed, no_topic};
use crate::{
    broker::Core,
    namesrv::json_body,
    protocol::{Refused, Request, Response, refuse, status},
};

/// One answer has no more.
const ENTRIES_MOST: usize = 1000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    eval: bool,
    physic_offset: u64,
    physic_size: u32,
    tags_code: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entries {
    max_queue_index: u64,
    min_queue_index: u64,
    queue_data: Vec<Entry>,
}

/// The entries of a queue from `index` on.
pub(super) fn entries(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let topic = fields.need("topic")?;
    let (_, read, write) = core.topics.shape(topic).ok_or_else(|| no_topic(topic))?;
    let queue_id: i32 = fields.parse("queueId")?;
    if !(0..read.max(write)).contains(&queue_id) {
        let why = format!("topic {topic} has no queue {queue_id}");
        return Err(refuse(status::INVALID_PARAMETER, why));
    }
    let index: u64 = fields.parse("index")?;
    let count = fields.parse_or("count", 10_usize)?.min(ENTRIES_MOST);
    let queue = QueueKey::new(topic, queue_id).map_err(failed)?;
    let Some((min, end)) = core.store.queue_range(&queue) else {
        let none = Entries { max_queue_index: 0, min_queue_index: 0, queue_data: Vec::new() };
        return Ok(json_body(&none));
    };
    let from = QueueOffset::new(index).max(min);
    let items = match from < end {
        true => core.store.queue_items(&queue, from, count).map_err(failed)?,
        false => Vec::new(),
    };
    let queue_data = items.iter().map(|item| Entry {
        // Nobody asked for a group's filter.
        eval: false,
        physic_offset: item.physical_offset.get(),
        physic_size: item.size,
        tags_code: item.tags_code,
    });
    Ok(json_body(&Entries {
        max_queue_index: end.get(),
        min_queue_index: min.get(),
        queue_data: queue_data.collect(),
    }))
}
