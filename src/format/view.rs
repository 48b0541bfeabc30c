//! Reading one record: checked once, then borrowed field by field.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    be::{be32, be64},
    crc::{self, Shift},
    ids,
    layout::*,
    properties::Properties,
};
use crate::{
    message::{PROPERTY_KEYS, PROPERTY_SEPARATOR, PROPERTY_TAGS, PROPERTY_UNIQUE_KEY},
    offset::{PhysicalOffset, QueueOffset, StoreTime},
};

/// A record in borrowed bytes. All lengths were checked; checksums are checked by
/// [`verify`](Self::verify).
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    /// Exactly the record.
    bytes: &'a [u8],
    /// Up to the body.
    header: &'a [u8],
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end inside of the record.
    Truncated {
        /// Bytes the record says it has.
        size: u64,
        /// Bytes there are.
        have: u64,
    },
    /// Neither V1 nor V2.
    Magic(u32),
    /// Smaller than any record, or negative.
    Size(u32),
    /// The body does not fit the record, or its length is negative.
    BodyLength(i32),
    /// The topic does not fit the record, is empty, or its length is negative.
    TopicLength(i32),
    /// The topic is not UTF-8.
    TopicText,
    /// The properties do not end where the record does.
    PropertiesLength {
        /// As stored.
        stored: i32,
        /// What is left for them.
        room: u32,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { size, have } => {
                write!(f, "the bytes end inside of the record size={size} have={have}")
            }
            Self::Magic(magic) => write!(f, "no record's magic at +4 magic={magic:#010x}"),
            Self::Size(size) => write!(f, "no record's size at +0 size={}", size as i32),
            Self::BodyLength(len) => write!(f, "the body does not fit the record len={len}"),
            Self::TopicLength(len) => write!(f, "the topic does not fit the record len={len}"),
            Self::TopicText => f.write_str("the topic is not UTF-8"),
            Self::PropertiesLength { stored, room } => {
                write!(f, "the properties do not end with the record len={stored} room={room}")
            }
        }
    }
}

/// Which checksum of a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMismatch {
    /// The body's.
    Body {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The whole record's.
    Record {
        /// In the property `__CRC32#`.
        stored: u64,
        /// Of the bytes.
        computed: u32,
    },
}

impl fmt::Display for ChecksumMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body { stored, computed } => {
                write!(f, "the body's checksum is wrong stored={stored} computed={computed}")
            }
            Self::Record { stored, computed } => {
                write!(f, "the record's checksum is wrong stored={stored} computed={computed}")
            }
        }
    }
}

/// What [`RecordView::verify`] could check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the record ends in a checksum of all of it. Without, only the body is protected.
    pub record_crc: bool,
}

