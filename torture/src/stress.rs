//! Many threads on one store with real files: producers of every kind, readers, queries,
//! commits, checkpoints and retention under the readers' feet, closed and opened again and again.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use pollster::block_on;
use steadfast::{
    ErrorKind, FlushMode, Message, Options, Placement, PutStatus, QueueOffset, ReadLimit, Receipt,
    Record, Step, Store, StoreTime, disk::sim::Rng,
};
use tempfile::TempDir;

use crate::{
    message::{QUEUES, TOPIC, body, group, name_of, queue},
    trial::Trial,
};

const PRODUCERS: u64 = 5;
const READERS: u64 = 2;
const MESSAGES: u64 = 1200;
/// Directories are begun anew from time to time: checking one takes longer as it grows.
const ROUNDS: u64 = 15;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);
/// So many records a reader keeps while their segments are removed.
const HELD: usize = 64;

/// What every message is called, by queue and queue offset.
type History = Mutex<BTreeMap<(i32, u64), String>>;

#[derive(Default)]
struct Counts {
    put: AtomicU64,
    dropped: AtomicU64,
    read: AtomicU64,
    skipped: AtomicU64,
    queried: AtomicU64,
    committed: AtomicU64,
    checkpoints: AtomicU64,
    removed: AtomicU64,
    opened: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Stress {
    store: Option<(TempDir, History)>,
    round: u64,
    counts: Counts,
}

impl Trial for Stress {
    fn name(&self) -> &'static str {
        "stress"
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        if self.round.is_multiple_of(ROUNDS) {
            self.store = None;
        }
        self.round += 1;
        let (dir, history) = match &self.store {
            Some(store) => store,
            None => self.store.insert((tempfile::tempdir()?, History::default())),
        };
        let store = open(dir.path(), rng)?;
        self.counts.opened.fetch_add(1, SeqCst);
        check_all(&store, history).context("after opening")?;
        let life = Life {
            store: &store,
            history,
            counts: &self.counts,
            round: self.round,
            seed: rng.bits(),
            done: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        life.live()?;
        let removed = store.removed().segments;
        self.counts.removed.fetch_add(removed, SeqCst);
        store.health()?;
        if rng.chance(1, 4) {
            // As if the process died: everything is in the system's hands.
            store.abandon();
        } else {
            store.close()?;
        }
        Ok(())
    }

    fn counted(&self) -> String {
        let of = |count: &AtomicU64| count.load(SeqCst);
        let c = &self.counts;
        format!(
            "{} put, {} futures dropped, {} read, {} skipped by retention, {} queries, {} commits, \
             {} checkpoints, {} segments removed, {} opens",
            of(&c.put),
            of(&c.dropped),
            of(&c.read),
            of(&c.skipped),
            of(&c.queried),
            of(&c.committed),
            of(&c.checkpoints),
            of(&c.removed),
            of(&c.opened),
        )
    }
}

fn open(dir: &Path, rng: &mut Rng) -> Result<Store> {
    let flush = *rng.pick(&[FlushMode::Sync, FlushMode::Async]);
    let mut options = Options::default().flush(flush).segment_bytes(128 << 10);
    options.queue_file_bytes = 4000;
    (options.index_slots, options.index_entries) = (500, 2000);
    options.flush_interval = Duration::from_millis(2);
    options.flush_least_bytes = 1;
    options.offsets_interval = Duration::from_millis(5);
    options.sync_flush_timeout = LONG;
    options.append_timeout = LONG;
    options.retention.reserved = Duration::ZERO;
    options.open_queue_files = 8;
    if rng.chance(1, 3) {
        options.max_message_bytes = 16 << 10;
        options.max_unflushed_bytes = 32 << 10;
    }
    Ok(Store::builder(dir).options(options).open()?)
}

/// Everything in the store is what the history says, but for what retention took.
fn check_all(store: &Store, history: &History) -> Result<()> {
    let history = history.lock().expect("no thread panicked");
    for id in 0..QUEUES {
        let key = queue(id)?;
        let all: BTreeMap<_, _> = history.range((id, 0)..(id + 1, 0)).collect();
        let end = all.last_key_value().map_or(0, |((_, last), _)| last + 1);
        let Some((mut next, found)) = store.queue_range(&key) else {
            ensure!(end == 0, "queue {id} is gone");
            continue;
        };
        ensure!(found.get() == end, "queue {id} ends at {found}, not {end}");
        while next < found {
            let batch = store.read(&key, next, ReadLimit::records(100))?;
            ensure!(!batch.is_empty(), "nothing at {next} of queue {id}");
            for record in batch.iter() {
                let name = name_of(record.body()).context("not a message that was put")?;
                ensure!(record.queue_offset() == next, "an offset was left out");
                ensure!(all.get(&(id, next.get())) == Some(&&name), "{name} at {next} of {id}");
                next = next.next();
            }
        }
    }
    Ok(())
}

/// One life of a store, between opening and closing.
struct Life<'a> {
    store: &'a Store,
    history: &'a History,
    counts: &'a Counts,
    round: u64,
    seed: u64,
    /// Producers that are done.
    done: AtomicU64,
    /// All producers and readers are done.
    over: AtomicBool,
}

