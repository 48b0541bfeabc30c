//! A whole store on the simulated disk, with all its threads.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex as Plain},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use shuttle::{
    rand::{Rng as _, thread_rng},
    thread::{self, JoinHandle},
};

use crate::{
    Error, ErrorKind, FlushMode, Group, Message, OnDamage, Options, Placement, PutStatus, QueueKey,
    QueueOffset, ReadLimit, Record, Result, Step, Store, Ticket,
    disk::{
        AppendPath, Disk,
        sim::{CallKind, Fault, FaultPlan, Rng, SimDisk, When},
    },
    marks::join,
    slow_disk::SlowDisk,
    sync::{AtomicUsize, Ordering::SeqCst},
    time::Naps,
};

/// No model's time gets there.
const LONG: Duration = Duration::from_secs(4000);
/// So that a segment holds three of them.
const BODY_BYTES: usize = 1100;

fn draw(below: u64) -> u64 {
    thread_rng().gen_range(0..below)
}

fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(4096);
    options.queue_file_bytes = 40;
    options.index_slots = 4;
    options.index_entries = 5;
    options.sync_flush_timeout = LONG;
    options.append_timeout = LONG;
    options.flush_interval = Duration::ZERO;
    options.flush_least_bytes = 1;
    options.flush_thorough_interval = Duration::ZERO;
    options.offsets_interval = Duration::from_millis(100);
    options
}

fn queue() -> QueueKey {
    QueueKey::new("orders", 0).unwrap()
}

fn body(who: usize, serial: usize) -> Vec<u8> {
    let mut body = format!("{who}/{serial} ").into_bytes();
    body.resize(BODY_BYTES, b'a' + (who * 7 + serial) as u8);
    body
}

fn key(who: usize, serial: usize) -> String {
    format!("k{who}-{serial}")
}

/// Who wrote a body, and as its which; panics if it is not that body.
fn parse(bytes: &[u8]) -> (usize, usize) {
    let number = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    assert!(bytes.len() == BODY_BYTES && bytes[1] == b'/', "not a body that was ever put");
    let (who, serial) = (number(bytes[0]), number(bytes[2]));
    assert!(bytes == body(who, serial), "the bytes of message {serial} of {who}");
    (who, serial)
}

/// Which messages were acknowledged, by queue offset.
type Acknowledged = BTreeMap<u64, (usize, usize)>;

/// An open store, what it acknowledged, and its disk.
struct World {
    disk: SimDisk,
    store: Arc<Store>,
    acknowledged: Arc<Plain<Acknowledged>>,
}

impl World {
    fn new(options: Options, path: AppendPath) -> Self {
        let disk = SimDisk::new(draw(1 << 20));
        disk.set_append_path(path);
        let store = Arc::new(open(&disk, &options));
        Self { disk, store, acknowledged: Arc::default() }
    }

    fn spawn(&self, body: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let world = Self {
            disk: self.disk.clone(),
            store: self.store.clone(),
            acknowledged: self.acknowledged.clone(),
        };
        thread::spawn(move || body(&world))
    }

    fn put(&self, who: usize, serial: usize) -> Result<Ticket> {
        let (queue, body) = (queue(), body(who, serial));
        self.store.append(&Message::new(&queue, &body).key(&key(who, serial)))
    }

    fn note(&self, placement: &Placement, who: usize, serial: usize) {
        let progress = self.store.progress();
        let safe = match self.store.options().flush {
            FlushMode::Sync => progress.durable,
            FlushMode::Async => progress.written,
        };
        assert!(safe >= placement.end(), "acknowledged before it was safe");
        let mut acknowledged = self.acknowledged.lock().unwrap();
        let before = acknowledged.insert(placement.queue_offset.get(), (who, serial));
        assert!(before.is_none(), "a queue offset was given twice");
    }

    /// Puts `count` messages and waits for each.
    fn produce(&self, who: usize, count: usize) {
        for serial in 0..count {
            let receipt = self.put(who, serial).unwrap().wait().unwrap();
            assert_eq!(receipt.status, PutStatus::PutOk);
            self.note(&receipt.placement, who, serial);
        }
    }

