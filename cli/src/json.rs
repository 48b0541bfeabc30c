//! Records as JSON, with the fields of the golden dumps.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use steadfast::RecordView;

/// Longer values of properties are shown as their length only.
const VALUE_MOST: usize = 2000;

/// One record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    magic: String,
    topic: &'a str,
    queue_id: i32,
    queue_offset: i64,
    phys_offset: u64,
    size: u32,
    flag: i32,
    sys_flag: i32,
    #[serde(rename = "bodyCRC")]
    body_crc: u32,
    body_len: usize,
    body_sha: String,
    born_ts: i64,
    born_host: String,
    store_ts: i64,
    store_host: String,
    reconsume_times: i32,
    #[serde(rename = "preparedTxOffset")]
    prepared_transaction: i64,
    msg_id: String,
    props: Properties<'a>,
    record_sha: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> RecordLine<'a> {
    /// The line of `view`.
    pub(crate) fn of(view: &RecordView<'a>) -> Self {
        Self {
            kind: "record",
            magic: format!("{:08x}", view.magic()),
            topic: view.topic(),
            queue_id: view.queue_id(),
            queue_offset: view.queue_offset().get() as i64,
            phys_offset: view.physical_offset().get(),
            size: view.size(),
            flag: view.flag(),
            sys_flag: view.sys_flag(),
            body_crc: view.body_crc(),
            body_len: view.body().len(),
            body_sha: sha(view.body()),
            born_ts: view.born_time().as_millis(),
            born_host: host(view.born_host()),
            store_ts: view.store_time().as_millis(),
            store_host: host(view.store_host()),
            reconsume_times: view.reconsume_times(),
            prepared_transaction: view.prepared_transaction(),
            msg_id: view.message_id(),
            props: Properties::of(view),
            record_sha: sha(view.bytes()),
            body_base64: None,
        }
    }

    /// With the body itself.
    pub(crate) fn with_body(mut self, view: &RecordView<'_>) -> Self {
        use base64::{Engine, engine::general_purpose::STANDARD};
        self.body_base64 = Some(STANDARD.encode(view.body()));
        self
    }
}

/// The first half of the SHA-256 of `bytes`.
pub(crate) fn sha(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn host(host: SocketAddr) -> String {
    match host {
        SocketAddr::V4(v4) => format!("{}:{}", hex(&v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => format!("{}:{}", hex(&v6.ip().octets()), v6.port()),
    }
}

/// Properties by name, the last of equal ones.
struct Properties<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Properties<'a> {
    fn of(view: &RecordView<'a>) -> Self {
        let properties = view.properties();
        Self(
            properties
                .map(|(name, value)| {
                    (String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                })
                .collect(),
        )
    }
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|a, b| java_order(a.0, b.0));
        serializer.collect_map(entries.into_iter().map(|(name, value)| {
            // Java counts in UTF-16.
            let len = value.encode_utf16().count();
            let shown = if len > VALUE_MOST { format!("len={len}").into() } else { value.clone() };
            (name, shown)
        }))
    }
}

/// Java's order of strings: by UTF-16 code units.
pub(crate) fn java_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}
