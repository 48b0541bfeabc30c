//! Faults while a store is open: syncs that fail, a disk that fills up.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result};

use super::{
    Args,
    messages::{Got, Put},
    outcome::{Counts, Fault, Outcome, Row},
    peer::{Opening, Peer},
    process::{Process, Silent, write_plan},
    writeback,
};

/// Calls that make bytes durable.
const SYNCS: &str = "msync,fsync,fdatasync";
/// Messages before and during the failing syncs.
const MESSAGES: u64 = 100;
/// Which syncs of each thread fail, from the moment the tracer is there.
const FAILING: &[(&str, &str)] = &[("once", "1"), ("three times", "1..3"), ("always", "1+")];
/// So many of them would be twice as much as the disk holds.
const TOO_MANY: u64 = 2000;
const AFTER_FULL: u64 = 3_000_000;
/// In the table behind the faults at rest.
const ORDER: usize = 1000;

/// Throws them.
///
/// # Errors
///
/// The trial itself failed, not a store.
pub(super) fn run(args: &Args, peers: &[Peer], scratch: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only));
    for peer in peers {
        for (n, (how, when)) in FAILING.iter().enumerate() {
            let name = format!("sync fails {how}");
            if !wanted(&name) || args.short && *how != "always" {
                continue;
            }
            let fault = fault(ORDER + n, &name, "sync");
            match failing_syncs(peer, when, scratch)? {
                Ok(outcome) => push(&mut rows, fault, peer, outcome),
                Err(why) => println!("SKIP {name}: {why}"),
            }
        }
        let name = "write-back fails once, then the power";
        if wanted(name) && !args.short {
            match writeback::failing(peer, scratch)? {
                Ok(outcome) => push(&mut rows, fault(ORDER + 5, name, "sync"), peer, outcome),
                Err(why) => println!("SKIP {name}: {why}"),
            }
        }
        for (n, without_sync) in [false, true].into_iter().enumerate() {
            let name = "disk full while writing";
            if !wanted(name) || args.short && without_sync {
                continue;
            }
            let mode = if without_sync { "async" } else { "sync" };
            match full_disk(peer, without_sync, scratch)? {
                Ok(outcome) => push(&mut rows, fault(ORDER + 10 + n, name, mode), peer, outcome),
                Err(why) => println!("SKIP {name}: {why}"),
            }
        }
    }
    Ok(rows)
}

fn fault(order: usize, name: &str, mode: &str) -> Fault {
    Fault { order, name: name.to_owned(), place: String::new(), state: mode.to_owned() }
}

fn push(rows: &mut Vec<Row>, fault: Fault, peer: &Peer, outcome: Outcome) {
    let row =
        Row { fault, peer: peer.name.clone(), ours: peer.is_ours(), at_runtime: true, outcome };
    println!("{}", super::table::line(&row));
    rows.push(row);
}

// ------------------------------------------------------------------ failing syncs

/// A tracer that makes calls of a process fail.
pub(super) struct Tracer {
    child: Child,
    calls: PathBuf,
}