    /// Follows the queue until there were `count` messages.
    fn consume(&self, count: u64) {
        let mut next = QueueOffset::ZERO;
        while next.get() < count {
            assert!(self.store.wait_for(&queue(), next, LONG).unwrap());
            let batch = match self.store.read(&queue(), next, ReadLimit::records(2)) {
                // The pages of a queue's file are lost, until the next checkpoint writes them anew.
                Err(error) if error.kind() == ErrorKind::Io => {
                    thread::yield_now();
                    continue;
                }
                read => read.unwrap(),
            };
            assert!(!batch.is_empty(), "told that {next} is there, but it is not");
            let progress = self.store.progress();
            for record in batch.iter() {
                assert_eq!(record.queue_offset(), next, "an offset was left out");
                let end = record.physical_offset() + u64::from(record.size());
                let sync = self.store.options().flush == FlushMode::Sync;
                assert!(!sync || progress.durable >= end, "read before it was safe");
                parse(record.body());
                next = next.next();
            }
        }
    }

    /// What the disk would hold after a power failure now, and what was acknowledged by then.
    fn power_failure(&self) -> (SimDisk, Acknowledged) {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        (self.disk.power_failure(&mut Rng::new(draw(1 << 20))), acknowledged)
    }

    fn close(self) -> (SimDisk, Acknowledged, Options) {
        let options = self.store.options().clone();
        let store = Arc::into_inner(self.store).expect("all threads ended");
        store.close().unwrap();
        (self.disk, self.acknowledged.lock().unwrap().clone(), options)
    }
}

fn open(disk: &SimDisk, options: &Options) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(SlowDisk(disk.clone()));
    Store::builder_on(disk).clock(Arc::new(Naps)).options(options.clone()).open().unwrap()
}

fn open_stepped(disk: &SimDisk, options: &Options) -> Store {
    let builder = Store::builder_on(Arc::new(disk.clone()));
    builder.clock(Arc::new(Naps)).options(options.clone()).open_stepped().unwrap()
}

/// All messages of the queue, read one after the other.
fn read_all(store: &Store) -> Acknowledged {
    let Some((mut next, end)) = store.queue_range(&queue()) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    while next < end {
        let batch = store.read(&queue(), next, ReadLimit::records(3)).unwrap();
        assert!(!batch.is_empty(), "nothing at {next} below the end {end}");
        for record in batch.iter() {
            assert_eq!(record.queue_offset(), next);
            found.insert(next.get(), parse(record.body()));
            next = next.next();
        }
    }
    found
}

/// Everything acknowledged is in the store on `disk`, where it was, and its keys lead to it.
fn check(disk: &SimDisk, acknowledged: &Acknowledged, options: &Options) -> Acknowledged {
    let store = open_stepped(disk, options);
    let found = read_all(&store);
    for (offset, message) in acknowledged {
        assert_eq!(found.get(offset), Some(message), "acknowledged at {offset}");
        let (begin, end) =
            (crate::StoreTime::from_millis(0), crate::StoreTime::from_millis(1 << 50));
        let key = key(message.0, message.1);
        let hits = store.query("orders", &key, begin, end, 9).unwrap();
        assert_eq!(hits.len(), 1, "by its key {key}");
    }
    store.close().unwrap();
    found
}

pub(crate) fn what_is_acknowledged_survives_sync() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    let image = Arc::new(Plain::new(None));
    let threads = [
        world.spawn(|world| world.produce(0, 2)),
        world.spawn(|world| world.produce(1, 2)),
        world.spawn(|world| world.consume(4)),
        world.spawn({
            let image = image.clone();
            move |world| {
                for _ in 0..draw(200) {
                    thread::yield_now();
                }
                *image.lock().unwrap() = Some(world.power_failure());
            }
        }),
    ];
    join(threads);
    let (disk, all, options) = world.close();
    assert_eq!(check(&disk, &all, &options).len(), 4);
    let (image, acknowledged) = image.lock().unwrap().take().unwrap();
    check(&image, &acknowledged, &options);
}

