//! Encoding one record: everything that can be known early is computed before the append lock.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::atomic::{Ordering, compiler_fence},
};

use super::{
    crc::{self, Shift},
    layout::*,
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Message, PROPERTY_SEPARATOR},
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    options::RecordChecksum,
};

/// What a record must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Largest body, in bytes. A whole record may be 65536 bytes larger.
    pub max_message_bytes: u32,
    /// Size of a segment, in bytes. 8 of them always stay free behind a record.
    pub segment_bytes: u64,
}

/// A record that is complete but for its place: what the append lock has to add is the queue
/// offset, the physical offset and the store time.
#[derive(Clone, Debug)]
pub struct RecordPlan<'a> {
    message: &'a Message<'a>,
    /// The properties as stored, without the separator and the checksum that may follow.
    properties: Cow<'a, [u8]>,
    /// The header with zeros for what is not known yet.
    header: [u8; HEADER_MAX],
    header_len: usize,
    store_time_at: usize,
    size: u32,
    /// Whether a separator is added to the properties.
    separate: bool,
    properties_len: u16,
    topic_len: [u8; 2],
    wide_topic: bool,
    takes_queue_offset: bool,
    checksum: Option<PlannedChecksum>,
}

/// What is known of the checksum before the header is.
#[derive(Clone, Debug)]
struct PlannedChecksum {
    /// Of everything behind the header up to the checksum's property.
    back: u32,
    /// The length that `back` covers.
    shift: Shift,
}

impl<'a> RecordPlan<'a> {
    /// Plans the record of `message`. Its time of birth is `now` unless it says otherwise, its
    /// store host `store_host`.
    ///
    /// An IPv6 address that maps an IPv4 one is stored as the latter, as Java does. A topic
    /// of more than 127 bytes makes a V2 record.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) if the body, the properties or the record exceed a limit;
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the message says so itself.
    pub fn new(
        message: &'a Message<'a>,
        limits: &RecordLimits,
        checksum: RecordChecksum,
        now: StoreTime,
        store_host: SocketAddr,
    ) -> Result<Self> {
        message.check()?;
        let (properties, separate) = match checksum {
            RecordChecksum::On => {
                let properties = without_checksums(&message.properties);
                let separate = properties.last().is_some_and(|&b| b != PROPERTY_SEPARATOR);
                (properties, separate)
            }
            // Stored as given. But a checksum left from an earlier record must not end this one,
            // or it would look damaged for ever; one more separator changes no property.
            RecordChecksum::Off => {
                let properties = Cow::Borrowed(&*message.properties);
                let separate = ends_like_checksum(&properties);
                (properties, separate)
            }
        };
        let with_checksum = checksum == RecordChecksum::On;
        let tail = usize::from(separate) + if with_checksum { CRC_TAIL } else { 0 };
        let properties_len = within(
            "properties",
            properties.len() + tail,
            "properties_max_bytes",
            PROPERTIES_MAX_BYTES.into(),
        )?;
        let body_limit = limits.max_message_bytes.into();
        within("the body", message.body.len(), "max_message_bytes", body_limit)?;

        let born = canonical(message.born_host);
        let store = canonical(message.store_host.unwrap_or(store_host));
        let topic = message.queue.topic();
        let wide_topic = topic.len() > TOPIC_V1_MAX_BYTES;
        let header_len =
            HEADER_V4 + V6_EXTRA * (usize::from(born.is_ipv6()) + usize::from(store.is_ipv6()));
        let topic_len = 1 + usize::from(wide_topic) + topic.len();
        let size = header_len + message.body.len() + topic_len + 2 + properties_len as usize;
        let record_limit = body_limit + u64::from(RECORD_OVERHEAD_MAX);
        within("the record", size, "max_message_bytes + 65536", record_limit)?;
        let room = limits.segment_bytes.min(i32::MAX as u64).saturating_sub(BLANK_BYTES.into());
        let size = within("the record", size, "segment_bytes - 8", room)?;

        let mut plan = Self {
            message,
            properties,
            header: [0; HEADER_MAX],
            header_len,
            store_time_at: BORN_HOST + HOST_V4 + V6_EXTRA * usize::from(born.is_ipv6()),
            size,
            separate,
            properties_len: properties_len as u16,
            topic_len: (topic.len() as u16).to_be_bytes(),
            wide_topic,
            takes_queue_offset: TransactionState::of(message.sys_flag).has_queue_entry(),
            checksum: None,
        };
        let body_crc = crc::crc32(message.body);
        plan.fill_header(body_crc, born, store, now);
        if with_checksum {
            plan.checksum = Some(plan.plan_checksum(body_crc));
        }
        Ok(plan)
    }

