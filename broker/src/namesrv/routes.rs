//! Which brokers there are, and which topics they have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::limits::{BROKERS_MOST, ROUTES_MOST};

use super::data::{
    BrokerData, ClusterInfo, DataVersion, QueueData, TopicConfig, TopicRoute, TopicTable,
};

/// A broker that was not heard of for so long is no more. As in RocketMQ.
pub(crate) const SILENT_MOST: Duration = Duration::from_secs(120);
/// The id of a master.
pub(crate) const MASTER: i64 = 0;

/// A broker that registers.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) cluster: String,
    pub(crate) broker: String,
    pub(crate) id: i64,
    /// Where clients find it.
    pub(crate) address: String,
    /// Where slaves find it.
    pub(crate) ha_address: String,
    /// For so long it may be silent.
    pub(crate) silent_most: Duration,
}

/// What a slave is told about its master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Master {
    pub(crate) address: String,
    pub(crate) ha_address: String,
}

#[derive(Debug)]
struct Live {
    registration: Registration,
    version: DataVersion,
    heard: Instant,
    connection: Option<u64>,
}

#[derive(Debug, Default)]
struct Tables {
    /// By cluster and address.
    live: BTreeMap<(String, String), Live>,
    /// By topic and the broker's name.
    topics: BTreeMap<String, BTreeMap<String, QueueData>>,
}

/// All routes that a name server knows.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    tables: Mutex<Tables>,
}

impl Routes {
    /// Takes a broker and its topics in, or hears of it again. `connection` is the one it came by.
    ///
    /// # Errors
    ///
    /// Why there is no room for it.
    pub(crate) fn register(
        &self,
        registration: Registration,
        topics: &TopicTable,
        connection: Option<u64>,
        now: Instant,
    ) -> Result<Master, String> {
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        let (cluster, broker) = (registration.cluster.clone(), registration.broker.clone());
        // Who comes back with another id, or another address with this id, takes the old place.
        tables.live.retain(|_, live| {
            let other = &live.registration;
            let same = other.cluster == cluster && other.broker == broker;
            !same || (other.id == registration.id) == (other.address == registration.address)
        });
        let key = (cluster, registration.address.clone());
        let version = topics.data_version.clone();
        let known = tables.live.get(&key);
        if known.is_none() && tables.live.len() >= BROKERS_MOST {
            return Err(format!("there are {} brokers, at most {BROKERS_MOST}", tables.live.len()));
        }
        let changed = known.is_none_or(|live| live.version != version);
        if registration.id == MASTER && changed {
            tables.check_room(&broker, topics)?;
            for (name, topic) in &topics.topic_config_table {
                let queues = QueueData::of(&broker, topic);
                tables.topics.entry(name.clone()).or_default().insert(broker.clone(), queues);
            }
        }
        let master = tables
            .live
            .values()
            .find(|live| live.registration.broker == broker && live.registration.id == MASTER)
            .filter(|_| registration.id != MASTER)
            .map(|live| Master {
                address: live.registration.address.clone(),
                ha_address: live.registration.ha_address.clone(),
            });
        tables.live.insert(key, Live { registration, version, heard: now, connection });
        Ok(master.unwrap_or_default())
    }

    /// A broker says that it leaves.
    pub(crate) fn unregister(&self, cluster: &str, address: &str) {
        let mut tables = self.tables.lock();
        tables.live.remove(&(cluster.to_owned(), address.to_owned()));
        tables.forget_topics();
    }

    /// The connection is gone, and with it who came by it.
    pub(crate) fn disconnected(&self, connection: u64) {
        self.drop_where(|live| live.connection == Some(connection));
    }

    /// Forgets brokers that are silent for too long.
    pub(crate) fn expire(&self, now: Instant) {
        self.drop_where(|live| {
            let silent = now.saturating_duration_since(live.heard);
            live.connection.is_some() && silent > live.registration.silent_most
        });
    }

    fn drop_where(&self, gone: impl Fn(&Live) -> bool) {
        let mut tables = self.tables.lock();
        let before = tables.live.len();
        tables.live.retain(|_, live| !gone(live));
        if tables.live.len() != before {
            tables.forget_topics();
        }
    }

    /// Where a topic is.
    pub(crate) fn route(&self, topic: &str) -> Option<TopicRoute> {
        let tables = self.tables.lock();
        let queues: Vec<_> = tables.topics.get(topic)?.values().cloned().collect();
        let brokers: Vec<_> =
            queues.iter().filter_map(|queues| tables.broker(&queues.broker_name)).collect();
        (!brokers.is_empty()).then(|| TopicRoute {
            broker_datas: brokers,
            filter_server_table: BTreeMap::new(),
            queue_datas: queues,
        })
    }

