//! How a command ends: exit statuses, and errors that know theirs.

use std::{error::Error as _, fmt, io, process::ExitCode};

use steadfast::{Error, ErrorKind};

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// The store said no to something, or damage was found; stderr says what.
    Found,
}

impl Outcome {
    /// [`Found`](Self::Found) if `found`.
    pub(crate) fn found(found: bool) -> Self {
        if found { Self::Found } else { Self::Done }
    }
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads our output any more: no error.
    OutputClosed,
    /// The store, or what is in it, said no.
    Refused(String),
    /// What was asked for makes no sense.
    Usage(String),
    /// There is nothing to look at, or it cannot be looked at.
    Blocked(String),
}

impl Failure {
    /// For an error while the store was being opened.
    pub(crate) fn opening(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidInput => Self::Usage(sentence(error)),
            ErrorKind::Damaged { .. } | ErrorKind::Full => Self::Refused(sentence(error)),
            _ => Self::Blocked(sentence(error)),
        }
    }
}

/// For an error of a store that is open.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(sentence(&error))
    }
}

/// For an error of standard output or input.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Blocked(format!("cannot read or write: {error}")),
        }
    }
}

/// For an error of writing JSON, which can only be one of the output.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputClosed => f.write_str("nobody reads the output"),
            Self::Refused(text) | Self::Usage(text) | Self::Blocked(text) => f.write_str(text),
        }
    }
}

/// The error with its cause, where the message does not tell it already.
pub(crate) fn sentence(error: &Error) -> String {
    let text = error.to_string();
    match error.source().map(ToString::to_string) {
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text,
    }
}

/// Says on stderr what happened, if anything, and gives the exit status.
pub(crate) fn code(result: Result<Outcome, Failure>) -> ExitCode {
    let status = match &result {
        Ok(Outcome::Done) | Err(Failure::OutputClosed) => return ExitCode::SUCCESS,
        Ok(Outcome::Found) => return ExitCode::from(1),
        Err(Failure::Refused(_)) => 1,
        Err(Failure::Usage(_)) => 2,
        Err(Failure::Blocked(_)) => 3,
    };
    if let Err(failure) = &result {
        eprintln!("steadfast: {failure}");
    }
    ExitCode::from(status)
}
