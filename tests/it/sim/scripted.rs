//! What the scripted tests share: a small store on a simulated disk.

use std::{collections::BTreeMap, sync::Arc};

use steadfast::{
    FlushMode, ManualClock, Message, OnDamage, Options, PhysicalOffset, Placement, QueueKey,
    QueueOffset, ReadLimit, Result, Step, Store, StoreTime,
    disk::sim::{Rng, SimDisk},
};

pub(crate) const SEGMENT: u64 = 8192;
pub(crate) const LOG: &str = "commitlog/00000000000000000000";

pub(crate) fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(SEGMENT);
    options.queue_file_bytes = 400;
    options.index_slots = 7;
    options.index_entries = 20;
    options
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(StoreTime::from_millis(1_700_000_000_000)))
}

pub(crate) fn open_with(disk: &SimDisk, options: Options) -> Result<Store> {
    Store::builder_on(Arc::new(disk.clone())).options(options).clock(clock()).open_stepped()
}

pub(crate) fn open(disk: &SimDisk, flush: FlushMode) -> Store {
    open_with(disk, options(flush)).unwrap()
}

pub(crate) fn open_on(disk: &SimDisk, on_damage: OnDamage) -> Result<Store> {
    open_with(disk, options(FlushMode::Sync).on_damage(on_damage))
}

pub(crate) fn queue() -> QueueKey {
    QueueKey::new("orders", 0).unwrap()
}

/// What was put, to be asked for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) body: Vec<u8>,
    pub(crate) at: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

impl Kept {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.size
    }

    fn new(body: Vec<u8>, place: &Placement) -> Self {
        Self {
            body,
            at: place.physical_offset.get(),
            size: place.size.into(),
            offset: place.queue_offset.get(),
        }
    }
}

/// Appends a message of `len` bytes; not flushed.
pub(crate) fn put(store: &Store, len: usize) -> Kept {
    let end = store.progress().written.get();
    let mut body = vec![0; len];
    Rng::new(end ^ len as u64).fill(&mut body);
    let queue = queue();
    let ticket = store.append(&Message::new(&queue, &body).tag("A").key("k")).unwrap();
    Kept::new(body.clone(), ticket.placement())
}

pub(crate) fn puts(store: &Store, number: usize) -> Vec<Kept> {
    (0..number).map(|n| put(store, 40 + 13 * n)).collect()
}

pub(crate) fn flush(store: &Store) {
    store.step(Step::Flush).unwrap();
    while store.progress().dispatched < store.progress().durable {
        store.step(Step::Dispatch).unwrap();
    }
}

/// Whether the store has `message`, whichever way it is asked for.
pub(crate) fn has(store: &Store, message: &Kept) -> bool {
    let by_place =
        store.record_at(PhysicalOffset::new(message.at)).is_ok_and(|r| r.body() == message.body);
    let batch = store.read(&queue(), QueueOffset::new(message.offset), ReadLimit::records(1));
    let by_queue = batch
        .as_ref()
        .is_ok_and(|b| b.iter().next().is_some_and(|view| view.body() == message.body));
    assert_eq!(by_place, by_queue, "{batch:?} {message:?}");
    by_place
}

pub(crate) fn assert_has(store: &Store, messages: &[Kept]) {
    for message in messages {
        assert!(has(store, message), "lost: {message:?}\n{}", store.recovery());
    }
}

/// All files with their bytes.
pub(crate) fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.read_file(&path))).collect()
}

/// The bytes under `quarantine/`, in the order of the log.
pub(crate) fn quarantined(disk: &SimDisk) -> Vec<u8> {
    let paths = disk.paths();
    let files = paths.iter().filter(|path| path.starts_with("quarantine/"));
    files.flat_map(|path| disk.read_file(path)).collect()
}
