//! What came of one fault at one store.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::Got;

/// One fault, thrown at one store.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) peer: String,
    /// Ours is held to what it promises.
    pub(crate) ours: bool,
    /// It was thrown while the store was open.
    pub(crate) at_runtime: bool,
    pub(crate) outcome: Outcome,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// In the order of the table.
    pub(crate) order: usize,
    pub(crate) name: String,
    /// `early`, `middle`, `last`, `tail`; empty where there is only one place.
    pub(crate) place: String,
    /// `closed` or `killed`, or the flush mode.
    pub(crate) state: String,
}

/// How a store took it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Messages it had acknowledged.
    pub(crate) acknowledged: u64,
    /// Messages of which the fault changed a byte.
    pub(crate) touched: u64,
    /// Why it did not open by default.
    pub(crate) refused: Option<String>,
    /// What it said at open that it does not say of an undamaged store.
    pub(crate) said: Vec<String>,
    /// The same, while it was asked for its messages.
    pub(crate) said_later: Vec<String>,
    /// It died or hung.
    pub(crate) silent: Option<String>,
    pub(crate) by_queue: Counts,
    pub(crate) by_position: Counts,
    pub(crate) by_key: Counts,
    /// Messages it served that nobody put there.
    pub(crate) extra: u64,
    /// Queue offsets of acknowledged messages that new ones got.
    pub(crate) twice: u64,
    /// New messages that it acknowledged afterwards, of [`super::rest::NEW`].
    pub(crate) new: u64,
    /// What the saved positions of consumers were afterwards, where that was the question.
    pub(crate) positions: String,
    /// Whether `steadfast verify` finds something: tried on our stores.
    pub(crate) verified: Option<String>,
    /// Untouched messages that were not served right although the store was open.
    pub(crate) collateral: u64,
    /// Messages that were acknowledged from the first failed sync on.
    pub(crate) after_failure: Option<u64>,
    /// It opened only after its losses were accepted.
    pub(crate) accepted: bool,
    /// More to say.
    pub(crate) note: String,
}

/// What came of asking for each acknowledged message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    pub(crate) error: u64,
    /// The words for what was not right.
    pub(crate) words: BTreeSet<String>,
}

impl Counts {
    pub(crate) fn add(&mut self, got: &Got) {
        match got {
            Got::Right => self.right += 1,
            Got::Wrong => self.wrong += 1,
            Got::Lost(why) => {
                self.lost += 1;
                self.words.insert(why.clone());
            }
            Got::Error(kind) => {
                self.error += 1;
                self.words.insert(kind.clone());
            }
        }
    }
}

impl Outcome {
    /// Whether anybody could know from opening it: it refused, or said something.
    pub(crate) fn told(&self) -> bool {
        self.refused.is_some() || !self.said.is_empty() || self.silent.is_some()
    }

    /// Messages that were not served and of which no error tells, by the way consumers read.
    pub(crate) fn lost(&self) -> u64 {
        self.by_queue.lost
    }

    /// Messages of which other bytes were served, by any way.
    pub(crate) fn wrong(&self) -> u64 {
        self.by_queue.wrong.max(self.by_position.wrong).max(self.by_key.wrong)
    }

    /// Messages that could not be had because the store does not open at all.
    pub(crate) fn shut(&self) -> u64 {
        let asked = self.by_queue.right + self.by_queue.wrong + self.by_queue.lost;
        self.acknowledged.saturating_sub(asked + self.by_queue.error)
    }
}

impl Row {
    /// What ours must never do, and did.
    pub(crate) fn broken(&self) -> Vec<String> {
        let o = &self.outcome;
        if !self.ours {
            return Vec::new();
        }
        let always = [
            ("wrong bytes", o.wrong()),
            ("untouched and not served", o.collateral),
            ("messages that nobody put", o.extra),
            ("acknowledged after a failed sync", o.after_failure.unwrap_or(0)),
            ("died or hung", u64::from(o.silent.is_some())),
        ];
        // What was given up in so many words is no broken promise.
        let unless_given_up = [
            ("lost without an error", o.lost().max(o.by_position.lost)),
            ("offsets given twice", o.twice),
        ];
        let unless_given_up = unless_given_up.into_iter().filter(|_| !o.accepted);
        let broken = always.into_iter().chain(unless_given_up).filter(|(_, count)| *count > 0);
        broken.map(|(what, count)| format!("{}: {what}: {count}", self.fault.label())).collect()
    }
}

/// What ours is known not to keep yet, and in which cases; each is told in `docs/reliability.md`.
const KNOWN: &[&str] = &[
    "segment-gone early",
    "segment-gone last killed",
    "recycled-segment last killed",
    "stale-segment last killed",
    "foreign-segment",
    "index-entry-offset-flipped",
];

impl Fault {
    /// Whether it is known that ours does not keep everything then.
    pub(crate) fn is_known(&self) -> bool {
        KNOWN.iter().any(|known| self.label().starts_with(known))
    }

    pub(crate) fn label(&self) -> String {
        let words = [&self.name, &self.place, &self.state];
        let words = words.into_iter().filter(|word| !word.is_empty());
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Outcomes of one fault in all its places and states, for one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) cases: u64,
    pub(crate) told: u64,
    pub(crate) refused: u64,
    pub(crate) silent: u64,
    pub(crate) most: BTreeMap<&'static str, u64>,
}

impl Sum {
    pub(crate) fn add(&mut self, o: &Outcome) {
        self.cases += 1;
        self.told += u64::from(o.told());
        self.refused += u64::from(o.refused.is_some());
        self.silent += u64::from(o.silent.is_some());
        for (what, count) in [
            ("touched", o.touched),
            ("wrong", o.wrong()),
            ("lost", if o.accepted { 0 } else { o.lost() }),
            ("given up", if o.accepted { o.lost() } else { 0 }),
            ("error", o.by_queue.error),
            ("shut", o.shut()),
            ("twice", o.twice),
            ("extra", o.extra),
            ("unindexed", o.by_key.lost),
        ] {
            let most = self.most.entry(what).or_default();
            *most = (*most).max(count);
        }
    }
}
