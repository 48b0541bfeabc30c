//! Key index files: a header, a table of slots, and entries chained from newest to oldest.

use super::{
    be::{be32, be64},
    hash::{hash_from, java_hash},
};
use crate::offset::{PhysicalOffset, StoreTime};

/// Size of the header in bytes.
pub const INDEX_HEADER_BYTES: usize = 40;
/// Size of a slot in bytes.
pub const INDEX_SLOT_BYTES: usize = 4;
/// Size of an entry in bytes.
pub const INDEX_ENTRY_BYTES: usize = 20;

/// How many slots and entries a file has. Not stored in it: opening it with other numbers
/// misreads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexGeometry {
    /// Slots of the table, at least 1.
    pub slots: u32,
    /// Entries, of which number 0 is never used.
    pub entries: u32,
}

impl IndexGeometry {
    /// The file's length in bytes.
    pub const fn file_bytes(&self) -> u64 {
        self.entry_at(self.entries)
    }

    /// The position of slot number `slot`.
    pub const fn slot_at(&self, slot: u32) -> u64 {
        INDEX_HEADER_BYTES as u64 + slot as u64 * INDEX_SLOT_BYTES as u64
    }

    /// The position of entry number `entry`.
    pub const fn entry_at(&self, entry: u32) -> u64 {
        self.slot_at(self.slots) + entry as u64 * INDEX_ENTRY_BYTES as u64
    }

    /// The slot of a key with this hash.
    ///
    /// # Panics
    ///
    /// If there are no slots.
    pub const fn slot_of(&self, hash: u32) -> u32 {
        hash % self.slots
    }

    /// Whether `entry`, read from a slot or an entry, can be one of a file that counts
    /// `entry_count`. Number 0 ends a chain.
    pub const fn has_entry(&self, entry: u32, entry_count: u32) -> bool {
        entry != 0 && entry < entry_count && entry < self.entries
    }
}

/// The header of an index file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHeader {
    /// Store time of the first message.
    pub begin_time: StoreTime,
    /// Store time of the last message.
    pub end_time: StoreTime,
    /// Offset of the first message.
    pub begin_offset: PhysicalOffset,
    /// Offset of the last message: its first byte.
    pub end_offset: PhysicalOffset,
    /// Slots in use.
    pub slot_count: u32,
    /// Number of the next entry. A new file has 1.
    pub entry_count: u32,
}

impl IndexHeader {
    /// The header of a file without entries.
    pub const EMPTY: Self = Self {
        begin_time: StoreTime::from_millis(0),
        end_time: StoreTime::from_millis(0),
        begin_offset: PhysicalOffset::ZERO,
        end_offset: PhysicalOffset::ZERO,
        slot_count: 0,
        entry_count: 1,
    };

    /// The header in `bytes`, whatever it says. An entry count of 0, as in a file that was never
    /// written, is read as 1.
    pub fn decode(bytes: &[u8; INDEX_HEADER_BYTES]) -> Self {
        Self {
            begin_time: StoreTime::from_millis(be64(bytes, 0) as i64),
            end_time: StoreTime::from_millis(be64(bytes, 8) as i64),
            begin_offset: PhysicalOffset::new(be64(bytes, 16)),
            end_offset: PhysicalOffset::new(be64(bytes, 24)),
            slot_count: be32(bytes, 32),
            entry_count: be32(bytes, 36).max(1),
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; INDEX_HEADER_BYTES] {
        let mut bytes = [0; INDEX_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.begin_time.as_millis().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_time.as_millis().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin_offset.get().to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end_offset.get().to_be_bytes());
        bytes[32..36].copy_from_slice(&self.slot_count.to_be_bytes());
        bytes[36..].copy_from_slice(&self.entry_count.to_be_bytes());
        bytes
    }
}

/// One key of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The key's [hash](key_hash).
    pub hash: u32,
    /// Where the message is.
    pub physical_offset: PhysicalOffset,
    /// Seconds from the file's begin time to the message's store time.
    pub seconds: u32,
    /// The number of the slot's previous entry; 0 if this is its first.
    pub previous: u32,
}

impl IndexEntry {
    /// The entry in `bytes`, whatever it says.
    pub fn decode(bytes: &[u8; INDEX_ENTRY_BYTES]) -> Self {
        Self {
            hash: be32(bytes, 0),
            physical_offset: PhysicalOffset::new(be64(bytes, 4)),
            seconds: be32(bytes, 12),
            previous: be32(bytes, 16),
        }
    }

    /// The entry's bytes.
    pub fn encode(&self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.physical_offset.get().to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }

