//! Who is connected: the members of producer and consumer groups.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    net::Connection,
    protocol::request,
    subscription::{Filter, SubscriptionData},
};

/// A client that sent no heartbeat for so long is gone. As in RocketMQ.
const SILENT_MOST: Duration = Duration::from_secs(120);

/// The body of a heartbeat, as far as anybody here needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Heartbeat {
    #[serde(rename = "clientID")]
    pub(crate) client_id: String,
    pub(crate) producer_data_set: Vec<ProducerData>,
    pub(crate) consumer_data_set: Vec<ConsumerData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ProducerData {
    pub(crate) group_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConsumerData {
    pub(crate) group_name: String,
    pub(crate) message_model: String,
    pub(crate) subscription_data_set: Vec<SubscriptionData>,
}

#[derive(Debug)]
struct Member {
    client_id: String,
    connection: Arc<Connection>,
    heard: Instant,
}

#[derive(Debug, Default)]
struct ConsumerGroup {
    /// By the number of their connection.
    members: BTreeMap<u64, Member>,
    /// By topic: the newest that any member told.
    subscriptions: HashMap<String, (i64, Filter)>,
}

#[derive(Debug, Default)]
struct Tables {
    producers: HashMap<String, BTreeMap<u64, Member>>,
    consumers: HashMap<String, ConsumerGroup>,
}

/// All clients of one broker.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    tables: Mutex<Tables>,
}

/// What a group is known to want of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nobody of the group is connected.
    NoGroup,
    /// The group does not subscribe to the topic.
    NoTopic,
    Filter(Filter),
}

impl Clients {
    /// A producer says that it is there.
    pub(crate) fn heard_of_producer(&self, group: &str, client: &str, by: &Arc<Connection>) {
        let mut tables = self.tables.lock();
        let members = tables.producers.entry(group.to_owned()).or_default();
        members.insert(by.number, Member::new(client, by));
    }

    /// A consumer says that it is there and what it wants; who cannot be understood wants nothing
    /// new. Tells the group if that changed who or what it is.
    pub(crate) fn heard_of_consumer(
        &self,
        consumer: &ConsumerData,
        client: &str,
        by: &Arc<Connection>,
        notify: bool,
    ) {
        let mut tables = self.tables.lock();
        let group = tables.consumers.entry(consumer.group_name.clone()).or_default();
        let known = group.members.insert(by.number, Member::new(client, by));
        let mut changed = known.is_none_or(|known| known.client_id != client);
        for data in &consumer.subscription_data_set {
            let kind = data.expression_type.as_deref();
            let Ok(filter) = Filter::parse(&data.sub_string, kind) else { continue };
            match group.subscriptions.get_mut(&data.topic) {
                Some((version, _)) if *version > data.sub_version => {}
                Some(known) => {
                    changed |= known.1 != filter;
                    *known = (data.sub_version, filter);
                }
                None => {
                    group.subscriptions.insert(data.topic.clone(), (data.sub_version, filter));
                    changed = true;
                }
            }
        }
        // Who left a topic out no longer wants it.
        let told =
            |topic: &String| consumer.subscription_data_set.iter().any(|d| d.topic == *topic);
        if group.members.len() == 1 {
            let before = group.subscriptions.len();
            group.subscriptions.retain(|topic, _| told(topic));
            changed |= group.subscriptions.len() != before;
        }
        if changed && notify {
            group.tell_change(&consumer.group_name);
        }
    }

    /// A client leaves a group.
    pub(crate) fn leave(&self, connection: u64, producers: Option<&str>, consumers: Option<&str>) {
        let mut tables = self.tables.lock();
        if let Some(members) = producers.and_then(|group| tables.producers.get_mut(group)) {
            members.remove(&connection);
        }
        if let Some(name) = consumers
            && let Some(group) = tables.consumers.get_mut(name)
            && group.members.remove(&connection).is_some()
        {
            group.tell_change(name);
        }
        tables.forget_empty();
    }

    /// A connection is gone, and its client with it.
    pub(crate) fn disconnected(&self, connection: u64) {
        self.remove_where(|number, _| number == connection);
    }

    /// Forgets clients that are silent for too long.
    pub(crate) fn expire(&self, now: Instant) {
        self.remove_where(|_, member| now.saturating_duration_since(member.heard) > SILENT_MOST);
    }

    fn remove_where(&self, gone: impl Fn(u64, &Member) -> bool) {
        let mut tables = self.tables.lock();
        for members in tables.producers.values_mut() {
            members.retain(|number, member| !gone(*number, member));
        }
        for (name, group) in &mut tables.consumers {
            let before = group.members.len();
            group.members.retain(|number, member| !gone(*number, member));
            if group.members.len() != before {
                group.tell_change(name);
            }
        }
        tables.forget_empty();
    }

    /// The ids of a group's members, sorted; `None` if nobody is there.
    pub(crate) fn consumer_ids(&self, group: &str) -> Option<Vec<String>> {
        let tables = self.tables.lock();
        let members = tables.consumers.get(group)?.members.values();
        let mut ids: Vec<_> = members.map(|member| member.client_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    /// What a group wants of a topic.
    pub(crate) fn wanted(&self, group: &str, topic: &str) -> Wanted {
        let tables = self.tables.lock();
        let Some(group) = tables.consumers.get(group) else { return Wanted::NoGroup };
        let found = group.subscriptions.get(topic);
        found.map_or(Wanted::NoTopic, |(_, filter)| Wanted::Filter(filter.clone()))
    }

    /// Some member of a producer group, another one with each `turn`.
    pub(crate) fn a_producer(&self, group: &str, turn: usize) -> Option<Arc<Connection>> {
        let tables = self.tables.lock();
        let members = tables.producers.get(group)?;
        let chosen = members.values().nth(turn % members.len().max(1))?;
        Some(chosen.connection.clone())
    }
}

impl Member {
    fn new(client: &str, by: &Arc<Connection>) -> Self {
        Self { client_id: client.to_owned(), connection: by.clone(), heard: Instant::now() }
    }
}

impl ConsumerGroup {
    fn tell_change(&self, name: &str) {
        let fields = [("consumerGroup", name.to_owned().into())];
        for member in self.members.values() {
            member.connection.push(request::NOTIFY_CONSUMER_IDS_CHANGED, &fields, b"");
        }
    }
}

impl Tables {
    fn forget_empty(&mut self) {
        self.producers.retain(|_, members| !members.is_empty());
        self.consumers.retain(|_, group| !group.members.is_empty());
    }
}
