//! Small file systems that fill up, have room again, and become read-only: errors that say so, no
//! signal, nothing lost, and appends go on without a restart.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use steadfast::{ErrorKind, Store, disk::sim::Rng};

use crate::{
    check::{check, kind_of},
    life,
    message::QUEUES,
    mounted::{Kind, Mounted},
    promised::{Hit, Promised},
    trial::Trial,
    writer::{BATCH, Mode, options},
    writing::{Start, Writing},
};

/// Files that take up room, each so large.
const PIECE: u64 = 256 << 10;
const THREADS: u64 = 3;
/// So many acknowledgements after there is room again are no leftovers of before.
const RESUMED: u64 = 40;

pub(crate) struct Full {
    kind: Kind,
    mounted: Option<Mounted>,
    round: u64,
    filled: u64,
    resumed: u64,
    /// Opens that were refused for want of room.
    refused: u64,
    read_only: u64,
    /// Times that it became read-only under a writer.
    aborted: u64,
    reads: u64,
    errors: BTreeMap<String, u64>,
    /// Microseconds, the longest.
    waited: u64,
    acknowledged: u64,
}

impl Full {
    pub(crate) fn on(kind: Kind) -> Self {
        Self {
            kind,
            mounted: None,
            round: 0,
            filled: 0,
            resumed: 0,
            refused: 0,
            read_only: 0,
            aborted: 0,
            reads: 0,
            errors: BTreeMap::new(),
            waited: 0,
            acknowledged: 0,
        }
    }
}

impl Trial for Full {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ext4 => "full-ext4",
            Kind::Xfs => "full-xfs",
            Kind::Btrfs => "full-btrfs",
            Kind::Tmpfs => "full-tmpfs",
            Kind::Overlay => "full-overlay",
        }
    }

    fn missing(&self) -> Option<String> {
        Mounted::small(self.kind).err().map(|e| format!("{e:#}"))
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        let mut mounted = match self.mounted.take() {
            Some(mounted) => mounted,
            None => Mounted::small(self.kind)?,
        };
        let dir = mounted.top().join(format!("store-{}", self.round));
        self.round += 1;
        let mut promised = Promised { errors_expected: true, ..Promised::default() };
        let mode = *rng.pick(&[Mode::Sync, Mode::Async]);
        // The kernel refuses to remount under open files. Ext4 can be told that its journal failed.
        let aborts = self.kind == Kind::Ext4 && rng.chance(1, 3);
        let done = if aborts {
            self.turns_read_only(&mut mounted, &dir, mode, &mut promised, rng)
        } else {
            self.fills_up(&mounted, &dir, mode, &mut promised, rng)
        };
        done.with_context(|| format!("{mode:?}, round {}", self.round - 1))?;
        self.acknowledged += promised.acknowledged;
        self.reads += promised.read_after_error.0;
        self.waited = self.waited.max(promised.waited);
        for (kind, count) in promised.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        self.mounted = Some(mounted);
        Ok(())
    }

    fn counted(&self) -> String {
        let Self { filled, resumed, refused, read_only, aborted, reads, acknowledged, .. } = self;
        let errors: Vec<_> = self.errors.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        let (errors, waited) = (errors.join(", "), self.waited as f64 / 1000.0);
        format!(
            "{filled} times full, {resumed} resumed, {refused} opens refused, {read_only} opened \
             read-only, {aborted} read-only under a writer, {acknowledged} acknowledged, said: \
             {errors}; the slowest after {waited:.1} ms; {reads} queues read after one"
        )
    }
}

/// Files that fill the disk up.
struct Ballast<'a> {
    root: &'a Path,
    pieces: u64,
}

impl<'a> Ballast<'a> {
    /// Leaves `room` bytes, about.
    fn new(root: &'a Path, room: u64) -> Result<Self> {
        let there = statvfs(root)?;
        let most = there.f_bavail * there.f_frsize / 4 * 3;
        // In one piece what need not be given back, if the system's own guess is right.
        if most > 16 << 20 {
            allocate(&root.join("ballast"), most)?;
        }
        let mut this = Self { root, pieces: 0 };
        this.fill()?;
        for _ in 0..room.div_ceil(PIECE) {
            this.give_back()?;
        }
        Ok(this)
    }

    fn piece(&self, n: u64) -> std::path::PathBuf {
        self.root.join(format!("ballast-{n}"))
    }

    fn fill(&mut self) -> Result<()> {
        while allocate(&self.piece(self.pieces), PIECE)? {
            self.pieces += 1;
        }
        Ok(())
    }

    fn give_back(&mut self) -> Result<()> {
        self.pieces = self.pieces.checked_sub(1).context("no ballast is left")?;
        Ok(fs::remove_file(self.piece(self.pieces))?)
    }

    fn clear(mut self) -> Result<()> {
        while self.pieces > 0 {
            self.give_back()?;
        }
        let large = self.root.join("ballast");
        if large.exists() {
            fs::remove_file(large)?;
        }
        Ok(())
    }
}

