//! One schedule: a store that lives, dies and is opened again, all from one seed.

use std::sync::Arc;

use steadfast::{
    FlushMode, ManualClock, RecordChecksum, Step, Store, StoreTime, Ticket,
    disk::sim::{FaultPlan, Rng, SimDisk},
};

use super::{
    check,
    counts::{Counts, TableRow},
    faults,
    model::Model,
    setup::Setup,
};

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) disk: SimDisk,
    pub(crate) store: Option<Store>,
    pub(crate) model: Model,
    /// Not settled yet, with the end of what they stand for.
    pub(crate) tickets: Vec<(Ticket, u64)>,
    pub(crate) sync: bool,
    /// Errors may come from failing calls.
    pub(crate) faulty: bool,
    /// No call failed while the store was opened, which may leave keys for the next open.
    pub(crate) index_whole: bool,
    /// A writeback failed in the background: some sync will say so.
    pub(crate) tainted: bool,
    /// Pages of a failed sync may have been taken back.
    pub(crate) lossy: bool,
    /// A sync failed: pages may count as clean that are not on the disk.
    pub(crate) sync_failed: bool,
    pub(crate) next_id: u64,
    /// Calls of the disk up to here were looked at.
    pub(crate) traced: u64,
    pub(crate) counts: Counts,
    told: bool,
    /// Power failed and no recovery went through since.
    torn: bool,
    /// The store's own files were taken away: it must take the log for another program's.
    orphaned: bool,
    /// That happened once: of what was in the log then nothing says that all of it is checked.
    pub(crate) adopted: bool,
    /// Records may lack a checksum of all of them.
    unchecked: bool,
    /// The log lost messages that a queue's file may still tell of.
    outlived: bool,
}

/// Whether the machine stopped in the middle of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Alive,
    Dead,
}

