//! Operations, failing calls and crashes in any order: what was acknowledged is there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use steadfast::{
    ErrorKind, FlushMode, Group, ManualClock, Message, Options, PutStatus, QueueKey, QueueOffset,
    ReadLimit, Step, Store, StoreTime, Ticket,
    disk::{
        AppendPath,
        sim::{CallKind, Fault, FaultPlan, Rng, SimDisk, When},
    },
};

use super::Input;

const STEPS: [Step; 6] =
    [Step::Flush, Step::Dispatch, Step::Prepare, Step::Keep, Step::Checkpoint, Step::SaveOffsets];
const FAILING: [CallKind; 8] = [
    CallKind::SyncData,
    CallKind::Write,
    CallKind::Allocate,
    CallKind::Create,
    CallKind::SyncDir,
    CallKind::Rename,
    CallKind::SetLen,
    CallKind::SyncAll,
];
const QUEUES: usize = 3;

/// A message that has its place.
#[derive(Clone, Debug)]
struct Placed {
    id: u64,
    /// Queue and offset.
    at: (usize, u64),
    /// Where its record, or its batch, ends in the log.
    end: u64,
}

struct World {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    options: Options,
    queues: Vec<QueueKey>,
    store: Store,
    waiting: Vec<(Ticket, Vec<Placed>)>,
    /// What has to be there, by place.
    kept: BTreeMap<(usize, u64), Placed>,
    next_id: u64,
}

