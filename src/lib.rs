#![doc = include_str!("../README.md")]
//!
//! # Guide to the crate
//!
//! Four types carry it: [`Store`] is the open directory, [`Message`] what goes in, [`Ticket`] the
//! answer to come, [`Record`] what comes out.
//!
//! | to | call |
//! |---|---|
//! | open, choose options | [`Store::builder`], [`StoreBuilder::open`], [`Options`] |
//! | look into a store that another process writes | [`StoreBuilder::open_read_only`], [`Store::refresh`] |
//! | put one message, or several as one group | [`Store::append`], [`Store::append_batch`] |
//! | learn how it ended | [`Ticket::wait`], [`Ticket::wait_timeout`], [`Ticket::on_settled`], or await it |
//! | read a queue | [`Store::read`], [`Store::read_tagged`] |
//! | wait for messages | [`Store::wait_for`], [`Store::arrival`] |
//! | find messages by key or time | [`Store::query`], [`Store::offset_by_time`] |
//! | keep a group's position | [`Store::consumers`], [`Consumers::commit`], [`Consumers::committed`] |
//! | walk the log | [`Store::item_at`], [`Store::record_at`] |
//! | see how it is | [`Store::progress`], [`Store::health`], [`Store::recovery`], [`Store::removed`] |
//! | close, and hear whether it worked | [`Store::close`] |
//!
//! ## Errors
//!
//! There is one [`Error`]. Its [`kind`](Error::kind) is made to decide by, its text for people.
//! After [`Timeout`](ErrorKind::Timeout) or a receipt with
//! [`FlushDiskTimeout`](PutStatus::FlushDiskTimeout) the outcome is unknown; after any other error
//! of an append that gave no ticket, nothing was appended.
//!
//! ```
//! use steadfast::{ErrorKind, Message, Options, QueueKey, Store};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! let mut options = Options::default();
//! options.max_message_bytes = 10;
//! let store = Store::builder(dir.path()).options(options).open()?;
//! let queue = QueueKey::new("orders", 0)?;
//! let error = store.append(&Message::new(&queue, b"eleven bytes")).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::TooLarge);
//! # Ok::<(), steadfast::Error>(())
//! ```
//!
//! ## Threads
//!
//! A store that is open for writing has six threads: one flushes, one fills queues and index, one
//! makes room ahead, one makes the next segment, one keeps house, one watches deadlines. Everything
//! else runs on the callers' threads. A read-only store has none. While a store opens there may be
//! a few more, which read several segments at a time.
//!
//! ## Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `sim` | a disk in memory that fails as real ones do, a clock moved by hand, stores without threads: for tests of programs that embed the engine |
//! | `internals` | formats and single parts, for tools and fuzzing; no promise of stability |
//!
//! Neither is on by default.
//!
//! The longer pages are in the module `docs`, here and in the repository under `docs/`.

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
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
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
mod rederive;
mod relocate;
mod repair;
mod rest;
mod runtime;
mod store;
mod sync;
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

    /// The disk that stores in a directory are on.
    pub mod disk {
        use std::{path::Path, sync::Arc};

        use crate::{
            Result,
            disk::{Access, Disk, file::FileDisk},
        };

        /// The directory `root`, made durably if it is missing.
        ///
        /// # Errors
        ///
        /// The system says no.
        pub fn directory(root: &Path) -> Result<Arc<dyn Disk>> {
            Ok(Arc::new(FileDisk::open(root, Access::Write)?))
        }
    }

    /// [`verify`](crate::verify()) and [`repair`](crate::repair()) of a store on any disk.
    pub mod check {
        use std::sync::Arc;

        use crate::{
            Options, RepairMode, RepairReport, Result, StoreTime, VerifyFinding, VerifySummary,
            disk::Disk,
        };

        /// As [`verify`](crate::verify()).
        ///
        /// # Errors
        ///
        /// As there.
        pub fn verify(
            disk: &dyn Disk,
            options: &Options,
            tell: &mut dyn FnMut(&VerifyFinding),
        ) -> Result<VerifySummary> {
            crate::verify::verify_on(disk, options, tell, &mut |_, _| {})
        }

        /// As [`repair`](crate::repair()), not for plans. `now` is when it happens.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn repair(
            disk: Arc<dyn Disk>,
            options: &Options,
            mode: RepairMode,
            now: StoreTime,
        ) -> Result<RepairReport> {
            crate::repair::repair_on(disk, options, mode, now, Box::new(|_, _, _| {}))
        }
    }
}

/// The pages under `docs/` of the repository. Their code is compiled and run as tests.
#[cfg(any(doc, doctest))]
pub mod docs {
    #[doc = include_str!("../docs/README.md")]
    pub mod index {}
    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("../docs/broker.md")]
    pub mod broker {}
    #[doc = include_str!("../docs/comparison.md")]
    pub mod comparison {}
    #[doc = include_str!("../docs/durability.md")]
    pub mod durability {}
    #[doc = include_str!("../docs/format.md")]
    pub mod format {}
    #[doc = include_str!("../docs/operating.md")]
    pub mod operating {}
    #[doc = include_str!("../docs/recovery.md")]
    pub mod recovery {}
    #[doc = include_str!("../docs/reliability.md")]
    pub mod reliability {}
    #[doc = include_str!("../docs/style.md")]
    pub mod style {}
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}
