//! Power cuts on real file systems: a store is written, some pages of its files reach the disk, the
//! file system loses everything that no sync covered, and the store has to keep what it promised.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result};
use steadfast::disk::sim::Rng;

use crate::{
    check::check,
    mounted::{Kind, Mounted},
    promised::{Hit, Promised},
    trial::Trial,
    writer::Mode,
    writing::{Start, Writing},
};

/// Stores are begun anew from time to time: checking one takes longer as it grows.
const ROUNDS: u64 = 20;

pub(crate) struct PowerCut {
    kind: Kind,
    mounted: Option<Mounted>,
    store: Option<(PathBuf, Promised)>,
    round: u64,
    cuts: u64,
    while_opening: u64,
    acknowledged: u64,
}

impl PowerCut {
    pub(crate) fn on(kind: Kind) -> Self {
        Self {
            kind,
            mounted: None,
            store: None,
            round: 0,
            cuts: 0,
            while_opening: 0,
            acknowledged: 0,
        }
    }
}

impl Trial for PowerCut {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ext4 => "power-cut-ext4",
            Kind::Xfs => "power-cut-xfs",
            _ => "power-cut",
        }
    }

    fn missing(&self) -> Option<String> {
        Mounted::missing(self.kind)
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        let mounted = Mounted::once(&mut self.mounted, self.kind)?;
        if self.round.is_multiple_of(ROUNDS)
            && let Some((dir, _)) = self.store.take()
        {
            fs::remove_dir_all(dir)?;
        }
        let round = self.round;
        let (dir, promised) = self.store.get_or_insert_with(|| {
            (mounted.root().join(format!("store-{round}")), Promised::default())
        });
        self.round += 1;
        let mode = *rng.pick(&[Mode::Sync, Mode::Async]);
        let start = Start { dir, mode, seed: rng.bits(), round, more: &[], under: &[] };
        let before = promised.acknowledged;
        let mut story = write_and_cut(&start, mounted, promised, rng)?;
        self.cuts += 1;
        self.acknowledged += promised.acknowledged - before;
        // Again while what is left is recovered.
        while rng.chance(1, 3) {
            let more = ["--threads", "0", "--readers", "0"];
            let writing = Writing::start(&Start { more: &more, ..start })?;
            thread::sleep(Duration::from_micros(rng.below(40_000)));
            mounted.write_some_back(dir, rng)?;
            writing.kill(promised)?;
            mounted.cut(rng)?;
            self.cuts += 1;
            self.while_opening += 1;
            story += ", then one while it opened";
        }
        check(dir, mode, Hit::Machine, promised, rng)
            .with_context(|| format!("{mode:?}, round {round}, {story}"))
    }

    fn counted(&self) -> String {
        let Self { cuts, while_opening, acknowledged, .. } = self;
        format!("{cuts} cuts ({while_opening} while it opened), {acknowledged} acknowledged")
    }
}

/// Writes for a while. Then the power is cut: mostly everything stops at once; sometimes the disk
/// goes first, and the process finds out. Says which.
fn write_and_cut(
    start: &Start<'_>,
    mounted: &mut Mounted,
    promised: &mut Promised,
    rng: &mut Rng,
) -> Result<String> {
    let mut writing = Writing::start(start)?;
    writing.watch(rng, promised)?;
    mounted.write_some_back(start.dir, rng)?;
    if rng.chance(1, 4) {
        // A sync that is under way when the file system is shut down may return 0 and have lost the
        // bytes, on ext4 and on xfs (seen with a bare loop of pwrite and fdatasync). After a real
        // power failure nobody is left who could be told.
        writing.take_said(promised)?;
        (promised.errors_expected, promised.too_late) = (true, true);
        mounted.shut_down(rng)?;
        thread::sleep(Duration::from_micros(rng.below(20_000)));
        writing.kill(promised)?;
        (promised.errors_expected, promised.too_late) = (false, false);
        mounted.restart()?;
        return Ok("the disk went first".into());
    }
    writing.kill(promised)?;
    mounted.write_some_back(start.dir, rng)?;
    mounted.cut(rng).context("the power cut")?;
    Ok("everything stopped at once".into())
}
