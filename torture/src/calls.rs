//! The k-th system call fails: each call of a few short lives of a store, with each error, one
//! after the other. Whatever fails, there are error values only, and what was acknowledged is kept.

use std::{cell::RefCell, collections::BTreeMap, fs, os::unix::fs::FileExt, path::Path};

use anyhow::{Context, Result, ensure};
use steadfast::disk::sim::Rng;
use tempfile::TempDir;

use crate::{
    check::check,
    files::copy,
    promised::{Hit, Promised},
    traced,
    trial::{Budget, Trial},
    writer::Mode,
    writing::{Start, Writing},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) budget: Budget,
    /// Only this fault, as a failure names it
    #[arg(long)]
    case: Option<String>,
}

/// A life that is lived over and over: its name, mode, whether it finds a store that died, and the
/// writer's arguments. In the last two all threads run.
const LIVES: [(&str, Mode, bool, &[&str]); 7] = [
    ("first-sync", Mode::Sync, false, &["--stepped", "--appends", "70"]),
    ("first-async", Mode::Async, false, &["--stepped", "--appends", "70"]),
    ("again-sync", Mode::Sync, true, &["--stepped", "--appends", "40"]),
    ("again-async", Mode::Async, true, &["--stepped", "--appends", "40"]),
    ("retain-sync", Mode::Sync, true, &["--stepped", "--retain", "--appends", "36"]),
    ("threads-sync", Mode::Sync, true, &THREADS),
    ("threads-async", Mode::Async, true, &THREADS),
];
const THREADS: [&str; 7] = ["--go-on", "--threads", "1", "--readers", "1", "--appends", "40"];

/// The seed of every life.
const SEED: u64 = 11;

/// Stores that died, by mode, with what they had promised.
struct Died {
    dir: TempDir,
    promised: Promised,
}

#[derive(Default)]
pub(crate) struct Calls {
    only: Option<String>,
    prepared: RefCell<Option<Prepared>>,
    runs: u64,
    /// How often each call failed.
    hit: BTreeMap<String, u64>,
    /// Most syncs of one file of the log after it failed.
    more_syncs: u64,
    acknowledged: u64,
    errors: BTreeMap<String, u64>,
}

struct Prepared {
    died: [Died; 2],
    /// What is still to be tried: `life/call:error:when`.
    cases: Vec<String>,
}

impl Calls {
    /// All cases, or only `only`.
    pub(crate) fn new(args: Args) -> (Self, Budget) {
        (Self { only: args.case, ..Self::default() }, args.budget)
    }

    fn prepare(&self) -> Result<()> {
        if self.prepared.borrow().is_some() {
            return Ok(());
        }
        let died = [Died::new(Mode::Sync)?, Died::new(Mode::Async)?];
        let mut cases = Vec::new();
        match &self.only {
            Some(only) => cases.push(only.clone()),
            None => {
                for (life, (name, ..)) in LIVES.iter().enumerate() {
                    cases_of(life, &died, &mut cases)
                        .with_context(|| format!("{name} without a fault"))?;
                }
            }
        }
        *self.prepared.borrow_mut() = Some(Prepared { died, cases });
        Ok(())
    }
}

