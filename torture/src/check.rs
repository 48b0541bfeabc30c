//! Opens a store that was hurt and holds it to what it promised.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use steadfast::{
    ErrorKind, Finding, QueueOffset, ReadLimit, Severity, Store, StoreTime, disk::sim::Rng,
};

use crate::{
    message::{QUEUES, TOPIC, body, group, name_of, queue},
    promised::{Hit, Promised},
    writer::{Mode, options},
};

const KEYS_LOOKED_UP: usize = 20;

/// Opens the directory and checks everything against what was promised. Afterwards `promised`
/// holds only what is there.
///
/// # Errors
///
/// A promise was not kept.
pub(crate) fn check(
    dir: &Path,
    mode: Mode,
    hit: Hit,
    promised: &mut Promised,
    rng: &mut Rng,
) -> Result<()> {
    // A store that died is no damaged store.
    if rng.chance(1, 4) {
        verified(dir, mode, promised)?;
    }
    let builder = Store::builder(dir).options(options(mode));
    // Looking must do as well as repairing; then the next writer repairs. But which pages reach
    // the disk before the next power failure is settled only by a repair.
    let only_look = hit == Hit::Process && rng.chance(1, 2);
    let store = if only_look { builder.open_read_only() } else { builder.open() };
    let store = match store {
        Err(e) if e.kind() == ErrorKind::NotFound && promised.at.is_empty() => return Ok(()),
        store => store.context("the store does not open")?,
    };
    let report = store.recovery();
    let damaged = report.findings.iter().any(|f| matches!(f, Finding::Damage { .. }));
    ensure!(!damaged, "damage where nothing was damaged: {report}");
    let log_end = report.log_end.get();
    promised.forget_removed(report.log_start.get());
    let mut seen = HashSet::new();
    for id in 0..QUEUES {
        queue_is_whole(&store, id, (hit, log_end), promised, &mut seen)
            .with_context(|| report.to_string())?;
    }
    if hit == Hit::Machine {
        promised.forget_lost(log_end);
    }
    keys_are_found(&store, promised, rng)?;
    positions_are_kept(&store, hit, promised)?;
    store.health().context("health")?;
    store.close().context("close")
}

/// What the engine said, if it was the engine.
pub(crate) fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    let engines = error.chain().find_map(|cause| cause.downcast_ref::<steadfast::Error>());
    engines.map(steadfast::Error::kind)
}

/// `verify` finds nothing but what the next open mends without loss.
///
/// # Errors
///
/// It finds more, or fails.
pub(crate) fn verified(dir: &Path, mode: Mode, promised: &Promised) -> Result<()> {
    let mut worst = None;
    let mut tell = |finding: &steadfast::VerifyFinding| {
        if finding.severity != Severity::Note {
            worst.get_or_insert(finding.to_string());
        }
    };
    match steadfast::verify(dir, &options(mode), &mut tell, &mut |_, _| {}) {
        Err(e) if e.kind() == ErrorKind::NotFound && promised.at.is_empty() => Ok(()),
        Err(e) => Err(e).context("verify fails"),
        Ok(summary) if summary.is_sound() => Ok(()),
        Ok(_) => bail!("verify finds {}", worst.unwrap_or_default()),
    }
}

fn queue_is_whole(
    store: &Store,
    id: i32,
    (hit, log_end): (Hit, u64),
    promised: &Promised,
    seen: &mut HashSet<String>,
) -> Result<()> {
    let queue = queue(id)?;
    let wanted = promised.at.range((id, 0)..(id + 1, 0));
    let mut wanted =
        wanted.filter(|(_, placed)| promised.must_be_there(placed, hit, log_end)).peekable();
    let Some((min, end)) = store.queue_range(&queue) else {
        ensure!(wanted.peek().is_none(), "the queue {queue} is gone: {:?}", wanted.peek());
        return Ok(());
    };
    ensure!(min == QueueOffset::ZERO || promised.retention, "{queue} begins at {min}");
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut next = min;
    while next < end {
        let batch = store.read(&queue, next, ReadLimit::records(100))?;
        ensure!(!batch.is_empty(), "nothing at {next} of {queue}, which ends at {end}");
        for record in batch.iter() {
            ensure!(record.queue_offset() == next, "{} at {next}", record.queue_offset());
            let name = name_of(record.body())
                .with_context(|| format!("the bytes at {next} of {queue} are wrong"))?;
            ensure!(seen.insert(name.clone()), "{name} is there twice");
            let (writer, serial) = name.split_once("-s").context("a name without a number")?;
            let serial: u64 = serial.parse()?;
            let before = latest.insert(writer.to_owned(), serial);
            ensure!(before.is_none_or(|before| before < serial), "{name} after {before:?}");
            if let Some((_, placed)) = wanted.next_if(|((_, offset), _)| *offset == next.get()) {
                ensure!(name == placed.name, "{name} at {next} of {queue}, not {placed:?}");
                ensure!(record.physical_offset().get() == placed.physical, "{placed:?} moved");
            }
            next = next.next();
        }
    }
    match wanted.next() {
        None => Ok(()),
        Some(lost) => bail!("{lost:?} of {queue} is lost; the queue ends at {end}"),
    }
}

fn keys_are_found(store: &Store, promised: &Promised, rng: &mut Rng) -> Result<()> {
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for _ in 0..promised.at.len().min(KEYS_LOOKED_UP) {
        let picked = rng.below(promised.at.len() as u64) as usize;
        let Some(placed) = promised.at.values().nth(picked) else { continue };
        let found = store.query(TOPIC, &placed.name, ever.0, ever.1, 9)?;
        ensure!(found.len() == 1, "{} found by the key of {placed:?}", found.len());
        ensure!(found[0].body() == body(&placed.name), "wrong bytes by the key of {placed:?}");
    }
    Ok(())
}

fn positions_are_kept(store: &Store, hit: Hit, promised: &mut Promised) -> Result<()> {
    for ((thread, id), position) in &mut promised.positions {
        let (group, queue) = (group(*thread)?, queue(*id)?);
        let found = store.consumers().committed(&group, &queue).map(QueueOffset::get);
        let most = position.candidates.iter().max().copied().unwrap_or(0);
        // What a group committed and did not save may be lost.
        let lags = position.may_lag || hit == Hit::Machine;
        let right = match found {
            None => position.may_lag || !position.saved,
            Some(found) => position.candidates.contains(&found) || lags && found <= most,
        };
        ensure!(right, "group {thread} is at {found:?} of {queue}: {position:?}");
        if let Some(found) = found {
            let end = store.queue_range(&queue).map_or(0, |(_, end)| end.get());
            ensure!(found <= end, "group {thread} is past the end of {queue}: {found} > {end}");
            position.candidates = vec![found];
        }
    }
    Ok(())
}
