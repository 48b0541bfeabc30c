//! The 20-byte entries of consume queues.

use std::time::Duration;

use super::{hash::java_hash, view::RecordView};
use crate::offset::{PhysicalOffset, StoreTime};

/// Size of an entry in bytes.
pub const ENTRY_BYTES: usize = 20;
/// First offset that no queue can hold: past it the byte offset would not fit a file's name in
/// Java, a signed 64-bit number.
pub const OFFSET_MAX: u64 = i64::MAX as u64 / ENTRY_BYTES as u64 - 1;

/// The topic of messages that wait for their time.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";

/// Where a queue's message is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The record's first byte.
    pub physical_offset: PhysicalOffset,
    /// The record's size in bytes.
    pub size: u32,
    /// The tag's hash, or for a delayed message when it is due.
    pub tags_code: i64,
}

impl QueueEntry {
    /// Fills a queue file up to its first live entry.
    pub const FILLER: Self =
        Self { physical_offset: PhysicalOffset::ZERO, size: i32::MAX as u32, tags_code: 0 };

    /// The entry of a record.
    pub fn of(view: &RecordView<'_>, levels: &DelayLevels) -> Self {
        Self {
            physical_offset: view.physical_offset(),
            size: view.size(),
            tags_code: tags_code(view, levels),
        }
    }

    /// The entry in `bytes`. None where the queue ends: the offset is negative to Java, or the
    /// size not positive. A filler is an entry.
    #[inline]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let &[o0, o1, o2, o3, o4, o5, o6, o7, s0, s1, s2, s3, ref tags @ ..] = bytes;
        let offset = i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let size = i32::from_be_bytes([s0, s1, s2, s3]);
        (offset >= 0 && size > 0).then(|| Self {
            physical_offset: PhysicalOffset::new(offset as u64),
            size: size as u32,
            tags_code: i64::from_be_bytes(*tags),
        })
    }

    /// The entry's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.physical_offset.get().to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// Whether this is a [filler](Self::FILLER). No record at offset 0 has its size.
    pub fn is_filler(&self) -> bool {
        *self == Self::FILLER
    }

    /// The record's end. Hostile bytes give any value, but no overflow.
    #[inline]
    pub fn end(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.physical_offset.get().saturating_add(self.size.into()))
    }
}

/// How long the levels of delayed messages last. Level 1 is the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayLevels(Vec<Duration>);

impl DelayLevels {
    /// RocketMQ's default, `messageDelayLevel`.
    pub const DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

    /// The levels in a text such as [`DEFAULT`](Self::DEFAULT): numbers with the unit s, m, h or
    /// d, separated by single spaces. None if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let level = |part: &str| {
            let seconds: u64 = match part.as_bytes().last()? {
                b's' => 1,
                b'm' => 60,
                b'h' => 3600,
                b'd' => 86400,
                _ => return None,
            };
            let number: u32 = part[..part.len() - 1].parse().ok()?;
            Some(Duration::from_secs(u64::from(number) * seconds))
        };
        text.split(' ').map(level).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The highest level.
    pub fn max_level(&self) -> u32 {
        self.0.len() as u32
    }

    /// How long `level` lasts.
    pub fn delay(&self, level: u32) -> Option<Duration> {
        self.0.get((level as usize).checked_sub(1)?).copied()
    }

    /// When a message of `level` that was stored at `stored` is due. Levels above the highest
    /// count as the highest; one that does not exist as a second.
    pub fn due(&self, level: u32, stored: StoreTime) -> StoreTime {
        let delay = self.delay(level.min(self.max_level()));
        let millis = delay.map_or(1000, |delay| delay.as_millis() as i64);
        StoreTime::from_millis(stored.as_millis().saturating_add(millis))
    }
}

impl Default for DelayLevels {
    fn default() -> Self {
        Self::parse(Self::DEFAULT).unwrap_or(Self(Vec::new()))
    }
}

/// What a queue entry says about a record besides where it is: the hash of its tag (0 without),
/// or in [`SCHEDULE_TOPIC`] when it is due.
pub fn tags_code(view: &RecordView<'_>, levels: &DelayLevels) -> i64 {
    Found::of(view).tags_code(view, levels)
}

