//! Our store as a process of its own, which does what its standard input says, line by line.
//!
//! | line | answer |
//! |---|---|
//! | (start) | `SAID text` for what recovery found; `OPEN`, or `REFUSED kind text` and the end |
//! | `put FIRST COUNT WINDOW stop\|go` | a `PUT` line each; `stop`: not beyond the first failure |
//! | `hashes PLAN` | `HASH n hash` for each `PUT` line in the file PLAN |
//! | `check PLAN` | `GOT n by-queue by-position by-key` for each, `EXTRA count` of others served |
//! | `commit POSITION` | saves it for the group in each queue |
//! | `positions` | `POSITION queue position\|none` |
//! | `close` | ends cleanly |
//!
//! Each answer ends with `DONE`.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    hash::{DefaultHasher, Hasher},
    io::{BufRead, Write},
    path::PathBuf,
    process::ExitCode,
};

use steadfast::{
    Error, ErrorKind, FlushMode, Group, Message, OnDamage, Options, PhysicalOffset, QueueKey,
    QueueOffset, ReadLimit, Record, Result, Store, StoreTime, Ticket,
};

use super::messages::{Content, GROUP, Got, Place, Put, QUEUES, TOPIC};
use crate::writer::Mode;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    dir: PathBuf,
    #[arg(long)]
    mode: Mode,
    /// Opens a damaged store and serves what is sound
    #[arg(long)]
    serve: bool,
}

const PLACEHOLDER: &str = "STEADFAST_PLACEHOLDER";

/// As the Java driver has them; the rest is as it is by default.
pub(super) fn options(mode: Mode) -> Options {
    let flush = if mode == Mode::Sync { FlushMode::Sync } else { FlushMode::Async };
    let mut options = Options::default().flush(flush).segment_bytes(1 << 20);
    options.queue_file_bytes = 4000;
    options.index_slots = 500;
    options.index_entries = 1000;
    options
}

/// Opens, does as told, ends with its standard input.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut options = options(args.mode);
    if args.serve {
        options.on_damage = OnDamage::Serve;
    }
    let store = match Store::builder(&args.dir).options(options).open() {
        Ok(store) => store,
        Err(e) => {
            say(format_args!("REFUSED {} {}", kind(&e), one_line(&e)));
            return ExitCode::FAILURE;
        }
    };
    for finding in &store.recovery().findings {
        say(format_args!("SAID {}", one_line(finding)));
    }
    say(format_args!("OPEN"));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let words: Vec<_> = line.split(' ').collect();
        let done = match words[..] {
            ["put", first, count, window, stop] => {
                put(&store, number(first), number(count), number(window), stop == "stop")
            }
            ["hashes", plan] => hashes(&store, plan),
            ["check", plan] => check(&store, plan),
            ["commit", position] => commit(&store, number(position)),
            ["positions"] => positions(&store),
            ["close"] => {
                let closed = store.close();
                say(format_args!("{}", if closed.is_ok() { "DONE" } else { "NOT CLOSED" }));
                return ExitCode::SUCCESS;
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, line.clone())),
        };
        match done {
            Ok(()) => say(format_args!("DONE")),
            Err(e) => {
                say(format_args!("FAILED {} {}", kind(&e), one_line(&e)));
                return ExitCode::FAILURE;
            }
        }
    }
    store.abandon();
    ExitCode::SUCCESS
}

fn say(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // A harness that is gone hears nothing.
    let _ = writeln!(out, "{text}");
}

fn one_line(what: &dyn std::fmt::Display) -> String {
    what.to_string().replace('\n', " ")
}

fn kind(error: &Error) -> String {
    let kind = format!("{:?}", error.kind());
    kind.split(' ').next().unwrap_or_default().to_owned()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or(u64::MAX)
}

fn queue(id: u64) -> Result<QueueKey> {
    QueueKey::new(TOPIC, id as i32)
}

// ------------------------------------------------------------------ put

fn put(store: &Store, first: u64, count: u64, window: u64, stop: bool) -> Result<()> {
    let mut waiting: VecDeque<(u64, Ticket)> = VecDeque::new();
    let mut go = true;
    for n in first..first + count {
        if !go {
            break;
        }
        let content = Content::of(n);
        let queue = QueueKey::new(TOPIC, content.queue)?;
        let message = Message::new(&queue, &content.body).tag(&content.tag).key(&content.key);
        match store.append(&message.property("note", &content.note)) {
            Ok(ticket) => waiting.push_back((n, ticket)),
            Err(e) => {
                say(format_args!("{}", failed(n, &e)));
                go = !stop;
            }
        }
        while waiting.len() as u64 >= window {
            let Some((n, ticket)) = waiting.pop_front() else { break };
            go &= answer(n, ticket) || !stop;
        }
    }
    for (n, ticket) in waiting {
        answer(n, ticket);
    }
    Ok(())
}

fn failed(n: u64, error: &Error) -> Put {
    Put { n, status: format!("ERROR:{}", kind(error)), place: None, hash: None }
}

