//! One error type for the whole engine: what happened, what can be done, and what caused it.

use std::{fmt, io, sync::Arc};

use crate::offset::PhysicalOffset;

/// What the engine's fallible calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarse enough to decide by.
///
/// The doc of each kind says what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument, a message or an option can never be accepted as it is. Fix the input.
    InvalidInput,
    /// The message or batch is larger than the store's limits allow. Nothing was written.
    TooLarge,
    /// The offset asked for is outside of what the queue holds, `start..end`.
    OutOfRange {
        /// First offset that can be read.
        start: u64,
        /// First offset that does not exist yet.
        end: u64,
    },
    /// The deadline passed first. For an append the outcome is unknown: the record may still
    /// become durable and be delivered.
    Timeout,
    /// Too many bytes wait for the disk. Nothing was written; try again a little later.
    Busy,
    /// The disk has no room. Nothing was written; appends work again once there is space.
    Full,
    /// Another process (or another open in this one) holds the directory.
    Locked,
    /// Bytes on disk are not what was written there. `at` is where the damage begins and `len`
    /// how far it reaches.
    Damaged {
        /// First damaged byte in the log.
        at: PhysicalOffset,
        /// Number of bytes that cannot be trusted.
        len: u64,
    },
    /// An earlier write or sync of the log failed, so nothing more is acknowledged. Reads go on.
    /// The cure is to close the store and open it again.
    Faulted,
    /// The store was closed.
    Closed,
    /// The thing asked for does not exist.
    NotFound,
    /// The directory holds something this version does not read, named in the message.
    Unsupported,
    /// The store was opened read-only.
    ReadOnly,
    /// The operating system said no. The cause is in [`source`](std::error::Error::source).
    Io,
}

/// An error of the engine: a [kind](ErrorKind), a sentence, and where there is one the cause.
///
/// Cloning is cheap, so one failure can be handed to everybody who waits for it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message` (lower case, values as `key=value` at the end).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// Like [`new`](Self::new), with the cause kept for [`source`](std::error::Error::source).
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// An input/output error while doing `what`. A full disk gets [`ErrorKind::Full`].
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        let what = match kind {
            ErrorKind::Full => format!("{}; free some space, then it works again", what.into()),
            _ => what.into(),
        };
        Self::with_source(kind, what, source)
    }

    /// An [`ErrorKind::InvalidInput`] that says `message`.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// What went wrong, to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call can succeed later without anybody changing its arguments.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Busy | ErrorKind::Full | ErrorKind::Timeout)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Error");
        s.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}
