//! Who is connected: the members of producer and consumer groups.

mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    limits::{MEMBERSHIPS_MOST, SUBSCRIPTIONS_MOST},
    net::Connection,
    protocol::{Program, request},
    subscription::{Filter, SubscriptionData},
};

pub(crate) use seen::{ClientSeen, SubscriptionSeen};

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
    pub(crate) consume_type: String,
    pub(crate) consume_from_where: String,
    pub(crate) message_model: String,
    pub(crate) subscription_data_set: Vec<SubscriptionData>,
}

#[derive(Debug)]
struct Member {
    client_id: String,
    program: Program,
    connection: Arc<Connection>,
    heard: Instant,
}

/// Who sends a heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) client: &'a str,
    pub(crate) program: Program,
    pub(crate) connection: &'a Arc<Connection>,
}

#[derive(Debug, Default)]
struct ConsumerGroup {
    /// By the number of their connection.
    members: BTreeMap<u64, Member>,
    /// By topic: the newest that any member told.
    subscriptions: HashMap<String, Subscription>,
    /// As its newest member told, for who asks.
    manner: Manner,
}

/// What a group wants of a topic.
#[derive(Debug)]
struct Subscription {
    version: i64,
    filter: Filter,
    /// As it was told. No longer than what a filter may be.
    text: String,
}

/// How a group consumes, in RocketMQ's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) kind: &'static str,
    pub(crate) begins: &'static str,
    pub(crate) model: &'static str,
}

/// The groups that one connection is in.
#[derive(Debug, Default)]
struct Memberships {
    producers: HashSet<String>,
    consumers: HashSet<String>,
}

#[derive(Debug, Default)]
struct Tables {
    producers: HashMap<String, BTreeMap<u64, Member>>,
    consumers: HashMap<String, ConsumerGroup>,
    /// By the number of the connection.
    memberships: HashMap<u64, Memberships>,
}

/// All clients of one broker.
#[derive(Debug)]
pub(crate) struct Clients {
    tables: Mutex<Tables>,
    /// Whether conditions in SQL are evaluated.
    sql: bool,
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

impl Heartbeat {
    /// Checks that it carries no more than a client needs.
    ///
    /// # Errors
    ///
    /// What there is too much of.
    pub(crate) fn check(&self) -> Result<(), String> {
        let groups = self.producer_data_set.len() + self.consumer_data_set.len();
        if groups > MEMBERSHIPS_MOST {
            return Err(format!("a heartbeat with {groups} groups, at most {MEMBERSHIPS_MOST}"));
        }
        let of_each = self.consumer_data_set.iter().map(|group| group.subscription_data_set.len());
        let all: usize = of_each.sum();
        if all > SUBSCRIPTIONS_MOST {
            let why = format!("a heartbeat with {all} subscriptions, at most {SUBSCRIPTIONS_MOST}");
            return Err(why);
        }
        Ok(())
    }
}

impl Clients {
    /// Nobody yet. `sql` says whether conditions in SQL are evaluated.
    pub(crate) fn new(sql: bool) -> Self {
        Self { tables: Mutex::default(), sql }
    }

    /// A producer says that it is there.
    ///
    /// # Errors
    ///
    /// Why it cannot be taken in.
    pub(crate) fn heard_of_producer(&self, group: &str, from: From<'_>) -> Result<(), String> {
        let number = from.connection.number;
        let mut tables = self.tables.lock();
        tables.join(number, group, |of| &mut of.producers)?;
        let members = tables.producers.entry(group.to_owned()).or_default();
        members.insert(number, Member::new(from));
        Ok(())
    }

