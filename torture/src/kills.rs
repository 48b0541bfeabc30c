//! Processes that are killed while they open, write, read and roll, over and over in one directory.

use anyhow::Result;
use steadfast::disk::sim::Rng;
use tempfile::TempDir;

use crate::{
    check::check,
    promised::{Hit, Promised},
    trial::Trial,
    writer::Mode,
    writing::{Start, Writing},
};

/// Directories are begun anew from time to time: checking one takes longer as it grows.
const ROUNDS: u64 = 50;

#[derive(Default)]
pub(crate) struct Kills {
    store: Option<(TempDir, Promised)>,
    round: u64,
    acknowledged: u64,
}

impl Trial for Kills {
    fn name(&self) -> &'static str {
        "kills"
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        if self.round.is_multiple_of(ROUNDS) {
            self.store = None;
        }
        let (dir, promised) = match &mut self.store {
            Some(store) => store,
            none => none.insert((tempfile::tempdir()?, Promised::default())),
        };
        let mode = *rng.pick(&[Mode::Sync, Mode::Async]);
        let start = Start {
            dir: dir.path(),
            mode,
            seed: rng.bits(),
            round: self.round,
            more: &[],
            under: &[],
        };
        self.round += 1;
        let before = promised.acknowledged;
        let mut writing = Writing::start(&start)?;
        writing.watch(rng, promised)?;
        writing.kill(promised)?;
        self.acknowledged += promised.acknowledged - before;
        check(dir.path(), mode, Hit::Process, promised, rng)
    }

    fn counted(&self) -> String {
        format!("{} acknowledged, none lost", self.acknowledged)
    }
}
