//! What operators ask a broker, with `mqadmin` or what is like it. Each file answers one kind of
//! question.

mod clients;
mod consumption;
mod forward;
mod groups;
mod offsets;
mod queue;
mod runtime;
mod settings;
mod topics;

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    broker::Core,
    protocol::{Refused, Request, Response, refuse, request, status},
};
pub(crate) use forward::ask_consumer;
pub(crate) use settings::Changeable;

/// Rows of one answer about many queues: with some 250 bytes each it stays a frame.
const ROWS_MOST: usize = 50_000;

/// Answers, unless the request is no operator's.
pub(crate) fn answer(core: &Arc<Core>, request: &Request) -> Option<Result<Response, Refused>> {
    let answer = question(request.code())?;
    // All of them may look at many queues, or wait for a file.
    Some(crate::blocking(|| answer(core, request)))
}

type Answer = fn(&Arc<Core>, &Request) -> Result<Response, Refused>;

fn question(code: i32) -> Option<Answer> {
    Some(match code {
        request::GET_ALL_TOPIC_CONFIG => topics::all,
        request::GET_TOPIC_CONFIG => topics::one,
        request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => topics::own,
        request::GET_TOPIC_STATS_INFO => topics::queues,
        request::DELETE_TOPIC_IN_BROKER => topics::delete,
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => groups::put,
        request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => groups::all,
        request::GET_SUBSCRIPTIONGROUP_CONFIG => groups::one,
        request::DELETE_SUBSCRIPTIONGROUP => groups::delete,
        request::GET_CONSUMER_CONNECTION_LIST => clients::consumers,
        request::GET_PRODUCER_CONNECTION_LIST => clients::producers,
        request::GET_ALL_PRODUCER_INFO => clients::all_producers,
        request::QUERY_SUBSCRIPTION_BY_CONSUMER => clients::subscription,
        request::QUERY_TOPIC_CONSUME_BY_WHO => clients::groups_of_topic,
        request::QUERY_TOPICS_BY_CONSUMER => clients::topics_of_group,
        request::GET_CONSUME_STATS => consumption::of_group,
        request::GET_BROKER_CONSUME_STATS => consumption::of_all,
        request::QUERY_CONSUME_TIME_SPAN => consumption::time_spans,
        request::INVOKE_BROKER_TO_RESET_OFFSET => offsets::reset,
        request::CLONE_GROUP_OFFSET => offsets::clone,
        request::QUERY_CONSUME_QUEUE => queue::entries,
        request::GET_BROKER_RUNTIME_INFO => runtime::info,
        request::VIEW_BROKER_STATS_DATA => runtime::stats,
        request::GET_BROKER_CONFIG => settings::show,
        request::UPDATE_BROKER_CONFIG => settings::change,
        _ => return None,
    })
}

/// `MessageQueue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageQueue<'a> {
    broker_name: &'a str,
    queue_id: i32,
    topic: &'a str,
}

impl<'a> MessageQueue<'a> {
    fn new(core: &'a Core, topic: &'a str, queue_id: i32) -> Self {
        Self { broker_name: &core.config.name, queue_id, topic }
    }
}

/// A map in which objects are the names of members, as RocketMQ's programs write and read it. No
/// JSON, so it cannot be part of a [`Serialize`].
#[derive(Debug)]
struct ByQueue(String);

impl Default for ByQueue {
    fn default() -> Self {
        Self("{".into())
    }
}

impl ByQueue {
    fn push(&mut self, queue: &MessageQueue<'_>, value: &impl Serialize) -> Result<(), Refused> {
        let told = |e: serde_json::Error| refuse(status::SYSTEM_ERROR, e.to_string());
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&serde_json::to_string(queue).map_err(told)?);
        self.0.push(':');
        self.0.push_str(&serde_json::to_string(value).map_err(told)?);
        Ok(())
    }
}

impl fmt::Display for ByQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}}}", self.0)
    }
}

fn no_topic(topic: &str) -> Refused {
    refuse(status::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
}

fn failed(error: impl fmt::Display) -> Refused {
    refuse(status::SYSTEM_ERROR, error.to_string())
}

/// When the message before `next` was stored, 0 if there is none that can be read.
fn stored_before(core: &Core, queue: &steadfast::QueueKey, next: steadfast::QueueOffset) -> i64 {
    let Some(before) = next.get().checked_sub(1) else { return 0 };
    let before = steadfast::QueueOffset::new(before);
    let batch = core.store.read(queue, before, steadfast::ReadLimit::records(1));
    let time = batch.ok().and_then(|b| b.iter().next().map(|r| r.store_time().as_millis()));
    time.unwrap_or(0)
}
