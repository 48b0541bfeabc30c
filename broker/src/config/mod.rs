//! What a broker is told: RocketMQ's `broker.conf`, its keys and values as people write them.

mod file;
mod keys;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

pub use file::ConfigError;
use steadfast::{FlushMode, OnDamage, Options};

/// How a broker runs. [`Default`] is a broker of its own on this machine, as `steadfast serve`
/// starts it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// The directory of the store (`storePathRootDir`, `./data`).
    pub data: PathBuf,
    /// Where clients are served (127.0.0.1:10911). Port 0 is any that is free.
    pub listen: SocketAddr,
    /// The address that clients are told (`brokerIP1`), if it is not the one listened on.
    pub advertised: Option<String>,
    /// Where the embedded name server is (127.0.0.1:9876); it is started only if
    /// [`name_servers`](Self::name_servers) is empty.
    pub name_server_listen: SocketAddr,
    /// The name servers to register at (`namesrvAddr`).
    pub name_servers: Vec<String>,
    /// `brokerClusterName` (DefaultCluster).
    pub cluster: String,
    /// `brokerName` (broker-a).
    pub name: String,
    /// `brokerId` (0, a master).
    pub id: i64,
    /// `brokerRole` (`ASYNC_MASTER`).
    pub role: Role,
    /// What the broker as a whole allows: 4 reading, 2 writing (`brokerPermission`, 6).
    pub permission: i32,
    /// Whether sending to a topic that is not there makes it (`autoCreateTopicEnable`, yes).
    pub auto_create_topics: bool,
    /// Whether a consumer's first heartbeat makes its group (`autoCreateSubscriptionGroup`, yes).
    pub auto_create_groups: bool,
    /// How many queues such a topic gets at most (`defaultTopicQueueNums`, 8).
    pub default_queues: i32,
    /// How often it registers again at its name servers (`registerNameServerPeriod`, 30 s).
    pub register_period: Duration,
    /// How many bytes of messages a pull is answered with at most, but always one message
    /// (`maxTransferBytesOnMessageInMemory`, 256 KiB).
    pub answer_bytes_most: u64,
    /// The delays of the levels from 1 on (`messageDelayLevel`).
    pub delay_levels: Vec<Duration>,
    /// Whether filters in SQL are evaluated (`enablePropertyFilter`, no).
    pub property_filter: bool,
    /// How old a half message is when its producer is first asked about it (`transactionTimeOut`,
    /// 6 s).
    pub transaction_timeout: Duration,
    /// How often half messages are looked through (`transactionCheckInterval`, 30 s).
    pub transaction_check_interval: Duration,
    /// How often one is asked about at most (`transactionCheckMax`, 15).
    pub transaction_checks_most: u32,
    /// To which topics a producer's client may repeat a send without storing it twice
    /// (`idempotentSend`: `true`, `false` or topics; none).
    pub idempotent_send: Idempotent,
    /// For so long (`idempotentSendWindow`, 10 minutes).
    pub idempotent_window: Duration,
    /// Of so many messages at most (`idempotentSendMost`, a million; about 150 bytes each).
    pub idempotent_most: usize,
    /// How many bytes of the log are read in the background each second, to find damage
    /// (`scrubRate`, 4 MiB; 0 reads nothing).
    pub scrub_rate: u64,
    /// How long that waits at the end before it begins again (`scrubInterval`, an hour).
    pub scrub_interval: Duration,
    /// What the store is told.
    pub store: Options,
    /// Where parts of the store are said to be.
    pub(crate) places: Vec<Place>,
}

/// A directory of the store, by a key of its own.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    key: &'static str,
    /// Its name in the store's directory.
    name: &'static str,
    said: PathBuf,
}

/// What a broker is among those that hold the same messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Acknowledges without waiting for slaves.
    AsyncMaster,
    /// Acknowledges when a slave has it.
    SyncMaster,
}

/// To which topics the same send is stored only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idempotent {
    /// To none.
    No,
    /// To all but those of retries.
    All,
    /// To these.
    Topics(BTreeSet<String>),
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let mut store = Options::default().on_damage(OnDamage::Serve).flush(FlushMode::Async);
        // What the store cannot take now is refused, so that no other connection waits.
        store.append_timeout = Duration::ZERO;
        Self {
            data: "data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 10_911)),
            advertised: None,
            name_server_listen: SocketAddr::from(([127, 0, 0, 1], 9_876)),
            name_servers: Vec::new(),
            cluster: "DefaultCluster".into(),
            name: "broker-a".into(),
            id: 0,
            role: Role::AsyncMaster,
            permission: 6,
            auto_create_topics: true,
            auto_create_groups: true,
            default_queues: 8,
            register_period: Duration::from_secs(30),
            answer_bytes_most: 256 << 10,
            delay_levels: default_levels(),
            property_filter: false,
            transaction_timeout: Duration::from_secs(6),
            transaction_check_interval: Duration::from_secs(30),
            transaction_checks_most: 15,
            idempotent_send: Idempotent::No,
            idempotent_window: Duration::from_secs(600),
            idempotent_most: 1_000_000,
            scrub_rate: 4 << 20,
            scrub_interval: Duration::from_secs(3600),
            store,
            places: Vec::new(),
        }
    }
}

/// RocketMQ's levels.
pub(crate) fn default_levels() -> Vec<Duration> {
    const MINUTE: u64 = 60;
    let seconds = [1, 5, 10, 30].into_iter();
    let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].into_iter().map(|m| m * MINUTE);
    seconds.chain(minutes).map(Duration::from_secs).collect()
}
