//! What a producer hands in, and what it gets back.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    error::{Error, Result},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
};

/// Separates a property's name from its value.
pub(crate) const NAME_VALUE_SEPARATOR: u8 = 1;
/// Ends a property.
pub(crate) const PROPERTY_SEPARATOR: u8 = 2;
/// Property with the tag.
pub(crate) const PROPERTY_TAGS: &str = "TAGS";
/// Property with the keys, separated by spaces.
pub(crate) const PROPERTY_KEYS: &str = "KEYS";
/// Property with the producer's unique id of the message.
pub(crate) const PROPERTY_UNIQUE_KEY: &str = "UNIQ_KEY";

/// One message on its way into the store. Borrows its body.
///
/// ```
/// # use steadfast::{Message, QueueKey};
/// let queue = QueueKey::new("orders", 0)?;
/// let message = Message::new(&queue, b"paid").tag("T1").key("k-17");
/// # Ok::<(), steadfast::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub(crate) queue: &'a QueueKey,
    pub(crate) body: &'a [u8],
    pub(crate) properties: Cow<'a, [u8]>,
    pub(crate) problem: Option<&'static str>,
    pub(crate) flag: i32,
    pub(crate) sys_flag: i32,
    pub(crate) born_time: Option<StoreTime>,
    pub(crate) born_host: SocketAddr,
    pub(crate) store_host: Option<SocketAddr>,
    pub(crate) reconsume_times: i32,
    pub(crate) prepared_transaction: i64,
    pub(crate) wait: bool,
}

impl<'a> Message<'a> {
    /// A message with `body` for `queue`, without properties, born now on this host.
    pub fn new(queue: &'a QueueKey, body: &'a [u8]) -> Self {
        Self {
            queue,
            body,
            properties: Cow::Borrowed(&[]),
            problem: None,
            flag: 0,
            sys_flag: 0,
            born_time: None,
            born_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            store_host: None,
            reconsume_times: 0,
            prepared_transaction: 0,
            wait: true,
        }
    }

    /// Sets the tag consumers filter by.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        self.property(PROPERTY_TAGS, tag)
    }

    /// Sets the key the message is found by; several keys are separated by spaces.
    #[must_use]
    pub fn key(self, keys: &str) -> Self {
        self.property(PROPERTY_KEYS, keys)
    }

    /// Adds a property. A name that is given twice keeps its last value when read.
    ///
    /// A name or value that holds one of the separator bytes 1 and 2, or an empty name, makes the
    /// append fail with [`InvalidInput`](crate::ErrorKind::InvalidInput). An empty value is not
    /// stored, as in RocketMQ.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        let reserved = |b: &u8| *b == NAME_VALUE_SEPARATOR || *b == PROPERTY_SEPARATOR;
        if name.is_empty() || name.bytes().chain(value.bytes()).any(|b| reserved(&b)) {
            self.problem = Some("a property has an empty name or holds a byte 1 or 2");
            return self;
        }
        if value.is_empty() {
            return self;
        }
        let properties = self.properties.to_mut();
        if properties.last().is_some_and(|&b| b != PROPERTY_SEPARATOR) {
            properties.push(PROPERTY_SEPARATOR);
        }
        properties.reserve(name.len() + value.len() + 2);
        properties.extend_from_slice(name.as_bytes());
        properties.push(NAME_VALUE_SEPARATOR);
        properties.extend_from_slice(value.as_bytes());
        properties.push(PROPERTY_SEPARATOR);
        self
    }

    /// Replaces all properties by `encoded`, in RocketMQ's form: name, byte 1, value, byte 2.
    #[must_use]
    pub fn encoded_properties(mut self, encoded: &'a [u8]) -> Self {
        self.properties = Cow::Borrowed(encoded);
        self
    }

    /// Sets the application's own flag.
    #[must_use]
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = flag;
        self
    }

    /// Sets RocketMQ's system flags (compression, transaction state). The bits for IPv6 hosts are
    /// set by the store.
    #[must_use]
    pub fn sys_flag(mut self, sys_flag: i32) -> Self {
        self.sys_flag = sys_flag;
        self
    }

    /// Sets when and where the message was born. Default: when it is appended, `127.0.0.1:0`.
    #[must_use]
    pub fn born(mut self, at: StoreTime, host: SocketAddr) -> Self {
        self.born_time = Some(at);
        self.born_host = host;
        self
    }

    /// Sets the address written as the storing host. Default: the store's own.
    #[must_use]
    pub fn store_host(mut self, host: SocketAddr) -> Self {
        self.store_host = Some(host);
        self
    }

    /// Sets how often the message was already given back by a consumer.
    #[must_use]
    pub fn reconsume_times(mut self, times: i32) -> Self {
        self.reconsume_times = times;
        self
    }

    /// Sets the log position of the half message that this one commits or rolls back.
    #[must_use]
    pub fn prepared_transaction(mut self, at: PhysicalOffset) -> Self {
        self.prepared_transaction = at.get() as i64;
        self
    }

    /// Acknowledge this message from memory even in [`FlushMode::Sync`](crate::FlushMode::Sync),
    /// as RocketMQ does for the property `WAIT=false`.
    #[must_use]
    pub fn no_wait(mut self) -> Self {
        self.wait = false;
        self
    }

    /// What the builder calls could not say at once.
    pub(crate) fn check(&self) -> Result<()> {
        match self.problem {
            None => Ok(()),
            Some(problem) => Err(Error::invalid(problem)),
        }
    }
}

/// How an append settled. The names are RocketMQ's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutStatus {
    /// Kept, as the flush mode promises. A client sees `SEND_OK`.
    PutOk,
    /// Stored, but the disk did not confirm it in time. The outcome is unknown: it may be
    /// delivered, and may not survive a crash.
    FlushDiskTimeout,
    /// Stored here, but no slave confirmed it in time.
    FlushSlaveTimeout,
    /// Stored here, but no slave was there to take it.
    SlaveNotAvailable,
}

impl PutStatus {
    /// RocketMQ's name of the status, such as `PUT_OK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PutOk => "PUT_OK",
            Self::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            Self::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            Self::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        }
    }
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its position in its queue; 0 for prepared and rolled-back transactional messages, which
    /// are in no queue.
    pub queue_offset: QueueOffset,
    /// Its first byte in the log.
    pub physical_offset: PhysicalOffset,
    /// Its size in the log, in bytes.
    pub size: u32,
    /// When it was stored.
    pub store_time: StoreTime,
}

impl Placement {
    /// The first byte behind the record.
    pub fn end(&self) -> PhysicalOffset {
        self.physical_offset + u64::from(self.size)
    }
}