fn body(id: u64) -> Vec<u8> {
    let mut body = format!("m{id} ").into_bytes();
    body.resize(body.len() + (id * 97 % 700) as usize, b'.');
    body
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let flush = [FlushMode::Sync, FlushMode::Async][usize::from(input.below(2))];
        let segment_bytes = [4096, 8192, 16384][usize::from(input.below(3))];
        let mut options = Options::default().flush(flush).segment_bytes(segment_bytes);
        options.queue_file_bytes = 400;
        options.index_slots = 10;
        options.index_entries = 60;
        let disk = SimDisk::new(input.byte().into());
        if input.below(2) == 1 {
            disk.set_append_path(AppendPath::Write);
        }
        let clock = Arc::new(ManualClock::new(StoreTime::from_millis(1_700_000_000_000)));
        let queues = (0..QUEUES).map(|id| QueueKey::new("t", id as i32).unwrap()).collect();
        let store = open(&disk, &clock, &options);
        let (waiting, kept) = (Vec::new(), BTreeMap::new());
        Self { disk, clock, options, queues, store, waiting, kept, next_id: 0 }
    }

    fn append(&mut self, queue: usize, count: u64) {
        let ids: Vec<_> = (self.next_id..self.next_id + count).collect();
        self.next_id += count;
        let bodies: Vec<_> = ids.iter().map(|id| body(*id)).collect();
        let key = &self.queues[queue];
        let messages: Vec<_> = bodies.iter().map(|body| Message::new(key, body).key("k")).collect();
        match self.store.append_batch(&messages) {
            Ok(ticket) => {
                let end = ticket.placements().last().unwrap().end().get();
                let places = ids.iter().zip(ticket.placements());
                let placed = places
                    .map(|(id, at)| Placed { id: *id, at: (queue, at.queue_offset.get()), end })
                    .collect();
                self.waiting.push((ticket, placed));
            }
            Err(e) => match e.kind() {
                ErrorKind::Faulted | ErrorKind::Full | ErrorKind::TooLarge | ErrorKind::Io => {}
                kind => panic!("refused with {kind:?}: {e}"),
            },
        }
    }

    /// Takes down what is acknowledged by now.
    fn settle(&mut self) {
        for (ticket, placed) in std::mem::take(&mut self.waiting) {
            if !ticket.is_settled() {
                self.waiting.push((ticket, placed));
            } else if ticket.wait().is_ok_and(|receipt| receipt.status == PutStatus::PutOk) {
                for placed in placed {
                    let before = self.kept.insert(placed.at, placed.clone());
                    assert!(before.is_none(), "an offset twice: {before:?} {placed:?}");
                }
            }
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=5 => self.append(usize::from(input.below(QUEUES as u8)), 1),
            6 => self.append(usize::from(input.below(QUEUES as u8)), 2 + u64::from(input.below(3))),
            7 => self.clock.advance(Duration::from_millis(u64::from(input.byte()) * 20)),
            8 => self.commit(input),
            9 => self.fail(input),
            10 => self.die(input),
            step => {
                // What goes wrong here is told by tickets and by `health`.
                let _ = self.store.step(STEPS[usize::from(step - 10) % STEPS.len()]);
            }
        }
        self.settle();
    }

    fn commit(&mut self, input: &mut Input<'_>) {
        let queue = &self.queues[usize::from(input.below(QUEUES as u8))];
        if let Some((_, end)) = self.store.queue_range(queue) {
            let next = QueueOffset::new(u64::from(input.byte()) % (end.get() + 1));
            self.store.consumers().commit(&Group::new("g").unwrap(), queue, next).unwrap();
        }
    }

    fn fail(&mut self, input: &mut Input<'_>) {
        let call = FAILING[usize::from(input.below(FAILING.len() as u8))];
        let fault = [Fault::Io, Fault::NoSpace][usize::from(input.below(2))];
        let nth = 1 + u64::from(input.below(16));
        let when = if input.below(2) == 0 { When::Nth(nth) } else { When::From(nth) };
        self.disk.set_faults(FaultPlan::none().fail(call, when, fault));
    }

    /// The store's end, one way or another, and its next life.
    fn die(&mut self, input: &mut Input<'_>) {
        let kind = input.below(4);
        let mut rng = Rng::new(u64::from(input.short()));
        let image = match kind {
            0 => {
                self.settle();
                self.disk.set_faults(FaultPlan::none());
                self.disk.clone()
            }
            1 => self.disk.crash_process(),
            _ => {
                let durable = self.store.progress().durable.get();
                if self.options.flush == FlushMode::Async {
                    // Acknowledged from memory: only what was flushed survives this.
                    self.kept.retain(|_, placed| placed.end <= durable);
                }
                self.disk.power_failure(&mut rng)
            }
        };
        let before = std::mem::replace(&mut self.disk, image);
        self.waiting.clear();
        if kind == 0 {
            // Nothing fails any more, but what failed before may be final.
            let other = SimDisk::new(0);
            let store =
                std::mem::replace(&mut self.store, open(&other, &self.clock, &self.options));
            let _ = store.close();
        }
        drop(before);
        self.store = open(&self.disk, &self.clock, &self.options);
        self.check();
    }

    fn check(&mut self) {
        let mut wanted = self.kept.clone();
        for (number, queue) in self.queues.iter().enumerate() {
            let Some((min, end)) = self.store.queue_range(queue) else { continue };
            for offset in min.get()..end.get() {
                let at = QueueOffset::new(offset);
                let batch = self.store.read(queue, at, ReadLimit::records(1)).unwrap();
                let record = batch.iter().next().unwrap();
                let text = record.body().split(|b| *b == b' ').next().unwrap();
                let id: u64 = std::str::from_utf8(&text[1..]).unwrap().parse().unwrap();
                assert_eq!(record.body(), body(id), "at {offset} of {queue}");
                let place = (number, offset);
                if let Some(placed) = wanted.remove(&place) {
                    assert_eq!(placed.id, id, "at {offset} of {queue}");
                }
                // Whatever was read once stays, too; in Async if power does not fail first.
                let end = record.physical_offset().get() + u64::from(record.size());
                self.kept.insert(place, Placed { id, at: place, end });
            }
        }
        assert!(wanted.is_empty(), "lost: {wanted:?}\n{}", self.store.recovery());
    }
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>, options: &Options) -> Store {
    disk.set_faults(FaultPlan::none());
    let builder = Store::builder_on(Arc::new(disk.clone())).options(options.clone());
    let store = builder.clock(clock.clone()).open_stepped();
    store.unwrap_or_else(|e| panic!("a crash is no reason not to open: {e}"))
}

/// A store that lives and dies as the bytes say keeps what it acknowledged.
pub fn crash_schedule(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
    }
    // The worst end is the last one.
    for kind in [[10, 1], [10, 2]] {
        world.act(&mut Input(&kind));
    }
}
