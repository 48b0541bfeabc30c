//! `steadfast bench append`, `read`, `recover`: how fast the engine is on this machine.

use std::{
    collections::VecDeque,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use steadfast::{FlushMode, Message, Options, QueueKey, QueueOffset, ReadLimit, Store, Ticket};

use super::row::{self, Row, body, histogram};
use crate::{
    exit::{Failure, Outcome},
    opening,
    options::OptionArgs,
    output::{self, Output},
};

/// What the measurements of the engine have in common.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the directory is made: choose the disk that is meant.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Messages at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Seconds at most for each line of `append`.
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
    /// Queues that the messages are spread over.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    queues: i32,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: OptionArgs,
}

pub(super) const EXAMPLES: &str = "\
Lines:
  append async        one thread, acknowledged from memory
  append sync         one thread that waits for the disk after each message
  append sync flight  one thread with 1024 messages on their way to the disk
  read queue          a queue from end to end, in batches of 32
  read random         one message anywhere in it
  open closed         a store that was closed
  open unknown        a store of which nothing is known: every record is checked, queues and index
                      are rebuilt

Examples:
  steadfast bench append --dir /mnt/data --size 512
  steadfast bench recover --count 2000000 --json";

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Append,
    Read,
    Recover,
}

/// Messages in flight at most.
const FLIGHT: usize = 1024;
/// Opens of each kind.
const OPENS: usize = 5;
/// Messages per read of a queue.
const BATCH: usize = 32;

pub(super) fn run(what: What, args: &Args) -> Result<Outcome, Failure> {
    let place = Place::make(&args.dir)?;
    let mut bench = Bench { args, place: &place.0, out: output::stdout(), number: 0 };
    row::head(&mut bench.out, args.json)?;
    match what {
        What::Append => {
            bench.append("append async", FlushMode::Async, 0)?;
            bench.append("append sync", FlushMode::Sync, 1)?;
            bench.append("append sync flight", FlushMode::Sync, FLIGHT)?;
        }
        What::Read => bench.read()?,
        What::Recover => bench.recover()?,
    }
    Ok(Outcome::Done)
}

/// A directory that is removed with everything in it.
struct Place(PathBuf);

impl Place {
    fn make(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(format!("steadfast-bench-{}", std::process::id()));
        let failed = |e: io::Error| Failure::Blocked(format!("{}: {e}", path.display()));
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("steadfast: cannot remove {}: {e}", self.0.display());
        }
    }
}

struct Bench<'a> {
    args: &'a Args,
    place: &'a Path,
    out: Output,
    number: u32,
}

