//! What opening found and did, as a value that prints itself.

use std::fmt;

use crate::offset::{PhysicalOffset, QueueOffset, StoreTime};

/// Something that was found or done at open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Bytes behind the last sound record were cut off and kept under `quarantine/`.
    Cut {
        /// Where the log ends now.
        at: PhysicalOffset,
        /// Bytes set aside.
        bytes: u64,
        /// The row of the recovery table, see `docs/recovery.md`.
        row: char,
        /// Whether the newest of these bytes may have been acknowledged if the machine died: after
        /// a power failure that cannot be told. If only the process died, none of them were.
        maybe_acknowledged: bool,
        /// Whether it was done. A store that is opened read-only changes nothing: it only does not
        /// show these bytes.
        done: bool,
    },
    /// A stretch of the log that is not what was written. Its records answer with an error, all
    /// others are served.
    Damage {
        /// First damaged byte.
        start: PhysicalOffset,
        /// First byte behind it.
        end: PhysicalOffset,
        /// What is wrong there.
        reason: String,
        /// The row of the recovery table, see `docs/recovery.md`.
        row: char,
    },
    /// Another program wrote here since this store last did, so everything was checked.
    ForeignWriter {
        /// How that was noticed.
        reason: String,
    },
    /// Derived files (queues, index) were rebuilt from the log.
    Rebuilt {
        /// Why.
        reason: String,
        /// The log position from which on they were rebuilt.
        from: PhysicalOffset,
    },
    /// A saved consumer offset pointed past the end of its queue and was pulled back.
    OffsetClamped {
        /// The consumer group.
        group: String,
        /// `topic/queue`.
        queue: String,
        /// What was saved.
        saved: i64,
        /// What it is now.
        now: QueueOffset,
    },
    /// Anything else worth saying.
    Note {
        /// One sentence.
        text: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { at, bytes, row, maybe_acknowledged, done } => {
                match done {
                    true => write!(
                        f,
                        "cut {bytes} bytes behind the last sound record; they are kept in \
                         quarantine/ offset={at} row={row}"
                    ),
                    false => write!(
                        f,
                        "{bytes} bytes behind the last sound record would be cut by an open for \
                         writing offset={at} row={row}"
                    ),
                }?;
                if *maybe_acknowledged {
                    f.write_str(
                        "; none of them was acknowledged if only the process died, the newest \
                         may have been if the machine did",
                    )?;
                }
                Ok(())
            }
            Self::Damage { start, end, reason, row } => {
                write!(f, "damage in the log: {reason} offset={start} end={end} row={row}")
            }
            Self::ForeignWriter { reason } => {
                write!(f, "another program wrote here, so the whole log was checked: {reason}")
            }
            Self::Rebuilt { reason, from } => {
                write!(f, "queues and index were rebuilt from the log: {reason} from={from}")
            }
            Self::OffsetClamped { group, queue, saved, now } => write!(
                f,
                "a consumer offset was past the end of its queue and was pulled back \
                 group={group} queue={queue} saved={saved} now={now}"
            ),
            Self::Note { text } => f.write_str(text),
        }
    }
}

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The store was closed cleanly and nobody touched it since.
    pub was_clean: bool,
    /// First byte of the log.
    pub log_start: PhysicalOffset,
    /// First byte behind the last record.
    pub log_end: PhysicalOffset,
    /// Where checking began.
    pub checked_from: PhysicalOffset,
    /// Sound records that checking passed over.
    pub records_checked: u64,
    /// Where the queues and the index were brought up to date from.
    pub dispatched_from: PhysicalOffset,
    /// Bytes at the log's end that were not known to be durable and are synced in the background,
    /// as appends are. Always 0 in [`FlushMode::Sync`](crate::FlushMode::Sync), where opening does
    /// that itself.
    pub to_sync: u64,
    /// When this was.
    pub at: StoreTime,
    /// What was found and done, in order.
    pub findings: Vec<Finding>,
}

impl RecoveryReport {
    /// Whether queues or index were made anew from the log.
    pub(crate) fn was_rebuilt(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding, Finding::Rebuilt { .. }))
    }

    /// The stretches of the log that are damaged.
    pub fn damage(&self) -> impl Iterator<Item = (PhysicalOffset, PhysicalOffset)> + '_ {
        self.findings.iter().filter_map(|finding| match finding {
            Finding::Damage { start, end, .. } => Some((*start, *end)),
            _ => None,
        })
    }

    /// Nothing was changed, only looked at.
    pub(crate) fn nothing_done(&mut self) {
        for finding in &mut self.findings {
            if let Finding::Cut { done, .. } = finding {
                *done = false;
            }
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.findings.push(Finding::Note { text: text.into() });
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.was_clean { "closed cleanly" } else { "recovered" };
        write!(
            f,
            "{how}; log {}..{}, {} records checked from {}",
            self.log_start, self.log_end, self.records_checked, self.checked_from
        )?;
        if self.to_sync > 0 {
            write!(f, ", the last {} bytes are being synced", self.to_sync)?;
        }
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}
