//! What happened how often over all schedules, and how fast.

use std::{collections::BTreeMap, fmt, time::Duration};

/// How often something happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    counted: BTreeMap<&'static str, u64>,
    rows: BTreeMap<TableRow, u64>,
    /// Time on a core, where the system tells it.
    pub(crate) busy: Duration,
}

impl Counts {
    pub(crate) fn one(&mut self, what: &'static str) {
        self.many(what, 1);
    }

    pub(crate) fn many(&mut self, what: &'static str, number: u64) {
        *self.counted.entry(what).or_default() += number;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counted.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn row(&mut self, row: TableRow) {
        *self.rows.entry(row).or_default() += 1;
    }

    pub(crate) fn of_row(&self, row: TableRow) -> u64 {
        self.rows.get(&row).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.counted.iter().for_each(|(what, number)| self.many(what, *number));
        for (row, number) in &other.rows {
            *self.rows.entry(*row).or_default() += number;
        }
        self.busy += other.busy;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.counted.iter().map(|(what, n)| format!("{what}={n}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

/// One situation of the table in `docs/recovery.md`: who wrote last, where the log stops making
/// sense, what is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TableRow {
    OursZeros,
    OursBytes,
    OursRecords,
    BelowZeros,
    BelowBytes,
    BelowRecords,
    ForeignZeros,
    ForeignBytes,
    ForeignRecords,
}

impl TableRow {
    pub(crate) const ALL: [Self; 9] = [
        Self::OursZeros,
        Self::OursBytes,
        Self::OursRecords,
        Self::BelowZeros,
        Self::BelowBytes,
        Self::BelowRecords,
        Self::ForeignZeros,
        Self::ForeignBytes,
        Self::ForeignRecords,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::OursZeros => "A/zeros at or above our durable end",
            Self::OursBytes => "B/bytes at or above our durable end",
            Self::OursRecords => "C/records behind a hole at or above our durable end",
            Self::BelowZeros => "D/damage below our durable end, zeros behind",
            Self::BelowBytes => "D/damage below our durable end, bytes behind",
            Self::BelowRecords => "D/damage below our durable end, records behind",
            Self::ForeignZeros => "A/zeros behind another program's log",
            Self::ForeignBytes => "E/bytes behind another program's log",
            Self::ForeignRecords => "F/records behind a hole in another program's log",
        }
    }
}

/// How long this thread was on a core; 0 where the system does not tell.
pub(crate) fn busy() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
