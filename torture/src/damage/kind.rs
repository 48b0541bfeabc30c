//! What a kind of damage is.

use std::fmt;

use anyhow::Result;
use steadfast::disk::sim::Rng;

use super::{Anatomy, Change};

/// Where in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the first file.
    Early,
    /// In a file in the middle.
    Middle,
    /// In the last file with anything in it, but not in the last record.
    Last,
    /// In the log's last record.
    Tail,
    /// There is only one place, or any.
    Anywhere,
}

impl Place {
    /// Early, middle and last file.
    pub(crate) const FILES: &[Self] = &[Self::Early, Self::Middle, Self::Last];
    /// The same, and the log's last record.
    pub(crate) const RECORDS: &[Self] = &[Self::Early, Self::Middle, Self::Last, Self::Tail];
    /// First and last file.
    pub(crate) const ENDS: &[Self] = &[Self::Early, Self::Last];
    pub(crate) const ANYWHERE: &[Self] = &[Self::Anywhere];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Middle => "middle",
            Self::Last => "last",
            Self::Tail => "tail",
            Self::Anywhere => "anywhere",
        }
    }

    /// The one of `all` that is in this place.
    pub(crate) fn of<'a, T>(self, all: &'a [T], rng: &mut Rng) -> Option<&'a T> {
        match self {
            _ if all.is_empty() => None,
            Self::Early => all.first(),
            Self::Middle => all.get(all.len() / 2),
            Self::Last | Self::Tail => all.last(),
            Self::Anywhere => Some(rng.pick(all)),
        }
    }
}

/// Which part of a store a kind is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Queues,
    Index,
    /// RocketMQ's checkpoint and marker.
    Checkpoint,
    /// What is in `steadfast/`.
    Own,
    /// Consumer offsets.
    Offsets,
}

/// Does a kind of damage; `None` if there is nothing to do it to.
pub(super) type Hurt = fn(&Anatomy, Place, &mut Rng) -> Result<Option<Vec<Change>>>;

/// A kind of damage.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) part: Part,
    pub(crate) places: &'static [Place],
    pub(super) hurt: Hurt,
}

impl Kind {
    pub(super) const fn new(
        name: &'static str,
        part: Part,
        places: &'static [Place],
        hurt: Hurt,
    ) -> Self {
        Self { name, part, places, hurt }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