impl Tracer {
    /// Attaches to all threads of a process. `Err` says why it cannot be.
    pub(super) fn attach(process: &Process, when: &str, calls: PathBuf) -> Result<Self, String> {
        let mut child = Command::new("strace")
            .args(["-f", "-o"])
            .arg(&calls)
            .args(["-e", &format!("trace={SYNCS}")])
            .args(["-e", &format!("inject={SYNCS}:error=EIO:when={when}")])
            .args(["-p", &process.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("no strace: {e}"))?;
        let errors = child.stderr.take().ok_or("no output of strace")?;
        let mut errors = BufReader::new(errors).lines().map_while(Result::ok);
        let first = errors.next();
        // It would die of a pipe that nobody reads.
        thread::spawn(move || errors.for_each(drop));
        match first {
            Some(line) if line.contains("attached") => Ok(Self { child, calls }),
            other => Err(format!("strace does not attach: {}", other.unwrap_or_default())),
        }
    }

    /// Ends it and counts: syncs, and how many of them it made fail.
    pub(super) fn end(mut self) -> Result<(usize, usize)> {
        // It lets go of the process when it is asked to, not when it is killed.
        let id = self.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().context("kill")?;
        self.child.wait()?;
        let calls = fs::read_to_string(&self.calls)?;
        let syncs = calls.lines().filter(|l| SYNCS.split(',').any(|call| l.contains(call)));
        let syncs = syncs.filter(|line| !line.contains("resumed"));
        Ok((syncs.count(), calls.matches("(INJECTED)").count()))
    }
}

fn failing_syncs(peer: &Peer, when: &str, scratch: &Path) -> Result<Result<Outcome, String>> {
    let dir = fresh(scratch, "syncs")?;
    let Ok(mut process) = peer.open(&dir, Opening::default())? else {
        return Ok(Err("it does not open".to_owned()));
    };
    let (mut puts, _) = process.put(&format!("0 {MESSAGES} 16 stop"))?;
    let tracer = match Tracer::attach(&process, when, dir.with_extension("calls")) {
        Ok(tracer) => tracer,
        Err(why) => return Ok(Err(why)),
    };
    let (during, silent) = process.put(&format!("{MESSAGES} {MESSAGES} 16 go"))?;
    let (syncs, failed) = tracer.end()?;
    let acknowledged = during.iter().filter(|put| put.acknowledged()).count();
    let mut outcome = Outcome { silent: silent.map(|Silent(how)| how), ..Outcome::default() };
    outcome.note = format!(
        "{acknowledged} of {MESSAGES} acknowledged while {failed} of {syncs} syncs failed{}",
        others(&during)
    );
    outcome.after_failure = Some(acknowledged as u64);
    puts.extend(during);
    let reads = ask_for(&mut process, &dir, &puts, &mut outcome)?;
    outcome
        .note
        .push_str(&format!("; {} of {} right to readers", reads.right, outcome.acknowledged));
    drop(process);
    reopened(peer, &dir, Opening::default(), &puts, &mut outcome)?;
    Ok(Ok(outcome))
}

/// The answers that were no acknowledgement, counted.
pub(super) fn others(puts: &[Put]) -> String {
    let mut words: Vec<_> =
        puts.iter().filter(|put| !put.acknowledged()).map(|put| &*put.status).collect();
    words.sort_unstable();
    let mut told = String::new();
    for chunk in words.chunk_by(|a, b| a == b) {
        told.push_str(&format!(", {} {}", chunk.len(), chunk[0]));
    }
    told
}

// ------------------------------------------------------------------ a full disk

/// A file system in memory of its own, taken away again.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path) -> Result<Self, String> {
        let size = "size=8m";
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => Ok(Self(dir.to_owned())),
            _ => Err("no tmpfs can be mounted here".to_owned()),
        }
    }

    fn grow(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=64m"]).arg(&self.0).status().context("remount")?;
        Ok(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn full_disk(peer: &Peer, without_sync: bool, scratch: &Path) -> Result<Result<Outcome, String>> {
    let mount = fresh(scratch, "full")?;
    fs::create_dir_all(&mount)?;
    let small = match Small::mount(&mount) {
        Ok(small) => small,
        Err(why) => return Ok(Err(why)),
    };
    // What tells of the store beside its directory must not fill the disk.
    let dir = mount.join("store");
    let opening = Opening { without_sync, beside: true, ..Opening::default() };
    let Ok(mut process) = peer.open(&dir, opening)? else {
        return Ok(Err("it does not open".to_owned()));
    };
    let (mut puts, silent) = process.put(&format!("0 {TOO_MANY} 1 stop"))?;
    let mut outcome = Outcome { silent: silent.map(|Silent(how)| how), ..Outcome::default() };
    let answers = others(&puts);
    let meanwhile = ask_for(&mut process, &mount, &puts, &mut outcome)?;
    outcome.note = format!(
        "{} acknowledged{answers}; {} of them right while full",
        outcome.acknowledged, meanwhile.right
    );
    small.grow()?;
    let (more, _) = process.put(&format!("{AFTER_FULL} {MESSAGES} 16 go"))?;
    let went_on = more.iter().filter(|put| put.acknowledged()).count();
    outcome.note.push_str(&format!(
        "; with room again {went_on} of {MESSAGES} acknowledged without a restart{}",
        others(&more)
    ));
    puts.extend(more);
    drop(process);
    reopened(peer, &dir, opening, &puts, &mut outcome)?;
    Ok(Ok(outcome))
}

// ------------------------------------------------------------------ asking

pub(super) fn fresh(scratch: &Path, name: &str) -> Result<PathBuf> {
    let dir = scratch.join(name);
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Asks for everything that was acknowledged.
pub(super) fn ask_for(
    process: &mut Process,
    beside: &Path,
    puts: &[Put],
    outcome: &mut Outcome,
) -> Result<Counts> {
    let plan = beside.with_extension("plan");
    let planned = write_plan(&plan, puts)?;
    outcome.acknowledged = planned.len() as u64;
    let (got, silent) = process.ask(&format!("check {}", plan.display()));
    outcome.silent = outcome.silent.take().or(silent.map(|Silent(how)| how));
    let mut by_queue = Counts::default();
    outcome.by_position = Counts::default();
    outcome.by_key = Counts::default();
    for line in got.iter().filter(|line| line.starts_with("GOT ")) {
        let words: Vec<_> = line.split(' ').skip(2).map(Got::parse).collect();
        let [queue, position, key] = &words[..] else { continue };
        by_queue.add(queue);
        outcome.by_position.add(position);
        outcome.by_key.add(key);
    }
    Ok(by_queue)
}

/// After the process was killed: is all there that was acknowledged?
pub(super) fn reopened(
    peer: &Peer,
    dir: &Path,
    opening: Opening,
    puts: &[Put],
    outcome: &mut Outcome,
) -> Result<()> {
    match peer.open(dir, opening)? {
        Err(Silent(how)) => outcome.silent = Some(format!("{how} at open")),
        Ok(mut process) => match process.refused.clone() {
            Some(why) => outcome.refused = Some(why),
            None => {
                let beside = if opening.beside { dir.parent().unwrap_or(dir) } else { dir };
                let by_queue = ask_for(&mut process, beside, puts, outcome)?;
                outcome.collateral = outcome.acknowledged - by_queue.right;
                outcome.by_queue = by_queue;
            }
        },
    }
    Ok(())
}
