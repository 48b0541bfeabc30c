//! `steadfast get`: the messages of a topic.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::Write,
    thread,
    time::Duration,
};

use steadfast::{
    ErrorKind, KeyIndexing, PhysicalOffset, QueueKey, QueueOffset, ReadLimit, Record, Store,
    StoreTime,
};

use crate::{
    exit::{Failure, Outcome},
    json::RecordLine,
    opening::{self, StoreArgs},
    output::{self, Output},
    time::parse_time,
};

/// Prints the messages of a topic
///
/// Each body is followed by a newline. Opens read-only: it changes nothing and may run beside a
/// writer. What is damaged is named on stderr and passed over; the exit status is then 1.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Only this queue of it; else all, in the order of the log.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    queue: Option<i32>,
    /// Begin at this offset of the queue (of each queue, without --queue).
    #[arg(long, value_name = "OFFSET", conflicts_with = "since")]
    from: Option<u64>,
    /// Begin with the first message stored at or after this time: milliseconds since 1970, or
    /// RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<StoreTime>,
    /// Stop after so many messages.
    #[arg(long, value_name = "NUMBER")]
    max: Option<u64>,
    /// Wait for more at the end, until interrupted or --max is reached.
    #[arg(long)]
    follow: bool,
    /// One JSON line per message, with all its fields and the body in base64.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "\
Examples:
  steadfast get data --topic orders
  steadfast get data --topic orders --queue 0 --from 1000 --max 10 --json
  steadfast get data --topic orders --since 2026-11-22T08:00:00Z
  steadfast get data --topic orders --follow | while read -r order; do echo \"$order\"; done";

/// Records per read.
const BATCH: usize = 256;
/// Bytes per read.
const BATCH_BYTES: u64 = 4 << 20;
/// How often a followed store is looked at.
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let mut options = args.store.options();
    // Nothing is looked up by key.
    options.key_index = KeyIndexing::Off;
    let store = opening::open_read_only(&args.store.dir, options)?;
    let mut reader = Reader { args, store, cursors: Vec::new(), printed: 0, damaged: false };
    let mut out = output::stdout();
    reader.take_in_queues()?;
    if reader.cursors.is_empty() && !args.follow {
        return Err(reader.unknown());
    }
    loop {
        reader.print_all(&mut out)?;
        out.flush()?;
        if !args.follow || reader.is_full() {
            return Ok(Outcome::found(reader.damaged));
        }
        thread::sleep(POLL);
        reader.store.refresh()?;
        reader.take_in_queues()?;
    }
}

/// A place in one queue, and what was read from there on.
struct Cursor {
    queue: QueueKey,
    next: QueueOffset,
    ready: VecDeque<Record>,
}

struct Reader<'a> {
    args: &'a Args,
    store: Store,
    cursors: Vec<Cursor>,
    printed: u64,
    damaged: bool,
}

impl Reader<'_> {
    fn is_full(&self) -> bool {
        self.args.max.is_some_and(|max| self.printed >= max)
    }

    /// Begins with the queues of the topic that are not known yet.
    fn take_in_queues(&mut self) -> Result<(), Failure> {
        for queue in self.store.queues() {
            let wanted = queue.topic() == self.args.topic
                && self.args.queue.is_none_or(|id| id == queue.queue_id());
            if !wanted || self.cursors.iter().any(|cursor| cursor.queue == queue) {
                continue;
            }
            let Some((min, end)) = self.store.queue_range(&queue) else { continue };
            let mut next = min;
            if let Some(time) = self.args.since {
                next = self.store.offset_by_time(&queue, time)?;
            } else if let Some(from) = self.args.from.map(QueueOffset::new) {
                next = from.max(min);
                if self.args.queue.is_some() && from < min {
                    eprintln!("steadfast: queue {queue} begins at {min}: beginning there");
                } else if self.args.queue.is_some() && from > end && !self.args.follow {
                    let text = format!("queue {queue} holds {min}..{end}, not {from}");
                    return Err(Failure::Refused(text));
                }
            }
            self.cursors.push(Cursor { queue, next, ready: VecDeque::new() });
        }
        Ok(())
    }

    fn unknown(&self) -> Failure {
        let mut topics: Vec<String> =
            self.store.queues().iter().map(|queue| queue.to_string()).collect();
        if topics.len() > 20 {
            topics.truncate(20);
            topics.push("...".into());
        }
        let queue = self.args.queue.map_or(String::new(), |id| format!("/{id}"));
        Failure::Refused(format!(
            "{}: there is no queue {}{queue}; there are: {}",
            self.args.store.dir.display(),
            self.args.topic,
            topics.join(" ")
        ))
    }

    /// Prints what there is of all queues, merged by where it lies in the log.
    fn print_all(&mut self, out: &mut Output) -> Result<(), Failure> {
        let mut heads: BinaryHeap<Reverse<(PhysicalOffset, usize)>> = BinaryHeap::new();
        for number in 0..self.cursors.len() {
            heads.extend(self.head(number)?.map(|at| Reverse((at, number))));
        }
        while let Some(Reverse((_, number))) = heads.pop() {
            if self.is_full() {
                break;
            }
            if let Some(record) = self.cursors[number].ready.pop_front() {
                self.print(out, &record)?;
            }
            heads.extend(self.head(number)?.map(|at| Reverse((at, number))));
        }
        Ok(())
    }

    /// Where the next record of a queue lies, if there is one.
    fn head(&mut self, number: usize) -> Result<Option<PhysicalOffset>, Failure> {
        let cursor = &mut self.cursors[number];
        while cursor.ready.is_empty() {
            let end = self.store.queue_range(&cursor.queue).map(|(_, end)| end);
            if end.is_none_or(|end| cursor.next >= end) {
                return Ok(None);
            }
            let limit = ReadLimit::records(BATCH).bytes(BATCH_BYTES);
            match self.store.read(&cursor.queue, cursor.next, limit) {
                Ok(batch) if batch.is_empty() => return Ok(None),
                Ok(batch) => {
                    cursor.next = batch.next_offset();
                    cursor.ready = batch.into_records().into();
                }
                Err(error) if matches!(error.kind(), ErrorKind::Damaged { .. }) => {
                    self.damaged = true;
                    eprintln!(
                        "steadfast: {}: message {} of queue {} is passed over: {error}",
                        self.args.store.dir.display(),
                        cursor.next,
                        cursor.queue
                    );
                    cursor.next = cursor.next.next();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(cursor.ready.front().map(|record| record.view().physical_offset()))
    }

    fn print(&mut self, out: &mut Output, record: &Record) -> Result<(), Failure> {
        self.printed += 1;
        let view = record.view();
        if self.args.json {
            return output::line(out, &RecordLine::of(&view).with_body(&view));
        }
        out.write_all(view.body())?;
        out.write_all(b"\n")?;
        Ok(())
    }
}