/// Makes a file of `bytes`. `false` if there is no room.
fn allocate(path: &Path, bytes: u64) -> Result<bool> {
    let made = fs::File::create(path).and_then(|file| {
        fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(std::io::Error::from)
    });
    match made {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            // Not even the name may have been made.
            let _ = fs::remove_file(path);
            Ok(false)
        }
        Err(e) => Err(e).context("ballast"),
    }
}

fn full(promised: &Promised) -> u64 {
    promised.errors.get("Full").copied().unwrap_or(0)
}

impl Full {
    fn start<'a>(&self, dir: &'a Path, mode: Mode, more: &'a [&'a str], seed: u64) -> Start<'a> {
        Start { dir, mode, seed, round: self.round, more, under: &[] }
    }

    fn fills_up(
        &mut self,
        mounted: &Mounted,
        dir: &Path,
        mode: Mode,
        promised: &mut Promised,
        rng: &mut Rng,
    ) -> Result<()> {
        let root = mounted.top();
        let mut ballast = Ballast::new(&root, rng.within(1..8) * PIECE)?;
        let more = ["--go-on", "--fill", "--threads", &THREADS.to_string()];
        let mut writing = Writing::start(&self.start(dir, mode, &more, rng.bits()))?;
        let mut open = true;
        for _ in 0..rng.within(1..4) {
            let before = full(promised);
            open = writing.watch_until(promised, |p| full(p) > before + 5 || p.faulted)?;
            self.filled += 1;
            if !open || promised.faulted {
                break;
            }
            writing.watch_for(Duration::from_micros(rng.below(40_000)), promised)?;
            for _ in 0..rng.within(2..4) {
                ballast.give_back()?;
            }
            writing.take_said(promised)?;
            let enough = promised.acknowledged + RESUMED;
            open = writing.watch_until(promised, |p| p.acknowledged > enough || p.faulted)?;
            self.resumed += u64::from(open && !promised.faulted);
        }
        if open && rng.chance(1, 2) {
            // Killed while it is full.
            let before = full(promised);
            writing.watch_until(promised, |p| full(p) > before + 5 || p.faulted)?;
        }
        writing.kill(promised)?;
        // Where bytes are not written in place, no block can be had ahead of a write.
        let only = |kind: &str| match kind {
            "Full" | "Busy" => true,
            _ => self.kind == Kind::Btrfs,
        };
        ensure!(promised.errors.keys().all(|k| only(k)), "other errors: {:?}", promised.errors);
        ensure!(promised.read_after_error.1.is_none(), "{:?}", promised.read_after_error);
        promised.errors_expected = false;
        match check(dir, mode, Hit::Process, promised, rng) {
            Err(e) if kind_of(&e) == Some(ErrorKind::Full) => self.refused += 1,
            checked => checked.context("opened while full")?,
        }
        ballast.clear()?;
        check(dir, mode, Hit::Process, promised, rng).context("opened with room again")?;
        self.opens_read_only(mounted, dir, mode, promised)
    }

    /// The file system is mounted read-only: opening says so, and looking works.
    fn opens_read_only(
        &mut self,
        mounted: &Mounted,
        dir: &Path,
        mode: Mode,
        promised: &Promised,
    ) -> Result<()> {
        if let Err(e) = mounted.remount("ro") {
            ensure!(self.kind == Kind::Overlay, e);
            return Ok(());
        }
        let builder = || Store::builder(dir).options(options(mode));
        let refused = builder().open().map(drop).map_err(|e| e.kind());
        let looked = builder().open_read_only().context("open to read").and_then(|store| {
            for id in 0..QUEUES {
                life::read(&store, id)?;
            }
            Ok(store.close()?)
        });
        mounted.remount("rw")?;
        if promised.at.is_empty() {
            return Ok(());
        }
        looked?;
        let typed = matches!(refused, Err(ErrorKind::Io | ErrorKind::ReadOnly));
        ensure!(typed, "opening to write on a read-only file system: {refused:?}");
        self.read_only += 1;
        Ok(())
    }

    /// The journal fails under a writer, so that every change is refused from then on.
    fn turns_read_only(
        &mut self,
        mounted: &mut Mounted,
        dir: &Path,
        mode: Mode,
        promised: &mut Promised,
        rng: &mut Rng,
    ) -> Result<()> {
        let more = ["--go-on", "--threads", &THREADS.to_string()];
        let mut writing = Writing::start(&self.start(dir, mode, &more, rng.bits()))?;
        writing.watch(rng, promised)?;
        writing.take_said(promised)?;
        // What is synced in this moment may be told durable and be lost, as after a power failure.
        promised.too_late = true;
        mounted.remount("abort,errors=remount-ro")?;
        self.aborted += 1;
        writing.watch_for(Duration::from_millis(rng.within(20..100)), promised)?;
        writing.kill(promised)?;
        let late = promised.late;
        ensure!(late <= (THREADS - 1) * BATCH, "{late} acknowledged after a failure");
        ensure!(promised.read_after_error.1.is_none(), "{:?}", promised.read_after_error);
        (promised.errors_expected, promised.too_late) = (false, false);
        mounted.restart()?;
        check(dir, mode, Hit::Machine, promised, rng)
    }
}