    /// All brokers and clusters.
    pub(crate) fn cluster_info(&self) -> ClusterInfo {
        let tables = self.tables.lock();
        let names: BTreeSet<_> =
            tables.live.values().map(|live| live.registration.broker.clone()).collect();
        let brokers: BTreeMap<_, _> = names
            .into_iter()
            .filter_map(|name| Some((name.clone(), tables.broker(&name)?)))
            .collect();
        let mut clusters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, broker) in &brokers {
            clusters.entry(broker.cluster.clone()).or_default().push(name.clone());
        }
        ClusterInfo { broker_addr_table: brokers, cluster_addr_table: clusters }
    }

    /// The names of all topics.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.tables.lock().topics.keys().cloned().collect()
    }

    /// The names of the topics of a cluster.
    pub(crate) fn topics_of(&self, cluster: &str) -> Vec<String> {
        let tables = self.tables.lock();
        let in_cluster = |live: &&Live| live.registration.cluster == cluster;
        let members: BTreeSet<_> = tables
            .live
            .values()
            .filter(in_cluster)
            .map(|l| l.registration.broker.as_str())
            .collect();
        let all = tables.topics.iter();
        let of = all.filter(|(_, brokers)| brokers.keys().any(|b| members.contains(b.as_str())));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// Takes in one topic of a broker that is registered, at once.
    pub(crate) fn add_topic(&self, broker: &str, topic: &TopicConfig) {
        let mut tables = self.tables.lock();
        if tables.broker(broker).is_some() {
            let queues = QueueData::of(broker, topic);
            let of_topic = tables.topics.entry(topic.topic_name.clone()).or_default();
            of_topic.insert(broker.to_owned(), queues);
        }
    }

    /// Takes a topic away from the brokers for which `of` says so.
    pub(crate) fn remove_topic(&self, topic: &str, of: impl Fn(&str) -> bool) {
        let mut tables = self.tables.lock();
        if let Some(brokers) = tables.topics.get_mut(topic) {
            brokers.retain(|name, _| !of(name));
            if brokers.is_empty() {
                tables.topics.remove(topic);
            }
        }
    }

    /// Whether a broker is in a cluster.
    pub(crate) fn is_in(&self, broker: &str, cluster: &str) -> bool {
        let tables = self.tables.lock();
        tables.broker(broker).is_some_and(|broker| broker.cluster == cluster)
    }

    /// Changes what may be done with all topics of a broker, until it registers them anew. Returns
    /// how many there are.
    pub(crate) fn set_permissions(&self, broker: &str, change: impl Fn(i32) -> i32) -> usize {
        let mut tables = self.tables.lock();
        let mut changed = 0;
        for queues in tables.topics.values_mut().filter_map(|brokers| brokers.get_mut(broker)) {
            queues.perm = change(queues.perm);
            changed += 1;
        }
        changed
    }
}

impl Tables {
    /// Why the topics of a broker have no room, if so.
    fn check_room(&self, broker: &str, topics: &TopicTable) -> Result<(), String> {
        let known: usize = self.topics.values().map(BTreeMap::len).sum();
        let is_new =
            |name: &&String| !self.topics.get(*name).is_some_and(|t| t.contains_key(broker));
        let new = topics.topic_config_table.keys().filter(is_new).count();
        if known + new > ROUTES_MOST {
            return Err(format!(
                "{new} more topics of brokers than {known}, at most {ROUTES_MOST}"
            ));
        }
        Ok(())
    }

    fn broker(&self, name: &str) -> Option<BrokerData> {
        let mut found: Option<BrokerData> = None;
        for live in self.live.values().filter(|live| live.registration.broker == name) {
            let Registration { cluster, id, address, .. } = &live.registration;
            let data = found.get_or_insert_with(|| BrokerData {
                broker_addrs: BTreeMap::new(),
                broker_name: name.to_owned(),
                cluster: cluster.clone(),
                enable_acting_master: false,
            });
            data.broker_addrs.insert(*id, address.clone());
        }
        found
    }

    /// Forgets the topics of brokers that are no more.
    fn forget_topics(&mut self) {
        let names: BTreeSet<_> =
            self.live.values().map(|live| live.registration.broker.clone()).collect();
        self.topics.retain(|_, brokers| {
            brokers.retain(|name, _| names.contains(name));
            !brokers.is_empty()
        });
    }
}