impl<'a> RecordView<'a> {
    /// The record at the beginning of `bytes`, which may go on behind it.
    ///
    /// # Errors
    ///
    /// Says what is not as in a record. Checksums and offsets are not looked at.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let have = bytes.len() as u64;
        let Some(&[s0, s1, s2, s3, m0, m1, m2, m3]) = bytes.first_chunk::<8>() else {
            return Err(Malformed::Truncated { size: RECORD_MIN_BYTES.into(), have });
        };
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(Malformed::Magic(magic));
        }
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if !(RECORD_MIN_BYTES..=i32::MAX as u32).contains(&size) {
            return Err(Malformed::Size(size));
        }
        let Some(bytes) = bytes.get(..size as usize) else {
            return Err(Malformed::Truncated { size: size.into(), have });
        };
        let flag = be32(bytes, SYS_FLAG) as i32;
        let extra = usize::from(flag & FLAG_BORN_V6 != 0) + usize::from(flag & FLAG_STORE_V6 != 0);
        let Some((header, rest)) = bytes.split_at_checked(HEADER_V4 + extra * V6_EXTRA) else {
            return Err(Malformed::Size(size));
        };
        let body_len = be32(header, header.len() - 4) as i32;
        let body_end = usize::try_from(body_len).ok();
        let Some((body, rest)) = body_end.and_then(|len| rest.split_at_checked(len)) else {
            return Err(Malformed::BodyLength(body_len));
        };
        let (topic_len, rest) = match (magic, rest) {
            (MAGIC_V1, &[len, ref rest @ ..]) => (i32::from(len), rest),
            (MAGIC_V2, &[l0, l1, ref rest @ ..]) => (i16::from_be_bytes([l0, l1]).into(), rest),
            _ => return Err(Malformed::BodyLength(body_len)),
        };
        let topic_end = usize::try_from(topic_len).ok().filter(|&len| len > 0);
        let Some((topic, rest)) = topic_end.and_then(|len| rest.split_at_checked(len)) else {
            return Err(Malformed::TopicLength(topic_len));
        };
        let Some((&[p0, p1], properties)) = rest.split_first_chunk::<2>() else {
            return Err(Malformed::TopicLength(topic_len));
        };
        let stored = i32::from(i16::from_be_bytes([p0, p1]));
        if stored as usize != properties.len() {
            return Err(Malformed::PropertiesLength { stored, room: properties.len() as u32 });
        }
        let Ok(topic) = str::from_utf8(topic) else { return Err(Malformed::TopicText) };
        Ok(Self { bytes, header, body, topic, properties })
    }

    /// The record's bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its size in bytes.
    #[inline]
    pub fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// [`MAGIC_V1`] or [`MAGIC_V2`].
    #[inline]
    pub fn magic(&self) -> u32 {
        be32(self.header, MAGIC)
    }

    /// The body's CRC as stored, without the highest bit.
    #[inline]
    pub fn body_crc(&self) -> u32 {
        be32(self.header, BODY_CRC)
    }

    /// The queue's number in its topic; whatever was stored.
    #[inline]
    pub fn queue_id(&self) -> i32 {
        be32(self.header, QUEUE_ID) as i32
    }

    /// The application's flag.
    #[inline]
    pub fn flag(&self) -> i32 {
        be32(self.header, FLAG) as i32
    }

    /// RocketMQ's system flags.
    #[inline]
    pub fn sys_flag(&self) -> i32 {
        be32(self.header, SYS_FLAG) as i32
    }

    /// The offset in the queue; 0 without a queue entry. Hostile bytes give any value.
    #[inline]
    pub fn queue_offset(&self) -> QueueOffset {
        QueueOffset::new(be64(self.header, QUEUE_OFFSET))
    }

    /// Where the record says it is in the log. Hostile bytes give any value.
    #[inline]
    pub fn physical_offset(&self) -> PhysicalOffset {
        PhysicalOffset::new(be64(self.header, PHYSICAL_OFFSET))
    }

    /// When the producer made the message.
    #[inline]
    pub fn born_time(&self) -> StoreTime {
        StoreTime::from_millis(be64(self.header, BORN_TIME) as i64)
    }

    /// Where the producer made the message.
    pub fn born_host(&self) -> SocketAddr {
        host(&self.header[BORN_HOST..self.store_time_at()])
    }

    /// When the message was stored.
    #[inline]
    pub fn store_time(&self) -> StoreTime {
        StoreTime::from_millis(be64(self.header, self.store_time_at()) as i64)
    }

    /// Which host stored the message.
    pub fn store_host(&self) -> SocketAddr {
        host(self.store_host_bytes())
    }

    /// How often a consumer gave the message back.
    #[inline]
    pub fn reconsume_times(&self) -> i32 {
        be32(self.header, self.header.len() - 16) as i32
    }

    /// Where the half message is that this one ends; 0 if none.
    #[inline]
    pub fn prepared_transaction(&self) -> i64 {
        be64(self.header, self.header.len() - 12) as i64
    }

    /// Bytes before the body.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        self.header.len()
    }

    /// The body as stored, perhaps compressed.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The properties as stored, with the record's checksum if there is one.
    #[inline]
    pub fn properties_bytes(&self) -> &'a [u8] {
        self.properties
    }

    /// The properties, in the order stored; duplicates included.
    #[inline]
    pub fn properties(&self) -> Properties<'a> {
        Properties::of(self.properties)
    }

    /// The value of the last property called `name`. None too if it is not UTF-8, see
    /// [`property_bytes`](Self::property_bytes).
    pub fn property(&self, name: &str) -> Option<&'a str> {
        self.property_bytes(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The value of the last property called `name`, as stored.
    pub fn property_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.properties().get(name)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&'a str> {
        self.property(PROPERTY_TAGS)
    }

    /// The keys, without the producer's unique one.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.property(PROPERTY_KEYS).unwrap_or("").split(' ').filter(|key| !key.is_empty())
    }

    /// The producer's unique id of the message.
    pub fn unique_key(&self) -> Option<&'a str> {
        self.property(PROPERTY_UNIQUE_KEY)
    }

    /// What the system flags say about a transaction.
    #[inline]
    pub fn transaction_state(&self) -> TransactionState {
        TransactionState::of(self.sys_flag())
    }

    /// Whether the record is in a queue. Prepared and rolled-back messages are not.
    #[inline]
    pub fn has_queue_entry(&self) -> bool {
        self.transaction_state().has_queue_entry()
    }

    /// The id by which a message is found without its queue: store host and physical offset in
    /// upper-case hexadecimal.
    pub fn message_id(&self) -> String {
        ids::message_id(self.store_host_bytes(), self.physical_offset())
    }

    /// Checks the body's checksum, and the record's if it ends in one. The body is read once.
    ///
    /// # Errors
    ///
    /// Which checksum is wrong.
    #[inline]
    pub fn verify(&self) -> Result<Checked, ChecksumMismatch> {
        let body_crc = crc::crc32(self.body);
        let (stored, computed) = (self.body_crc(), body_crc & CRC_MASK);
        if stored != computed {
            return Err(ChecksumMismatch::Body { stored, computed });
        }
        let Some(stored) = self.record_crc() else { return Ok(Checked { record_crc: false }) };
        let behind = self.header.len() + self.body.len();
        let joined = Shift::by(self.body.len() as u32).join(crc::crc32(self.header), body_crc);
        let rest = &self.bytes[behind..self.bytes.len() - CRC_TAIL];
        let computed = crc::crc32_from(joined, rest) & CRC_MASK;
        if stored != u64::from(computed) {
            return Err(ChecksumMismatch::Record { stored, computed });
        }
        Ok(Checked { record_crc: true })
    }

    /// The checksum the record ends in, if it ends in exactly that property.
    #[inline]
    pub fn record_crc(&self) -> Option<u64> {
        let tail = self.properties.last_chunk::<CRC_TAIL>()?;
        let (name, rest) = tail.split_first_chunk::<9>()?;
        let (digits, end) = rest.split_first_chunk::<10>()?;
        if name != CRC_TAIL_NAME {
            return None;
        }
        let (mut value, mut unit, mut wrong) = (0, 1, end != [PROPERTY_SEPARATOR]);
        for &digit in digits {
            let digit = digit.wrapping_sub(b'0');
            wrong |= digit > 9;
            value += u64::from(digit) * unit;
            unit *= 10;
        }
        // No checksum has this value: what is no digit, or no separator, was damaged.
        Some(if wrong { u64::MAX } else { value })
    }

    #[inline]
    fn store_time_at(&self) -> usize {
        let v6 = self.sys_flag() & FLAG_BORN_V6 != 0;
        BORN_HOST + HOST_V4 + usize::from(v6) * V6_EXTRA
    }

    fn store_host_bytes(&self) -> &'a [u8] {
        &self.header[self.store_time_at() + 8..self.header.len() - 16]
    }
}

impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView")
            .field("topic", &self.topic)
            .field("queue_id", &self.queue_id())
            .field("queue_offset", &self.queue_offset())
            .field("physical_offset", &self.physical_offset())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// An address of 4 or 16 bytes and a port of 4, of which hostile bytes may fill the upper two.
fn host(bytes: &[u8]) -> SocketAddr {
    let (ip, port) = bytes.split_at(bytes.len() - 4);
    let ip = match *ip {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => {
            let mut octets = [0; 16];
            octets.copy_from_slice(ip);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    };
    SocketAddr::new(ip, be32(port, 0) as u16)
}

#[cfg(test)]
mod tests;
