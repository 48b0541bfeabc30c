//! Any file of a store replaced by any bytes: all that can be done with a store ends, with an error
//! or well, and what is served is what was stored.

use std::{collections::BTreeMap, sync::Arc};

use steadfast::{
    ErrorKind, Group, LogItem, ManualClock, Message, OnDamage, Options, PhysicalOffset, QueueKey,
    QueueOffset, ReadLimit, RepairMode, Severity, Step, Store, StoreTime, disk::sim::SimDisk,
    internals::check,
};

use super::{
    Input,
    damage::{self, Chosen},
    known::{self, GROUP, Image, Known, NOW, STORES, Stored, known},
};

/// Later than anything in the stores.
const LATER: StoreTime = StoreTime::from_millis(NOW.as_millis() + 100 * 3_600_000);
const EVER: (StoreTime, StoreTime) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
/// More rounds than there is anything in these stores.
const MOST: usize = 600;

/// A store with changed files.
struct Changed {
    known: &'static Known,
    image: Image,
    /// All sound records in it.
    records: BTreeMap<u64, Stored>,
    /// Each sound record is one that was stored.
    honest_log: bool,
    /// Checksums of our own files are right only where the files are as they were.
    honest_own: bool,
    /// Nothing in the log's directory changed.
    same_log: bool,
    /// The log's files have the names and sizes they had.
    same_segments: bool,
    same_own: bool,
    same_queues: bool,
}

impl Changed {
    fn new(known: &'static Known, input: &mut Input<'_>, chosen: Chosen) -> Self {
        let mut image = known.image.clone();
        let mend = input.below(8);
        damage::change(&mut image, input, chosen);
        if mend & 1 != 0 && known.image.contains_key("steadfast/checkpoint") {
            damage::mend_own(&mut image, mend & 2 != 0);
        }
        if mend & 4 != 0 {
            damage::mend_records(&mut image, known.records.keys().copied());
        }
        // A name below a file is no name.
        let files: Vec<_> = image.keys().cloned().collect();
        image.retain(|path, _| {
            !files.iter().any(|f| path.strip_prefix(f.as_str()).is_some_and(|r| r.starts_with('/')))
        });
        Self::of(known, image)
    }

    fn of(known: &'static Known, image: Image) -> Self {
        let records: BTreeMap<_, _> = known::records_in(&image).collect();
        let was = |at: &u64, record: &Stored| {
            known.records.get(at).is_some_and(|stored| stored.bytes == record.bytes)
        };
        let within = |dir: &'static str| {
            let of = move |image: &'static Image| image;
            let before = of(&known.image).iter().filter(move |(path, _)| path.starts_with(dir));
            let after = image.iter().filter(move |(path, _)| path.starts_with(dir));
            (before, after)
        };
        let (before, after) = within("commitlog/");
        let same_log = before.eq(after);
        let (before, after) = within("commitlog/");
        let sizes = |(path, bytes): (&String, &Vec<u8>)| (path.clone(), bytes.len());
        let same_segments = before.map(sizes).eq(after.map(sizes));
        let (before, after) = within("consumequeue/");
        let same_queues = before.eq(after);
        let (before, after) = within("steadfast/");
        Self {
            known,
            honest_log: records.iter().all(|(at, record)| was(at, record)),
            honest_own: damage::is_honest(&known.image, &image),
            same_log,
            same_segments,
            same_own: before.eq(after),
            same_queues,
            records,
            image,
        }
    }

    fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(2);
        for (path, bytes) in &self.image {
            disk.write_file(path, bytes);
        }
        disk.set_clock(Arc::new(ManualClock::new(LATER)));
        disk
    }

    fn open(&self, disk: &SimDisk, on_damage: OnDamage) -> steadfast::Result<Store> {
        known::open(disk, &self.known.options, on_damage, LATER)
    }

    /// Every record of the log as it was stored is to be served.
    fn is_whole(&self) -> bool {
        self.same_log && self.honest_own && self.is_readable()
    }

    /// Records that are as they were stored are to be served.
    fn is_resumable(&self) -> bool {
        self.known.durable
            && self.same_segments
            && self.is_same_behind_end()
            && self.same_own
            && self.honest_log
            && self.is_readable()
    }

    /// What lies behind the last record is as it was: bytes behind a clean end tell of another
    /// program, and whether that cut the log before we cannot know.
    fn is_same_behind_end(&self) -> bool {
        let last = self.known.records.iter().next_back();
        let end = last.map_or(0, |(at, record)| at + record.bytes.len() as u64);
        let rest = |image: &Image| -> Vec<Vec<u8>> {
            let files = image.iter().filter_map(|(path, b)| Some((known::base_of(path)?, b)));
            let from = |base: u64, bytes: &[u8]| {
                bytes.get(end.saturating_sub(base) as usize..).unwrap_or_default().to_vec()
            };
            files.map(|(base, bytes)| from(base, bytes)).collect()
        };
        rest(&self.known.image) == rest(&self.image)
    }

    /// Nothing is there that stops the engine by a typed error: consumer offsets, which come from
    /// nowhere else, are as they were, no directory has the name of a file, and the files of queues
    /// are of one length.
    fn is_readable(&self) -> bool {
        let files = &self.known.image;
        let config = |image: &Image| -> Vec<_> {
            let files = image.iter().filter(|(path, _)| path.starts_with("config/"));
            files.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
        };
        let below_file = |path: &str| {
            let mut slashes = path.match_indices('/').map(|(at, _)| &path[..at]);
            slashes.any(|above| files.contains_key(above) || damage::is_name_of_file(above))
        };
        let fits = |bytes: &[u8]| bytes.is_empty() || bytes.len() == 400;
        config(files) == config(&self.image)
            && self.image.iter().all(|(path, bytes)| {
                !below_file(path) && (!path.starts_with("consumequeue/") || fits(bytes))
            })
    }

    /// What a record that is served must be.
    fn expect(&self, added: &Added, queue: Option<(&QueueKey, u64)>, at: u64, bytes: &[u8]) {
        if let Some((queue, offset)) = queue
            && let Some(placed) = added.get(&(queue.clone(), offset))
        {
            assert!(bytes.windows(placed.len()).any(|part| part == placed), "{offset} of {queue}");
            return;
        }
        let Some(stored) = self.records.get(&at) else {
            // Appended by us, or put in place of damage by a repair.
            return;
        };
        if self.honest_log && stored.bytes.len() <= bytes.len() {
            assert_eq!(stored.bytes, bytes, "another record at {at}");
        }
        if let (Some((queue, offset)), true) = (queue, self.honest_log) {
            assert_eq!(stored.place, Some((queue.clone(), offset)), "served at {at}");
        }
    }
}

