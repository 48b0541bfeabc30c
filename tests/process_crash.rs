//! A real process that writes a real directory is killed at random moments, again and again. What
//! it had acknowledged is there, byte for byte, in order, and no offset was given twice.
//!
//! `STEADFAST_KILLS` sets the number of kills per test (default 8), `STEADFAST_SEED` the seed that
//! is printed. The writer is this very test binary, started again.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use steadfast::{
    Finding, FlushMode, Group, Message, Options, Placement, QueueKey, QueueOffset, ReadLimit,
    Store, StoreTime, disk::sim::Rng,
};

const THREADS: u64 = 4;
const QUEUES: i32 = 5;
const GROUP: &str = "readers";
/// Longer than anything here takes; a writer that says nothing for so long hangs.
const STUCK: Duration = Duration::from_secs(60);

fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(64 << 10);
    options.queue_file_bytes = 2000;
    options.index_slots = 500;
    options.index_entries = 1500;
    options.offsets_interval = Duration::from_millis(20);
    options
}

fn queue(id: i32) -> QueueKey {
    QueueKey::new("orders", id).unwrap()
}

/// Says which message it is, and everything in it follows from that.
fn body(name: &str) -> Vec<u8> {
    let mut rng = Rng::new(name.bytes().fold(7, |h, b| (h ^ u64::from(b)).wrapping_mul(0x1_0001)));
    let mut body = name.as_bytes().to_vec();
    body.push(b' ');
    let filler = *rng.pick(&[0, 30, 200, 900, 3000]) + rng.below(60) as usize;
    let at = body.len();
    body.resize(at + filler, 0);
    rng.fill(&mut body[at..]);
    body
}

// ---------------------------------------------------------------- the writer

#[test]
#[ignore = "the process that is killed; started by the other tests"]
fn writer() {
    let Ok(dir) = env::var("STEADFAST_CRASH_DIR") else { return };
    let number = |name: &str| env::var(name).unwrap().parse::<u64>().unwrap();
    let (seed, round) = (number("STEADFAST_CRASH_SEED"), number("STEADFAST_CRASH_ROUND"));
    let flush = match env::var("STEADFAST_CRASH_MODE").as_deref() {
        Ok("sync") => FlushMode::Sync,
        _ => FlushMode::Async,
    };
    say("opening");
    let store = Store::builder(dir).options(options(flush)).open().unwrap_or_else(|e| fail(&e));
    say("open");
    thread::scope(|scope| {
        for number in 0..THREADS {
            let store = &store;
            scope.spawn(move || write(store, seed ^ number, round, number));
        }
    });
}

fn write(store: &Store, seed: u64, round: u64, thread: u64) {
    let mut rng = Rng::new(seed);
    let mut serial = 0;
    loop {
        let queue = queue(rng.below(QUEUES as u64) as i32);
        let count = if rng.chance(1, 8) { rng.within(2..6) } else { 1 };
        let names: Vec<_> =
            (serial..serial + count).map(|s| format!("r{round}-t{thread}-s{s}")).collect();
        serial += count;
        let bodies: Vec<_> = names.iter().map(|name| body(name)).collect();
        let messages: Vec<_> =
            names.iter().zip(&bodies).map(|(n, b)| Message::new(&queue, b).key(n)).collect();
        let settled = store.append_batch(&messages).and_then(|ticket| ticket.wait());
        let receipt = settled.unwrap_or_else(|e| fail(&e));
        for (name, place) in names.iter().zip(receipt.placements()) {
            let Placement { queue_offset, physical_offset, .. } = *place;
            let status = receipt.status.name();
            let id = queue.queue_id();
            say(&format!("{status} {name} {id} {queue_offset} {physical_offset}"));
        }
        if rng.chance(1, 16) {
            let end = store.queue_range(&queue).map_or(QueueOffset::ZERO, |(_, end)| end);
            let next = QueueOffset::new(rng.below(end.get() + 1));
            if store.queue_range(&queue).is_some() {
                let group = Group::new(GROUP).unwrap();
                store.consumers().commit(&group, &queue, next).unwrap_or_else(|e| fail(&e));
            }
        }
    }
}