fn what_is_read_is_whole(path: AppendPath) {
    let world = World::new(options(FlushMode::Async), path);
    let threads = [
        world.spawn(|world| world.produce(0, 3)),
        world.spawn(|world| {
            let queue = queue();
            let bodies = [0, 1].map(|serial| body(1, serial));
            let keys = [0, 1].map(|serial| key(1, serial));
            let messages: Vec<_> = (0..2)
                .map(|serial| Message::new(&queue, &bodies[serial]).key(&keys[serial]))
                .collect();
            let receipt = world.store.append_batch(&messages).unwrap().wait().unwrap();
            for (serial, placement) in receipt.placements().enumerate() {
                world.note(placement, 1, serial);
            }
        }),
        world.spawn(|world| world.consume(5)),
        world.spawn(|world| world.consume(5)),
    ];
    join(threads);
    let (disk, all, options) = world.close();
    assert_eq!(check(&disk, &all, &options), all);
}

pub(crate) fn what_is_read_is_whole_async() {
    what_is_read_is_whole(AppendPath::Store);
}

pub(crate) fn what_is_read_is_whole_async_by_writes() {
    what_is_read_is_whole(AppendPath::Write);
}

pub(crate) fn a_failed_sync_settles_everybody() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    let nth = When::Nth(1 + draw(3));
    let plan = FaultPlan::none().fail(CallKind::SyncData, nth, Fault::Io).under("commitlog/");
    world.disk.set_faults(plan);
    let producers = [0, 1].map(|who| {
        world.spawn(move |world| {
            let mut failed = false;
            for serial in 0..3 {
                let settled = world.put(who, serial).and_then(Ticket::wait);
                match settled {
                    Ok(receipt) => {
                        assert!(!failed, "acknowledged after a failure was told");
                        assert_eq!(receipt.status, PutStatus::PutOk);
                        world.note(&receipt.placement, who, serial);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Faulted);
                        failed = true;
                    }
                }
            }
        })
    });
    join(producers);
    let failed = world.put(2, 0).and_then(Ticket::wait).is_err();
    assert!(!failed || world.store.health().is_err());
    let acknowledged = world.acknowledged.lock().unwrap().clone();
    // Everybody else is served what is durable.
    world.consume(acknowledged.len() as u64);
    let (image, options) = (world.power_failure().0, world.store.options().clone());
    assert!(Arc::into_inner(world.store).unwrap().close().is_err() || !failed);
    let options = options.on_damage(OnDamage::Serve);
    check(&image, &acknowledged, &options);
}

/// A write fails; others have their places behind it already, and write what they have after it.
/// With its bytes missing nobody would find theirs.
pub(crate) fn a_failed_write_acknowledges_nobody_behind_it() {
    let world = World::new(options(FlushMode::Async), AppendPath::Write);
    let nth = When::Nth(1 + draw(3));
    let plan = FaultPlan::none().fail(CallKind::Write, nth, Fault::Io).under("commitlog/");
    world.disk.set_faults(plan);
    let producers = [0, 1, 2].map(|who| {
        world.spawn(move |world| {
            for serial in 0..2 {
                match world.put(who, serial).and_then(Ticket::wait) {
                    Ok(receipt) => world.note(&receipt.placement, who, serial),
                    Err(error) => return assert_eq!(error.kind(), ErrorKind::Faulted),
                }
            }
        })
    });
    join(producers);
    let (acknowledged, options) =
        (world.acknowledged.lock().unwrap().clone(), world.store.options().clone());
    let left = world.disk.crash_process();
    assert!(Arc::into_inner(world.store).unwrap().close().is_err());
    check(&left, &acknowledged, &options);
}

/// Wakes a thread of the model.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until it is ready, as an executor does that has nothing else to do.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

pub(crate) fn closing_settles_who_waits() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    let tickets = [0, 1, 2].map(|serial| world.put(0, serial).unwrap());
    let called = Arc::new(AtomicUsize::new(0));
    world.put(1, 0).unwrap().on_settled({
        let called = called.clone();
        move |settled| {
            assert_eq!(settled.unwrap().status, PutStatus::PutOk);
            called.fetch_add(1, SeqCst);
        }
    });
    let arrivals = [3, 4].map(|at| world.store.arrival(&queue(), QueueOffset::new(at)).unwrap());
    let waiters = tickets.map(|ticket| {
        thread::spawn(|| {
            // Closing flushes: whatever has its place is acknowledged.
            let by_future = draw(2) == 0;
            let settled = if by_future { block_on(ticket) } else { ticket.wait() };
            assert_eq!(settled.unwrap().status, PutStatus::PutOk);
        })
    });
    let arriving = arrivals.map(|arrival| thread::spawn(|| block_on(arrival)));
    let store = Arc::into_inner(world.store).unwrap();
    store.close().unwrap();
    join(waiters);
    let [there, never] = arriving.map(|thread| thread.join().unwrap());
    there.unwrap();
    assert_eq!(never.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(called.load(SeqCst), 1);
}

