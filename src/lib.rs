//! A message log that keeps every message it acknowledged.

mod builder;
mod checkpoint;
mod clock;
mod consumer;
mod consumers;
pub mod disk;
mod dispatch;
mod engine;
mod error;
mod follow;
#[cfg_attr(not(feature = "internals"), allow(dead_code, unreachable_pub))]
mod format;
mod index;
mod keeper;
mod log;
mod message;
mod name;
mod offset;
mod open;
mod options;
mod queue;
mod read;
mod recovery;
mod repair;
mod runtime;
mod store;
mod ticket;
mod verify;
mod watermark;

pub use builder::StoreBuilder;
#[cfg(feature = "sim")]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock};
pub use consumers::Consumers;
pub use error::{Error, ErrorKind, Result};
pub use format::view::RecordView;
pub use keeper::Removed;
pub use message::{Message, Placement, PutStatus};
pub use name::{Group, QueueKey, TOPIC_MAX_BYTES};
pub use offset::{PhysicalOffset, QueueOffset, StoreTime};
pub use options::{
    DEFAULT_QUEUE_FILE_BYTES, DEFAULT_SEGMENT_BYTES, FlushMode, ForcedCleaning, KeyIndexing,
    OnDamage, Options, RecordChecksum, Retention,
};
pub use read::{Batch, LogItem, QueueItem, ReadLimit, Record};
pub use recovery::report::{Finding, RecoveryReport};
pub use repair::{Loss, Remedy, RepairMode, RepairReport, repair};
#[cfg(feature = "sim")]
pub use store::Step;
pub use store::{Arrival, Progress, Store};
pub use ticket::{Receipt, Ticket};
pub use verify::{Severity, VerifyFinding, VerifySummary, verify};

/// Formats and single parts of the engine, for benches, fuzz targets and tools. No promise of
/// stability.
#[cfg(feature = "internals")]
pub mod internals {
    /// The bytes of records, queues, index and metadata files.
    pub mod format {
        pub use crate::format::*;
    }
}