/// One line to the parent, in one write. A parent that is gone ends the writer.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "\n> {text}").and_then(|()| out.flush()).is_err() {
        process::exit(3);
    }
}

fn fail(error: &steadfast::Error) -> ! {
    say(&format!("ERROR {error}"));
    process::exit(4);
}

// ---------------------------------------------------------------- the killer

/// Everything that was ever acknowledged: queue, offset, and the name of the message.
#[derive(Default)]
struct Promised {
    at: BTreeMap<(i32, u64), String>,
    physical: HashMap<String, u64>,
}

impl Promised {
    fn take(&mut self, line: &str) {
        let parts: Vec<_> = line.split(' ').collect();
        let ["PUT_OK", name, queue, offset, physical] = parts[..] else {
            panic!("the writer said: {line}");
        };
        let at = (queue.parse().unwrap(), offset.parse().unwrap());
        let before = self.at.insert(at, name.to_owned());
        assert_eq!(before, None, "an offset was given twice: {line}");
        let physical = physical.parse().unwrap();
        assert_eq!(self.physical.insert(name.to_owned(), physical), None, "{line}");
    }
}

/// A writer, and what it says.
struct Writer {
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    fn start(dir: &Path, seed: u64, round: u64, flush: FlushMode) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env("STEADFAST_CRASH_DIR", dir)
            .env("STEADFAST_CRASH_SEED", seed.to_string())
            .env("STEADFAST_CRASH_ROUND", round.to_string())
            .env("STEADFAST_CRASH_MODE", if flush == FlushMode::Sync { "sync" } else { "async" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut off by the kill, and says nothing.
            while out.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                if let Some(said) = line.strip_prefix("> ") {
                    let _ = sender.send(said.trim_end().to_owned());
                }
                line.clear();
            }
        });
        Self { child, lines }
    }

    /// Lets it write for a random while, kills it, and takes all it acknowledged.
    fn kill(mut self, rng: &mut Rng, promised: &mut Promised) {
        let mut left = rng.below(900);
        let mut pause = Duration::from_micros(rng.below(40_000));
        // Some die while they open.
        let early = rng.chance(1, 5);
        let mut open = false;
        loop {
            let wait = if early || open && left == 0 { pause } else { STUCK };
            match self.lines.recv_timeout(wait) {
                Ok(line) if line == "opening" => {}
                Ok(line) if line == "open" => open = true,
                Ok(line) => {
                    promised.take(&line);
                    left = left.saturating_sub(1);
                    pause = pause.saturating_sub(Duration::from_micros(100));
                }
                Err(RecvTimeoutError::Timeout) if wait == pause => break,
                Err(e) => panic!("the writer went away or hangs: {e}"),
            }
            if (early || left == 0) && pause.is_zero() {
                break;
            }
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in self.lines.iter().filter(|line| !line.starts_with("open")) {
            promised.take(&line);
        }
    }
}

/// Opens the directory and checks everything against what was promised.
fn check(dir: &Path, flush: FlushMode, promised: &Promised, rng: &mut Rng) {
    let builder = Store::builder(dir).options(options(flush));
    // Looking must do as well as repairing; then the next writer repairs.
    let store = if rng.chance(1, 2) { builder.open_read_only() } else { builder.open() };
    let store = match store {
        Err(e) if e.kind() == steadfast::ErrorKind::NotFound && promised.at.is_empty() => return,
        store => store.unwrap(),
    };
    let report = store.recovery();
    let damaged = report.findings.iter().any(|f| matches!(f, Finding::Damage { .. }));
    assert!(!damaged, "{report}");
    let mut seen = HashSet::new();
    for id in 0..QUEUES {
        check_queue(&store, id, promised, &mut seen);
    }
    let ever = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for _ in 0..promised.at.len().min(20) {
        let picked = rng.below(promised.at.len() as u64) as usize;
        let name = promised.at.values().nth(picked).unwrap();
        let found = store.query("orders", name, ever.0, ever.1, 9).unwrap();
        assert_eq!(found.len(), 1, "found by its key {name}");
        assert_eq!(found[0].body(), body(name));
    }
    for (queue, next) in store.consumers().of_group(&Group::new(GROUP).unwrap()) {
        let (_, end) = store.queue_range(&queue).unwrap();
        assert!(next <= end, "a group is past the end of {queue}: {next} > {end}");
    }
    store.health().unwrap();
    store.close().unwrap();
}