pub(crate) fn futures_settle_once_or_leave() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    let called = Arc::new(AtomicUsize::new(0));
    let threads = [
        world.spawn(|world| {
            for serial in 0..2 {
                let ticket = world.put(0, serial).unwrap();
                let receipt = block_on(ticket).unwrap();
                assert_eq!(receipt.status, PutStatus::PutOk);
                world.note(&receipt.placement, 0, serial);
            }
        }),
        world.spawn(|world| {
            // Polled once and dropped: nothing of it stays.
            let waker = Arc::new(Unpark(thread::current()));
            let mut ticket = world.put(1, 0).unwrap();
            let mut arrival = world.store.arrival(&queue(), QueueOffset::new(2)).unwrap();
            let polled = Waker::from(waker.clone());
            let mut context = Context::from_waker(&polled);
            let _ = Pin::new(&mut ticket).poll(&mut context);
            let _ = Pin::new(&mut arrival).poll(&mut context);
            drop((ticket, arrival));
            drop(polled);
            // Somebody may be waking it this very moment.
            while Arc::strong_count(&waker) > 1 {
                thread::yield_now();
            }
        }),
        world.spawn({
            let called = called.clone();
            move |world| {
                for serial in 0..2 {
                    let called = called.clone();
                    world.put(2, serial).unwrap().on_settled(move |settled| {
                        assert_eq!(settled.unwrap().status, PutStatus::PutOk);
                        called.fetch_add(1, SeqCst);
                    });
                }
            }
        }),
    ];
    join(threads);
    let (disk, all, options) = world.close();
    assert_eq!(called.load(SeqCst), 2);
    assert_eq!(check(&disk, &all, &options).len(), 5);
}

pub(crate) fn appenders_that_are_held_back_go_on() {
    let mut options = options(FlushMode::Async);
    options.max_unflushed_bytes = 1500;
    options.max_message_bytes = 1200;
    let path = if draw(2) == 0 { AppendPath::Store } else { AppendPath::Write };
    let world = World::new(options, path);
    let threads = [
        world.spawn(|world| world.produce(0, 3)),
        world.spawn(|world| world.produce(1, 3)),
        world.spawn(|world| world.consume(6)),
    ];
    join(threads);
    let (disk, all, options) = world.close();
    assert_eq!(check(&disk, &all, &options), all);
}

pub(crate) fn a_saved_offset_is_not_taken_back() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    world.produce(0, 2);
    world.consume(2);
    let told = Arc::new(Plain::new(BTreeMap::new()));
    let image = Arc::new(Plain::new(None));
    let savers = ["a", "b"].map(|name| {
        let told = told.clone();
        world.spawn(move |world| {
            let group = Group::new(name).unwrap();
            for next in 1..3 {
                world.store.consumers().commit(&group, &queue(), QueueOffset::new(next)).unwrap();
                world.store.consumers().save().unwrap();
                told.lock().unwrap().insert(name, next);
            }
        })
    });
    let cut = world.spawn({
        let (told, image) = (told.clone(), image.clone());
        move |world| {
            for _ in 0..draw(200) {
                thread::yield_now();
            }
            let told = told.lock().unwrap().clone();
            *image.lock().unwrap() = Some((world.power_failure().0, told));
        }
    });
    join(savers);
    join([cut]);
    let (disk, _, options) = world.close();
    let told = told.lock().unwrap().clone();
    let image = image.lock().unwrap().take().unwrap();
    for (disk, told) in [(disk, told), image] {
        let store = open_stepped(&disk, &options);
        for (name, next) in told {
            let saved = store.consumers().committed(&Group::new(name).unwrap(), &queue());
            assert!(saved >= Some(QueueOffset::new(next)), "{name}: told {next}, is {saved:?}");
        }
    }
}

