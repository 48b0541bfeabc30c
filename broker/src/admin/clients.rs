//! Who is connected, and who consumes what.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::ROWS_MOST;
use crate::{
    broker::Core,
    clients::{ClientSeen, SubscriptionSeen},
    namesrv::{data::TopicList, json_body},
    protocol::{Refused, Request, Response, refuse, status},
    subscription::Filter,
};

/// `Connection`, as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connected {
    client_addr: String,
    client_id: String,
    language: &'static str,
    version: i32,
}

impl Connected {
    fn of(seen: &ClientSeen) -> Self {
        Self {
            client_addr: seen.connection.peer.to_string(),
            client_id: seen.id.clone(),
            language: seen.program.language,
            version: seen.program.version,
        }
    }
}

/// `SubscriptionData`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscribed {
    class_filter_mode: bool,
    code_set: Vec<i32>,
    expression_type: &'static str,
    sub_string: String,
    sub_version: i64,
    tags_set: Vec<String>,
    topic: String,
}

impl Subscribed {
    fn of(seen: SubscriptionSeen) -> Self {
        let tags_set = match &seen.filter {
            Filter::Tags(tags) => tags.to_vec(),
            Filter::All | Filter::Sql(_) => Vec::new(),
        };
        // As Java hashes a string.
        let hash = |tag: &String| {
            tag.encode_utf16().fold(0_i32, |h, unit| h.wrapping_mul(31).wrapping_add(unit.into()))
        };
        Self {
            class_filter_mode: false,
            code_set: tags_set.iter().map(hash).collect(),
            expression_type: if matches!(seen.filter, Filter::Sql(_)) { "SQL92" } else { "TAG" },
            sub_string: seen.text,
            sub_version: seen.version,
            tags_set,
            topic: seen.topic,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Consumers {
    connection_set: Vec<Connected>,
    consume_from_where: &'static str,
    consume_type: &'static str,
    message_model: &'static str,
    subscription_table: BTreeMap<String, Subscribed>,
}

pub(super) fn not_online(group: &str) -> Refused {
    refuse(status::CONSUMER_NOT_ONLINE, format!("the consumer group[{group}] not online"))
}

/// The members of a group of consumers, and what it wants.
pub(super) fn consumers(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let name = request.fields().need("consumerGroup")?;
    let group = core.clients.consumers(name).ok_or_else(|| not_online(name))?;
    let told = group.subscriptions.into_iter();
    Ok(json_body(&Consumers {
        connection_set: group.members.iter().map(Connected::of).collect(),
        consume_from_where: group.manner.begins,
        consume_type: group.manner.kind,
        message_model: group.manner.model,
        subscription_table: told.map(|s| (s.topic.clone(), Subscribed::of(s))).collect(),
    }))
}

/// The members of a group of producers.
pub(super) fn producers(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Producers {
        connection_set: Vec<Connected>,
    }
    let name = request.fields().need("producerGroup")?;
    let members = core.clients.producers(name).ok_or_else(|| {
        refuse(status::SYSTEM_ERROR, format!("the producer group[{name}] not exist"))
    })?;
    let connection_set = members.iter().map(Connected::of).collect();
    Ok(json_body(&Producers { connection_set }))
}

/// All producers, or the first of very many.
pub(super) fn all_producers(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Producer {
        client_id: String,
        language: &'static str,
        last_update_timestamp: i64,
        #[serde(rename = "remoteIP")]
        remote_ip: String,
        version: i32,
    }
    #[derive(Default, Serialize)]
    struct Table {
        data: BTreeMap<String, Vec<Producer>>,
    }
    let mut table = Table::default();
    let now = crate::now_millis();
    for (group, seen) in core.clients.all_producers(ROWS_MOST) {
        let silent = i64::try_from(seen.silent_ms).unwrap_or(i64::MAX);
        table.data.entry(group).or_default().push(Producer {
            remote_ip: seen.connection.peer.to_string(),
            client_id: seen.id,
            language: seen.program.language,
            last_update_timestamp: now.saturating_sub(silent),
            version: seen.program.version,
        });
    }
    Ok(json_body(&table))
}

/// What a group wants of a topic.
pub(super) fn subscription(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Found<'a> {
        group: &'a str,
        subscription_data: Option<Subscribed>,
        topic: &'a str,
    }
    let fields = request.fields();
    let (group, topic) = (fields.need("group")?, fields.need("topic")?);
    let told = core.clients.consumers(group).map(|seen| seen.subscriptions).unwrap_or_default();
    let found = told.into_iter().find(|subscription| subscription.topic == topic);
    Ok(json_body(&Found { group, subscription_data: found.map(Subscribed::of), topic }))
}

/// The groups that consume a topic, or did.
pub(super) fn groups_of_topic(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct GroupList {
        group_list: BTreeSet<String>,
    }
    let topic = request.fields().need("topic")?;
    let mut group_list: BTreeSet<_> = core.clients.groups_of_topic(topic).into_iter().collect();
    let were_there = core.store.consumers().of_topic(topic).into_iter();
    group_list.extend(were_there.map(|(group, _, _)| group.to_string()));
    Ok(json_body(&GroupList { group_list }))
}

/// The topics that a group consumes, or did.
pub(super) fn topics_of_group(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let topics = topics_consumed(core, request.fields().need("group")?);
    Ok(json_body(&TopicList { topic_list: topics.into_iter().collect() }))
}

/// The topics in which a group has offsets.
pub(super) fn topics_consumed(core: &Core, group: &str) -> BTreeSet<String> {
    let Ok(group) = steadfast::Group::new(group) else { return BTreeSet::new() };
    let offsets = core.store.consumers().of_group(&group).into_iter();
    offsets.map(|(queue, _)| queue.topic().to_owned()).collect()
}
