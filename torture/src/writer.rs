//! The process that is hurt: writes, reads and commits on several threads, and says on its standard
//! output what the store promised, each time at once.
//!
//! | line | meaning |
//! |---|---|
//! | `opening`, `open` | where it is |
//! | `PUT_OK name queue offset physical end` | acknowledged (also the other statuses) |
//! | `SEEN name queue offset physical end` | a reader got it |
//! | `DURABLE physical` | the durable watermark |
//! | `COMMITTING thread queue offset`, `SAVED thread queue offset` | a group's position |
//! | `READ_ON`, `READ_FAILED text` | a queue was read after an error, or could not be |
//! | `WAITED micros` | how long the call took that failed |
//! | `ERROR kind text` | what failed; it ends, or goes on with `--go-on` |

use std::{
    io::Write as _,
    path::PathBuf,
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use steadfast::{
    Error, FlushMode, Message, Options, QueueOffset, ReadLimit, Result, Store, disk::sim::Rng,
};

use crate::{
    life,
    message::{QUEUES, body, group, name_of, queue},
};

/// Messages that are acknowledged at once, at most.
pub(crate) const BATCH: u64 = 5;

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Once it is on the disk.
    Sync,
    /// At once.
    Async,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) mode: Mode,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Part of each message's name, so that no two processes write the same one
    #[arg(long)]
    pub(crate) round: u64,
    /// Threads that write
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: u64,
    /// Threads that read what comes
    #[arg(long, default_value_t = 2)]
    pub(crate) readers: u64,
    /// Closes the store and ends after so many appends of each thread; without it, goes on
    #[arg(long)]
    pub(crate) appends: Option<u64>,
    /// Says errors and goes on
    #[arg(long)]
    pub(crate) go_on: bool,
    /// No append is refused before the file system itself refuses
    #[arg(long)]
    fill: bool,
    /// A short life on one thread instead, the same each time
    #[arg(long)]
    pub(crate) stepped: bool,
    /// With --stepped: whole segments are removed as soon as there is a newer one
    #[arg(long)]
    pub(crate) retain: bool,
    /// With --stepped: ends without closing the store
    #[arg(long)]
    pub(crate) abandon: bool,
}

/// Small files, so that they roll often.
pub(crate) fn options(mode: Mode) -> Options {
    let flush = match mode {
        Mode::Sync => FlushMode::Sync,
        Mode::Async => FlushMode::Async,
    };
    let mut options = Options::default().flush(flush).segment_bytes(64 << 10);
    options.queue_file_bytes = 2000;
    options.index_slots = 500;
    options.index_entries = 1500;
    options.offsets_interval = Duration::from_millis(20);
    options
}

/// Opens, writes until killed or done, closes.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.stepped {
        return life::run(args);
    }
    say("opening");
    let mut options = options(args.mode);
    if args.fill {
        options.retention.refuse_ratio = 100;
    }
    let store = match Store::builder(&args.dir).options(options).open() {
        Ok(store) => store,
        Err(e) => {
            failed(&e);
            return ExitCode::FAILURE;
        }
    };
    say("open");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, args) = (&store, args);
        let writers: Vec<_> =
            (0..args.threads).map(|n| scope.spawn(move || write(store, args, n))).collect();
        let done = &done;
        for n in 0..args.readers {
            scope.spawn(move || read(store, n as i32 % QUEUES, done));
        }
        for writer in writers {
            if writer.join().is_err() {
                say("ERROR Wrong a thread panicked");
            }
        }
        done.store(true, Relaxed);
    });
    match store.close() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            failed(&e);
            ExitCode::FAILURE
        }
    }
}

fn write(store: &Store, args: &Args, thread: u64) {
    let mut rng = Rng::new(args.seed ^ thread);
    let mut serial = 0;
    let mut appends = 0;
    while args.appends.is_none_or(|most| appends < most) {
        appends += 1;
        let begun = Instant::now();
        let result = append(store, args, thread, &mut serial, &mut rng).and_then(|()| {
            say(&format!("DURABLE {}", store.progress().durable));
            if rng.chance(1, 16) { commit(store, thread, &mut rng) } else { Ok(()) }
        });
        if let Err(e) = result {
            failed(&e);
            if !args.go_on {
                process::exit(4);
            }
            say(&format!("WAITED {}", begun.elapsed().as_micros()));
            // Reading goes on as if nothing had happened.
            match life::read(store, rng.below(QUEUES as u64) as i32) {
                Ok(()) => say("READ_ON"),
                Err(e) => say(&format!("READ_FAILED {e}")),
            }
            // Whoever is told of an error waits a little before trying again.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One message, or a batch.
fn append(store: &Store, args: &Args, thread: u64, serial: &mut u64, rng: &mut Rng) -> Result<()> {
    let id = rng.below(QUEUES as u64) as i32;
    let queue = queue(id)?;
    let count = if rng.chance(1, 8) { rng.within(2..BATCH + 1) } else { 1 };
    let round = args.round;
    let names: Vec<_> =
        (*serial..*serial + count).map(|s| format!("r{round}-t{thread}-s{s}")).collect();
    *serial += count;
    let bodies: Vec<_> = names.iter().map(|name| body(name)).collect();
    let messages: Vec<_> =
        names.iter().zip(&bodies).map(|(n, b)| Message::new(&queue, b).key(n)).collect();
    let receipt = store.append_batch(&messages)?.wait()?;
    let status = receipt.status.name();
    for (name, place) in names.iter().zip(receipt.placements()) {
        let (at, physical, end) = (place.queue_offset, place.physical_offset, place.end());
        say(&format!("{status} {name} {id} {at} {physical} {end}"));
    }
    Ok(())
}

fn commit(store: &Store, thread: u64, rng: &mut Rng) -> Result<()> {
    let id = rng.below(QUEUES as u64) as i32;
    let queue = queue(id)?;
    let Some((_, end)) = store.queue_range(&queue) else { return Ok(()) };
    let next = QueueOffset::new(rng.below(end.get() + 1));
    say(&format!("COMMITTING {thread} {id} {next}"));
    store.consumers().commit(&group(thread)?, &queue, next)?;
    store.consumers().save()?;
    say(&format!("SAVED {thread} {id} {next}"));
    Ok(())
}

/// Reads what comes into a queue, from its end on, until all is written.
fn read(store: &Store, id: i32, done: &AtomicBool) {
    let Ok(queue) = queue(id) else { return };
    let mut next = store.queue_range(&queue).map_or(QueueOffset::ZERO, |(_, end)| end);
    while !done.load(Relaxed) {
        if !store.wait_for(&queue, next, Duration::from_millis(50)).unwrap_or(false) {
            continue;
        }
        let batch = match store.read(&queue, next, ReadLimit::records(32)) {
            Ok(batch) => batch,
            Err(e) => {
                failed(&e);
                process::exit(5);
            }
        };
        for record in batch.iter() {
            let Some(name) = name_of(record.body()) else {
                say(&format!("ERROR Wrong bytes were read at {next} of {queue}"));
                process::exit(5);
            };
            let (at, physical) = (record.queue_offset(), record.physical_offset());
            let end = physical + u64::from(record.size());
            say(&format!("SEEN {name} {id} {at} {physical} {end}"));
            next = at.next();
        }
    }
}

/// One line to the parent, in one write. A parent that is gone ends the writer.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        process::exit(3);
    }
}

pub(crate) fn failed(error: &Error) {
    let kind = format!("{:?}", error.kind());
    let kind = kind.split(' ').next().unwrap_or_default().to_owned();
    say(&format!("ERROR {kind} {}", error.to_string().replace('\n', " ")));
}