pub(crate) fn retention_takes_nothing_from_readers() {
    let mut options = options(FlushMode::Sync);
    options.retention.reserved = Duration::ZERO;
    let world = World::new(options, AppendPath::Store);
    let held = Arc::new(Plain::new(Vec::<Record>::new()));
    let threads = [
        world.spawn(|world| world.produce(0, 4)),
        world.spawn(|world| world.produce(1, 4)),
        world.spawn(|world| (0..3).for_each(|_| world.store.step(Step::Retain).unwrap())),
        world.spawn({
            let held = held.clone();
            move |world| {
                let mut next = QueueOffset::ZERO;
                while next.get() < 8 {
                    assert!(world.store.wait_for(&queue(), next, LONG).unwrap());
                    match world.store.read(&queue(), next, ReadLimit::records(2)) {
                        Ok(batch) => {
                            assert!(!batch.is_empty());
                            next = batch.next_offset();
                            held.lock().unwrap().extend(batch.into_records());
                        }
                        Err(error) => match error.kind() {
                            ErrorKind::OutOfRange { start, .. } if start > next.get() => {
                                next = QueueOffset::new(start);
                            }
                            _ => panic!("{next}: {error}"),
                        },
                    }
                }
            }
        }),
    ];
    join(threads);
    // What a reader holds stays, whatever was removed.
    for record in held.lock().unwrap().drain(..) {
        parse(record.view().body());
    }
    let (disk, all, options) = world.close();
    let store = open_stepped(&disk, &options);
    let found = read_all(&store);
    assert!(found.iter().all(|(offset, message)| all.get(offset) == Some(message)));
    assert_eq!(store.queue_range(&queue()).unwrap().1, QueueOffset::new(8));
}

pub(crate) fn who_follows_sees_a_beginning_of_the_queue() {
    let flush = if draw(2) == 0 { FlushMode::Sync } else { FlushMode::Async };
    let world = World::new(options(flush), AppendPath::Store);
    world.produce(0, 1);
    let threads = [
        world.spawn(|world| world.produce(1, 3)),
        world.spawn(|world| world.produce(2, 2)),
        world.spawn(|world| {
            let disk: Arc<dyn Disk> = Arc::new(SlowDisk(world.disk.clone()));
            let builder = Store::builder_on(disk).clock(Arc::new(Naps));
            let options = world.store.options().clone();
            let follower = builder.options(options).open_read_only().unwrap();
            let mut before = BTreeMap::new();
            for _ in 0..3 {
                follower.refresh().unwrap();
                let found = read_all(&follower);
                assert!(before.iter().all(|(at, message)| found.get(at) == Some(message)));
                before = found;
            }
        }),
    ];
    join(threads);
    let (disk, all, options) = world.close();
    assert_eq!(check(&disk, &all, &options), all);
}

pub(crate) fn lost_queue_entries_come_back_under_readers() {
    let world = World::new(options(FlushMode::Sync), AppendPath::Store);
    let nth = When::Nth(1 + draw(2));
    let plan = FaultPlan::none().fail(CallKind::SyncData, nth, Fault::Io).under("consumequeue/");
    world.disk.set_faults(plan);
    let threads = [
        world.spawn(|world| world.produce(0, 4)),
        world.spawn(|world| world.consume(4)),
        world.spawn(|world| {
            for _ in 0..2 {
                let _ = world.store.step(Step::Checkpoint);
                world.disk.drop_clean_pages();
            }
            // At most one of these fails.
            (0..2).for_each(|_| drop(world.store.step(Step::Checkpoint)));
        }),
    ];
    join(threads);
    (0..2).for_each(|_| drop(world.store.step(Step::Checkpoint)));
    assert_eq!(read_all(&world.store).len(), 4);
    let image = world.disk.power_failure(&mut Rng::new(draw(1 << 20)));
    let (disk, all, options) = world.close();
    assert_eq!(check(&disk, &all, &options), all);
    assert_eq!(check(&image, &all, &options), all);
}
