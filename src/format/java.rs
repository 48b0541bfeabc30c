//! RocketMQ's own `checkpoint` file.

use crate::offset::StoreTime;

/// Size of the file in bytes.
pub const JAVA_CHECKPOINT_BYTES: usize = 4096;
/// How many of them hold fields, in any 5.x version. The rest is zeros.
pub const JAVA_FIELDS_BYTES: usize = 48;

/// What RocketMQ notes about how far it came. Only a hint: it can be ahead of the disk.
///
/// 0 everywhere is always safe to write: RocketMQ then recovers from the first file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JavaCheckpoint {
    /// Store time of the last message known to be flushed in the log.
    pub log_time: StoreTime,
    /// Store time of the last message with a queue entry.
    pub queue_time: StoreTime,
    /// End time of the last full index file.
    pub index_time: StoreTime,
    /// The master's flushed offset, as a slave knows it.
    pub master_flushed: i64,
    /// The confirmed offset, used with a controller.
    pub confirmed: i64,
    /// Offset up to which queues were flushed; written since 5.5.1, else 0.
    pub queue_offset: i64,
}

impl JavaCheckpoint {
    /// The checkpoint in a file's `bytes`. None if there are too few; what is behind the fields
    /// is not looked at.
    // The store compares bytes: what they say is only a hint, which it does not need.
    #[cfg(any(test, feature = "internals"))]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, _) = bytes.first_chunk::<JAVA_FIELDS_BYTES>()?.as_chunks::<8>();
        let long = |i: usize| i64::from_be_bytes(fields[i]);
        Some(Self {
            log_time: StoreTime::from_millis(long(0)),
            queue_time: StoreTime::from_millis(long(1)),
            index_time: StoreTime::from_millis(long(2)),
            master_flushed: long(3),
            confirmed: long(4),
            queue_offset: long(5),
        })
    }

    /// The file's bytes.
    pub fn encode(&self) -> [u8; JAVA_CHECKPOINT_BYTES] {
        let mut bytes = [0; JAVA_CHECKPOINT_BYTES];
        let fields = [
            self.log_time.as_millis(),
            self.queue_time.as_millis(),
            self.index_time.as_millis(),
            self.master_flushed,
            self.confirmed,
            self.queue_offset,
        ];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_round_trip() {
        let checkpoint = JavaCheckpoint {
            log_time: StoreTime::from_millis(1),
            queue_time: StoreTime::from_millis(2),
            index_time: StoreTime::from_millis(3),
            master_flushed: 4,
            confirmed: -5,
            queue_offset: 6,
        };
        let bytes = checkpoint.encode();
        assert_eq!(JavaCheckpoint::decode(&bytes), Some(checkpoint));
        assert_eq!((bytes[7], bytes[15], bytes[23], bytes[31], bytes[47]), (1, 2, 3, 4, 6));
        assert!(bytes[JAVA_FIELDS_BYTES..].iter().all(|&b| b == 0));
        assert_eq!(JavaCheckpoint::decode(&bytes[..JAVA_FIELDS_BYTES - 1]), None);
    }
}
