//! Damage to a store's directory at rest: each kind there is, by name, made in a given place, and
//! which records it touched. The store may be ours or RocketMQ's; nobody may have it open.

use std::path::Path;

use anyhow::Result;
use steadfast::disk::sim::Rng;

mod anatomy;
mod index;
mod kind;
mod log;
mod metadata;
mod queues;

pub(crate) use anatomy::{Anatomy, LogRecord};
pub(crate) use kind::{Kind, Part, Place};

/// One kind of damage in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    pub(crate) kind: &'static Kind,
    pub(crate) place: Place,
}

/// A stretch of a file that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// As seen from the store's directory.
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// 0 where the file or directory as such is gone or new.
    pub(crate) len: u64,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) changes: Vec<Change>,
    /// The records of which a byte is gone or another one, ascending.
    pub(crate) records: Vec<LogRecord>,
    /// Whether any byte of the log is gone or another one; else only derived files were touched.
    pub(crate) log: bool,
}

impl Damage {
    /// Every kind in every place it can be in.
    pub(crate) fn all() -> Vec<Self> {
        let kinds = [log::KINDS, queues::KINDS, index::KINDS, metadata::KINDS];
        let kinds = kinds.into_iter().flatten();
        kinds.flat_map(|kind| kind.places.iter().map(move |&place| Self { kind, place })).collect()
    }

    /// The one called `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|damage| damage.name() == name)
    }

    /// Its name: never changes, in kebab-case, such as `flip-topic-middle`.
    pub(crate) fn name(&self) -> String {
        match self.place {
            Place::Anywhere => self.kind.name.to_owned(),
            place => format!("{}-{}", self.kind.name, place.name()),
        }
    }

    /// Does it to the store in `dir`. `None` if there is nothing there it could be done to; then
    /// nothing was changed.
    pub(crate) fn apply(&self, dir: &Path, rng: &mut Rng) -> Result<Option<Applied>> {
        let before = Anatomy::of(dir)?;
        let Some(changes) = (self.kind.hurt)(&before, self.place, rng)? else { return Ok(None) };
        let touched: Vec<_> =
            before.segments.iter().map(|segment| segment.changed_since(dir)).collect();
        let records = before.records.iter().filter(|r| touched[r.segment].within(&r.range()));
        let records = records.cloned().collect();
        let log = touched.iter().any(|touched| !touched.is_empty());
        Ok(Some(Applied { changes, records, log }))
    }
}

#[cfg(test)]
mod tests;