impl World {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::draw(&mut rng);
        let clock = Arc::new(ManualClock::new(StoreTime::from_millis(1_700_000_000_000)));
        let disk = SimDisk::new(rng.bits());
        disk.set_clock(clock.clone());
        disk.set_append_path(setup.append_path);
        let model = Model::new(setup.queues.clone(), setup.options.segment_bytes);
        let world = Self {
            rng,
            setup,
            clock,
            disk,
            store: None,
            model,
            tickets: Vec::new(),
            sync: false,
            faulty: false,
            index_whole: true,
            tainted: false,
            lossy: false,
            sync_failed: false,
            next_id: 0,
            traced: 0,
            counts: Counts::default(),
            told,
            torn: false,
            orphaned: false,
            outlived: false,
            adopted: false,
            unchecked: false,
        };
        world.tell(|| format!("{}", world.setup));
        world
    }

    /// Says what is done, in a replay.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{}", what());
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..self.setup.rounds {
            self.open(false);
            self.check();
            self.session();
        }
        self.finale();
    }

    /// Opens the store, dying on the way as the faults have it.
    fn open(&mut self, quiet: bool) {
        for attempt in 0.. {
            let planned = match quiet || attempt > 4 {
                true => faults::Planned::default(),
                false => self.draw_faults(100),
            };
            let unlimited = quiet || attempt > 4 || self.rng.chance(1, 2);
            let capacity = self.setup.capacity.filter(|_| !unlimited).unwrap_or(1 << 40);
            self.disk.set_capacity(capacity);
            self.disk.set_faults(planned.plan);
            self.lossy |= planned.reverts;
            self.sync_failed |= planned.fails;
            self.index_whole = !planned.fails && !self.tainted && capacity == 1 << 40;
            let options = self.setup.next_options(&mut self.rng);
            self.sync = options.flush == FlushMode::Sync;
            self.tell(|| format!("open {:?} {}", options.flush, planned.shown));
            let opened = Store::builder_on(Arc::new(self.disk.clone()))
                .options(options.clone())
                .clock(self.clock.clone())
                .open_stepped();
            self.disk.set_capacity(1 << 40);
            let halted = self.disk.halted();
            match opened {
                Ok(store) if halted.is_none() => {
                    self.disk.set_faults(FaultPlan::none());
                    self.tell(|| format!("  {}", store.recovery()));
                    self.store = Some(store);
                    (self.lossy, self.sync_failed, self.torn) = (false, self.tainted, false);
                    self.unchecked |= options.record_checksum == RecordChecksum::Off;
                    self.counts.one("opens");
                    return;
                }
                Ok(store) => store.abandon(),
                Err(error) => {
                    self.tell(|| format!("  {error}"));
                    self.counts.one("failed_opens");
                    let excused =
                        planned.fails || halted.is_some() || self.tainted || capacity < 1 << 40;
                    assert!(excused, "a store without damage does not open: {error}");
                }
            }
            self.die(halted);
        }
    }

    fn draw_faults(&mut self, calls: u64) -> faults::Planned {
        // A write that stops in the middle leaves what only a checksum of all of it can tell from
        // a sound record.
        let only_halts = self.orphaned
            || self.unchecked
            || self.setup.options.record_checksum == RecordChecksum::Off;
        faults::draw(&mut self.rng, &self.disk, &self.setup.swarm.faults, calls, only_halts)
    }

    /// Holds what was just opened against the model, which then knows what is there: one cycle.
    fn check_opened(&mut self, store: &Store) {
        let foreign = std::mem::take(&mut self.orphaned);
        check::findings(store, foreign);
        check::opened(store, &mut self.model, &mut self.rng, self.index_whole);
        self.counts.one("cycles");
    }

    /// Looks at everything; sometimes opens once more, which must change nothing.
    fn check(&mut self) {
        let store = self.store.take().unwrap();
        self.count_rows(&store);
        let before = self.model.puts.len();
        self.check_opened(&store);
        let lost = before - self.model.puts.len().min(before);
        self.counts.many("lost_unacknowledged", lost as u64);
        self.outlived |= lost > 0;
        self.store = Some(store);
        if self.rng.chance(1, 4) {
            self.tell(|| "again".into());
            let failures = self.counts.of("power_failures");
            let image = self.image(None);
            let store = self.store.take().unwrap();
            let progress = store.progress();
            store.abandon();
            self.disk = image;
            self.open(true);
            let store = self.store.take().unwrap();
            // What is synced in the background may be torn like anything that was appended.
            let torn =
                self.counts.of("power_failures") > failures && progress.durable < progress.written;
            let cut = |f: &steadfast::Finding| matches!(f, steadfast::Finding::Cut { .. });
            assert!(
                torn || !store.recovery().findings.iter().any(cut),
                "recovered already: {}",
                store.recovery()
            );
            self.check_opened(&store);
            self.store = Some(store);
        }
        self.traced = self.disk.counts().total();
    }

    fn count_rows(&mut self, store: &Store) {
        let findings = &store.recovery().findings;
        let foreign =
            findings.iter().any(|f| matches!(f, steadfast::Finding::ForeignWriter { .. }));
        let mut any = false;
        for finding in findings {
            let row = match finding {
                steadfast::Finding::Cut { row: 'B', .. } => TableRow::OursBytes,
                steadfast::Finding::Cut { row: 'C', .. } => TableRow::OursRecords,
                steadfast::Finding::Cut { row: 'E', .. } => TableRow::ForeignBytes,
                _ => continue,
            };
            self.counts.row(row);
            any = true;
        }
        if !any && !store.recovery().was_clean {
            self.counts.row(if foreign { TableRow::ForeignZeros } else { TableRow::OursZeros });
        }
    }

    /// Uses the store for a while, then ends it one way or another.
    fn session(&mut self) {
        let calls = *self.rng.pick(&[20, 60, 150]);
        let planned = self.draw_faults(calls);
        self.tell(|| format!("session {}", planned.shown));
        self.disk.set_faults(planned.plan);
        self.faulty = planned.fails;
        self.lossy = planned.reverts;
        self.sync_failed = planned.fails;
        for _ in 0..self.rng.below(self.setup.ops) {
            self.op();
            if self.after_op() == After::Dead {
                return;
            }
        }
        if self.rng.chance(1, 4) {
            let store = self.store.take().unwrap();
            self.tell(|| "close".into());
            let closed = store.close();
            self.expect("close", &closed);
            let halted = self.disk.halted();
            if halted.is_none() && closed.is_ok() {
                self.counts.one("closes");
                self.saved();
                let everything = self.model.end();
                if self.model.poisoned.is_none() && !self.tickets.is_empty() {
                    self.settle_tickets();
                }
                if self.model.poisoned.is_none() {
                    self.model.durable(everything);
                }
            }
            self.die(halted);
        } else {
            self.die(None);
        }
    }

    /// What comes after each thing done to the store.
    fn after_op(&mut self) -> After {
        if let Some(halted) = self.disk.halted() {
            self.counts.one("halts");
            self.die(Some(halted));
            return After::Dead;
        }
        self.settle_tickets();
        let store = self.store.as_ref().unwrap();
        let progress = store.progress();
        assert!(progress.durable <= progress.written, "{progress:?}");
        let visible = if self.sync { progress.durable } else { progress.written };
        assert!(progress.dispatched <= visible, "{progress:?}");
        if let Some(durable) = self.model.poisoned {
            assert_eq!(progress.durable.get(), durable, "durable moved after a failure of the log");
        } else if self.log_failed() {
            self.tell(|| "  the log failed".into());
            self.counts.one("poisoned");
            self.model.poisoned = Some(progress.durable.get());
        }
        self.model.durable(progress.durable.get());
        let start = progress.start.get();
        assert!(start <= self.model.start_may, "removed up to {start} {}", self.model.start_may);
        self.clock.advance(std::time::Duration::from_millis(self.rng.below(3)));
        After::Alive
    }

    /// Whether a sync or write of a log file failed since this was asked last.
    fn log_failed(&mut self) -> bool {
        use steadfast::disk::sim::CallKind::{DirtyAgain, SyncData, Write};
        let since = std::mem::replace(&mut self.traced, self.disk.counts().total());
        if !self.faulty && !self.tainted && self.setup.capacity.is_none() {
            return false;
        }
        self.disk.trace().iter().any(|call| {
            call.number > since
                && call.path.starts_with("commitlog/")
                && matches!(call.kind, DirtyAgain | SyncData | Write)
                && call.error.is_some()
        })
    }

    /// Takes in what was acknowledged meanwhile.
    fn settle_tickets(&mut self) {
        use steadfast::PutStatus::PutOk;
        for (ticket, end) in std::mem::take(&mut self.tickets) {
            match ticket.wait_timeout(std::time::Duration::ZERO) {
                Err(ticket) => self.tickets.push((ticket, end)),
                Ok(Ok(receipt)) if receipt.status == PutOk => {
                    self.counts.one("acknowledged");
                    let late = self.model.poisoned.is_some_and(|durable| end > durable);
                    assert!(!late, "acknowledged after the log failed end={end}");
                    self.model.durable(end);
                }
                Ok(_) => {}
            }
        }
    }

    /// Fails if there is no excuse for an error.
    pub(crate) fn expect<T>(&self, what: &str, result: &steadfast::Result<T>) {
        let Err(error) = result else { return };
        self.tell(|| format!("  {what}: {error}"));
        let excused = self.faulty
            || self.disk.is_halted()
            || self.tainted
            || self.model.poisoned.is_some()
            || self.setup.capacity.is_some();
        assert!(excused, "{what} failed on a sound disk: {error:?}");
    }

    /// The consumer offsets are on the disk.
    pub(crate) fn saved(&mut self) {
        for committed in self.model.committed.values_mut() {
            committed.saved = committed.values.len() - 1;
        }
    }

    /// What is found by the next process: a crash of this one, or of the machine.
    fn image(&mut self, halted: Option<SimDisk>) -> SimDisk {
        let unsure = self.model.end() > self.model.safe_power || !self.model.maybe.is_empty();
        // Without checksums of whole records a torn one cannot be told from a sound one.
        let power = self.rng.chance(3, 5) && !(self.unchecked && unsure) && !self.orphaned;
        self.tell(|| if power { "power failure".into() } else { "process crash".into() });
        let disk = halted.as_ref().unwrap_or(&self.disk);
        if power {
            self.counts.one("power_failures");
            self.model.safe_process = self.model.safe_power;
            (self.tainted, self.lossy, self.sync_failed) = (false, false, false);
            self.torn = true;
            return disk.power_failure(&mut self.rng);
        }
        self.counts.one("process_crashes");
        let image = disk.crash_process();
        if self.rng.chance(1, 4) && !self.orphaned {
            self.tell(|| "  memory is short".into());
            image.drop_clean_pages();
            self.lossy |= self.sync_failed;
        }
        if self.lossy {
            self.model.safe_process = self.model.safe_power;
        }
        // What only the store's own files know is lost with them, so only where there is no such
        // thing: no segment was removed, no sync failed, no record is torn, and no queue's file is
        // ahead of the log (the queue goes on behind what it tells of, and skips offsets).
        let sound = !self.torn
            && !self.outlived
            && !self.lossy
            && !self.sync_failed
            && !self.tainted
            && self.model.start_may == 0;
        if sound && self.rng.chance(1, 30) {
            self.tell(|| "  steadfast/ is gone".into());
            for path in image.paths().iter().filter(|path| path.starts_with("steadfast/")) {
                image.remove_file(path);
            }
            (self.orphaned, self.adopted) = (true, true);
        }
        image
    }

    /// The process ends, and nothing else happens.
    fn die_as_process(&mut self) {
        let image = self.disk.crash_process();
        self.store.take().unwrap().abandon();
        self.disk = image;
        self.traced = 0;
    }

    /// The process ends, maybe with the machine.
    fn die(&mut self, halted: Option<SimDisk>) {
        let image = self.image(halted);
        if let Some(store) = self.store.take() {
            store.abandon();
        }
        let sound = !(self.orphaned || self.lossy || self.sync_failed || self.tainted);
        let checked = !self.unchecked
            && !self.setup.changes
            && self.setup.options.record_checksum == RecordChecksum::On;
        let damage = self.setup.swarm.damage;
        if sound && checked && damage > 0 && self.rng.chance(damage, 100) {
            self.damage_at_rest(&image);
        }
        self.tickets.clear();
        self.disk = image;
        self.traced = 0;
        self.faulty = false;
        self.model.poisoned = None;
    }

    /// All faults are over: everything works again.
    fn finale(&mut self) {
        if self.tainted && !self.unchecked {
            self.disk = self.disk.power_failure(&mut self.rng);
            self.model.safe_process = self.model.safe_power;
            self.tainted = false;
        }
        self.setup.capacity = None;
        self.open(true);
        self.check();
        let synced = |store: &Store| store.step(Step::Flush).and(store.step(Step::Checkpoint));
        if self.tainted && synced(self.store.as_ref().unwrap()).is_err() {
            // The first sync of a file, the log's or a queue's, is told of the writeback that
            // failed; what it was about is written after the next open.
            self.die_as_process();
            self.open(true);
            self.check();
        }
        self.session_end();
        let progress = self.store.as_ref().unwrap().progress();
        assert_eq!(progress.durable, progress.written);
        if let Err(error) = self.store.take().unwrap().close() {
            // Only now some file of the queues told of a write-back that failed.
            assert!(self.tainted, "{error}");
            self.disk = self.disk.crash_process();
            self.open(true);
            self.check();
            return self.die_as_process();
        }
        self.saved();
        let image = self.disk.power_failure(&mut self.rng);
        self.disk = image;
        self.open(true);
        let store = self.store.take().unwrap();
        // A derived file of which a write-back failed, and nobody was told, is made again.
        let clean = store.recovery().was_clean || self.tainted;
        assert!(clean, "closed but not clean: {}", store.recovery());
        self.check_opened(&store);
        store.abandon();
    }
}
