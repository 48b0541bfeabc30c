//! Who is connected, for operators who ask.

use std::{sync::Arc, time::Instant};

use super::{Clients, ConsumerData, Manner, Member};
use crate::{net::Connection, protocol::Program, subscription::Filter};

/// A member of a group.
#[derive(Debug)]
pub(crate) struct ClientSeen {
    pub(crate) id: String,
    pub(crate) program: Program,
    pub(crate) connection: Arc<Connection>,
    /// Milliseconds since its last heartbeat.
    pub(crate) silent_ms: u128,
}

/// A subscription of a group.
#[derive(Debug)]
pub(crate) struct SubscriptionSeen {
    pub(crate) topic: String,
    pub(crate) version: i64,
    pub(crate) text: String,
    pub(crate) filter: Filter,
}

/// A group of consumers.
#[derive(Debug)]
pub(crate) struct GroupSeen {
    pub(crate) manner: Manner,
    pub(crate) members: Vec<ClientSeen>,
    pub(crate) subscriptions: Vec<SubscriptionSeen>,
}

impl ClientSeen {
    fn of(member: &Member) -> Self {
        Self {
            id: member.client_id.clone(),
            program: member.program,
            connection: member.connection.clone(),
            silent_ms: Instant::now().saturating_duration_since(member.heard).as_millis(),
        }
    }
}

impl Manner {
    /// Each of its words, or the usual one: what is kept is not what anybody may say.
    pub(super) fn of(told: &ConsumerData) -> Self {
        let one_of = |told: &str, words: &[&'static str]| {
            words.iter().copied().find(|word| *word == told).unwrap_or(words[0])
        };
        Self {
            kind: one_of(
                &told.consume_type,
                &["CONSUME_PASSIVELY", "CONSUME_ACTIVELY", "CONSUME_POP"],
            ),
            begins: one_of(
                &told.consume_from_where,
                &[
                    "CONSUME_FROM_LAST_OFFSET",
                    "CONSUME_FROM_FIRST_OFFSET",
                    "CONSUME_FROM_TIMESTAMP",
                ],
            ),
            model: one_of(&told.message_model, &["CLUSTERING", "BROADCASTING"]),
        }
    }
}

impl Clients {
    /// A group of consumers, `None` if nobody is there.
    pub(crate) fn consumers(&self, group: &str) -> Option<GroupSeen> {
        let tables = self.tables.lock();
        let group = tables.consumers.get(group)?;
        let subscriptions = group.subscriptions.iter().map(|(topic, found)| SubscriptionSeen {
            topic: topic.clone(),
            version: found.version,
            text: found.text.clone(),
            filter: found.filter.clone(),
        });
        Some(GroupSeen {
            manner: group.manner,
            members: group.members.values().map(ClientSeen::of).collect(),
            subscriptions: subscriptions.collect(),
        })
    }

    /// A member of a group of consumers.
    pub(crate) fn consumer(&self, group: &str, id: &str) -> Option<ClientSeen> {
        let tables = self.tables.lock();
        let mut members = tables.consumers.get(group)?.members.values();
        members.find(|member| member.client_id == id).map(ClientSeen::of)
    }

    /// A group of producers, `None` if nobody is there.
    pub(crate) fn producers(&self, group: &str) -> Option<Vec<ClientSeen>> {
        let tables = self.tables.lock();
        Some(tables.producers.get(group)?.values().map(ClientSeen::of).collect())
    }

    /// All producers with their groups, so many at most.
    pub(crate) fn all_producers(&self, most: usize) -> Vec<(String, ClientSeen)> {
        let tables = self.tables.lock();
        let groups = tables.producers.iter();
        let all = groups.flat_map(|(name, members)| members.values().map(move |m| (name, m)));
        all.take(most).map(|(name, member)| (name.clone(), ClientSeen::of(member))).collect()
    }

    /// The groups that are there and want a topic.
    pub(crate) fn groups_of_topic(&self, topic: &str) -> Vec<String> {
        let tables = self.tables.lock();
        let all = tables.consumers.iter();
        let wanting = all.filter(|(_, group)| group.subscriptions.contains_key(topic));
        wanting.map(|(name, _)| name.clone()).collect()
    }
}