fn check_queue(store: &Store, id: i32, promised: &Promised, seen: &mut HashSet<String>) {
    let queue = queue(id);
    let mut wanted = promised.at.range((id, 0)..(id + 1, 0)).peekable();
    let Some((min, end)) = store.queue_range(&queue) else {
        assert!(wanted.peek().is_none(), "the queue {queue} is gone");
        return;
    };
    assert_eq!(min, QueueOffset::ZERO);
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut next = min;
    while next < end {
        let batch = store.read(&queue, next, ReadLimit::records(100)).unwrap();
        assert!(!batch.is_empty(), "nothing at {next} of {queue}, which ends at {end}");
        for record in batch.iter() {
            assert_eq!(record.queue_offset(), next);
            let text = record.body();
            let name = text.split(|b| *b == b' ').next().unwrap();
            let name = String::from_utf8(name.to_vec()).unwrap();
            assert!(text == body(&name), "the bytes of {name} at {next} of {queue}");
            assert!(seen.insert(name.clone()), "{name} is there twice");
            let (writer, serial) = name.split_once("-s").unwrap();
            let serial: u64 = serial.parse().unwrap();
            let before = latest.insert(writer.to_owned(), serial);
            assert!(before.is_none_or(|before| before < serial), "{name} after {before:?}");
            if let Some((_, expected)) = wanted.next_if(|((_, offset), _)| *offset == next.get()) {
                assert_eq!(name, *expected, "at {next} of {queue}");
                assert_eq!(record.physical_offset().get(), promised.physical[&name]);
            }
            next = next.next();
        }
    }
    assert_eq!(wanted.next(), None, "an acknowledged message of {queue} is lost");
}

/// One at a time: two stores that fight for the disk make neither test better.
static TURN: Mutex<()> = Mutex::new(());

fn kills(name: &str, mode: impl Fn(&mut Rng) -> FlushMode) {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let seed = match env::var("STEADFAST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(name),
    };
    let kills = env::var("STEADFAST_KILLS").map_or(8, |kills| kills.parse().unwrap());
    println!("{name}: {kills} kills, STEADFAST_SEED={seed}");
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut promised = Promised::default();
    for round in 0..kills {
        let flush = mode(&mut rng);
        let before = promised.at.len();
        Writer::start(dir.path(), rng.bits(), round, flush).kill(&mut rng, &mut promised);
        println!("round {round} {flush:?}: {} acknowledged", promised.at.len() - before);
        check(dir.path(), flush, &promised, &mut rng);
    }
    let segments = dir.path().join("commitlog").read_dir().unwrap().count();
    println!("{} acknowledged in all, {segments} segments", promised.at.len());
    assert!(!promised.at.is_empty(), "no writer ever got to write: nothing was tested");
}

#[test]
fn what_sync_acknowledged_survives_a_killed_process() {
    kills("sync", |_| FlushMode::Sync);
}

#[test]
fn what_async_acknowledged_survives_a_killed_process() {
    kills("async", |_| FlushMode::Async);
}

#[test]
fn what_was_acknowledged_survives_kills_in_changing_modes() {
    kills("mixed", |rng| *rng.pick(&[FlushMode::Sync, FlushMode::Async]));
}