impl Trial for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn missing(&self) -> Option<String> {
        traced::missing()
    }

    fn cycles(&self) -> Option<u64> {
        // What goes wrong here goes wrong again in the first cycle.
        self.prepare().ok()?;
        self.prepared.borrow().as_ref().map(|prepared| prepared.cases.len() as u64)
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        self.prepare()?;
        let mut prepared = self.prepared.borrow_mut();
        let prepared = prepared.as_mut().context("nothing was prepared")?;
        let picked = rng.below(prepared.cases.len() as u64) as usize;
        let case = prepared.cases.swap_remove(picked);
        let again = || format!("again with `torture calls --case {case}`");
        let (life, fault) = case.split_once('/').with_context(again)?;
        let life = LIVES.iter().position(|(name, ..)| *name == life).with_context(again)?;
        let lived = live(life, &prepared.died, rng, |log| traced::failing(fault, log));
        let (log, promised) = lived.with_context(again)?;
        self.runs += 1;
        self.acknowledged += promised.acknowledged;
        for (kind, count) in promised.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        let log = log.path().join("calls");
        let more_syncs = traced::syncs_after_a_failed_one(&log).with_context(again)?;
        ensure!(more_syncs <= 1, "{more_syncs} syncs of a file after its failure: {}", again());
        ensure!(promised.late == 0, "acknowledged after the log failed: {}", again());
        self.more_syncs = self.more_syncs.max(more_syncs);
        if traced::was_hit(&log)? {
            let call = fault.split(':').next().unwrap_or_default();
            *self.hit.entry(call.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn counted(&self) -> String {
        let by_call: Vec<_> = self.hit.iter().map(|(call, n)| format!("{call} {n}")).collect();
        let errors: Vec<_> = self.errors.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        let hit: u64 = self.hit.values().sum();
        let Self { runs, acknowledged, more_syncs, .. } = self;
        let (by_call, errors) = (by_call.join(", "), errors.join(", "));
        let cases = self.prepared.borrow().as_ref().map_or(0, |prepared| prepared.cases.len());
        let all = cases as u64 + *runs;
        format!(
            "{hit} of {runs} hit, of {all} there are ({by_call}), at most {more_syncs} syncs of a \
             file after its failure, {acknowledged} acknowledged, said: {errors}"
        )
    }
}

/// Adds the faults of a life: each call that it makes when nothing fails, with each error.
fn cases_of(life: usize, died: &[Died; 2], cases: &mut Vec<String>) -> Result<()> {
    let (log, promised) = live(life, died, &mut Rng::new(SEED), traced::counting)?;
    ensure!(promised.errors.is_empty(), "errors without a fault: {:?}", promised.errors);
    let name = LIVES[life].0;
    for (call, made) in traced::made(&log.path().join("calls"))? {
        for nth in made {
            for fault in faults_of(&call) {
                cases.push(format!("{name}/{call}:{fault}:when={nth}"));
            }
            cases.push(format!("{name}/{call}:error=EIO:when={nth}+"));
        }
    }
    Ok(())
}

/// How `call` can fail. A short call is one that does nothing: the tracer can only skip a call.
fn faults_of(call: &str) -> Vec<&'static str> {
    let mut faults = vec!["error=EIO", "error=ENOSPC", "error=EINTR"];
    match call {
        "read" | "pread64" | "write" | "pwrite64" => faults.push("retval=0"),
        "openat" => faults.push("error=EMFILE"),
        "mmap" => faults.push("error=ENOMEM"),
        "fallocate" | "lseek" | "madvise" | "sync_file_range" => faults.push("error=EOPNOTSUPP"),
        _ => {}
    }
    faults
}

/// Lives life number `life` under the tracer that `under` gives, then opens and checks.
fn live(
    life: usize,
    died: &[Died; 2],
    rng: &mut Rng,
    under: impl FnOnce(&Path) -> Vec<String>,
) -> Result<(TempDir, Promised)> {
    let (_, mode, again, more) = LIVES[life];
    let home = tempfile::tempdir()?;
    let dir = home.path().join("store");
    let mut promised = Promised::default();
    if again {
        let died = &died[usize::from(mode == Mode::Async)];
        copy(died.dir.path(), &dir)?;
        promised = died.promised.clone();
    }
    promised.errors_expected = true;
    promised.retention = more.contains(&"--retain");
    let under = under(&home.path().join("calls"));
    let start = Start { dir: &dir, mode, seed: SEED, round: 2, more, under: &under };
    let status = Writing::start(&start)?.finish(&mut promised)?;
    // Success, or the error of opening or closing. Anything else is a panic or a signal.
    ensure!(matches!(status.code(), Some(0 | 1)), "the writer ends with {status}");
    check(&dir, mode, Hit::Process, &mut promised, rng)?;
    Ok((home, promised))
}

impl Died {
    /// A store of a few segments that was not closed, with a torn record at its end.
    fn new(mode: Mode) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut promised = Promised::default();
        let more = ["--stepped", "--abandon", "--appends", "130"];
        let start = Start { dir: dir.path(), mode, seed: 5, round: 1, more: &more, under: &[] };
        let status = Writing::start(&start)?.finish(&mut promised)?;
        ensure!(status.success(), "the first writer ends with {status}");
        let log = dir.path().join("commitlog");
        let mut segments: Vec<_> = fs::read_dir(&log)?.flatten().map(|e| e.path()).collect();
        segments.sort();
        let end = promised.at.values().map(|placed| placed.end).max().context("nothing put")?;
        let last = segments.iter().rev().find_map(|path| {
            let start: u64 = path.file_name()?.to_str()?.parse().ok()?;
            (start <= end).then(|| (path, end - start))
        });
        let (last, at) = last.context("no segment")?;
        fs::File::options().write(true).open(last)?.write_all_at(&[0xA5; 300], at)?;
        Ok(Self { dir, promised })
    }
}
