//! From a message that somebody sends to one that the store takes: where it goes, and what the
//! broker adds to it.

use std::{net::SocketAddr, sync::Arc};

use steadfast::{Error, ErrorKind, Message, PutStatus, QueueKey, Receipt, StoreTime, Ticket};

use crate::{
    broker::Core,
    names, properties,
    protocol::{Response, status},
};

/// A message on its way, with everything that is stored of it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    pub(crate) body: bytes::Bytes,
    pub(crate) properties: String,
    pub(crate) flag: i32,
    pub(crate) sys_flag: i32,
    pub(crate) born: (StoreTime, SocketAddr),
    pub(crate) reconsume_times: i32,
    pub(crate) prepared_at: Option<steadfast::PhysicalOffset>,
}

impl Outgoing {
    /// Sends it to the topic where delayed messages wait, if it is to be delayed.
    pub(crate) fn delay(&mut self, core: &Core) {
        let level = properties::get(&self.properties, properties::DELAY)
            .and_then(|level| level.trim().parse::<usize>().ok())
            .unwrap_or(0)
            .min(core.config.delay_levels.len());
        if level > 0 {
            let level = level as i32;
            properties::set(&mut self.properties, properties::DELAY, &level.to_string());
            self.divert(names::SCHEDULE, level - 1);
        }
    }

    /// Lets it wait in another queue, which it tells of.
    pub(crate) fn divert(&mut self, topic: &str, queue_id: i32) {
        properties::set(&mut self.properties, properties::REAL_TOPIC, &self.topic);
        let real = self.queue_id.to_string();
        properties::set(&mut self.properties, properties::REAL_QUEUE, &real);
        self.topic = topic.to_owned();
        self.queue_id = queue_id;
    }

    /// Appends it.
    ///
    /// # Errors
    ///
    /// As [`steadfast::Store::append`].
    pub(crate) fn append(&self, core: &Core) -> steadfast::Result<Ticket> {
        let queue = QueueKey::new(&self.topic, self.queue_id)?;
        core.store.append(&self.message(core, &queue))
    }

    /// As the store takes it.
    pub(crate) fn message<'a>(&'a self, core: &Core, queue: &'a QueueKey) -> Message<'a> {
        core.stats.put();
        let message = Message::new(queue, &self.body)
            .encoded_properties(self.properties.as_bytes())
            .flag(self.flag)
            .sys_flag(self.sys_flag)
            .born(self.born.0, self.born.1)
            .store_host(core.address)
            .reconsume_times(self.reconsume_times);
        let message = match self.prepared_at {
            Some(at) => message.prepared_transaction(at),
            None => message,
        };
        match properties::get(&self.properties, properties::WAIT) {
            Some("false") => message.no_wait(),
            _ => message,
        }
    }
}

/// Whether an append can never succeed, however often it is tried.
pub(crate) fn is_permanent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
}

/// What tells a client of an append that was refused, or failed.
pub(crate) fn refusal(error: &Error) -> Response {
    let code = match error.kind() {
        _ if is_permanent(error) => status::MESSAGE_ILLEGAL,
        ErrorKind::Busy => status::SYSTEM_BUSY,
        ErrorKind::Full | ErrorKind::Faulted | ErrorKind::Closed | ErrorKind::ReadOnly => {
            status::SERVICE_NOT_AVAILABLE
        }
        _ => status::SYSTEM_ERROR,
    };
    Response::refuse(code, error.to_string())
}

/// The code that tells a client how an append settled.
pub(crate) fn code_of_settled(core: &Arc<Core>, receipt: &Receipt) -> i32 {
    match receipt.status {
        // Slaves have their own stage of the work; until one can connect none is there.
        PutStatus::PutOk if core.wants_slave() => status::SLAVE_NOT_AVAILABLE,
        PutStatus::PutOk => status::SUCCESS,
        PutStatus::FlushDiskTimeout => status::FLUSH_DISK_TIMEOUT,
        PutStatus::FlushSlaveTimeout => status::FLUSH_SLAVE_TIMEOUT,
        PutStatus::SlaveNotAvailable => status::SLAVE_NOT_AVAILABLE,
        _ => status::SYSTEM_ERROR,
    }
}

/// RocketMQ's id of a stored message: the storing host and the position in its log.
pub(crate) fn offset_id(host: SocketAddr, at: steadfast::PhysicalOffset) -> String {
    let mut id = String::with_capacity(56);
    let mut hex = |bytes: &[u8]| {
        let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value)]);
        for byte in bytes {
            id.push(digit(byte >> 4));
            id.push(digit(byte & 15));
        }
    };
    match host.ip() {
        std::net::IpAddr::V4(ip) => hex(&ip.octets()),
        std::net::IpAddr::V6(ip) => hex(&ip.octets()),
    }
    hex(&i32::from(host.port()).to_be_bytes());
    hex(&at.get().to_be_bytes());
    id
}
