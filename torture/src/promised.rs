//! What a store promised over all its lives, as its writers told.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

use crate::writer::Mode;

/// What hit the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    /// Only the process is gone.
    Process,
    /// What no sync covers may be gone too.
    Machine,
}

/// A message that was acknowledged or shown to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) name: String,
    pub(crate) physical: u64,
    pub(crate) end: u64,
    /// Not even a power failure may take it.
    durable: bool,
}

/// A group's position in a queue: what may be found after a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// What was saved last and what was told since, in order.
    pub(crate) candidates: Vec<u64>,
    /// Whether one was ever saved.
    pub(crate) saved: bool,
    /// Positions are saved only as far as the log is durable.
    pub(crate) may_lag: bool,
}

/// Everything that was ever promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promised {
    /// By queue and offset.
    pub(crate) at: BTreeMap<(i32, u64), Placed>,
    /// Where each message is.
    pub(crate) physical: HashMap<String, u64>,
    /// By thread (which has its group) and queue.
    pub(crate) positions: BTreeMap<(u64, i32), Position>,
    /// All of the log before it was told to be durable.
    pub(crate) durable: u64,
    /// Errors by kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// How many messages were acknowledged.
    pub(crate) acknowledged: u64,
    /// Whether errors are what the trial is about.
    pub(crate) errors_expected: bool,
    /// The power is failing: nobody would have heard what is said now.
    pub(crate) too_late: bool,
    /// The log failed: whatever is acknowledged from here on was on its way.
    pub(crate) faulted: bool,
    /// How many acknowledgements came then.
    pub(crate) late: u64,
    /// How many queues were read after an error, and why one could not be.
    pub(crate) read_after_error: (u64, Option<String>),
    /// The longest that somebody waited for an error, in microseconds.
    pub(crate) waited: u64,
    /// The store was told to remove old segments.
    pub(crate) retention: bool,
}

impl Promised {
    /// Takes one line of a writer, see [`crate::writer`].
    ///
    /// # Errors
    ///
    /// It contradicts what was said before, or tells of an error that was not expected.
    pub(crate) fn take(&mut self, line: &str, mode: Mode) -> Result<()> {
        let parts: Vec<_> = line.split(' ').collect();
        match parts[..] {
            [said @ ("PUT_OK" | "SEEN"), name, queue, offset, physical, end] => {
                let at = (queue.parse()?, offset.parse()?);
                let placed = Placed {
                    name: name.to_owned(),
                    physical: physical.parse()?,
                    end: end.parse()?,
                    durable: mode == Mode::Sync && !self.too_late,
                };
                self.acknowledged += u64::from(said == "PUT_OK");
                self.late += u64::from(said == "PUT_OK" && self.faulted);
                self.place(at, placed).with_context(|| format!("the writer said: {line}"))
            }
            // The outcome is unknown: it may be there or not.
            ["FLUSH_DISK_TIMEOUT", ..] => Ok(()),
            ["DURABLE", _] if self.too_late => Ok(()),
            ["DURABLE", until] => {
                self.durable = self.durable.max(until.parse()?);
                Ok(())
            }
            ["SAVED", ..] if self.too_late => Ok(()),
            ["COMMITTING", thread, queue, next] => {
                let position = self.positions.entry((thread.parse()?, queue.parse()?));
                position.or_default().candidates.push(next.parse()?);
                Ok(())
            }
            ["SAVED", thread, queue, next] => {
                let candidates = vec![next.parse()?];
                let position = Position { candidates, saved: true, may_lag: mode == Mode::Async };
                self.positions.insert((thread.parse()?, queue.parse()?), position);
                Ok(())
            }
            ["ERROR", kind, ..]
                if self.errors_expected && kind != "Wrong" && !line.contains("panicked") =>
            {
                *self.errors.entry(kind.to_owned()).or_default() += 1;
                self.faulted |= kind == "Faulted";
                Ok(())
            }
            ["WAITED", micros] => {
                self.waited = self.waited.max(micros.parse()?);
                Ok(())
            }
            ["READ_ON"] => {
                self.read_after_error.0 += 1;
                Ok(())
            }
            ["READ_FAILED", ..] => {
                self.read_after_error.1.get_or_insert(line.to_owned());
                Ok(())
            }
            _ => bail!("the writer said: {line}"),
        }
    }

    fn place(&mut self, at: (i32, u64), placed: Placed) -> Result<()> {
        if let Some(before) = self.at.get_mut(&at) {
            ensure!(before.name == placed.name, "an offset was given twice: {before:?}");
            ensure!(before.physical == placed.physical, "it lies elsewhere too: {before:?}");
            before.durable |= placed.durable;
            return Ok(());
        }
        let before = self.physical.insert(placed.name.clone(), placed.physical);
        ensure!(before.is_none(), "it is at {before:?} too");
        self.at.insert(at, placed);
        Ok(())
    }

    /// Whether `placed` has to be there after `hit`, where the log now ends at `log_end`. What is
    /// lost is the log's end, and nothing before it.
    pub(crate) fn must_be_there(&self, placed: &Placed, hit: Hit, log_end: u64) -> bool {
        hit == Hit::Process || placed.durable || placed.end <= self.durable || placed.end <= log_end
    }

    /// Forgets what lies before `log_start`, where retention may have removed it.
    pub(crate) fn forget_removed(&mut self, log_start: u64) {
        if self.retention {
            self.at.retain(|_, placed| placed.physical >= log_start);
        }
    }

    /// Forgets what a power failure took lawfully: its offsets are given again.
    pub(crate) fn forget_lost(&mut self, log_end: u64) -> u64 {
        let before = self.at.len();
        let physical = &mut self.physical;
        self.at.retain(|_, placed| {
            let there = placed.end <= log_end;
            if !there {
                physical.remove(&placed.name);
            }
            there
        });
        (before - self.at.len()) as u64
    }
}