/// What was appended to the changed store: bodies by place.
type Added = BTreeMap<(QueueKey, u64), Vec<u8>>;

/// Reads all there is. What is served must be what was stored.
fn read_all(changed: &Changed, store: &Store, added: &Added) {
    for queue in store.queues() {
        read_queue(changed, store, added, &queue);
    }
    let mut at = store.progress().start;
    for _ in 0..MOST {
        match store.item_at(at) {
            Ok(Some((item, next))) => {
                assert!(next > at, "the walk stands still at {at}");
                if let LogItem::Record(record) = item {
                    changed.expect(added, None, at.get(), record.view().bytes());
                }
                at = next;
            }
            Ok(None) | Err(_) => break,
        }
    }
    for key in ["k0", "k3", "k7", "new"] {
        for topic in ["t", "u"] {
            let found = store.query(topic, key, EVER.0, EVER.1, 50).unwrap_or_default();
            for record in found {
                let view = record.view();
                assert_eq!(view.topic(), topic);
                assert!(view.keys().any(|k| k == key) || view.unique_key() == Some(key));
                changed.expect(added, None, view.physical_offset().get(), view.bytes());
            }
        }
    }
    for group in store.consumers().groups() {
        let _ = store.consumers().of_group(&group);
    }
    let group = Group::new(GROUP).unwrap();
    let _ = store.consumers().committed(&group, &QueueKey::new("t", 0).unwrap());
    let _ = (store.health(), store.recovery().to_string());
}

fn read_queue(changed: &Changed, store: &Store, added: &Added, queue: &QueueKey) {
    let Some((min, end)) = store.queue_range(queue) else { return };
    assert!(min <= end, "{min} {end}");
    let mut next = min;
    for _ in 0..MOST {
        if next >= end {
            break;
        }
        match store.read(queue, next, ReadLimit::records(8)) {
            Ok(batch) if batch.next_offset() > next => {
                let mut expected = next;
                for record in batch.iter() {
                    let offset = record.queue_offset();
                    assert!(offset >= expected && offset < batch.next_offset(), "{offset}");
                    assert_eq!(
                        (record.topic(), record.queue_id()),
                        (queue.topic(), queue.queue_id())
                    );
                    let place = Some((queue, offset.get()));
                    changed.expect(added, place, record.physical_offset().get(), record.bytes());
                    expected = offset.next();
                }
                next = batch.next_offset();
            }
            Ok(_) => panic!("nothing at {next} of {queue}, which goes to {end}"),
            Err(_) => next = next.next(),
        }
    }
    for time in [EVER.0, NOW, EVER.1] {
        let _ = store.offset_by_time(queue, time);
    }
    let _ = store.queue_items(queue, min, 50);
    let last = QueueOffset::new(end.get().saturating_sub(1));
    let _ = store.read(queue, last, ReadLimit::records(1));
    let _ = store.read_tagged(queue, min, ReadLimit::records(4), &["T"]);
}

