//! A disk that fails to write back what it took, fails to sync, and forgets what was not synced.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use steadfast::{ErrorKind, disk::sim::Rng};

use crate::{
    check::{check, kind_of},
    fuse_mount::FuseMount,
    promised::{Hit, Promised},
    trial::Trial,
    writer::{BATCH, Mode},
    writing::{Start, Writing},
};

/// Stores are begun anew from time to time: checking one takes longer as it grows.
const ROUNDS: u64 = 20;
const THREADS: u64 = 3;
/// Files in which an error may wait that nobody was told yet.
const OLD_ERRORS: u64 = 20;

#[derive(Default)]
pub(crate) struct Fuse {
    disk: Option<FuseMount>,
    promised: Promised,
    round: u64,
    cuts: u64,
    /// Cycles in which something failed, and how often it did.
    failing: u64,
    failures: u64,
    /// Most syncs of one file of the log after it failed.
    more_syncs: u64,
    /// Acknowledgements that were still on their way when the first error was told.
    late: u64,
    acknowledged: u64,
    reads: u64,
    /// The kernel may remember errors that nobody was told of.
    old_errors: bool,
    /// Opens that met an error from before.
    refused: u64,
}

impl Trial for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn missing(&self) -> Option<String> {
        if !Path::new("/dev/fuse").exists() {
            return Some("there is no /dev/fuse".into());
        }
        FuseMount::new(&mut Rng::new(0)).err().map(|e| format!("{e:#}"))
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        let mut disk = match self.disk.take() {
            Some(disk) => disk,
            None => FuseMount::new(rng)?,
        };
        // Each in a directory of its own: no name that was removed is made again.
        let store = |round| format!("store-{}", round / ROUNDS);
        let dir = disk.root().join(store(self.round));
        if self.round.is_multiple_of(ROUNDS) && self.round > 0 {
            fs::remove_dir_all(disk.root().join(store(self.round - 1)))?;
            self.promised = Promised::default();
        }
        let mode = *rng.pick(&[Mode::Sync, Mode::Sync, Mode::Async]);
        let round = self.round;
        self.round += 1;
        let before = self.promised.acknowledged;
        let more = ["--go-on", "--threads", &THREADS.to_string()];
        let start = Start { dir: &dir, mode, seed: rng.bits(), round, more: &more, under: &[] };
        let mut writing = Writing::start(&start)?;
        if self.old_errors {
            // It may be told of them: at its first sync, or when it opens.
            self.promised.errors_expected = true;
            writing.watch_for(Duration::from_millis(rng.below(200)), &mut self.promised)?;
        } else {
            writing.watch(rng, &mut self.promised)?;
        }
        let (mut story, mut hit) = ("a power failure".into(), Hit::Machine);
        let fails = rng.chance(1, 2);
        if fails {
            (story, hit) = self.fail(writing, &mut disk, rng)?;
        } else {
            self.cut(writing, &mut disk, rng)?;
        }
        self.old_errors = fails;
        self.acknowledged += self.promised.acknowledged - before;
        let told = || format!("{mode:?}, round {round}, {story}");
        self.check_when_mended(&dir, mode, hit, rng).with_context(told)?;
        if fails && rng.chance(1, 2) {
            disk.restart(rng)?;
            self.cuts += 1;
            check(&dir, mode, Hit::Machine, &mut self.promised, rng)
                .with_context(|| format!("{}, then a power failure", told()))?;
            self.old_errors = false;
        }
        self.disk = Some(disk);
        Ok(())
    }

    fn counted(&self) -> String {
        let Self {
            cuts, failing, failures, more_syncs, late, acknowledged, reads, refused, ..
        } = self;
        format!(
            "{cuts} power failures, {failures} failures in {failing} cycles, at most {more_syncs} \
             syncs of a file after its failure, {late} acknowledgements overtaken by an error, \
             {reads} queues read after one, {refused} opens met an error from before, \
             {acknowledged} acknowledged"
        )
    }
}

/// Whether the system said no, and not the check.
fn is_io(error: &anyhow::Error) -> bool {
    matches!(kind_of(error), Some(ErrorKind::Io | ErrorKind::Faulted))
}

impl Fuse {
    /// The power fails under a writer.
    fn cut(&mut self, writing: Writing, disk: &mut FuseMount, rng: &mut Rng) -> Result<()> {
        disk.cut();
        self.cuts += 1;
        // It may still say that everything fails now.
        self.promised.errors_expected = true;
        writing.kill(&mut self.promised)?;
        self.forget_errors();
        disk.restart(rng)
    }

    /// Something fails under a writer, which is killed a little later. Says what, and what may be
    /// gone after it.
    fn fail(
        &mut self,
        mut writing: Writing,
        disk: &mut FuseMount,
        rng: &mut Rng,
    ) -> Result<(String, Hit)> {
        let what = *rng.pick(&["write-back", "sync"]);
        let count = *rng.pick(&[1, 3, u64::MAX]);
        let within = *rng.pick(&["commitlog/", "commitlog/", ""]);
        self.promised.errors_expected = true;
        disk.fail(what, count, within)?;
        writing.watch_for(Duration::from_millis(rng.within(20..120)), &mut self.promised)?;
        writing.kill(&mut self.promised)?;
        // What was open is written back at its close.
        let failed = disk.failed()?;
        disk.mend()?;
        let story = format!("{what} fails {count} times within '{within}': {failed:?}");
        self.failing += u64::from(!failed.is_empty());
        self.failures += failed.iter().map(|failed| failed.count).sum::<u64>();
        for file in failed.iter().filter(|file| file.path.contains("commitlog/")) {
            ensure!(file.syncs <= 1, "{} syncs after a failure: {story}", file.syncs);
            self.more_syncs = self.more_syncs.max(file.syncs);
        }
        // Each other thread may still say the last batch that was acknowledged before.
        let late = self.promised.late;
        let most = (THREADS - 1) * BATCH;
        ensure!(late <= most, "{late} acknowledged after a failure: {story}");
        self.late += late;
        let read = &self.promised.read_after_error;
        ensure!(read.1.is_none(), "reading ends with {:?}: {story}", read.1);
        self.reads += read.0;
        self.forget_errors();
        // A page that was not written back is clean: the kernel drops it when it likes, and with it
        // what no sync covered.
        let hit =
            if what == "write-back" && !failed.is_empty() { Hit::Machine } else { Hit::Process };
        Ok((story, hit))
    }

    /// The kernel keeps an error until somebody syncs the file, also if the disk is whole again:
    /// opening may be refused for it, once for each file.
    fn check_when_mended(&mut self, dir: &Path, mode: Mode, hit: Hit, rng: &mut Rng) -> Result<()> {
        for _ in 0..OLD_ERRORS {
            match check(dir, mode, hit, &mut self.promised, rng) {
                Err(e) if is_io(&e) => self.refused += 1,
                checked => return checked,
            }
        }
        check(dir, mode, hit, &mut self.promised, rng)
    }

    fn forget_errors(&mut self) {
        self.promised.errors_expected = false;
        self.promised.faulted = false;
        self.promised.late = 0;
        self.promised.read_after_error = (0, None);
    }
}
