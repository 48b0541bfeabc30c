//! A message log that keeps every message it acknowledged.

mod clock;
mod consumer;
pub mod disk;
mod error;
#[cfg_attr(not(feature = "internals"), allow(dead_code, unreachable_pub))]
mod format;
mod index;
mod message;
mod name;
mod offset;
mod options;
mod queue;
mod watermark;

#[cfg(feature = "sim")]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock};
pub use error::{Error, ErrorKind, Result};
pub use message::{Message, Placement, PutStatus};
pub use name::{Group, QueueKey};
pub use offset::{PhysicalOffset, QueueOffset, StoreTime};
pub use options::{
    FlushMode, ForcedCleaning, KeyIndexing, OnDamage, Options, RecordChecksum, Retention,
};

/// Formats and single parts of the engine, for benches, fuzz targets and tools. No promise of
/// stability.
#[cfg(feature = "internals")]
pub mod internals {
    /// The bytes of records, queues, index and metadata files.
    pub mod format {
        pub use crate::format::*;
    }
}
