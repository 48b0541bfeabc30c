//! What can be chosen about a store. Plain data, checked once at open.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    offset::StoreTime,
};

/// When an append counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// RocketMQ's `ASYNC_FLUSH`: acknowledged as soon as the record is in the operating system's
    /// page cache, made durable in batches. Survives the death of the process, not of the machine.
    Async,
    /// RocketMQ's `SYNC_FLUSH`: acknowledged when the record is durable. One sync of the disk
    /// covers everybody who waits.
    Sync,
}

/// What opening does about damage that may touch acknowledged records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Opening fails and names each damaged range and the choices.
    Refuse,
    /// Everything else is served and appends go on; the damaged records answer with
    /// [`Damaged`](crate::ErrorKind::Damaged), and the recovery report says so.
    Serve,
}

/// Whether records carry a checksum of the whole record in the property `__CRC32#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordChecksum {
    /// Header, topic and properties are protected too, not only the body.
    On,
    /// As RocketMQ writes by default: the body's checksum only.
    Off,
}

/// Whether messages can be found by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyIndexing {
    /// Keys and unique keys go to the index files.
    On,
    /// No index is kept; queries by key find nothing.
    Off,
}

/// When old segments may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Segments younger than this are kept. Default: 72 h (RocketMQ's `fileReservedTime`).
    pub reserved: Duration,
    /// Hours of the day (0 to 23) in which expired segments are deleted. Default: `[4]`
    /// (`deleteWhen`). Above [`clean_ratio`](Self::clean_ratio) every hour is one.
    pub delete_hours: Vec<u8>,
    /// How far the clocks on the wall are ahead of UTC, for
    /// [`delete_hours`](Self::delete_hours): less than a day, negative in the west. Default: 0.
    /// RocketMQ takes local time, which the engine does not know.
    pub utc_offset_minutes: i16,
    /// Use of the file system, in percent, above which expired segments go at any hour.
    /// Default: 75 (`diskMaxUsedSpaceRatio`).
    pub clean_ratio: u8,
    /// Use of the file system, in percent, from which on appends are refused with
    /// [`Full`](crate::ErrorKind::Full). Default: 90 (`diskSpaceWarningLevelRatio`).
    pub refuse_ratio: u8,
    /// Whether segments inside the reserved time may be deleted when the disk is over
    /// [`force_ratio`](Self::force_ratio). Default: [`Never`](ForcedCleaning::Never).
    pub forced: ForcedCleaning,
    /// Use of the file system, in percent, for [`forced`](Self::forced). Default: 85
    /// (`diskSpaceCleanForciblyRatio`).
    pub force_ratio: u8,
}

/// Whether a full disk may cost messages that are still inside the reserved time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedCleaning {
    /// Appends are refused instead.
    Never,
    /// The oldest segments go (`cleanFileForciblyEnable=true`).
    WhenFull,
}

impl Retention {
    /// Whether `now` is in one of the hours in which expired segments are deleted.
    pub(crate) fn is_time_to_delete(&self, now: StoreTime) -> bool {
        let minutes = now.as_millis().div_euclid(60_000) + i64::from(self.utc_offset_minutes);
        let hour = minutes.div_euclid(60).rem_euclid(24);
        self.delete_hours.iter().any(|wanted| i64::from(*wanted) == hour)
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            reserved: Duration::from_secs(72 * 3600),
            delete_hours: vec![4],
            utc_offset_minutes: 0,
            clean_ratio: 75,
            refuse_ratio: 90,
            forced: ForcedCleaning::Never,
            force_ratio: 85,
        }
    }
}

/// Everything that can be chosen about a store.
///
/// File sizes of an existing directory are taken from its files; the values here are for what is
/// newly created. The index geometry is told from what index files of up to 64 MiB hold; larger
/// ones with other numbers than these are rebuilt from the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Size of a commit log file in bytes. Default: [`DEFAULT_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Size of a consume queue file in bytes, a multiple of 20. Default:
    /// [`DEFAULT_QUEUE_FILE_BYTES`].
    pub queue_file_bytes: u64,
    /// Hash slots of a key index file. Default: 5,000,000.
    pub index_slots: u32,
    /// Entries of a key index file. Default: 20,000,000.
    pub index_entries: u32,
    /// Whether keys are indexed. Default: [`KeyIndexing::On`].
    pub key_index: KeyIndexing,
    /// When an append is acknowledged. Default: [`FlushMode::Async`].
    pub flush: FlushMode,
    /// How long an append waits for its sync before it settles as `FlushDiskTimeout`.
    /// Default: 5 s.
    pub sync_flush_timeout: Duration,
    /// In [`FlushMode::Async`], how often the log is flushed. Default: 500 ms.
    pub flush_interval: Duration,
    /// In [`FlushMode::Async`], how many bytes make a flush worth while. Default: 16 KiB.
    pub flush_least_bytes: u64,
    /// In [`FlushMode::Async`], after how long anything at all is flushed. Default: 10 s.
    pub flush_thorough_interval: Duration,
    /// Largest body, and largest batch of bodies, in bytes. Default: 4 MiB.
    pub max_message_bytes: u32,
    /// Whether whole records are checksummed. Default: [`RecordChecksum::On`].
    pub record_checksum: RecordChecksum,
    /// Bytes that may wait for the disk before appends are held back. Default: 2 GiB.
    pub max_unflushed_bytes: u64,
    /// How long an append is held back before it fails with [`Busy`](crate::ErrorKind::Busy).
    /// Default: 5 s.
    pub append_timeout: Duration,
    /// What opening does about damage. Default: [`OnDamage::Refuse`].
    pub on_damage: OnDamage,
    /// When old segments may go.
    pub retention: Retention,
    /// How many consume queue files may be open at once. Default: 4096.
    pub open_queue_files: usize,
    /// How often consumer offsets are saved. Default: 5 s.
    pub offsets_interval: Duration,
}