/// Each record that is as it was stored is served: from the log, and from its queue.
fn serves_sound_records(changed: &Changed, store: &Store) {
    for (at, stored) in &changed.known.records {
        if changed.records.get(at).is_none_or(|now| now.bytes != stored.bytes) {
            continue;
        }
        let record = store.record_at(PhysicalOffset::new(*at));
        let record = record.unwrap_or_else(|e| panic!("{at}: {e}\n{}", store.recovery()));
        assert_eq!(record.view().bytes(), stored.bytes, "at {at}");
        if let Some((queue, offset)) = &stored.place {
            let batch = match store.read(queue, QueueOffset::new(*offset), ReadLimit::records(1)) {
                Ok(batch) => batch,
                // Opening does not look at each entry of a queue; reading does.
                Err(e)
                    if !changed.same_queues
                        && matches!(e.kind(), ErrorKind::Damaged { .. } | ErrorKind::Io) =>
                {
                    continue;
                }
                Err(e) => panic!("{offset} of {queue} at {at}: {e}\n{}", store.recovery()),
            };
            let bytes = batch.iter().next().map(|record| record.bytes().to_vec());
            assert_eq!(bytes.as_ref(), Some(&stored.bytes), "{offset} of {queue}");
        }
    }
}

/// What must be served is.
fn check(changed: &Changed, store: &Store, added: &Added) {
    read_all(changed, store, added);
    if changed.is_whole() || changed.is_resumable() {
        serves_sound_records(changed, store);
    }
}

fn append(store: &Store, added: &mut Added) {
    let queue = QueueKey::new("t", 0).unwrap();
    // Behind a segment that is far away more would wait for the disk than appends wait for, and
    // this clock stands still.
    let _ = store.flush();
    for number in 0..3 {
        let body = format!("appended later {number} {}", added.len()).into_bytes();
        let Ok(ticket) = store.append(&Message::new(&queue, &body).tag("T").key("new")) else {
            continue;
        };
        if store.flush().is_ok()
            && let Ok(receipt) = ticket.wait()
        {
            let place = (queue.clone(), receipt.placement.queue_offset.get());
            assert!(added.insert(place, body).is_none(), "an offset twice");
        }
    }
}

fn serves_added(changed: &Changed, store: &Store, added: &Added) {
    for ((queue, offset), body) in added {
        match store.read(queue, QueueOffset::new(*offset), ReadLimit::records(1)) {
            Ok(batch) => {
                assert_eq!(batch.iter().next().expect("it was acknowledged").body(), body);
            }
            Err(e) => assert!(!changed.is_readable(), "{offset} of {queue}: {e}"),
        }
    }
}

/// Looking only: nothing on disk changes.
fn look(changed: &Changed) {
    let disk = changed.disk();
    let clock = Arc::new(ManualClock::new(LATER));
    let builder = Store::builder_on(Arc::new(disk.clone()));
    let options = changed.known.options.clone().on_damage(OnDamage::Serve);
    match builder.options(options).clock(clock).open_read_only() {
        Ok(store) => {
            check(changed, &store, &Added::new());
            let _ = store.refresh();
            read_all(changed, &store, &Added::new());
        }
        Err(e) => assert!(!changed.is_whole(), "not opened for reading: {e}"),
    }
    let damages = verify(&changed.known.options, &disk);
    let after: Image = disk.paths().into_iter().map(|p| (p.clone(), disk.read_file(&p))).collect();
    assert!(after == changed.image, "looking changed something");
    if damages.is_some_and(|damages| damages.is_empty())
        && let Err(e) = changed.open(&disk, OnDamage::Refuse)
    {
        assert!(!matches!(e.kind(), ErrorKind::Damaged { .. }), "verify found nothing: {e}");
    }
}

/// What damage there is in the log, where that can be told.
fn verify(options: &Options, disk: &SimDisk) -> Option<Vec<String>> {
    let mut damages = Vec::new();
    let summary = check::verify(disk, options, &mut |finding| {
        if finding.severity == Severity::Damage {
            damages.push(finding.to_string());
        }
    });
    let summary = summary.ok()?;
    assert_eq!(summary.damages == 0, damages.is_empty());
    Some(damages)
}

/// What is rotten in queues' files may be found only by closing.
fn close(changed: &Changed, store: Store) {
    let closed = store.close();
    let may_fail = !changed.same_queues || !changed.is_readable();
    assert!(closed.is_ok() || may_fail, "nothing fails on this disk: {closed:?}");
}

