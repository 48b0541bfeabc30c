//! The bodies of a name server's requests and replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `DataVersion`: whether a table changed since it was last sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DataVersion {
    pub(crate) counter: i64,
    pub(crate) state_version: i64,
    pub(crate) timestamp: i64,
}

/// `TopicConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicConfig {
    pub(crate) topic_name: String,
    #[serde(default = "sixteen")]
    pub(crate) read_queue_nums: i32,
    #[serde(default = "sixteen")]
    pub(crate) write_queue_nums: i32,
    #[serde(default = "read_write")]
    pub(crate) perm: i32,
    #[serde(default)]
    pub(crate) topic_sys_flag: i32,
    #[serde(default)]
    pub(crate) order: bool,
    #[serde(default = "single_tag")]
    pub(crate) topic_filter_type: String,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, String>,
}

fn sixteen() -> i32 {
    16
}

fn read_write() -> i32 {
    perm::READ_WRITE
}

fn single_tag() -> String {
    "SINGLE_TAG".into()
}

/// What may be done with a topic.
pub(crate) mod perm {
    pub(crate) const READ: i32 = 4;
    pub(crate) const WRITE: i32 = 2;
    pub(crate) const READ_WRITE: i32 = READ | WRITE;
    /// Topics that are made by themselves are made like it.
    pub(crate) const INHERIT: i32 = 1;
}

impl TopicConfig {
    /// A topic with `queues` queues that may be read and written.
    pub(crate) fn new(name: impl Into<String>, queues: i32, perm: i32) -> Self {
        Self {
            topic_name: name.into(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm,
            topic_sys_flag: 0,
            order: false,
            topic_filter_type: single_tag(),
            attributes: BTreeMap::new(),
        }
    }
}

/// `TopicConfigSerializeWrapper`, the topics of a broker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TopicTable {
    pub(crate) data_version: DataVersion,
    pub(crate) topic_config_table: BTreeMap<String, TopicConfig>,
}

/// The body of a registration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RegisterBody {
    /// Nobody has any; those that somebody says are not read.
    #[serde(skip_deserializing)]
    pub(crate) filter_server_list: Vec<String>,
    pub(crate) topic_config_serialize_wrapper: TopicTable,
}

/// `QueueData`: a topic's queues on one broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueueData {
    pub(crate) broker_name: String,
    pub(crate) perm: i32,
    pub(crate) read_queue_nums: i32,
    pub(crate) topic_sys_flag: i32,
    pub(crate) write_queue_nums: i32,
}

impl QueueData {
    pub(crate) fn of(broker: &str, topic: &TopicConfig) -> Self {
        Self {
            broker_name: broker.to_owned(),
            perm: topic.perm,
            read_queue_nums: topic.read_queue_nums,
            topic_sys_flag: topic.topic_sys_flag,
            write_queue_nums: topic.write_queue_nums,
        }
    }
}

/// `BrokerData`: the addresses of a broker by its ids; 0 is the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BrokerData {
    pub(crate) broker_addrs: BTreeMap<i64, String>,
    pub(crate) broker_name: String,
    pub(crate) cluster: String,
    pub(crate) enable_acting_master: bool,
}

/// `TopicRouteData`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicRoute {
    pub(crate) broker_datas: Vec<BrokerData>,
    pub(crate) filter_server_table: BTreeMap<String, Vec<String>>,
    pub(crate) queue_datas: Vec<QueueData>,
}

/// `ClusterInfo`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterInfo {
    pub(crate) broker_addr_table: BTreeMap<String, BrokerData>,
    pub(crate) cluster_addr_table: BTreeMap<String, Vec<String>>,
}

/// `TopicList`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicList {
    pub(crate) topic_list: Vec<String>,
}