    /// The record's size in bytes.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The queue the record belongs to.
    #[inline]
    pub fn queue(&self) -> &'a QueueKey {
        self.message.queue
    }

    /// Whether the record takes a queue offset and gets a queue entry. Prepared and rolled-back
    /// transactional messages don't.
    #[inline]
    pub fn takes_queue_offset(&self) -> bool {
        self.takes_queue_offset
    }

    /// Writes the record to `out`.
    ///
    /// The body comes first, the header last and its first eight bytes very last, so that a
    /// process that dies in between leaves a zero where the size belongs (`out` is all zero
    /// before). A record that takes no queue offset is written with 0.
    ///
    /// # Panics
    ///
    /// If `out` is not [`size`](Self::size) bytes long.
    #[inline]
    pub fn encode(
        &self,
        out: &mut [u8],
        queue_offset: QueueOffset,
        physical_offset: PhysicalOffset,
        store_time: StoreTime,
    ) {
        assert_eq!(out.len(), self.size as usize, "the place of a record has the record's size");
        let mut header = self.header;
        let queue_offset = if self.takes_queue_offset { queue_offset.get() } else { 0 };
        put(&mut header, QUEUE_OFFSET, queue_offset.to_be_bytes());
        put(&mut header, PHYSICAL_OFFSET, physical_offset.get().to_be_bytes());
        put(&mut header, self.store_time_at, store_time.as_millis().to_be_bytes());
        let header = &header[..self.header_len];

        let (head, rest) = out.split_at_mut(header.len());
        let (body, rest) = rest.split_at_mut(self.message.body.len());
        body.copy_from_slice(self.message.body);
        let rest = self.put_topic(rest);
        let rest = put_front(rest, &self.properties_len.to_be_bytes());
        let rest = put_front(rest, &self.properties);
        let tail = if self.separate { put_front(rest, &[PROPERTY_SEPARATOR]) } else { rest };
        if let Some(checksum) = &self.checksum {
            let whole = checksum.shift.join(crc::crc32(header), checksum.back);
            tail.copy_from_slice(&crc_tail(whole & CRC_MASK));
        }

        let (first, later) = head.split_at_mut(8);
        later.copy_from_slice(&header[8..]);
        // Keeps the compiler from merging the stores; a dying process needs no more.
        compiler_fence(Ordering::SeqCst);
        first.copy_from_slice(&header[..8]);
    }

    fn fill_header(&mut self, body_crc: u32, born: SocketAddr, store: SocketAddr, now: StoreTime) {
        let message = self.message;
        let v6 = |host: SocketAddr, bit| if host.is_ipv6() { bit } else { 0 };
        let sys_flag = message.sys_flag & !(FLAG_BORN_V6 | FLAG_STORE_V6)
            | v6(born, FLAG_BORN_V6)
            | v6(store, FLAG_STORE_V6);
        let magic = if self.wide_topic { MAGIC_V2 } else { MAGIC_V1 };
        let born_time = message.born_time.unwrap_or(now);
        let header = &mut self.header;
        put(header, SIZE, self.size.to_be_bytes());
        put(header, MAGIC, magic.to_be_bytes());
        put(header, BODY_CRC, (body_crc & CRC_MASK).to_be_bytes());
        put(header, QUEUE_ID, message.queue.queue_id().to_be_bytes());
        put(header, FLAG, message.flag.to_be_bytes());
        put(header, SYS_FLAG, sys_flag.to_be_bytes());
        put(header, BORN_TIME, born_time.as_millis().to_be_bytes());
        put_host(header, BORN_HOST, born);
        let at = put_host(header, self.store_time_at + 8, store);
        put(header, at, message.reconsume_times.to_be_bytes());
        put(header, at + 4, message.prepared_transaction.to_be_bytes());
        put(header, at + 12, (message.body.len() as u32).to_be_bytes());
    }

    fn plan_checksum(&self, body_crc: u32) -> PlannedChecksum {
        let topic = self.queue().topic().as_bytes();
        let mut back = crc::crc32_from(body_crc, self.topic_len());
        back = crc::crc32_from(back, topic);
        back = crc::crc32_from(back, &self.properties_len.to_be_bytes());
        back = crc::crc32_from(back, &self.properties);
        if self.separate {
            back = crc::crc32_from(back, &[PROPERTY_SEPARATOR]);
        }
        let covered = self.size as usize - CRC_TAIL - self.header_len;
        PlannedChecksum { back, shift: Shift::by(covered as u32) }
    }

    /// The topic's length as stored: one byte or two.
    #[inline(always)]
    fn topic_len(&self) -> &[u8] {
        &self.topic_len[usize::from(!self.wide_topic)..]
    }

    /// Writes the topic and its length, returns what is behind it.
    #[inline]
    fn put_topic<'b>(&self, out: &'b mut [u8]) -> &'b mut [u8] {
        let topic = self.queue().topic().as_bytes();
        put_front(put_front(out, self.topic_len()), topic)
    }
}