/// Writing, in both ways; then once more, and after a checkpoint.
fn write(changed: &Changed) {
    let disk = changed.disk();
    let refused = {
        let disk = disk.crash_process();
        match changed.open(&disk, OnDamage::Refuse) {
            Ok(store) => {
                check(changed, &store, &Added::new());
                close(changed, store);
                None
            }
            Err(e) => Some(e),
        }
    };
    let store = match changed.open(&disk, OnDamage::Serve) {
        Ok(store) => store,
        Err(e) => {
            assert!(refused.is_some(), "opens with Refuse, but not with Serve: {e}");
            assert!(!changed.is_whole() && !changed.is_resumable(), "not opened: {e}");
            return;
        }
    };
    assert!(refused.is_none() || !changed.is_whole(), "refused: {refused:?}");
    check(changed, &store, &Added::new());
    let mut added = Added::new();
    append(&store, &mut added);
    dispatch(changed, &store);
    check(changed, &store, &added);
    store.abandon();
    for _ in 0..2 {
        let Some(store) = reopen(changed, &disk.crash_process()) else { return };
        check(changed, &store, &added);
        serves_added(changed, &store, &added);
        let _ = store.step(Step::Retain);
    }
    let disk = disk.crash_process();
    let Some(store) = reopen(changed, &disk) else { return };
    append(&store, &mut added);
    dispatch(changed, &store);
    close(changed, store);
    let Some(store) = reopen(changed, &disk) else { return };
    check(changed, &store, &added);
    serves_added(changed, &store, &added);
}

/// What was opened opens again; where something is in the way of a file, only until it is needed.
fn reopen(changed: &Changed, disk: &SimDisk) -> Option<Store> {
    match changed.open(disk, OnDamage::Serve) {
        Ok(store) => Some(store),
        Err(e) => {
            assert!(!changed.is_readable(), "it was opened before: {e}");
            None
        }
    }
}

/// Fills queues and index, as far as that is possible.
fn dispatch(changed: &Changed, store: &Store) {
    while store.progress().dispatched < store.progress().durable {
        if let Err(e) = store.step(Step::Dispatch) {
            assert!(!changed.is_readable() || !changed.same_queues, "not dispatched: {e}");
            break;
        }
    }
}

/// Repairing, twice: the second time there is nothing left to give up.
fn repair(changed: &Changed, mode: RepairMode) {
    let disk = changed.disk();
    let repair = || check::repair(Arc::new(disk.clone()), &changed.known.options, mode, LATER);
    let report = match repair() {
        Ok(report) => report,
        Err(e) => {
            assert!(!changed.is_whole(), "not repaired: {e}");
            return;
        }
    };
    assert!(!changed.is_whole() || report.losses.is_empty(), "{report:?}");
    let again = match repair() {
        Ok(again) => again,
        Err(e) => {
            assert!(!changed.is_readable(), "repaired before: {e}");
            return;
        }
    };
    if mode == RepairMode::AcceptLoss && report.is_mended() {
        assert!(again.losses.is_empty(), "{report:?}\n{again:?}");
        let store = changed.open(&disk.crash_process(), OnDamage::Refuse);
        read_all(changed, &store.expect("mended"), &Added::new());
        let left = verify(&changed.known.options, &disk).unwrap_or_default();
        // Frames with wrong checksums over sound records are told, and nothing is there to give up.
        let sound = changed.honest_log && changed.honest_own;
        assert!(left.is_empty() || !sound, "{left:?}\n{report:?}");
    }
    match changed.open(&disk, OnDamage::Serve) {
        Ok(store) => check(changed, &store, &Added::new()),
        Err(e) => assert!(!changed.is_whole() && !report.is_mended(), "not opened: {e}"),
    }
}

fn all(bytes: &[u8], chosen: Chosen) {
    let mut input = Input(bytes);
    let known = known(input.below(STORES));
    let act = input.below(4);
    let changed = Changed::new(known, &mut input, chosen);
    match act {
        0 => look(&changed),
        1 => write(&changed),
        2 => repair(&changed, RepairMode::Rebuild),
        _ => repair(&changed, RepairMode::AcceptLoss),
    }
}

/// Some of all files replaced.
pub fn any_file(bytes: &[u8]) {
    all(bytes, |_| true);
}

/// Some of the files replaced that only our own store keeps.
pub fn own_files(bytes: &[u8]) {
    all(bytes, |path| path.starts_with("steadfast/"));
}

/// Some of the files replaced that can be made anew from the log.
pub fn derived_files(bytes: &[u8]) {
    all(bytes, |path| !path.starts_with("commitlog/") && !path.starts_with("steadfast/"));
}