    /// [`seconds`](Self::seconds) of a message stored at `stored` in a file that begins at
    /// `begin`, in whole seconds, clamped to what a Java `int` holds.
    pub fn seconds_between(begin: StoreTime, stored: StoreTime) -> u32 {
        let millis = stored.as_millis().saturating_sub(begin.as_millis());
        (millis / 1000).clamp(0, i32::MAX.into()) as u32
    }
}

/// The number of a slot's newest entry, 0 if it has none.
pub fn decode_slot(bytes: [u8; INDEX_SLOT_BYTES]) -> u32 {
    u32::from_be_bytes(bytes)
}

/// The bytes of a slot whose newest entry is number `entry`.
pub fn encode_slot(entry: u32) -> [u8; INDEX_SLOT_BYTES] {
    entry.to_be_bytes()
}

/// The hash of `topic#key`, never above `i32::MAX`. Different keys can have the same.
pub fn key_hash(topic: &str, key: &str) -> u32 {
    let hash = hash_from(hash_from(java_hash(topic), "#"), key);
    // The absolute value; the smallest integer has none and counts as 0.
    hash.checked_abs().unwrap_or(0) as u32
}

/// The name of a file created at `time`: `yyyyMMddHHmmssSSS`, UTC. Times outside of the years
/// 0 to 9999 are moved to the nearest one inside.
pub fn index_file_name(time: StoreTime) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let millis = time.as_millis().clamp(FIRST, LAST);
    let (days, millis) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, milli) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{milli:03}")
}

/// Year, month and day of the day number `days` after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March, so that the leap day is a year's last, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_file_has_the_length_of_rocketmqs() {
        let geometry = IndexGeometry { slots: 5_000_000, entries: 20_000_000 };
        assert_eq!(geometry.file_bytes(), 420_000_040);
        assert_eq!((geometry.slot_at(1), geometry.entry_at(1)), (44, 40 + 20_000_000 + 20));
        assert!(geometry.has_entry(1, 2));
        assert!(!geometry.has_entry(0, 2) && !geometry.has_entry(2, 2));
        assert!(!geometry.has_entry(20_000_000, u32::MAX));
    }

    #[test]
    fn codecs_round_trip() {
        let header = IndexHeader {
            begin_time: StoreTime::from_millis(1),
            end_time: StoreTime::from_millis(-2),
            begin_offset: PhysicalOffset::new(3),
            end_offset: PhysicalOffset::new(4),
            slot_count: 5,
            entry_count: 6,
        };
        assert_eq!(IndexHeader::decode(&header.encode()), header);
        assert_eq!(header.encode()[36..], [0, 0, 0, 6]);
        assert_eq!(IndexHeader::decode(&[0; 40]), IndexHeader::EMPTY);
        let entry = IndexEntry {
            hash: 1,
            physical_offset: PhysicalOffset::new(2 << 40),
            seconds: 3,
            previous: 4,
        };
        assert_eq!(IndexEntry::decode(&entry.encode()), entry);
        assert_eq!(entry.encode()[4..13], [0, 0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_slot(encode_slot(77)), 77);
    }

    #[test]
    fn times_are_clamped_seconds() {
        let seconds = |begin, stored| {
            IndexEntry::seconds_between(
                StoreTime::from_millis(begin),
                StoreTime::from_millis(stored),
            )
        };
        assert_eq!(seconds(1000, 3999), 2);
        assert_eq!(seconds(5000, 1000), 0);
        assert_eq!(seconds(i64::MIN, i64::MAX), i32::MAX as u32);
    }

    #[test]
    fn hashes_are_never_negative() {
        assert_eq!(key_hash("t", "Aa"), key_hash("t", "BB"));
        assert_eq!(key_hash("TopicA", "k1"), java_hash("TopicA#k1").unsigned_abs());
        // "#" with an empty topic puts the rest at the same hash as a text of its own.
        assert!(key_hash("polygene", "lubricants") <= i32::MAX as u32);
        let minimum = (0..).map(|n: u32| format!("{n}")).take(1000).map(|k| key_hash("", &k));
        assert!(minimum.max().unwrap() <= i32::MAX as u32);
    }

    #[test]
    fn names_are_utc() {
        let name = |millis| index_file_name(StoreTime::from_millis(millis));
        assert_eq!(name(0), "19700101000000000");
        assert_eq!(name(1_700_000_000_007), "20231114221320007");
        assert_eq!(name(951_782_399_999), "20000228235959999");
        assert_eq!(name(951_782_400_000), "20000229000000000");
        assert_eq!(name(4_107_542_400_000), "21000301000000000");
        assert_eq!(name(-1), "19691231235959999");
        assert_eq!(name(i64::MAX), "99991231235959999");
        assert_eq!(name(i64::MIN), "00000101000000000");
    }
}