fn answer(n: u64, ticket: Ticket) -> bool {
    let put = match ticket.wait() {
        Err(e) => failed(n, &e),
        Ok(receipt) => {
            let place = receipt.placements().next().map(|at| Place {
                queue: n % QUEUES,
                offset: at.queue_offset.get(),
                physical: at.physical_offset.get(),
                size: at.end().get() - at.physical_offset.get(),
            });
            Put { n, status: receipt.status.name().to_owned(), place, hash: None }
        }
    };
    say(format_args!("{put}"));
    put.acknowledged()
}

// ------------------------------------------------------------------ check

/// The acknowledged messages in the file `path`.
fn planned(path: &str) -> Result<Vec<(Put, Place)>> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|e| Error::with_source(ErrorKind::Io, path.to_owned(), e))?;
    let puts = text.lines().filter_map(|line| Put::parse(line).ok());
    Ok(puts.filter_map(|put| put.place.map(|place| (put, place))).collect())
}

fn hash(record: &Record) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(record.view().bytes());
    format!("{:016x}", hasher.finish())
}

fn hashes(store: &Store, plan: &str) -> Result<()> {
    for (put, place) in planned(plan)? {
        let record = store.record_at(PhysicalOffset::new(place.physical))?;
        say(format_args!("HASH {} {}", put.n, hash(&record)));
    }
    Ok(())
}

fn check(store: &Store, plan: &str) -> Result<()> {
    let plan = planned(plan)?;
    let mut places = HashSet::new();
    for (put, place) in &plan {
        places.insert((place.queue, place.offset));
        let by_queue = asked(by_queue(store, put, place));
        let by_position = store.record_at(PhysicalOffset::new(place.physical));
        let by_position = asked(by_position.map(|record| judge(put, &record)));
        let by_key = asked(by_key(store, put));
        say(format_args!("GOT {} {by_queue} {by_position} {by_key}", put.n));
    }
    let mut extra = 0;
    for id in 0..QUEUES {
        let queue = queue(id)?;
        let Some((min, end)) = store.queue_range(&queue) else { continue };
        for at in (min.get()..end.get()).filter(|at| !places.contains(&(id, *at))) {
            let batch = store.read(&queue, QueueOffset::new(at), ReadLimit::records(1));
            let first = batch.ok().and_then(|batch| batch.into_records().into_iter().next());
            extra += u64::from(first.is_some_and(|r| r.view().queue_offset().get() == at));
        }
    }
    say(format_args!("EXTRA {extra}"));
    Ok(())
}

/// What says that there is nothing is no error in this table, however it is told.
fn asked(answer: Result<Got>) -> Got {
    answer.unwrap_or_else(|e| match e.kind() {
        ErrorKind::OutOfRange { .. } | ErrorKind::NotFound => Got::Lost(kind(&e)),
        _ => Got::Error(kind(&e)),
    })
}

fn judge(put: &Put, record: &Record) -> Got {
    let content = Content::of(put.n);
    let view = record.view();
    // What `repair` puts where records were says by its name that they are gone.
    if view.topic() == PLACEHOLDER {
        return Got::Error("Placeholder".to_owned());
    }
    let right = match &put.hash {
        Some(wanted) => *wanted == hash(record),
        None => {
            view.body() == content.body
                && view.queue_id() == content.queue
                && view.tag() == Some(&content.tag)
                && view.keys().eq([&*content.key])
                && view.property("note") == Some(&content.note)
        }
    };
    if right { Got::Right } else { Got::Wrong }
}

fn by_queue(store: &Store, put: &Put, place: &Place) -> Result<Got> {
    let at = QueueOffset::new(place.offset);
    let batch = store.read(&queue(place.queue)?, at, ReadLimit::records(1))?;
    Ok(match batch.into_records().first() {
        None => Got::Lost("EMPTY".to_owned()),
        Some(record) if record.view().queue_offset() != at => Got::Lost("SKIPPED".to_owned()),
        Some(record) => judge(put, record),
    })
}

fn by_key(store: &Store, put: &Put) -> Result<Got> {
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    let found = store.query(TOPIC, &Content::of(put.n).key, ever.0, ever.1, 64)?;
    let judged: Vec<_> = found.iter().map(|record| judge(put, record)).collect();
    Ok(match () {
        () if judged.contains(&Got::Right) => Got::Right,
        () if judged.is_empty() => Got::Lost("NOT_FOUND".to_owned()),
        () => Got::Wrong,
    })
}

// ------------------------------------------------------------------ positions of consumers

fn commit(store: &Store, position: u64) -> Result<()> {
    for id in 0..QUEUES {
        store.consumers().commit(&Group::new(GROUP)?, &queue(id)?, QueueOffset::new(position))?;
    }
    store.consumers().save()
}

fn positions(store: &Store) -> Result<()> {
    for id in 0..QUEUES {
        let at = store.consumers().committed(&Group::new(GROUP)?, &queue(id)?);
        let at = at.map_or_else(|| "none".to_owned(), |at| at.to_string());
        say(format_args!("POSITION {id} {at}"));
    }
    Ok(())
}
