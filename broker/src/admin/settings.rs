//! Settings: what they are, and those that can be others while the broker runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tracing::info;

use super::failed;
use crate::{
    BrokerConfig, Idempotent, Role,
    broker::Core,
    protocol::{Refused, Request, Response, refuse, status},
};

/// What can be changed, until the next start.
const CHANGEABLE: [&str; 3] =
    ["brokerPermission", "autoCreateSubscriptionGroup", "maxTransferBytesOnMessageInMemory"];

/// Bytes of one request to change something.
const BYTES_MOST: usize = 64 << 10;

/// Settings that may change while the broker runs.
#[derive(Debug)]
pub(crate) struct Changeable {
    permission: AtomicI32,
    auto_create_groups: AtomicBool,
    answer_bytes_most: AtomicU64,
    changing: Mutex<()>,
}

impl Changeable {
    /// As they are at the start.
    pub(crate) fn of(config: &BrokerConfig) -> Self {
        Self {
            permission: AtomicI32::new(config.permission),
            auto_create_groups: AtomicBool::new(config.auto_create_groups),
            answer_bytes_most: AtomicU64::new(config.answer_bytes_most),
            changing: Mutex::new(()),
        }
    }

    pub(crate) fn permission(&self) -> i32 {
        self.permission.load(Ordering::Relaxed)
    }

    pub(crate) fn auto_create_groups(&self) -> bool {
        self.auto_create_groups.load(Ordering::Relaxed)
    }

    pub(crate) fn answer_bytes_most(&self) -> u64 {
        self.answer_bytes_most.load(Ordering::Relaxed)
    }

    /// All settings as they are now.
    fn on(&self, config: &BrokerConfig) -> BrokerConfig {
        let mut now = config.clone();
        now.permission = self.permission();
        now.auto_create_groups = self.auto_create_groups();
        now.answer_bytes_most = self.answer_bytes_most();
        now
    }

    fn take(&self, new: &BrokerConfig) {
        self.permission.store(new.permission, Ordering::Relaxed);
        self.auto_create_groups.store(new.auto_create_groups, Ordering::Relaxed);
        self.answer_bytes_most.store(new.answer_bytes_most, Ordering::Relaxed);
    }
}

/// All settings that mean something, as in a file of them.
pub(super) fn show(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    let mut text = String::new();
    for (key, value) in listed(core, &core.now.on(&core.config)) {
        text.push_str(key);
        text.push('=');
        // It is read as properties are.
        text.push_str(&value.replace('\\', "\\\\").replace('\n', "\\n"));
        text.push('\n');
    }
    Ok(Response::ok().body(text))
}

/// Changes settings. If one of them cannot be changed none is.
pub(super) fn change(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let refused = |why: String| refuse(status::INVALID_PARAMETER, why);
    let bytes = request.body.len();
    if bytes > BYTES_MOST {
        return Err(refused(format!("{bytes} bytes of settings, at most {BYTES_MOST}")));
    }
    let _changing = core.now.changing.lock();
    let mut new = core.now.on(&core.config);
    let mut changed = Vec::new();
    for line in java_properties::PropertiesIter::new(&request.body[..]) {
        let line = line.map_err(failed)?;
        let java_properties::LineContent::KVPair(key, value) = line.consume_content() else {
            continue;
        };
        if !CHANGEABLE.iter().any(|known| known.eq_ignore_ascii_case(&key)) {
            let can = CHANGEABLE.join(", ");
            let why = format!(
                "{key} cannot be changed while the broker runs, only {can}; change its settings \
                 and start it again"
            );
            return Err(refused(why));
        }
        new.set(&key, value.trim()).map_err(|e| refused(e.to_string()))?;
        changed.push(format!("{key}={value}"));
    }
    core.now.take(&new);
    info!(?changed, "settings are others now, until the next start");
    Ok(Response::ok())
}

fn listed(core: &Core, config: &BrokerConfig) -> Vec<(&'static str, String)> {
    let millis = |time: Duration| time.as_millis().to_string();
    let list = |all: &[Duration]| {
        let all: Vec<_> = all.iter().map(|delay| format!("{}s", delay.as_secs())).collect();
        all.join(" ")
    };
    let store = core.store.options();
    let kept = &store.retention;
    let hours: Vec<_> = kept.delete_hours.iter().map(|hour| format!("{hour:02}")).collect();
    let idempotent = match &config.idempotent_send {
        Idempotent::No => "false".into(),
        Idempotent::All => "true".into(),
        Idempotent::Topics(topics) => topics.iter().cloned().collect::<Vec<_>>().join(","),
    };
    let role = match config.role {
        Role::AsyncMaster => "ASYNC_MASTER",
        Role::SyncMaster => "SYNC_MASTER",
    };
    let flush = match store.flush {
        steadfast::FlushMode::Async => "ASYNC_FLUSH",
        steadfast::FlushMode::Sync => "SYNC_FLUSH",
    };
    vec![
        ("autoCreateSubscriptionGroup", config.auto_create_groups.to_string()),
        ("autoCreateTopicEnable", config.auto_create_topics.to_string()),
        ("bindAddress", config.listen.ip().to_string()),
        ("brokerClusterName", config.cluster.clone()),
        ("brokerIP1", core.address.ip().to_string()),
        ("brokerId", config.id.to_string()),
        ("brokerName", config.name.clone()),
        ("brokerPermission", config.permission.to_string()),
        ("brokerRole", role.into()),
        ("defaultTopicQueueNums", config.default_queues.to_string()),
        ("deleteWhen", hours.join(";")),
        ("diskMaxUsedSpaceRatio", kept.clean_ratio.to_string()),
        ("enablePropertyFilter", config.property_filter.to_string()),
        ("fileReservedTime", (kept.reserved.as_secs() / 3600).to_string()),
        ("flushDiskType", flush.into()),
        ("flushIntervalCommitLog", millis(store.flush_interval)),
        ("idempotentSend", idempotent),
        ("idempotentSendMost", config.idempotent_most.to_string()),
        ("idempotentSendWindow", millis(config.idempotent_window)),
        ("listenPort", core.address.port().to_string()),
        ("mappedFileSizeCommitLog", store.segment_bytes.to_string()),
        ("mappedFileSizeConsumeQueue", (store.queue_file_bytes / 20).to_string()),
        ("maxMessageSize", store.max_message_bytes.to_string()),
        ("maxTransferBytesOnMessageInMemory", config.answer_bytes_most.to_string()),
        ("messageDelayLevel", list(&config.delay_levels)),
        ("namesrvAddr", config.name_servers.join(";")),
        ("registerNameServerPeriod", millis(config.register_period)),
        ("scrubInterval", millis(config.scrub_interval)),
        ("scrubRate", config.scrub_rate.to_string()),
        ("storePathRootDir", config.data.display().to_string()),
        ("syncFlushTimeout", millis(store.sync_flush_timeout)),
        ("transactionCheckInterval", millis(config.transaction_check_interval)),
        ("transactionCheckMax", config.transaction_checks_most.to_string()),
        ("transactionTimeOut", millis(config.transaction_timeout)),
    ]
}