    /// A consumer says that it is there and what it wants; who cannot be understood wants nothing
    /// new. Tells the group if that changed who or what it is.
    ///
    /// # Errors
    ///
    /// Why it cannot be taken in.
    pub(crate) fn heard_of_consumer(
        &self,
        consumer: &ConsumerData,
        from: From<'_>,
        notify: bool,
    ) -> Result<(), String> {
        // Everybody's pulls wait for the lock: what takes time is done before.
        let filters = consumer.subscription_data_set.iter().filter_map(|data| {
            let kind = data.expression_type.as_deref();
            let filter = Filter::parse(&data.sub_string, kind, self.sql).ok()?;
            Some((&data.topic, data, filter))
        });
        let filters: Vec<_> = filters.collect();
        let told: HashSet<&String> =
            consumer.subscription_data_set.iter().map(|data| &data.topic).collect();
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        let number = from.connection.number;
        tables.join(number, &consumer.group_name, |of| &mut of.consumers)?;
        let group = tables.consumers.entry(consumer.group_name.clone()).or_default();
        group.manner = Manner::of(consumer);
        let known = group.members.insert(number, Member::new(from));
        let mut changed = known.is_none_or(|known| known.client_id != from.client);
        // Who left a topic out no longer wants it.
        if group.members.len() == 1 {
            let before = group.subscriptions.len();
            group.subscriptions.retain(|topic, _| told.contains(topic));
            changed |= group.subscriptions.len() != before;
        }
        let mut room = SUBSCRIPTIONS_MOST.saturating_sub(group.subscriptions.len());
        let mut full = false;
        for (topic, data, filter) in filters {
            let (version, text) = (data.sub_version, data.sub_string.clone());
            match group.subscriptions.get_mut(topic) {
                Some(known) if known.version > version => {}
                Some(known) => {
                    changed |= known.filter != filter;
                    *known = Subscription { version, filter, text };
                }
                None if room == 0 => full = true,
                None => {
                    room -= 1;
                    let new = Subscription { version, filter, text };
                    group.subscriptions.insert(topic.clone(), new);
                    changed = true;
                }
            }
        }
        if changed && notify {
            group.tell_change(&consumer.group_name);
        }
        if full {
            let name = &consumer.group_name;
            return Err(format!("the group {name} has at most {SUBSCRIPTIONS_MOST} subscriptions"));
        }
        Ok(())
    }

    /// A client leaves a group.
    pub(crate) fn leave(&self, connection: u64, producers: Option<&str>, consumers: Option<&str>) {
        let one = |name: Option<&str>| name.map(|name| (connection, name.to_owned()));
        self.tables.lock().remove(one(producers), one(consumers));
    }

    /// A connection is gone, and its client with it.
    pub(crate) fn disconnected(&self, connection: u64) {
        let mut tables = self.tables.lock();
        let Some(of) = tables.memberships.remove(&connection) else { return };
        let with = |name| (connection, name);
        tables.remove(of.producers.into_iter().map(with), of.consumers.into_iter().map(with));
    }

    /// Forgets clients that are silent for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let mut tables = self.tables.lock();
        let silent = |(number, member): (&u64, &Member)| {
            let silent = now.saturating_duration_since(member.heard) > SILENT_MOST;
            silent.then_some(*number)
        };
        let of = |name: &String, members: &BTreeMap<u64, Member>| {
            let gone: Vec<_> = members.iter().filter_map(silent).collect();
            gone.into_iter().map(|number| (number, name.clone())).collect::<Vec<_>>()
        };
        let producers: Vec<_> = tables.producers.iter().flat_map(|(n, m)| of(n, m)).collect();
        let consumers: Vec<_> =
            tables.consumers.iter().flat_map(|(n, group)| of(n, &group.members)).collect();
        tables.remove(producers, consumers);
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
        found.map_or(Wanted::NoTopic, |found| Wanted::Filter(found.filter.clone()))
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
    fn new(from: From<'_>) -> Self {
        Self {
            client_id: from.client.to_owned(),
            program: from.program,
            connection: from.connection.clone(),
            heard: Instant::now(),
        }
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
    /// Notes that a connection is in one more group, unless it is in too many.
    fn join(
        &mut self,
        connection: u64,
        group: &str,
        kind: fn(&mut Memberships) -> &mut HashSet<String>,
    ) -> Result<(), String> {
        let of = self.memberships.entry(connection).or_default();
        let all = of.producers.len() + of.consumers.len();
        let groups = kind(of);
        if groups.contains(group) {
            return Ok(());
        }
        if all >= MEMBERSHIPS_MOST {
            return Err(format!("one connection is in at most {MEMBERSHIPS_MOST} groups"));
        }
        groups.insert(group.to_owned());
        Ok(())
    }

    /// Takes members out of groups of producers and consumers, and tells those who stay.
    fn remove(
        &mut self,
        producers: impl IntoIterator<Item = (u64, String)>,
        consumers: impl IntoIterator<Item = (u64, String)>,
    ) {
        for (number, name) in producers {
            if let Some(of) = self.memberships.get_mut(&number) {
                of.producers.remove(&name);
            }
            if let Some(members) = self.producers.get_mut(&name) {
                members.remove(&number);
                if members.is_empty() {
                    self.producers.remove(&name);
                }
            }
        }
        let mut changed = BTreeSet::new();
        for (number, name) in consumers {
            if let Some(of) = self.memberships.get_mut(&number) {
                of.consumers.remove(&name);
            }
            let Some(group) = self.consumers.get_mut(&name) else { continue };
            let left = group.members.remove(&number).is_some();
            if group.members.is_empty() {
                self.consumers.remove(&name);
            } else if left {
                changed.insert(name);
            }
        }
        for name in changed {
            if let Some(group) = self.consumers.get(&name) {
                group.tell_change(&name);
            }
        }
    }
}