impl Bench<'_> {
    fn row(
        &mut self,
        name: &'static str,
        messages: u64,
        log_bytes: u64,
        took: Duration,
        times: &Histogram<u64>,
    ) -> Result<(), Failure> {
        let row = Row::new(name, (messages, self.args.size), log_bytes, took, times);
        match self.args.json {
            true => output::line(&mut self.out, &row)?,
            false => row.print(&mut self.out)?,
        }
        self.out.flush()?;
        Ok(())
    }

    fn options(&self, flush: FlushMode) -> Options {
        let mut options = opening::options(&self.args.options);
        options.flush = flush;
        options
    }

    fn queues(&self) -> Result<Vec<QueueKey>, Failure> {
        let queues = (0..self.args.queues).map(|id| QueueKey::new("bench", id));
        Ok(queues.collect::<Result<_, _>>()?)
    }

    /// A new directory for a store.
    fn fresh(&mut self) -> PathBuf {
        self.number += 1;
        self.place.join(self.number.to_string())
    }

    /// Appends with at most `flight` messages that are not acknowledged; with 0 each is when it is
    /// appended.
    fn append(
        &mut self,
        name: &'static str,
        flush: FlushMode,
        flight: usize,
    ) -> Result<(), Failure> {
        let dir = self.fresh();
        let store = opening::open(&dir, self.options(flush))?;
        let queues = self.queues()?;
        let body = body(self.args.size);
        let mut times = histogram();
        let mut waiting: VecDeque<(Instant, Ticket)> = VecDeque::new();
        let started = Instant::now();
        let most = Duration::from_secs(self.args.seconds);
        let mut count = 0;
        while count < self.args.count && started.elapsed() < most {
            let queue = &queues[count as usize % queues.len()];
            let begun = Instant::now();
            let ticket = store.append(&Message::new(queue, &body))?;
            count += 1;
            waiting.push_back((begun, ticket));
            while let Some((_, ticket)) = waiting.front()
                && (waiting.len() >= flight.max(1) || ticket.is_settled())
            {
                settle(&mut waiting, &mut times)?;
            }
        }
        while !waiting.is_empty() {
            settle(&mut waiting, &mut times)?;
        }
        let took = started.elapsed();
        let bytes = store.progress().written.get();
        store.close()?;
        remove(&dir)?;
        self.row(name, count, bytes, took, &times)
    }

    /// A closed store with messages in it, and the length of its log.
    fn filled(&mut self) -> Result<(PathBuf, u64), Failure> {
        let dir = self.fresh();
        let store = opening::open(&dir, self.options(FlushMode::Async))?;
        let body = body(self.args.size);
        let queues = self.queues()?;
        for i in 0..self.args.count {
            let queue = &queues[i as usize % queues.len()];
            store.append(&Message::new(queue, &body).key("key"))?.wait()?;
        }
        let bytes = store.progress().written.get();
        store.close()?;
        Ok((dir, bytes))
    }

    fn read(&mut self) -> Result<(), Failure> {
        let (dir, bytes) = self.filled()?;
        let store = opening::open_read_only(&dir, self.options(FlushMode::Async))?;
        let mut times = histogram();
        let started = Instant::now();
        let mut count = 0;
        for queue in self.queues()? {
            let mut at = QueueOffset::ZERO;
            loop {
                let begun = Instant::now();
                let batch = store.read(&queue, at, ReadLimit::records(BATCH))?;
                if batch.is_empty() {
                    break;
                }
                let each = begun.elapsed().as_nanos() as u64 / batch.len() as u64;
                times.saturating_record_n(each, batch.len() as u64);
                count += batch.len() as u64;
                at = batch.next_offset();
            }
        }
        self.row("read queue", count, bytes, started.elapsed(), &times)?;
        self.read_random(&store, bytes / count.max(1))?;
        drop(store);
        remove(&dir)
    }

    fn read_random(&mut self, store: &Store, record_bytes: u64) -> Result<(), Failure> {
        let mut times = histogram();
        let queues = self.queues()?;
        let started = Instant::now();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let count = self.args.count.min(200_000);
        for _ in 0..count {
            // Any sequence that jumps about will do.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let queue = &queues[random as usize % queues.len()];
            let Some((min, end)) = store.queue_range(queue) else { continue };
            let at = min + (random >> 8) % end.saturating_since(min).max(1);
            let begun = Instant::now();
            store.read(queue, at, ReadLimit::records(1))?;
            times.saturating_record(begun.elapsed().as_nanos() as u64);
        }
        self.row("read random", count, count * record_bytes, started.elapsed(), &times)
    }

    fn recover(&mut self) -> Result<(), Failure> {
        let (dir, bytes) = self.filled()?;
        for (name, known) in [("open closed", true), ("open unknown", false)] {
            let mut times = histogram();
            let mut took = Duration::ZERO;
            for _ in 0..OPENS {
                if !known {
                    // What is known of a store is in here, and only here.
                    remove(&dir.join("steadfast"))?;
                }
                let options = self.options(FlushMode::Async);
                let begun = Instant::now();
                let store = Store::builder(&dir).options(options).open()?;
                let each = begun.elapsed();
                took += each;
                times.saturating_record(each.as_nanos() as u64);
                store.close()?;
            }
            let opens = OPENS as u64;
            self.row(name, self.args.count * opens, bytes * opens, took, &times)?;
        }
        remove(&dir)
    }
}

fn settle(
    waiting: &mut VecDeque<(Instant, Ticket)>,
    times: &mut Histogram<u64>,
) -> Result<(), Failure> {
    if let Some((begun, ticket)) = waiting.pop_front() {
        ticket.wait()?;
        times.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::Blocked(format!("cannot remove {}: {e}", dir.display()));
    fs::remove_dir_all(dir).map_err(failed)
}
