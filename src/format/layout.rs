//! Where a record's fields are. All integers are big-endian.

/// Magic of a record whose topic length is one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of a record whose topic length is two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the blank record that fills a segment to its end.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;

/// Total size, 4 bytes.
pub(crate) const SIZE: usize = 0;
/// Magic, 4 bytes.
pub(crate) const MAGIC: usize = 4;
/// CRC of the body, 4 bytes.
pub(crate) const BODY_CRC: usize = 8;
/// Queue id, 4 bytes.
pub(crate) const QUEUE_ID: usize = 12;
/// The application's flag, 4 bytes.
pub(crate) const FLAG: usize = 16;
/// Offset in the queue, 8 bytes.
pub(crate) const QUEUE_OFFSET: usize = 20;
/// Offset in the log, 8 bytes.
pub(crate) const PHYSICAL_OFFSET: usize = 28;
/// System flags, 4 bytes.
pub(crate) const SYS_FLAG: usize = 36;
/// Time of birth, 8 bytes.
pub(crate) const BORN_TIME: usize = 40;
/// Host of birth: address and port.
pub(crate) const BORN_HOST: usize = 48;
/// An IPv4 address and a four-byte port.
pub(crate) const HOST_V4: usize = 8;
/// What an IPv6 address is longer.
pub(crate) const V6_EXTRA: usize = 12;
/// Bytes up to the body when both hosts are IPv4. Behind the hosts come: reconsume times (4),
/// prepared transaction offset (8), body length (4).
pub(crate) const HEADER_V4: usize = BORN_HOST + HOST_V4 + 8 + HOST_V4 + 4 + 8 + 4;
/// Bytes up to the body when both hosts are IPv6.
pub(crate) const HEADER_MAX: usize = HEADER_V4 + 2 * V6_EXTRA;

const _: () = assert!(HEADER_V4 == 88 && HEADER_MAX == 112);
const _: () = assert!(PHYSICAL_OFFSET == QUEUE_OFFSET + 8 && BORN_HOST == BORN_TIME + 8);

/// The smallest record: IPv4 hosts, no body, a topic of one byte, no properties.
pub const RECORD_MIN_BYTES: u32 = HEADER_V4 as u32 + 2 + 2;
/// A blank record's header, and what must stay free in a segment behind every record.
pub const BLANK_BYTES: u32 = 8;
/// Longest properties: their length is a signed short.
pub const PROPERTIES_MAX_BYTES: u32 = i16::MAX as u32;
/// What a record may be larger than the largest body.
pub(crate) const RECORD_OVERHEAD_MAX: u32 = 65536;
/// Longest topic of a V1 record: the byte with its length is signed to RocketMQ.
pub(crate) const TOPIC_V1_MAX_BYTES: usize = i8::MAX as usize;

/// Bit of the born host's type in the system flags.
pub(crate) const FLAG_BORN_V6: i32 = 0x10;
/// Bit of the store host's type in the system flags.
pub(crate) const FLAG_STORE_V6: i32 = 0x20;
/// The transaction state's bits in the system flags.
pub(crate) const FLAG_TRANSACTION: i32 = 0xC;

/// The record CRC's property: name, separator, ten digits, end.
pub(crate) const CRC_TAIL: usize = 20;
/// Begin of the record CRC's property.
pub(crate) const CRC_TAIL_NAME: &[u8; 9] = b"__CRC32#\x01";
/// Checksums are stored as non-negative 32-bit integers.
pub(crate) const CRC_MASK: u32 = 0x7FFF_FFFF;

const _: () = assert!(CRC_TAIL == CRC_TAIL_NAME.len() + 10 + 1);

/// What the transaction bits of the system flags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// Not transactional.
    None,
    /// Prepared: in the log, in no queue.
    Prepared,
    /// Committed: in a queue like any other.
    Commit,
    /// Rolled back: in the log, in no queue.
    Rollback,
}

impl TransactionState {
    /// The state in `sys_flag`.
    #[inline]
    pub const fn of(sys_flag: i32) -> Self {
        match sys_flag & FLAG_TRANSACTION {
            0 => Self::None,
            0x4 => Self::Prepared,
            0x8 => Self::Commit,
            _ => Self::Rollback,
        }
    }

    /// Whether records in this state get a queue offset and a queue entry.
    #[inline]
    pub const fn has_queue_entry(self) -> bool {
        matches!(self, Self::None | Self::Commit)
    }
}
