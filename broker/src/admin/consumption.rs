//! How far groups got.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;
use steadfast::{Group, QueueKey, QueueOffset, ReadLimit};

use super::{ByQueue, MessageQueue, ROWS_MOST, clients::topics_consumed, failed, stored_before};
use crate::{
    broker::Core,
    namesrv::json_body,
    protocol::{Refused, Request, Response, refuse, status},
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    broker_offset: u64,
    consumer_offset: u64,
    last_timestamp: i64,
    pull_offset: u64,
}

/// Where a group is in the queues of one topic, or of all that it consumes.
pub(super) fn of_group(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let name = fields.need("consumerGroup")?;
    let topics = match fields.get("topic").filter(|topic| !topic.is_empty()) {
        Some(topic) => [topic.to_owned()].into(),
        None => topics_consumed(core, name),
    };
    let mut found = Found::default();
    found.look(core, name, &topics)?;
    Ok(Response::ok().body(found.told()))
}

/// Where all groups are.
pub(super) fn of_all(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    let (mut list, mut rows, mut behind) = (Vec::new(), 0, 0);
    for group in core.store.consumers().groups() {
        let name = group.as_str();
        let mut found = Found { rows, ..Found::default() };
        found.look(core, name, &topics_consumed(core, name))?;
        let quoted = serde_json::to_string(name).map_err(failed)?;
        list.push(format!("{{{quoted}:[{}]}}", found.told()));
        rows = found.rows;
        behind += found.behind;
    }
    let list = list.join(",");
    let address = core.address;
    Ok(Response::ok().body(format!(
        "{{\"brokerAddr\":\"{address}\",\"consumeStatsList\":[{list}],\"totalDiff\":{behind},\
         \"totalInflightDiff\":0}}"
    )))
}

/// Where one group is.
#[derive(Debug, Default)]
struct Found {
    table: ByQueue,
    /// How many there are in the whole answer.
    rows: usize,
    /// Messages that are still to be consumed.
    behind: u64,
}

impl Found {
    fn look(&mut self, core: &Core, name: &str, topics: &BTreeSet<String>) -> Result<(), Refused> {
        let group = Group::new(name).map_err(failed)?;
        // A topic that a group which is there no longer wants holds nobody up.
        let seen = core.clients.consumers(name);
        let wanted = seen.map(|seen| seen.subscriptions).unwrap_or_default();
        for topic in topics {
            let Some((_, read, _)) = core.topics.shape(topic) else { continue };
            let wants = || wanted.iter().any(|subscription| subscription.topic == *topic);
            if !wanted.is_empty() && !wants() {
                continue;
            }
            self.rows += read.max(0) as usize;
            if self.rows > ROWS_MOST {
                let why = format!("there are more than {ROWS_MOST} queues; ask for less");
                return Err(refuse(status::SYSTEM_ERROR, why));
            }
            for queue_id in 0..read {
                let queue = QueueKey::new(topic, queue_id).map_err(failed)?;
                let (_, end) = core.store.queue_range(&queue).unwrap_or_default();
                let next = core.store.consumers().committed(&group, &queue).unwrap_or_default();
                self.behind += end.saturating_since(next);
                let progress = Progress {
                    broker_offset: end.get(),
                    consumer_offset: next.get(),
                    last_timestamp: stored_before(core, &queue, next),
                    pull_offset: next.get(),
                };
                self.table.push(&MessageQueue::new(core, topic, queue_id), &progress)?;
            }
        }
        Ok(())
    }

    /// `ConsumeStats`.
    fn told(&self) -> String {
        format!("{{\"consumeTps\":0.0,\"offsetTable\":{}}}", self.table)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeSpan<'a> {
    consume_time_stamp: i64,
    delay_time: i64,
    max_time_stamp: i64,
    message_queue: MessageQueue<'a>,
    min_time_stamp: i64,
}

/// When the messages were stored that a group has before and behind it in a topic.
pub(super) fn time_spans(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct TimeSpans<'a> {
        consume_time_span_set: Vec<TimeSpan<'a>>,
    }
    let fields = request.fields();
    let topic = fields.need("topic")?;
    let group = Group::new(fields.need("group")?).map_err(failed)?;
    let (_, read, write) = core.topics.shape(topic).ok_or_else(|| super::no_topic(topic))?;
    let mut consume_time_span_set = Vec::new();
    for queue_id in 0..read.max(write) {
        let queue = QueueKey::new(topic, queue_id).map_err(failed)?;
        let (min, end) = core.store.queue_range(&queue).unwrap_or_default();
        let next = core.store.consumers().committed(&group, &queue).unwrap_or_default();
        let consumed = if next > min { stored_before(core, &queue, next) } else { 0 };
        let waiting = (next < end).then(|| stored_at(core, &queue, next.max(min)));
        consume_time_span_set.push(TimeSpan {
            consume_time_stamp: if consumed > 0 { consumed } else { stored_at(core, &queue, min) },
            delay_time: waiting.map_or(0, |time| crate::now_millis().saturating_sub(time).max(0)),
            max_time_stamp: stored_before(core, &queue, end),
            message_queue: MessageQueue::new(core, topic, queue_id),
            min_time_stamp: stored_at(core, &queue, min),
        });
    }
    Ok(json_body(&TimeSpans { consume_time_span_set }))
}

/// When the message at `at` was stored, 0 if there is none that can be read.
fn stored_at(core: &Core, queue: &QueueKey, at: QueueOffset) -> i64 {
    let batch = core.store.read(queue, at, ReadLimit::records(1)).ok();
    batch.and_then(|b| b.iter().next().map(|r| r.store_time().as_millis())).unwrap_or(0)
}