impl Life<'_> {
    fn live(&self) -> Result<()> {
        thread::scope(|scope| {
            let producers = (0..PRODUCERS).map(|n| {
                scope.spawn(move || {
                    let put = self.produce(n);
                    self.done.fetch_add(1, SeqCst);
                    put
                })
            });
            let mut threads: Vec<_> = producers.collect();
            for reader in 0..READERS {
                let queues = (0..QUEUES).map(|id| scope.spawn(move || self.consume(reader, id)));
                threads.extend(queues);
            }
            let keeper = scope.spawn(|| self.keep());
            let mut first = Ok(());
            for thread in threads {
                first = first.and(thread.join().expect("no thread panics"));
            }
            self.over.store(true, SeqCst);
            first.and(keeper.join().expect("no thread panics"))
        })
    }

    fn produce(&self, producer: u64) -> Result<()> {
        let mut rng = Rng::new(self.seed ^ producer << 40);
        let mut waiting = Vec::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (mut serial, mut subscribed) = (0, 0);
        while serial < MESSAGES {
            let key = queue(rng.below(QUEUES as u64) as i32)?;
            let count = if rng.chance(1, 10) { 1 + rng.below(5) } else { 1 };
            let names: Vec<_> = (serial..serial + count)
                .map(|serial| format!("r{}-p{producer}-{serial}", self.round))
                .collect();
            serial += count;
            let bodies: Vec<_> = names.iter().map(|name| body(name)).collect();
            let messages: Vec<_> = names
                .iter()
                .zip(&bodies)
                .map(|(name, body)| Message::new(&key, body).key(name))
                .collect();
            let ticket = match &messages[..] {
                [message] => self.store.append(message)?,
                _ => self.store.append_batch(&messages)?,
            };
            for (placement, name) in ticket.placements().zip(&names) {
                self.note(key.queue_id(), placement, name)?;
            }
            match rng.below(5) {
                0 => self.acknowledged(ticket.wait()?)?,
                1 => self.acknowledged(block_on(ticket)?)?,
                2 => {
                    subscribed += 1;
                    let told = told.clone();
                    ticket.on_settled(move |settled| {
                        told.lock().expect("no thread panicked").push(settled);
                    });
                }
                3 => {
                    poll_once(ticket);
                    self.counts.dropped.fetch_add(1, SeqCst);
                }
                _ => waiting.push(ticket),
            }
            if rng.chance(1, 16) {
                for ticket in waiting.drain(..) {
                    self.acknowledged(ticket.wait()?)?;
                }
                self.query(&key, &names[0])?;
            }
        }
        for ticket in waiting {
            self.acknowledged(ticket.wait()?)?;
        }
        self.store.flush()?;
        // Callbacks come on the flusher's thread, perhaps this very moment.
        while told.lock().expect("no thread panicked").len() < subscribed {
            thread::yield_now();
        }
        for settled in told.lock().expect("no thread panicked").drain(..) {
            self.acknowledged(settled?)?;
        }
        Ok(())
    }

    fn note(&self, id: i32, placement: &Placement, name: &str) -> Result<()> {
        self.counts.put.fetch_add(1, SeqCst);
        let mut history = self.history.lock().expect("no thread panicked");
        let before = history.insert((id, placement.queue_offset.get()), name.to_owned());
        ensure!(before.is_none(), "{placement:?} was given twice");
        Ok(())
    }

    fn safe(&self) -> steadfast::PhysicalOffset {
        let progress = self.store.progress();
        match self.store.options().flush {
            FlushMode::Sync => progress.durable,
            FlushMode::Async => progress.written,
        }
    }

    fn acknowledged(&self, receipt: Receipt) -> Result<()> {
        ensure!(receipt.status == PutStatus::PutOk, "{:?}", receipt.status);
        let end = receipt.placements().map(Placement::end).max();
        ensure!(end <= Some(self.safe()), "acknowledged before it was safe");
        Ok(())
    }

    /// A message that was dispatched is found by its key, unless retention removed it.
    fn query(&self, key: &steadfast::QueueKey, name: &str) -> Result<()> {
        let (_, end) = self.store.queue_range(key).unwrap_or_default();
        let at = {
            let history = self.history.lock().expect("no thread panicked");
            let mut all = history.range((key.queue_id(), 0)..(key.queue_id() + 1, 0)).rev();
            all.find(|(_, there)| *there == name).map(|((_, at), _)| QueueOffset::new(*at))
        };
        let Some(at) = at else { bail!("{name} was put") };
        if at >= end && !self.store.wait_for(key, at, LONG)? {
            bail!("{name} did not come in {LONG:?}");
        }
        // The entry comes before the key, in the same step of the dispatcher.
        let dispatched = self.store.progress().written;
        while self.store.progress().dispatched < dispatched {
            thread::yield_now();
        }
        let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
        let found = self.store.query(TOPIC, name, ever.0, ever.1, 10)?;
        let gone = self.store.queue_range(key).is_some_and(|(min, _)| min > at);
        ensure!(found.len() == 1 || gone && found.is_empty(), "{name}: {} hits", found.len());
        for record in found {
            ensure!(name_of(record.view().body()).as_deref() == Some(name), "another message");
        }
        self.counts.queried.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Follows one queue to its end, and compares what it saw with what was put.
    fn consume(&self, reader: u64, id: i32) -> Result<()> {
        let (key, group) = (queue(id)?, group(reader)?);
        let mut next = self.store.consumers().committed(&group, &key).unwrap_or_default();
        let mut latest: HashMap<String, u64> = HashMap::new();
        let mut held: Vec<Record> = Vec::new();
        let mut rng = Rng::new(self.seed ^ reader << 50 ^ (id as u64) << 55);
        loop {
            // A reader that is slow finds that retention was faster.
            if reader == 0 && rng.chance(1, 8) {
                thread::sleep(Duration::from_millis(rng.below(60)));
            }
            let all_put = self.done.load(SeqCst) == PRODUCERS;
            // Short only so that the end of the producers is noticed.
            if !self.store.wait_for(&key, next, Duration::from_millis(5))? {
                let history = self.history.lock().expect("no thread panicked");
                if all_put && !history.contains_key(&(id, next.get())) {
                    break;
                }
                continue;
            }
            let batch = match self.store.read(&key, next, ReadLimit::records(20)) {
                Ok(batch) => batch,
                Err(error) => match error.kind() {
                    ErrorKind::OutOfRange { start, .. } if start > next.get() => {
                        self.counts.skipped.fetch_add(start - next.get(), SeqCst);
                        next = QueueOffset::new(start);
                        continue;
                    }
                    _ => return Err(error.into()),
                },
            };
            ensure!(!batch.is_empty(), "told that {next} of {id} is there, but it is not");
            let safe = self.safe();
            for record in batch.iter() {
                ensure!(record.queue_offset() == next, "an offset was left out");
                let end = record.physical_offset() + u64::from(record.size());
                ensure!(end <= safe, "read before it was safe");
                self.follows(id, next, record.body(), &mut latest)?;
                next = next.next();
            }
            self.counts.read.fetch_add(batch.len() as u64, SeqCst);
            self.store.consumers().commit(&group, &key, next)?;
            self.counts.committed.fetch_add(1, SeqCst);
            held.extend(batch.into_records().into_iter().take(1));
            if held.len() > HELD {
                all_whole(&held)?;
                held.clear();
            }
        }
        all_whole(&held)
    }

    /// The message at `at` is the one that was put there, and behind its producer's earlier ones.
    fn follows(
        &self,
        id: i32,
        at: QueueOffset,
        body: &[u8],
        latest: &mut HashMap<String, u64>,
    ) -> Result<()> {
        let name = name_of(body).context("not a message that was put")?;
        let (producer, serial) = name.rsplit_once('-').context("a name")?;
        let serial = serial.parse()?;
        let before = latest.insert(producer.to_owned(), serial);
        ensure!(before.is_none_or(|before| before < serial), "{name} came after {before:?}");
        // Its producer may not have had the time to note it down.
        loop {
            let there = {
                let history = self.history.lock().expect("no thread panicked");
                history.get(&(id, at.get())).cloned()
            };
            match there {
                Some(there) if there == name => return Ok(()),
                Some(there) => bail!("{name} at {at} of {id}, where {there} was put"),
                None => thread::yield_now(),
            }
        }
    }

    /// What housekeeping does now and then, all the time.
    fn keep(&self) -> Result<()> {
        let mut rng = Rng::new(self.seed ^ 0x4b);
        while !self.over.load(SeqCst) {
            match rng.below(20) {
                0..8 => {
                    self.store.step(Step::Checkpoint)?;
                    self.counts.checkpoints.fetch_add(1, SeqCst);
                }
                8 => self.store.step(Step::Retain)?,
                9..14 => self.store.step(Step::SaveOffsets)?,
                _ => thread::sleep(Duration::from_millis(rng.below(8))),
            }
        }
        Ok(())
    }
}

/// Bytes that somebody holds stay what they are, whatever is removed.
fn all_whole(held: &[Record]) -> Result<()> {
    for record in held {
        name_of(record.view().body()).context("a record changed while it was held")?;
    }
    Ok(())
}

/// Polls and drops it.
fn poll_once(future: impl Future) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}