/// Writes the blank record that fills a segment's last `size` bytes; only its first 8 are written.
pub fn encode_blank(out: &mut [u8; 8], size: u32) {
    out[..4].copy_from_slice(&size.to_be_bytes());
    out[4..].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
}

/// The properties without the checksums of earlier records, which a message that is given back or
/// forwarded can carry.
fn without_checksums(given: &[u8]) -> Cow<'_, [u8]> {
    // The name is rare, and so is its last letter. Without early exit this is a few vector
    // comparisons.
    if given.iter().fold(0, |hits, &b| hits | u8::from(b == b'#')) == 0 {
        return Cow::Borrowed(given);
    }
    let mut parts = given.split(|&b| b == PROPERTY_SEPARATOR);
    if !parts.any(|part| part.starts_with(CRC_TAIL_NAME)) {
        return Cow::Borrowed(given);
    }
    let mut kept = Vec::with_capacity(given.len());
    for part in given.split_inclusive(|&b| b == PROPERTY_SEPARATOR) {
        if !part.starts_with(CRC_TAIL_NAME) {
            kept.extend_from_slice(part);
        }
    }
    Cow::Owned(kept)
}

/// Whether a reader would take the end of `properties` for the record's checksum.
fn ends_like_checksum(properties: &[u8]) -> bool {
    properties.last_chunk::<CRC_TAIL>().is_some_and(|tail| {
        tail.starts_with(CRC_TAIL_NAME) && tail.ends_with(&[PROPERTY_SEPARATOR])
    })
}

/// `len` as an integer, if it is within a limit.
#[inline]
fn within(what: &str, len: usize, limit: &str, allowed: u64) -> Result<u32> {
    match u32::try_from(len) {
        Ok(fits) if u64::from(fits) <= allowed => Ok(fits),
        _ => Err(too_large(what, len, limit, allowed)),
    }
}

#[cold]
fn too_large(what: &str, len: usize, limit: &str, allowed: u64) -> Error {
    let text =
        format!("larger than the store allows: {what} bytes={len} limit={allowed} ({limit})");
    Error::new(ErrorKind::TooLarge, text)
}

fn canonical(host: SocketAddr) -> SocketAddr {
    SocketAddr::new(host.ip().to_canonical(), host.port())
}

#[inline(always)]
fn put<const N: usize>(header: &mut [u8; HEADER_MAX], at: usize, bytes: [u8; N]) {
    header[at..at + N].copy_from_slice(&bytes);
}

fn put_host(header: &mut [u8; HEADER_MAX], at: usize, host: SocketAddr) -> usize {
    let port = u32::from(host.port()).to_be_bytes();
    match host.ip() {
        IpAddr::V4(ip) => {
            put(header, at, ip.octets());
            put(header, at + 4, port);
            at + HOST_V4
        }
        IpAddr::V6(ip) => {
            put(header, at, ip.octets());
            put(header, at + 16, port);
            at + HOST_V4 + V6_EXTRA
        }
    }
}

/// Writes `bytes` to the front of `out`, returns what is behind them.
#[inline(always)]
fn put_front<'b>(out: &'b mut [u8], bytes: &[u8]) -> &'b mut [u8] {
    let (front, rest) = out.split_at_mut(bytes.len());
    front.copy_from_slice(bytes);
    rest
}

/// The checksum's property. Digits are written least significant first.
#[inline]
fn crc_tail(value: u32) -> [u8; CRC_TAIL] {
    let mut tail = *b"__CRC32#\x010000000000\x02";
    // Every digit from two quotients of the value itself: ten short chains instead of a long one.
    let quotients = [
        value,
        value / 10,
        value / 100,
        value / 1_000,
        value / 10_000,
        value / 100_000,
        value / 1_000_000,
        value / 10_000_000,
        value / 100_000_000,
        value / 1_000_000_000,
        0,
    ];
    for i in 0..10 {
        tail[9 + i] += (quotients[i] - 10 * quotients[i + 1]) as u8;
    }
    tail
}

#[cfg(test)]
mod tests;
