//! Faults at rest: a store that was closed or killed is damaged, then opened and asked for
//! everything it had acknowledged.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use steadfast::{RepairMode, disk::sim::Rng};

use super::{
    Args,
    messages::{Got, Place, Put, QUEUES},
    ours,
    outcome::{Fault, Outcome, Row},
    peer::{Opening, Peer},
    process::{Process, Silent, write_plan},
};
use crate::{damage::Damage, files::copy, writer::Mode};

/// The kinds of damage, with the places where each is done; see [`crate::damage`].
const FAULTS: &[(&str, &[&str])] = &[
    ("flip-body", FILES),
    ("flip-property", FILES),
    ("flip-topic", FILES),
    ("flip-queue-id", FILES),
    ("flip-queue-offset", FILES),
    ("flip-physical-offset", FILES),
    ("flip-store-timestamp", FILES),
    ("flip-total-size", FILES),
    ("flip-magic", FILES),
    ("magic-to-end-of-file", FILES),
    ("zero-half-record", &["middle", "tail"]),
    ("zero-properties", &["middle", "tail"]),
    ("cut-short", FILES),
    ("cut-to-zero", FILES),
    ("zero-page", FILES),
    ("zero-first-page", FILES),
    ("segment-gone", FILES),
    ("foreign-segment", FILES),
    ("recycled-segment", &["middle", "last"]),
    ("stale-segment", FILES),
    ("segments-swapped", &["middle"]),
    ("record-over-record", &["middle"]),
    ("queues-gone", ONE),
    ("queue-gone", ONE),
    ("queue-file-gone", &["early", "last"]),
    ("queue-entry-offset-flipped", &["early", "last"]),
    ("queue-entry-size-flipped", &["early", "last"]),
    ("queue-entry-zeroed", &["early", "last"]),
    ("checkpoint-zeroed", ONE),
    ("checkpoint-ahead", ONE),
    ("checkpoint-and-queues-gone", ONE),
    ("checkpoint-queues-and-index-gone", ONE),
    ("abort-gone", ONE),
    ("index-gone", ONE),
    ("index-entry-offset-flipped", &["early", "last"]),
    ("index-loop", &["last"]),
    ("offsets-torn", ONE),
    ("offsets-and-backup-torn", ONE),
];
const FILES: &[&str] = &["early", "middle", "last"];
const ONE: &[&str] = &[""];

/// Those of the short run.
const SHORT: &[&str] = &[
    "flip-body-last",
    "flip-topic-early",
    "magic-to-end-of-file-last",
    "zero-half-record-tail",
    "zero-page-middle",
    "cut-short-middle",
    "segment-gone-middle",
    "foreign-segment-middle",
    "queue-entry-zeroed-early",
    "checkpoint-and-queues-gone",
    "offsets-torn",
];

/// Messages that are put after the fault, to see which offsets they get.
const NEW: u64 = 2 * QUEUES;
/// Their numbers begin here.
const NEW_FIRST: u64 = 1_000_000;
/// Position of the group in each queue: saved once before this, so that there is a backup.
const POSITION: u64 = 9;

/// A store as it was before any fault.
struct Filled {
    dir: PathBuf,
    plan: Vec<(Put, Place)>,
    plan_file: PathBuf,
    state: &'static str,
    /// What it says at open when nothing was done to it.
    usual: BTreeSet<String>,
}

/// Throws every fault at every store.
///
/// # Errors
///
/// The trial itself failed, not a store.
pub(super) fn run(args: &Args, peers: &[Peer], scratch: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for peer in peers {
        for state in ["closed", "killed"] {
            let mut filled = fill(args, peer, scratch, state)?;
            let control = Fault {
                order: 0,
                name: "nothing".to_owned(),
                place: String::new(),
                state: state.to_owned(),
            };
            let (mut outcome, said) = throw(peer, &filled, None, args.seed, scratch)?;
            filled.usual = said;
            outcome.said.clear();
            outcome.said_later.clear();
            let row = Row {
                fault: control,
                peer: peer.name.clone(),
                ours: peer.is_ours(),
                at_runtime: false,
                outcome,
            };
            let served = row.outcome.by_queue.right;
            ensure!(served == args.messages, "undamaged, and {served} right: {row:?}");
            rows.push(row);
            rows.extend(all_faults(args, peer, &filled, scratch)?);
        }
    }
    Ok(rows)
}

