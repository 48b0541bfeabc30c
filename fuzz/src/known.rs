//! Small sound stores, as files, and what they hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use steadfast::{
    FlushMode, Group, ManualClock, Message, OnDamage, Options, PhysicalOffset, QueueKey,
    QueueOffset, RecordChecksum, Step, Store, StoreTime,
    disk::sim::SimDisk,
    internals::format::frame::{ChecksumRule, Frame, classify},
};

/// Every path with its bytes.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

pub(super) const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);
pub(super) const GROUP: &str = "g";

/// A record as it is in the log.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    /// None for one that is in no queue.
    pub(super) place: Option<(QueueKey, u64)>,
}

/// A sound store.
pub(super) struct Known {
    pub(super) image: Image,
    pub(super) options: Options,
    /// All records by where they begin.
    pub(super) records: BTreeMap<u64, Stored>,
    /// Whether all records were acknowledged as durable, and our own files say so.
    pub(super) durable: bool,
}

impl Known {
    fn of(image: Image, options: Options, durable: bool) -> Self {
        let mut records = BTreeMap::new();
        for (at, record) in records_in(&image) {
            records.insert(at, record);
        }
        assert!(records.len() > 10, "a store without records tests nothing");
        Self { image, options, records, durable }
    }
}

/// Where a segment begins, if `path` is one's.
pub(super) fn base_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix("commitlog/")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

/// All sound records that lie at their places, wherever that is.
pub(super) fn records_in(image: &Image) -> impl Iterator<Item = (u64, Stored)> {
    image.iter().filter_map(|(path, bytes)| Some((base_of(path)?, bytes))).flat_map(
        |(base, all)| {
            let magics =
                (4..all.len()).filter(|&at| all[at] == 0xDA && all[at..].starts_with(&MAGIC));
            magics.filter_map(move |magic| {
                let (at, rest) = (base.checked_add(magic as u64 - 4)?, &all[magic - 4..]);
                let offset = PhysicalOffset::new(at);
                let rule = ChecksumRule::WhenPresent;
                let Frame::Record(view) = classify(rest, offset, rest.len() as u64, rule) else {
                    return None;
                };
                let queue = QueueKey::new(view.topic(), view.queue_id()).ok();
                let queue = queue.filter(|_| view.has_queue_entry());
                let place = queue.map(|queue| (queue, view.queue_offset().get()));
                Some((at, Stored { bytes: view.bytes().to_vec(), place }))
            })
        },
    )
}

/// What all magic numbers of records begin with.
const MAGIC: [u8; 3] = [0xDA, 0xA3, 0x20];

fn options() -> Options {
    let mut options = Options::default().flush(FlushMode::Sync).segment_bytes(8192);
    options.queue_file_bytes = 400;
    options.index_slots = 10;
    options.index_entries = 40;
    options
}

/// Opens what is on `disk`, at `time`.
pub(super) fn open(
    disk: &SimDisk,
    options: &Options,
    on_damage: OnDamage,
    time: StoreTime,
) -> steadfast::Result<Store> {
    let clock = Arc::new(ManualClock::new(time));
    disk.set_clock(clock.clone());
    let builder = Store::builder_on(Arc::new(disk.clone()));
    builder.options(options.clone().on_damage(on_damage)).clock(clock).open_stepped()
}

pub(super) fn dispatch(store: &Store) {
    while store.progress().dispatched < store.progress().durable {
        store.step(Step::Dispatch).expect("nothing fails on this disk");
    }
}

fn fill(store: &Store, from: usize, count: usize) {
    let queues = [QueueKey::new("t", 0).unwrap(), QueueKey::new("u", 1).unwrap()];
    for i in from..from + count {
        let body = vec![b'a' + i as u8 % 26; i * 7 % 300];
        let key = format!("k{}", i % 10);
        let message = Message::new(&queues[i % 2], &body).tag("T").key(&key);
        let ticket = store.append(&message).unwrap();
        if i % 4 == 3 {
            store.flush().unwrap();
            ticket.wait().unwrap();
        }
    }
    store.flush().unwrap();
    dispatch(store);
    let next = QueueOffset::new(7);
    store.consumers().commit(&Group::new(GROUP).unwrap(), &queues[0], next).unwrap();
}

fn image_of(disk: &SimDisk) -> Image {
    disk.paths().into_iter().map(|path| (path.clone(), disk.read_file(&path))).collect()
}

/// Filled and closed.
fn closed() -> Known {
    let disk = SimDisk::new(1);
    let store = open(&disk, &options(), OnDamage::Refuse, NOW).unwrap();
    fill(&store, 0, 70);
    store.close().unwrap();
    Known::of(image_of(&disk), options(), true)
}

/// Killed with much that is in no checkpoint.
fn killed(flush: FlushMode) -> Known {
    let options = options().flush(flush);
    let disk = SimDisk::new(1);
    let store = open(&disk, &options, OnDamage::Refuse, NOW).unwrap();
    fill(&store, 0, 50);
    store.step(Step::Checkpoint).unwrap();
    fill(&store, 50, 40);
    store.step(Step::SaveOffsets).unwrap();
    store.abandon();
    Known::of(image_of(&disk), options, flush == FlushMode::Sync)
}

/// As another program might have left it: only RocketMQ's files, and no checksum of whole records.
fn foreign() -> Known {
    let mut options = options();
    options.record_checksum = RecordChecksum::Off;
    let disk = SimDisk::new(1);
    let store = open(&disk, &options, OnDamage::Refuse, NOW).unwrap();
    fill(&store, 0, 70);
    store.close().unwrap();
    let mut image = image_of(&disk);
    image.retain(|path, _| !path.starts_with("steadfast/"));
    Known::of(image, options, false)
}

/// Retention took the log's beginning.
fn retained() -> Known {
    let disk = SimDisk::new(1);
    let store = open(&disk, &options(), OnDamage::Refuse, NOW).unwrap();
    fill(&store, 0, 70);
    store.close().unwrap();
    let later =
        StoreTime::from_millis(NOW.as_millis() + Duration::from_secs(80 * 3600).as_millis() as i64);
    let store = open(&disk, &options(), OnDamage::Refuse, later).unwrap();
    fill(&store, 70, 40);
    store.step(Step::Retain).unwrap();
    assert!(store.progress().start > PhysicalOffset::ZERO, "nothing was removed");
    store.step(Step::SaveOffsets).unwrap();
    store.abandon();
    Known::of(image_of(&disk), options(), true)
}

/// How many different ones there are.
pub(super) const STORES: u8 = 5;

/// Sound store number `number`, made once.
pub(super) fn known(number: u8) -> &'static Known {
    static KNOWN: [OnceLock<Known>; STORES as usize] = [const { OnceLock::new() }; STORES as usize];
    KNOWN[usize::from(number)].get_or_init(|| match number {
        0 => closed(),
        1 => killed(FlushMode::Sync),
        2 => killed(FlushMode::Async),
        3 => foreign(),
        _ => retained(),
    })
}