/// The properties that queues and index are made of, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found<'a> {
    tag: Option<&'a [u8]>,
    delay: Option<&'a [u8]>,
    keys: Option<&'a [u8]>,
    unique_key: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    /// Looks through the properties of `view`. The last one of a name counts.
    pub(crate) fn of(view: &RecordView<'a>) -> Self {
        let mut found = Self::default();
        for (name, value) in view.properties() {
            match name {
                b"TAGS" => found.tag = Some(value),
                b"KEYS" => found.keys = Some(value),
                b"UNIQ_KEY" => found.unique_key = Some(value),
                b"DELAY" => found.delay = Some(value),
                _ => {}
            }
        }
        found
    }

    /// See [`tags_code`](tags_code()).
    pub(crate) fn tags_code(&self, view: &RecordView<'_>, levels: &DelayLevels) -> i64 {
        let text = |bytes: Option<&'a [u8]>| bytes.and_then(|bytes| str::from_utf8(bytes).ok());
        if view.topic() == SCHEDULE_TOPIC
            && let Some(level) = text(self.delay).and_then(|level| level.parse::<i32>().ok())
            && let Ok(level @ 1..) = u32::try_from(level)
        {
            return levels.due(level, view.store_time()).as_millis();
        }
        match self.tag {
            Some(tag) => java_hash(&String::from_utf8_lossy(tag)).into(),
            None => 0,
        }
    }

    /// The unique key, then the keys: the order in which RocketMQ indexes them.
    pub(crate) fn index_keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let text = |bytes: Option<&'a [u8]>| bytes.and_then(|bytes| str::from_utf8(bytes).ok());
        let keys = text(self.keys).into_iter().flat_map(|keys| keys.split(' '));
        text(self.unique_key).into_iter().chain(keys.filter(|key| !key.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::testing::{Random, Sample},
        name::QueueKey,
        options::RecordChecksum,
    };

    #[test]
    fn entries_round_trip_and_end_at_zeros() {
        let entry = QueueEntry {
            physical_offset: PhysicalOffset::new(0x0102_0304_0506_0708),
            size: 0x1112_1314,
            tags_code: -2,
        };
        let bytes = entry.encode();
        assert_eq!(bytes[..12], [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14]);
        assert_eq!(QueueEntry::decode(&bytes), Some(entry));
        assert!(QueueEntry::decode(&QueueEntry::FILLER.encode()).unwrap().is_filler());
        assert_eq!(QueueEntry::decode(&[0; 20]), None);
        let mut negative = bytes;
        negative[0] = 0x80;
        assert_eq!(QueueEntry::decode(&negative), None);
        let mut negative = bytes;
        negative[8] = 0x80;
        assert_eq!(QueueEntry::decode(&negative), None);
        assert_eq!(QueueEntry::decode(&[0x7F; 20]).unwrap().end().get() >> 56, 0x7F);
    }

    fn code(topic: &str, properties: &str) -> i64 {
        let mut sample = Sample::random(&mut Random::seeded());
        sample.queue = QueueKey::new(topic, 0).unwrap();
        sample.properties = properties.into();
        sample.store_time = StoreTime::from_millis(1000);
        let bytes = sample.encode(RecordChecksum::On);
        tags_code(&RecordView::parse(&bytes).unwrap(), &DelayLevels::default())
    }

    #[test]
    fn tags_are_hashed_and_sign_extended() {
        assert_eq!(code("t", "TAGS\u{1}TagA\u{2}"), 2_598_919);
        assert_eq!(code("t", "TAGS\u{1}polygenelubricants\u{2}"), -2_147_483_648);
        assert_eq!(code("t", "KEYS\u{1}TagA\u{2}DELAY\u{1}3\u{2}"), 0);
    }

    #[test]
    fn delayed_messages_have_the_time_they_are_due() {
        let delayed = |level: &str| code(SCHEDULE_TOPIC, &format!("DELAY\u{1}{level}\u{2}"));
        assert_eq!(delayed("1"), 1000 + 1000);
        assert_eq!(delayed("5"), 1000 + 60_000);
        assert_eq!(delayed("18"), 1000 + 7_200_000);
        assert_eq!(delayed("19"), delayed("18"));
        assert_eq!(delayed("0"), 0);
        assert_eq!(delayed("-1"), 0);
        let tagged = code(SCHEDULE_TOPIC, "TAGS\u{1}TagA\u{2}");
        assert_eq!(tagged, 2_598_919);
    }

    #[test]
    fn levels_are_parsed_or_refused() {
        let levels = DelayLevels::parse("2m 3d").unwrap();
        assert_eq!(levels.delay(1), Some(Duration::from_secs(120)));
        assert_eq!(levels.delay(2), Some(Duration::from_secs(3 * 86400)));
        assert_eq!((levels.delay(0), levels.delay(3)), (None, None));
        for text in ["", "1", "s", "1s  2s", "1x", "-1s", "1\u{E9}"] {
            assert_eq!(DelayLevels::parse(text), None, "{text:?}");
        }
    }
}
