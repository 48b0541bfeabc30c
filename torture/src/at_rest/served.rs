//! What a damaged store has to serve.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use steadfast::{
    ErrorKind, Message, OnDamage, QueueKey, QueueOffset, ReadLimit, Store, StoreTime,
    disk::sim::Rng,
};

use super::{Case, found};
use crate::{
    damage::{LogRecord, Part, Place},
    files::listing,
};

/// The topics of what a repair puts over damage.
const PLACEHOLDERS: [&str; 2] = ["STEADFAST_PLACEHOLDER", "_"];

const AFTERWARDS: &[u8] = b"afterwards";

/// Opens it in every way, and looks at all records.
pub(super) fn check(case: &Case<'_>, rng: &mut Rng) -> Result<()> {
    refused(case).context("refusing")?;
    let dir = case.copy("served")?;
    if rng.chance(1, 3) {
        let before = listing(&dir)?;
        if let Some(store) = open(case, &dir, true)? {
            whole(case, &store, keys(case)).context("read-only")?;
        }
        ensure!(listing(&dir)? == before, "a read-only open changed something");
    }
    for life in 0..2 {
        let Some(store) = open(case, &dir, false)? else { break };
        whole(case, &store, if life == 0 { keys(case) } else { Look::Records })
            .with_context(|| format!("life {life}"))?;
        append(case, &store).with_context(|| format!("appending in life {life}"))?;
        store.close()?;
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// What is damaged is refused without touching anything; what opens is whole.
fn refused(case: &Case<'_>) -> Result<()> {
    let dir = case.copy("refused")?;
    let before = listing(&dir)?;
    let options = case.store.origin.options().on_damage(OnDamage::Refuse);
    match Store::builder(&dir).options(options).open() {
        Err(e) => {
            let of_files = is_refused_anyhow(case) && e.kind() == ErrorKind::Unsupported;
            ensure!(case.applied.log || of_files, "for a derived file: {e}");
            ensure!(listing(&dir)? == before, "refusing changed something: {e}");
        }
        Ok(store) => {
            whole(case, &store, keys(case))?;
            store.close()?;
        }
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// The store, or none where it says that its files cannot be those of a log.
fn open(case: &Case<'_>, dir: &Path, only_read: bool) -> Result<Option<Store>> {
    let options = case.store.origin.options().on_damage(OnDamage::Serve);
    let builder = Store::builder(dir).options(options);
    let store = if only_read { builder.open_read_only() } else { builder.open() };
    let name = case.damage.kind.name;
    match store {
        Ok(store) => Ok(Some(store)),
        Err(e) if is_refused_anyhow(case) => {
            let fits = matches!(
                e.kind(),
                ErrorKind::Damaged { .. } | ErrorKind::Unsupported | ErrorKind::NotFound
            );
            ensure!(fits, "{e}");
            Ok(None)
        }
        Err(e) => bail!("{name} is not served: {e}"),
    }
}

/// The log's end is gone, or its files do not fit each other: that takes a person.
pub(super) fn is_refused_anyhow(case: &Case<'_>) -> bool {
    let name = case.damage.kind.name;
    let of_files = ["cut-short", "cut-to-zero", "too-long", "log-gone", "stray-file"];
    let of_end = [
        "segment-gone",
        "stale-segment",
        "zero-file",
        "zero-first-page",
        "recycled-segment",
        "segments-swapped",
        "junk-segment",
    ];
    // Three segments of which the middle one is missing may be a log in several directories.
    let few = name == "segment-gone" && case.store.anatomy.segments.len() < 4;
    // To begin from nothing would deliver everything again.
    let offsets = name == "offsets-and-backup-torn";
    let last = case.damage.place == Place::Last;
    few || offsets
        || of_files.contains(&name)
        || name.starts_with("stray-file")
        || last && of_end.contains(&name)
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Queues and log.
    Records,
    /// Keys too.
    Keys,
    /// All of it, after touched records were given up: there are placeholders.
    GivenUp,
}

/// What an open finds by keys, it finds by what the index has: its entries have no checksums, so
/// only `verify` sees what they lost, and a repair brings it back.
fn keys(case: &Case<'_>) -> Look {
    if case.damage.kind.part == Part::Index { Look::Records } else { Look::Keys }
}

/// Each record is what it was, or answers `Damaged` if it was touched.
pub(super) fn whole(case: &Case<'_>, store: &Store, look: Look) -> Result<()> {
    let touched: BTreeSet<_> = case.applied.records.iter().map(|r| r.physical).collect();
    case.saw(&store.recovery().findings);
    for record in &case.store.anatomy.records {
        let is_touched = touched.contains(&record.physical);
        // A torn tail goes; everything sound stays.
        let cut = case.cut.get().is_some_and(|at| at <= record.physical) || case.is_torn_tail();
        // What not even its own header tells of, and nothing behind it, leaves no trace.
        let last = case.store.origin.is_killed() && is_last_of_queue(case, record, &touched);
        let may_be_gone = is_touched && (cut || last || look == Look::GivenUp);
        if case.is_never_durable(record) {
            continue;
        }
        if record.in_queue && !is_before_beginning(case, record) {
            in_queue(case, store, record, (is_touched, may_be_gone))?;
        }
        let bytes = bytes(case, record);
        match store.record_at(steadfast::PhysicalOffset::new(record.physical)) {
            Ok(found) => {
                let same = found.view().bytes() == bytes;
                let topic = found.view().topic();
                let given_up = is_touched && look == Look::GivenUp;
                let placeholder = given_up && PLACEHOLDERS.contains(&topic);
                let again = may_be_gone && found.body() == AFTERWARDS;
                let fits = same || placeholder || again || cannot_tell(case, is_touched);
                ensure!(fits, "wrong bytes at {record:?}");
            }
            Err(e) => ensure!(is_touched, "a sound record is lost: {record:?}: {e}"),
        }
        if look != Look::Records && record.physical.is_multiple_of(8) && !is_touched {
            by_key(case, store, record)?;
        }
    }
    Ok(())
}

/// Whether the first record of its queue says that it comes much later, and no checksum says that
/// it does not: the queue begins there. The log and the keys still have the others.
fn is_before_beginning(case: &Case<'_>, record: &LogRecord) -> bool {
    let mut touched = case.applied.records.iter().filter(|_| found::is_misplaced(case));
    touched.any(|first| {
        let same = |r: &&LogRecord| r.topic == first.topic && r.queue_id == first.queue_id;
        let begins = case.store.anatomy.records.iter().find(|r| r.in_queue && same(r));
        same(&record) && begins.is_some_and(|begins| begins.physical == first.physical)
    })
}

/// Whether no untouched record of its queue comes behind it.
fn is_last_of_queue(case: &Case<'_>, record: &LogRecord, touched: &BTreeSet<u64>) -> bool {
    let behind = case.store.anatomy.records.iter().filter(|r| r.physical > record.physical);
    let mut same = behind.filter(|r| r.topic == record.topic && r.queue_id == record.queue_id);
    same.all(|r| touched.contains(&r.physical))
}

fn bytes<'a>(case: &Case<'a>, record: &LogRecord) -> &'a [u8] {
    let bytes = &case.store.anatomy.segments[record.segment].bytes;
    &bytes[record.offset as usize..][..record.size as usize]
}

/// Without a checksum of the whole record, fields other than the body are what they are.
fn cannot_tell(case: &Case<'_>, touched: bool) -> bool {
    let name = case.damage.kind.name;
    let looks_sound =
        ["foreign-segment", "zero-properties", "record-over-record", "zero-page", "cut-short"];
    touched
        && (!case.store.origin.is_protected() || name == "foreign-segment")
        && (name.starts_with("flip-") || looks_sound.contains(&name))
}

fn in_queue(
    case: &Case<'_>,
    store: &Store,
    record: &LogRecord,
    (touched, may_be_gone): (bool, bool),
) -> Result<()> {
    let queue = QueueKey::new(&record.topic, record.queue_id)?;
    let at = QueueOffset::new(record.queue_offset);
    match store.read(&queue, at, ReadLimit::records(1)) {
        Ok(batch) => {
            let Some(found) = batch.iter().next() else {
                let fits = may_be_gone || cannot_tell(case, touched);
                ensure!(fits, "the queue ends before {record:?}");
                return Ok(());
            };
            ensure!(found.queue_offset() == at, "{} at {at} of {queue}", found.queue_offset());
            let same = found.bytes() == bytes(case, record);
            // Another message has its offset by now.
            let again = may_be_gone && found.body() == AFTERWARDS;
            let fits = same || again || cannot_tell(case, touched);
            ensure!(fits, "wrong bytes in {queue} at {at}");
        }
        Err(e) => {
            ensure!(touched, "a sound record is lost: {record:?}: {e}");
            let fits = match e.kind() {
                ErrorKind::Damaged { .. } => true,
                // A queue whose first records are lost begins behind them.
                ErrorKind::OutOfRange { start, .. } if record.queue_offset < start => true,
                ErrorKind::OutOfRange { .. } | ErrorKind::NotFound => {
                    may_be_gone || cannot_tell(case, touched)
                }
                _ => false,
            };
            ensure!(fits, "a touched record answers {e}: {record:?}");
        }
    }
    Ok(())
}

fn by_key(case: &Case<'_>, store: &Store, record: &LogRecord) -> Result<()> {
    let Some(view) = case.store.anatomy.segments[record.segment].view(record) else {
        return Ok(());
    };
    let Some(key) = view.keys().next().filter(|_| record.in_queue) else { return Ok(()) };
    let (first, last) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    let found = store.query(view.topic(), key, first, last, 1000)?;
    let there = found.iter().any(|found| found.view().bytes() == view.bytes());
    ensure!(there, "not found by its key {key}: {record:?}");
    Ok(())
}

/// New messages get offsets that no other ever had.
fn append(case: &Case<'_>, store: &Store) -> Result<()> {
    let records = case.store.anatomy.records.iter().filter(|record| record.in_queue);
    let given: BTreeSet<_> =
        records.map(|r| (r.topic.as_str(), r.queue_id, r.queue_offset)).collect();
    let mut queues: Vec<_> = given.iter().map(|(topic, id, _)| (*topic, *id)).collect();
    queues.dedup();
    for (topic, id) in queues.into_iter().take(6) {
        let queue = QueueKey::new(topic, id)?;
        let placed = store.append(&Message::new(&queue, AFTERWARDS))?.wait()?.placement;
        let at = placed.queue_offset;
        let again = given.contains(&(topic, id, at.get()));
        ensure!(!again || may_give_again(case), "{at} of {queue} is given again");
        let there = store.wait_for(&queue, at, std::time::Duration::from_secs(60))?;
        ensure!(there, "{placed:?} is not in its queue");
        let batch = store.read(&queue, at, ReadLimit::records(1))?;
        let body = batch.iter().next().map(|record| record.body().to_vec());
        ensure!(body.as_deref() == Some(AFTERWARDS), "{body:?} at {at} of {queue}");
    }
    Ok(())
}

/// What was a torn tail was not acknowledged as far as anybody can tell.
fn may_give_again(case: &Case<'_>) -> bool {
    let last = case.damage.place >= Place::Last && case.store.origin.is_killed();
    case.cut.get().is_some() || case.is_torn_tail() || last
}