fn all_faults(args: &Args, peer: &Peer, filled: &Filled, scratch: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (order, (kind, places)) in FAULTS.iter().enumerate() {
        for place in *places {
            let joined =
                if place.is_empty() { (*kind).to_owned() } else { format!("{kind}-{place}") };
            let wanted = args.only.as_ref().is_none_or(|only| joined.contains(only));
            if !wanted || args.short && !SHORT.contains(&&*joined) {
                continue;
            }
            let damage = Damage::named(&joined).with_context(|| format!("no damage {joined}"))?;
            let fault = Fault {
                order: order + 1,
                name: (*kind).to_owned(),
                place: (*place).to_owned(),
                state: filled.state.to_owned(),
            };
            let (outcome, _) = throw(peer, filled, Some(damage), args.seed, scratch)
                .with_context(|| format!("{} at {}", fault.label(), peer.name))?;
            if outcome.note == NOTHING_TO_HURT {
                continue;
            }
            let row = Row {
                fault,
                peer: peer.name.clone(),
                ours: peer.is_ours(),
                at_runtime: false,
                outcome,
            };
            println!("{}", super::table::line(&row));
            rows.push(row);
        }
    }
    Ok(rows)
}

// ------------------------------------------------------------------ filling

fn fill(args: &Args, peer: &Peer, scratch: &Path, state: &'static str) -> Result<Filled> {
    let dir = scratch.join(format!("{}-{state}", peer.short()));
    drop(fs::remove_dir_all(&dir));
    let opening = Opening { fill: Some(args.messages), ..Opening::default() };
    let mut process = opened(peer.open(&dir, opening)?)?;
    // Most of it has been there for a while when the rest comes: the queues are on the disk, and a
    // checkpoint that says so.
    let late = args.messages / 24;
    let early = args.messages - late;
    let (mut puts, _) = process.put(&format!("0 {early} 64 stop"))?;
    thread::sleep(Duration::from_millis(2500));
    for position in [POSITION - 2, POSITION] {
        let (_, silent) = process.ask(&format!("commit {position}"));
        ensure!(silent.is_none(), "{}: {silent:?}", peer.name);
    }
    let (more, _) = process.put(&format!("{early} {late} 64 stop"))?;
    puts.extend(more);
    let plan_file = dir.with_extension("plan");
    write_plan(&plan_file, &puts)?;
    let (hashes, _) = process.ask(&format!("hashes {}", plan_file.display()));
    for (put, line) in puts.iter_mut().zip(&hashes) {
        put.hash = line.rsplit(' ').next().map(str::to_owned);
    }
    let plan = write_plan(&plan_file, &puts)?;
    ensure!(plan.len() as u64 == args.messages, "{}: {} acknowledged", peer.name, plan.len());
    ensure!(hashes.len() == plan.len(), "{}: {} hashes", peer.name, hashes.len());
    match state {
        "closed" => ensure!(process.close().is_none(), "{} does not close", peer.name),
        _ => drop(process),
    }
    Ok(Filled { dir, plan, plan_file, state, usual: BTreeSet::new() })
}

fn opened(process: Result<Process, Silent>) -> Result<Process> {
    match process {
        Ok(process) if process.refused.is_none() => Ok(process),
        Ok(process) => anyhow::bail!("does not open: {:?}", process.refused),
        Err(Silent(how)) => anyhow::bail!("does not open: {how}"),
    }
}

// ------------------------------------------------------------------ a fault

const NOTHING_TO_HURT: &str = "nothing to hurt";

/// Damages a copy and sees what comes of it; also what it said at open.
fn throw(
    peer: &Peer,
    filled: &Filled,
    damage: Option<Damage>,
    seed: u64,
    scratch: &Path,
) -> Result<(Outcome, BTreeSet<String>)> {
    let dir = scratch.join("hurt");
    drop(fs::remove_dir_all(&dir));
    copy(&filled.dir, &dir)?;
    let mut outcome = Outcome { acknowledged: filled.plan.len() as u64, ..Outcome::default() };
    let mut touched = HashSet::new();
    if let Some(damage) = damage {
        let Some(applied) = damage.apply(&dir, &mut Rng::new(seed))? else {
            outcome.note = NOTHING_TO_HURT.to_owned();
            return Ok((outcome, BTreeSet::new()));
        };
        touched.extend(applied.records.iter().map(|record| record.physical));
        outcome.touched = touched.len() as u64;
    }
    if peer.is_ours() {
        outcome.verified = Some(verified(&dir));
    }
    let said = look(peer, filled, &dir, &touched, &mut outcome)?;
    Ok((outcome, said))
}

