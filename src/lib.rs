//! A message log that keeps every message it acknowledged.

mod clock;
pub mod disk;
mod error;
mod format;
mod message;
mod name;
mod offset;
mod options;

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
