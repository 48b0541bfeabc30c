//! What to do about a place where the log stops making sense: a labelled table, and nothing else.
//!
//! The labels are those of `docs/recovery.md`.

use crate::offset::PhysicalOffset;

/// Whose promises the log was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// This store wrote last: everything below `durable_end` was synced, everything an
    /// acknowledgement rests on is below it or was in the page cache when the process died.
    Ours {
        /// The lower bound that checkpoint and frames give.
        durable_end: PhysicalOffset,
    },
    /// Another program wrote last; nothing says how much it acknowledged.
    Foreign,
}

/// What begins at the first byte that is no sound record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Zeros to the end of all files.
    Zeros,
    /// Bytes, but no sound record.
    Bytes,
    /// A sound record, somewhere.
    Records,
}

/// The rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Row {
    /// A: zeros at or above the durable end. The log ends here.
    CleanEnd,
    /// B: bytes at or above our durable end, no sound record among them. A torn tail, cut.
    TornTail,
    /// C: sound records behind a hole at or above our durable end. Pages of one group that was
    /// never acknowledged reached the disk in any order; cut at the hole.
    OwnHole,
    /// D: anything below our durable end. Acknowledged bytes are damaged; never cut.
    DurableDamage,
    /// E: bytes at the end of another program's log, no sound record among them. Its torn tail.
    ForeignTail,
    /// F: sound records behind a hole in another program's log. They may have been acknowledged;
    /// kept, the hole is damage.
    ForeignHole,
}

impl Row {
    /// Every row, in the order of the table.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::CleanEnd,
        Self::TornTail,
        Self::OwnHole,
        Self::DurableDamage,
        Self::ForeignTail,
        Self::ForeignHole,
    ];

    /// The letter that `docs/recovery.md` uses.
    pub(crate) fn label(self) -> char {
        match self {
            Self::CleanEnd => 'A',
            Self::TornTail => 'B',
            Self::OwnHole => 'C',
            Self::DurableDamage => 'D',
            Self::ForeignTail => 'E',
            Self::ForeignHole => 'F',
        }
    }

    /// What the row says to do.
    pub(crate) fn action(self) -> Action {
        match self {
            Self::CleanEnd => Action::End,
            Self::TornTail | Self::OwnHole | Self::ForeignTail => Action::Cut,
            Self::DurableDamage | Self::ForeignHole => Action::Keep,
        }
    }
}

/// What to do at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The log ends here; there is nothing behind.
    End,
    /// The log ends here; what is behind goes to quarantine.
    Cut,
    /// It is damage: everything sound behind it is kept.
    Keep,
}

/// The row for a log that stops making sense at `at`.
pub(crate) fn row(provenance: Provenance, at: PhysicalOffset, behind: Behind) -> Row {
    match (provenance, behind) {
        (Provenance::Ours { durable_end }, _) if at < durable_end => Row::DurableDamage,
        (_, Behind::Zeros) => Row::CleanEnd,
        (Provenance::Ours { .. }, Behind::Bytes) => Row::TornTail,
        (Provenance::Ours { .. }, Behind::Records) => Row::OwnHole,
        (Provenance::Foreign, Behind::Bytes) => Row::ForeignTail,
        (Provenance::Foreign, Behind::Records) => Row::ForeignHole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: PhysicalOffset = PhysicalOffset::new(100);

    fn ours(durable_end: u64) -> Provenance {
        Provenance::Ours { durable_end: PhysicalOffset::new(durable_end) }
    }

    #[test]
    fn every_situation_has_its_row() {
        let table = [
            (ours(100), Behind::Zeros, Row::CleanEnd),
            (ours(99), Behind::Zeros, Row::CleanEnd),
            (Provenance::Foreign, Behind::Zeros, Row::CleanEnd),
            (ours(100), Behind::Bytes, Row::TornTail),
            (ours(100), Behind::Records, Row::OwnHole),
            (ours(101), Behind::Zeros, Row::DurableDamage),
            (ours(101), Behind::Bytes, Row::DurableDamage),
            (ours(101), Behind::Records, Row::DurableDamage),
            (Provenance::Foreign, Behind::Bytes, Row::ForeignTail),
            (Provenance::Foreign, Behind::Records, Row::ForeignHole),
        ];
        for (provenance, behind, expected) in table {
            assert_eq!(row(provenance, AT, behind), expected, "{provenance:?} {behind:?}");
        }
        for wanted in Row::ALL {
            assert!(table.iter().any(|(.., row)| *row == wanted), "{wanted:?} is never reached");
        }
    }

    #[test]
    fn nothing_below_the_durable_end_is_ever_cut() {
        for behind in [Behind::Zeros, Behind::Bytes, Behind::Records] {
            assert_eq!(row(ours(101), AT, behind).action(), Action::Keep);
        }
    }
}