fn look(
    peer: &Peer,
    filled: &Filled,
    dir: &Path,
    touched: &HashSet<u64>,
    outcome: &mut Outcome,
) -> Result<BTreeSet<String>> {
    let mut process = match open(peer, dir, Opening::default(), outcome)? {
        Some(process) => process,
        None if peer.is_ours() && outcome.refused.is_some() => {
            let serve = Opening { serve: true, ..Opening::default() };
            match open(peer, dir, serve, outcome)? {
                Some(process) => process,
                None => match open_mended(peer, dir, outcome)? {
                    Some(process) => process,
                    None => return Ok(BTreeSet::new()),
                },
            }
        }
        None => return Ok(BTreeSet::new()),
    };
    // Answered once it is open for good: what it says at open is said by then.
    let (positions, _) = process.ask("positions");
    outcome.positions = positions_told(&positions);
    let at_open = peer.said(dir, &process)?;
    let (got, silent) = process.ask(&format!("check {}", filled.plan_file.display()));
    outcome.silent = outcome.silent.take().or(silent.map(|Silent(how)| how));
    count(filled, &got, touched, outcome);
    let (new, silent) = process.put(&format!("{NEW_FIRST} {NEW} {NEW} go"))?;
    outcome.silent = outcome.silent.take().or(silent.map(|Silent(how)| how));
    outcome.new = new.iter().filter(|put| put.acknowledged()).count() as u64;
    let taken: HashSet<_> = filled.plan.iter().map(|(_, at)| (at.queue, at.offset)).collect();
    let given = new.iter().filter(|put| put.acknowledged()).filter_map(|put| put.place);
    outcome.twice = given.filter(|at| taken.contains(&(at.queue, at.offset))).count() as u64;
    let said = peer.said(dir, &process)?;
    outcome.said = at_open.difference(&filled.usual).cloned().collect();
    outcome.said_later = said.difference(&at_open).cloned().collect();
    outcome.said_later.retain(|said| !filled.usual.contains(said));
    Ok(said)
}

/// Opens it; `None` if it does not, which `outcome` then tells.
fn open(
    peer: &Peer,
    dir: &Path,
    opening: Opening,
    outcome: &mut Outcome,
) -> Result<Option<Process>> {
    Ok(match peer.open(dir, opening)? {
        Err(Silent(how)) => {
            outcome.silent = Some(format!("{how} at open"));
            None
        }
        Ok(process) => match &process.refused {
            None => Some(process),
            Some(why) => {
                outcome.refused.get_or_insert_with(|| why.clone());
                None
            }
        },
    })
}

/// What does not even open to serve the rest is mended, with the losses that are said.
fn open_mended(peer: &Peer, dir: &Path, outcome: &mut Outcome) -> Result<Option<Process>> {
    "opens after `repair --accept-loss`".clone_into(&mut outcome.note);
    match steadfast::repair(dir, &ours::options(Mode::Sync), RepairMode::AcceptLoss, |_, _, _| ()) {
        Ok(_) => {
            outcome.accepted = true;
            open(peer, dir, Opening::default(), outcome)
        }
        Err(e) => {
            outcome.note = format!("opens with nothing: {e}");
            Ok(None)
        }
    }
}

fn verified(dir: &Path) -> String {
    let mut first = None;
    let mut tell = |finding: &steadfast::VerifyFinding| {
        if finding.severity != steadfast::Severity::Note {
            first.get_or_insert(finding.to_string());
        }
    };
    match steadfast::verify(dir, &ours::options(Mode::Sync), &mut tell, &mut |_, _| {}) {
        Err(e) => e.to_string(),
        Ok(_) => first.unwrap_or_default(),
    }
}

fn count(filled: &Filled, got: &[String], touched: &HashSet<u64>, outcome: &mut Outcome) {
    let mut lines = got.iter().filter(|line| line.starts_with("GOT "));
    for (_, at) in &filled.plan {
        let Some(line) = lines.next() else { break };
        let words: Vec<_> = line.split(' ').skip(2).map(Got::parse).collect();
        let [by_queue, by_position, by_key] = &words[..] else { continue };
        outcome.by_queue.add(by_queue);
        outcome.by_position.add(by_position);
        outcome.by_key.add(by_key);
        let right = words.iter().all(|got| *got == Got::Right);
        outcome.collateral += u64::from(!right && !touched.contains(&at.physical));
    }
    let extra = got.iter().filter_map(|line| line.strip_prefix("EXTRA "));
    outcome.extra = extra.filter_map(|count| count.parse::<u64>().ok()).sum();
}

/// `right` if every queue has the position that was saved last.
fn positions_told(lines: &[String]) -> String {
    let positions: BTreeSet<_> = lines.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    match positions.into_iter().collect::<Vec<_>>()[..] {
        [one] if one == POSITION.to_string() => "right".to_owned(),
        [one] if one == (POSITION - 2).to_string() => "those saved before".to_owned(),
        ref other => other.join(" "),
    }
}
