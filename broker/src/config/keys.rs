//! The keys, what they set and what they allow.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use steadfast::FlushMode;

use super::{BrokerConfig, Place, Role};
use crate::repeats;

type Setting = fn(&mut BrokerConfig, &str) -> Result<(), String>;

/// Sets `key`. Returns whether there is one; the error says what is allowed.
pub(super) fn set(config: &mut BrokerConfig, key: &str, value: &str) -> Result<bool, String> {
    // Java's setters begin with a capital, and people write keys both ways.
    let found = KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    found.map_or(Ok(false), |(_, setting)| setting(config, value).map(|()| true))
}

const KEYS: &[(&str, Setting)] = &[
    ("storePathRootDir", |c, v| text(v).map(|v| c.data = v.into())),
    ("brokerClusterName", |c, v| text(v).map(|v| c.cluster = v)),
    ("brokerName", |c, v| text(v).map(|v| c.name = v)),
    ("brokerId", |c, v| number(v, 0, 0).map(|v| c.id = v)),
    ("brokerIP1", |c, v| text(v).map(|v| c.advertised = Some(v))),
    ("bindAddress", |c, v| parsed::<IpAddr>(v, "an IP address").map(|v| c.listen.set_ip(v))),
    ("listenPort", |c, v| number(v, 0, u16::MAX).map(|v| c.listen.set_port(v))),
    ("namesrvAddr", |c, v| {
        let parts = v.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
        c.name_servers = parts.map(address).collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("brokerRole", |c, v| {
        c.role =
            one_of(v, &[("ASYNC_MASTER", Role::AsyncMaster), ("SYNC_MASTER", Role::SyncMaster)])?;
        Ok(())
    }),
    ("brokerPermission", |c, v| number(v, 0, 6).map(|v| c.permission = v)),
    ("autoCreateTopicEnable", |c, v| truth(v).map(|v| c.auto_create_topics = v)),
    ("autoCreateSubscriptionGroup", |c, v| truth(v).map(|v| c.auto_create_groups = v)),
    ("defaultTopicQueueNums", |c, v| number(v, 1, 4096).map(|v| c.default_queues = v)),
    ("registerNameServerPeriod", |c, v| {
        c.register_period = Duration::from_millis(number(v, 100, 60_000)?);
        Ok(())
    }),
    ("maxTransferBytesOnMessageInMemory", |c, v| {
        number(v, 1, 16 << 20).map(|v| c.answer_bytes_most = v)
    }),
    ("messageDelayLevel", |c, v| {
        c.delay_levels = v.split_whitespace().map(delay).collect::<Result<_, _>>()?;
        if (1..=128).contains(&c.delay_levels.len()) {
            return Ok(());
        }
        Err("1 to 128 delays are allowed".into())
    }),
    ("idempotentSend", |c, v| repeats::covered(v).map(|v| c.idempotent_send = v)),
    ("idempotentSendWindow", |c, v| millis(v).map(|v| c.idempotent_window = v)),
    ("idempotentSendMost", |c, v| number(v, 1, 100_000_000).map(|v| c.idempotent_most = v)),
    ("enablePropertyFilter", |c, v| truth(v).map(|v| c.property_filter = v)),
    ("transactionTimeOut", |c, v| millis(v).map(|v| c.transaction_timeout = v)),
    ("transactionCheckInterval", |c, v| {
        c.transaction_check_interval = Duration::from_millis(number(v, 100, 86_400_000)?);
        Ok(())
    }),
    ("transactionCheckMax", |c, v| number(v, 1, 10_000).map(|v| c.transaction_checks_most = v)),
    ("scrubRate", |c, v| number(v, 0, 1 << 40).map(|v| c.scrub_rate = v)),
    ("scrubInterval", |c, v| millis(v).map(|v| c.scrub_interval = v)),
    ("flushDiskType", |c, v| {
        c.store.flush =
            one_of(v, &[("ASYNC_FLUSH", FlushMode::Async), ("SYNC_FLUSH", FlushMode::Sync)])?;
        Ok(())
    }),
    ("syncFlushTimeout", |c, v| millis(v).map(|v| c.store.sync_flush_timeout = v)),
    ("flushIntervalCommitLog", |c, v| {
        c.store.flush_interval = Duration::from_millis(number(v, 1, 60_000)?);
        Ok(())
    }),
    ("fileReservedTime", |c, v| {
        c.store.retention.reserved = Duration::from_secs(3600 * number(v, 1_u64, 1_000_000)?);
        Ok(())
    }),
    ("deleteWhen", |c, v| {
        let hours = v.split(';').map(|hour| number(hour.trim(), 0, 23));
        c.store.retention.delete_hours = hours.collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("diskMaxUsedSpaceRatio", |c, v| number(v, 10, 95).map(|v| c.store.retention.clean_ratio = v)),
    ("maxMessageSize", |c, v| {
        c.store.max_message_bytes = number(v, 1, 1 << 30)?;
        Ok(())
    }),
    ("storePathCommitLog", |c, v| place(c, "storePathCommitLog", "commitlog", v)),
    ("storePathConsumeQueue", |c, v| place(c, "storePathConsumeQueue", "consumequeue", v)),
    ("storePathIndex", |c, v| place(c, "storePathIndex", "index", v)),
    // Passed by, these would let in whom nobody let in, or begin an empty log beside the real one.
    ("aclEnable", |_, v| only_false(v)),
    ("authenticationEnabled", |_, v| only_false(v)),
    ("authorizationEnabled", |_, v| only_false(v)),
    ("enableDLegerCommitLog", |_, v| only_false(v)),
    ("enableControllerMode", |_, v| only_false(v)),
    ("storeType", |_, v| one_of(v, &[("default", ())])),
    // So it is spelled there.
    ("mapedFileSizeCommitLog", segment_bytes),
    ("mappedFileSizeCommitLog", segment_bytes),
    ("mappedFileSizeConsumeQueue", |c, v| {
        let entries: u64 = number(v, 1, i32::MAX as u64 / 20)?;
        c.store.queue_file_bytes = entries * 20;
        Ok(())
    }),
];

fn segment_bytes(config: &mut BrokerConfig, value: &str) -> Result<(), String> {
    config.store.segment_bytes = number(value, 64 << 10, i32::MAX as u64)?;
    Ok(())
}

fn place(
    config: &mut BrokerConfig,
    key: &'static str,
    name: &'static str,
    value: &str,
) -> Result<(), String> {
    text(value).map(|value| config.places.push(Place { key, name, said: value.into() }))
}

fn only_false(value: &str) -> Result<(), String> {
    one_of(value, &[("false", ())])
}

fn text(value: &str) -> Result<String, String> {
    match value {
        "" => Err("it must not be empty".into()),
        value => Ok(value.to_owned()),
    }
}

fn truth(value: &str) -> Result<bool, String> {
    one_of(value, &[("true", true), ("false", false)])
}

fn one_of<T: Copy>(value: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    let allowed = || all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("allowed is {}", allowed()))
}

fn number<T>(value: &str, least: T, most: T) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let found = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
    found.ok_or_else(|| format!("allowed is a number from {least} to {most}"))
}

fn millis(value: &str) -> Result<Duration, String> {
    number(value, 0, 86_400_000).map(Duration::from_millis)
}

fn parsed<T: FromStr>(value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("allowed is {what}"))
}

fn address(value: &str) -> Result<String, String> {
    let well_formed = value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let is_address = well_formed || value.parse::<SocketAddr>().is_ok();
    is_address.then(|| value.to_owned()).ok_or_else(|| "allowed is HOST:PORT;HOST:PORT".into())
}

/// One delay of `messageDelayLevel`: a number and s, m, h or d.
fn delay(value: &str) -> Result<Duration, String> {
    let seconds = value.char_indices().next_back().and_then(|(at, unit)| {
        let unit = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        value[..at].parse::<u32>().ok().map(|n| u64::from(n) * unit)
    });
    let allowed = || "allowed are delays such as 1s, 5m, 2h or 1d, with spaces between".to_owned();
    seconds.map(Duration::from_secs).ok_or_else(allowed)
}
