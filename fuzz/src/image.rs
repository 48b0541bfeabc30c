//! A directory in any state: opening answers, and what is opened can be used.

use std::sync::{Arc, OnceLock};

use steadfast::{
    FlushMode, Group, ManualClock, Message, OnDamage, Options, QueueKey, QueueOffset, ReadLimit,
    Store, StoreTime, disk::sim::SimDisk,
};

use super::Input;

/// Every path with its bytes.
type Image = Vec<(String, Vec<u8>)>;

const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);
/// Names that mean something to a store, for files that were not there.
const NAMES: [&str; 12] = [
    "abort",
    "checkpoint",
    "commitlog/00000000000000000000",
    "commitlog/00000000000000008192",
    "commitlog/00000000000000409600",
    "commitlog/notes",
    "consumequeue/t/0/00000000000000000000",
    "consumequeue/u/1/00000000000000000400",
    "config/consumerOffset.json",
    "config/consumerOffset.json.bak",
    "index/20231114221320000",
    "steadfast/frames/00000000000000000000",
];

fn options(on_damage: OnDamage) -> Options {
    let mut options = Options::default().flush(FlushMode::Sync).segment_bytes(8192);
    options.queue_file_bytes = 400;
    options.index_slots = 10;
    options.index_entries = 40;
    options.on_damage(on_damage)
}

fn open(disk: &SimDisk, on_damage: OnDamage) -> steadfast::Result<Store> {
    let clock = Arc::new(ManualClock::new(NOW));
    disk.set_clock(clock.clone());
    Store::builder_on(Arc::new(disk.clone()))
        .options(options(on_damage))
        .clock(clock)
        .open_stepped()
}

fn append(store: &Store, queue: &QueueKey, body: &[u8], key: &str) -> Option<QueueOffset> {
    let ticket = store.append(&Message::new(queue, body).tag("T").key(key)).ok()?;
    store.flush().ok()?;
    Some(ticket.wait().ok()?.placement.queue_offset)
}

fn dispatch(store: &Store) {
    while store.progress().dispatched < store.progress().durable {
        store.step(steadfast::Step::Dispatch).expect("nothing fails on this disk");
    }
}

/// Sound directories to begin with: closed, and killed with a little that is in no checkpoint.
fn sound() -> &'static [Image; 2] {
    static SOUND: OnceLock<[Image; 2]> = OnceLock::new();
    SOUND.get_or_init(|| {
        let disk = SimDisk::new(1);
        let queues = [QueueKey::new("t", 0).unwrap(), QueueKey::new("u", 1).unwrap()];
        let fill = |store: &Store| {
            for i in 0..40 {
                let body = vec![b'a' + i as u8 % 26; i * 7 % 300];
                append(store, &queues[i % 2], &body, &format!("k{}", i % 10)).unwrap();
            }
            dispatch(store);
            let next = QueueOffset::new(7);
            store.consumers().commit(&Group::new("g").unwrap(), &queues[0], next).unwrap();
        };
        let image = || disk.paths().into_iter().map(|p| (p.clone(), disk.read_file(&p))).collect();
        let store = open(&disk, OnDamage::Refuse).unwrap();
        fill(&store);
        store.close().unwrap();
        let closed = image();
        let store = open(&disk, OnDamage::Refuse).unwrap();
        fill(&store);
        store.step(steadfast::Step::SaveOffsets).unwrap();
        store.abandon();
        [closed, image()]
    })
}

/// A sound directory, changed as the bytes say.
fn changed(input: &mut Input<'_>) -> SimDisk {
    let mut image = sound()[usize::from(input.below(2))].clone();
    for _ in 0..24 {
        if input.is_empty() || image.is_empty() {
            break;
        }
        let chosen = usize::from(input.byte()) % image.len();
        let (_, bytes) = &mut image[chosen];
        match input.below(8) {
            0 | 1 => {
                let at = usize::from(input.short()) % bytes.len().max(1);
                let len = usize::from(input.below(32));
                let new = input.take(len);
                let end = bytes.len().min(at + new.len());
                bytes[at..end].copy_from_slice(&new[..end - at]);
            }
            2 => {
                let at = usize::from(input.short()) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << input.below(8);
                }
            }
            3 => bytes.truncate(usize::from(input.short())),
            4 => bytes.resize(bytes.len() + usize::from(input.below(64)), input.byte()),
            5 => drop(image.remove(chosen)),
            6 => {
                let from = usize::from(input.short()) % bytes.len().max(1);
                let end = bytes.len().min(from + usize::from(input.byte()) * 8);
                let to = usize::from(input.short()) % (bytes.len() - (end - from) + 1);
                bytes.copy_within(from..end, to);
            }
            _ => {
                let name = NAMES[usize::from(input.below(NAMES.len() as u8))];
                let len = usize::from(input.byte());
                image.push((name.to_owned(), input.take(len).to_vec()));
            }
        }
    }
    let disk = SimDisk::new(2);
    for (path, bytes) in image {
        disk.write_file(&path, &bytes);
    }
    disk
}

/// Everything can be asked, and answers end.
fn read_all(store: &Store) {
    for queue in store.queues() {
        let Some((min, end)) = store.queue_range(&queue) else { continue };
        let mut next = min;
        for _ in 0..400 {
            if next >= end {
                break;
            }
            match store.read(&queue, next, ReadLimit::records(8)) {
                Ok(batch) if batch.next_offset() > next => next = batch.next_offset(),
                Ok(_) => panic!("nothing at {next} of {queue}, which goes to {end}"),
                Err(_) => next = next.next(),
            }
        }
        let _ = store.offset_by_time(&queue, NOW);
        let _ = store.queue_items(&queue, min, 400);
    }
    let mut at = store.progress().start;
    for _ in 0..4000 {
        match store.item_at(at) {
            Ok(Some((_, next))) => {
                assert!(next > at, "the walk stands still at {at}");
                at = next;
            }
            Ok(None) => break,
            Err(_) => break,
        }
    }
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for key in ["k0", "k3", "k7", "new"] {
        for record in store.query("t", key, ever.0, ever.1, 50).unwrap_or_default() {
            assert_eq!(record.view().topic(), "t");
        }
    }
    for group in store.consumers().groups() {
        let _ = store.consumers().of_group(&group);
    }
}

/// A sound directory changed by `bytes`: opens or says why not, in both ways. What opens can be
/// read, takes appends, and opens again with them.
pub fn open_image(bytes: &[u8]) {
    let mut input = Input(bytes);
    let disk = changed(&mut input);
    let refused = {
        let disk = disk.crash_process();
        match open(&disk, OnDamage::Refuse) {
            Ok(store) => {
                read_all(&store);
                None
            }
            Err(e) => Some(e),
        }
    };
    let store = match open(&disk, OnDamage::Serve) {
        Ok(store) => store,
        Err(e) => {
            assert!(refused.is_some(), "opens with Refuse, but not with Serve: {e}");
            return;
        }
    };
    read_all(&store);
    let queue = QueueKey::new("t", 0).unwrap();
    let bodies: [&[u8]; 3] = [b"one", b"two", b"three"];
    let added = bodies.map(|body| append(&store, &queue, body, "new").map(|at| (at, body)));
    dispatch(&store);
    store.abandon();
    let store = open(&disk.crash_process(), OnDamage::Serve).expect("it was opened before");
    read_all(&store);
    for (at, body) in added.into_iter().flatten() {
        let batch = store.read(&queue, at, ReadLimit::records(1)).expect("it was acknowledged");
        assert_eq!(batch.iter().next().expect("it was acknowledged").body(), body);
    }
}