/// Default size of a commit log file: 1 GiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 1 << 30;
/// Default size of a consume queue file: 300,000 entries.
pub const DEFAULT_QUEUE_FILE_BYTES: u64 = 6_000_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            queue_file_bytes: DEFAULT_QUEUE_FILE_BYTES,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            key_index: KeyIndexing::On,
            flush: FlushMode::Async,
            sync_flush_timeout: Duration::from_secs(5),
            flush_interval: Duration::from_millis(500),
            flush_least_bytes: 16 << 10,
            flush_thorough_interval: Duration::from_secs(10),
            max_message_bytes: 4 << 20,
            record_checksum: RecordChecksum::On,
            max_unflushed_bytes: 2 << 30,
            append_timeout: Duration::from_secs(5),
            on_damage: OnDamage::Refuse,
            retention: Retention::default(),
            open_queue_files: 4096,
            offsets_interval: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Sets when an append is acknowledged.
    #[must_use]
    pub fn flush(mut self, mode: FlushMode) -> Self {
        self.flush = mode;
        self
    }

    /// Sets the size of new commit log files, in bytes.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets what opening does about damage.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// Checks that the options make sense together.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the option, its value and what is
    /// allowed.
    pub fn validate(&self) -> Result<()> {
        let bad = |name: &str, value: u64, allowed: &str| {
            Err(Error::invalid(format!("option {name} must be {allowed} {name}={value}")))
        };
        if !(4096..=i32::MAX as u64).contains(&self.segment_bytes) {
            return bad("segment_bytes", self.segment_bytes, "4096 to 2147483647 bytes");
        }
        let queue = self.queue_file_bytes;
        if !queue.is_multiple_of(20) || !(20..=i32::MAX as u64).contains(&queue) {
            return bad("queue_file_bytes", queue, "a multiple of 20 up to 2147483640 bytes");
        }
        if self.index_slots == 0 || self.index_slots > 1 << 28 {
            return bad("index_slots", self.index_slots.into(), "1 to 268435456");
        }
        if self.index_entries < 2 || self.index_entries > 90_000_000 {
            return bad("index_entries", self.index_entries.into(), "2 to 90000000");
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > 1 << 30 {
            let allowed = "1 to 1073741824 bytes";
            return bad("max_message_bytes", self.max_message_bytes.into(), allowed);
        }
        if self.open_queue_files < 8 {
            return bad("open_queue_files", self.open_queue_files as u64, "8 or more");
        }
        let r = &self.retention;
        for (name, ratio) in [
            ("retention.clean_ratio", r.clean_ratio),
            ("retention.refuse_ratio", r.refuse_ratio),
            ("retention.force_ratio", r.force_ratio),
        ] {
            if !(10..=100).contains(&ratio) {
                return bad(name, ratio.into(), "10 to 100 percent");
            }
        }
        if r.utc_offset_minutes.unsigned_abs() >= 24 * 60 {
            return Err(Error::invalid(format!(
                "option retention.utc_offset_minutes must be less than a day \
                 retention.utc_offset_minutes={}",
                r.utc_offset_minutes
            )));
        }
        if let Some(&hour) = r.delete_hours.iter().find(|&&h| h > 23) {
            return bad("retention.delete_hours", hour.into(), "hours of the day, 0 to 23");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn hours_of_the_day_are_those_of_the_clocks_on_the_wall() {
        // 22:13:20 UTC.
        let now = StoreTime::from_millis(1_700_000_000_000);
        let at = |utc_offset_minutes, hour| {
            let rules =
                Retention { delete_hours: vec![hour], utc_offset_minutes, ..Default::default() };
            rules.is_time_to_delete(now)
        };
        for (offset, hour) in [
            (0, 22),
            (46, 22),
            (47, 23),
            (106, 23),
            (107, 0),
            (345, 3),
            (480, 6),
            (-14, 21),
            (-300, 17),
            (1439, 22),
            (-1439, 22),
        ] {
            let hours: Vec<_> = (0..24).filter(|hour| at(offset, *hour)).collect();
            assert_eq!(hours, [hour], "{offset}");
        }
        let rules = Retention { utc_offset_minutes: -60, ..Default::default() };
        assert!(rules.is_time_to_delete(StoreTime::from_millis(-19 * 3_600_000)));
        let mut options = Options::default();
        options.retention.utc_offset_minutes = -1440;
        let text = options.validate().unwrap_err().to_string();
        assert!(text.contains("retention.utc_offset_minutes=-1440"), "{text}");
    }

    #[test]
    fn a_wrong_option_is_named_with_what_is_allowed() {
        let options = Options { queue_file_bytes: 6001, ..Options::default() };
        let text = options.validate().unwrap_err().to_string();
        assert!(
            text.contains("queue_file_bytes=6001") && text.contains("multiple of 20"),
            "{text}"
        );
    }
}
