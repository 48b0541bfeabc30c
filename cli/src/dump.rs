//! `steadfast dump`: everything in a store, as JSON lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::Serialize;
use steadfast::{
    ErrorKind, LogItem, Options, QueueKey, QueueOffset, ReadLimit, RecordView, Store, StoreTime,
};

use crate::{
    exit::{Failure, Outcome},
    json::{RecordLine, java_order, sha},
    opening::{self, StoreArgs},
    output::{self, Output},
};

/// Prints everything in a store as JSON lines
///
/// First a line about the store, then every record in log order, then every queue with its
/// messages, then what the key index answers. Opens read-only: it changes nothing and may run
/// beside a writer. Keys are collected in memory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "\
Types of lines:
  store         where the log begins and ends, file sizes
  record blank  what lies in the log
  damage        bytes that are not what was written; the exit status is then 1
  queue msg     a queue and what is read through it
  gap           a place of a queue that cannot be read
  query         a key and where the records with it are (the newest 64)

Examples:
  steadfast dump data | head -1
  steadfast dump data | jq -c 'select(.type == \"queue\") | {topic, queueId, maxOffset}'";

/// Records per read of a queue.
const BATCH: usize = 32;
/// The Java store answers a query with at most this many records.
const QUERY_MOST: usize = 64;
/// Every so many messages of a queue, the unique key is looked up too.
const SAMPLE: i64 = 16;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line<'a> {
    #[serde(rename_all = "camelCase")]
    Store {
        abort: bool,
        min_phy_offset: u64,
        max_phy_offset: u64,
        commit_log_file_size: u64,
        consume_queue_file_size: u64,
        dispatch_behind_bytes: u64,
    },
    Blank {
        phys_offset: u64,
        size: u64,
    },
    Damage {
        phys_offset: u64,
        size: u64,
        reason: String,
    },
    Queue {
        topic: &'a str,
        queue_id: i32,
        min_offset: u64,
        max_offset: u64,
        max_physic_offset: i64,
    },
    Msg {
        cq_offset: u64,
        tags_code: i64,
        cq_size: u32,
        topic: &'a str,
        queue_id: i32,
        queue_offset: i64,
        phys_offset: u64,
        body_sha: String,
    },
    Gap {
        topic: &'a str,
        queue_id: i32,
        offset: u64,
        status: &'a str,
    },
    Query {
        topic: &'a str,
        key: &'a str,
        phys_offsets: Vec<u64>,
    },
}

type Keys = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let options = args.store.options();
    let store = opening::open_read_only(&args.store.dir, options.clone())?;
    let mut out = output::stdout();
    output::line(&mut out, &store_line(&args.store.dir, &store, &options))?;
    let mut keys = Keys::new();
    let mut damaged = dump_log(&args.store.dir, &store, &mut out, &mut keys)?;
    let mut queues = store.queues();
    queues.sort_by(|a, b| java_order(a.topic(), b.topic()).then(a.queue_id().cmp(&b.queue_id())));
    for queue in &queues {
        damaged |= dump_queue(&args.store.dir, &store, queue, &mut out)?;
    }
    dump_keys(&store, keys, &mut out)?;
    std::io::Write::flush(&mut out)?;
    Ok(Outcome::found(damaged))
}

fn store_line(dir: &Path, store: &Store, options: &Options) -> Line<'static> {
    let progress = store.progress();
    // Opened read-only, everything that is shown counts as durable.
    let end = progress.durable;
    let queue_files = store.queues().into_iter().find_map(|queue| {
        let id = queue.queue_id().to_string();
        file_size(&dir.join("consumequeue").join(queue.topic()).join(id))
    });
    Line::Store {
        abort: dir.join("abort").exists(),
        min_phy_offset: progress.start.get(),
        max_phy_offset: end.get(),
        commit_log_file_size: file_size(&dir.join("commitlog")).unwrap_or(options.segment_bytes),
        consume_queue_file_size: queue_files.unwrap_or(options.queue_file_bytes),
        dispatch_behind_bytes: end.saturating_since(progress.dispatched),
    }
}

/// The length of the first file in a directory that holds any bytes.
fn file_size(dir: &Path) -> Option<u64> {
    let mut sizes: Vec<_> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|e| e.metadata().ok().map(|m| (e.file_name(), m)))
        .filter(|(_, m)| m.is_file() && m.len() > 0)
        .map(|(name, m)| (name, m.len()))
        .collect();
    sizes.sort();
    sizes.first().map(|(_, len)| *len)
}

/// Prints the log. Returns whether there is damage.
fn dump_log(dir: &Path, store: &Store, out: &mut Output, keys: &mut Keys) -> Result<bool, Failure> {
    let mut at = store.progress().start;
    let mut damaged = false;
    while let Some((item, next)) = store.item_at(at)? {
        match item {
            LogItem::Record(record) => {
                let view = record.view();
                collect_keys(&view, keys);
                output::line(out, &RecordLine::of(&view))?;
            }
            LogItem::Blank { at, size } => {
                output::line(out, &Line::Blank { phys_offset: at.get(), size })?;
            }
            LogItem::Damage { at, size, reason } => {
                damaged = true;
                eprintln!(
                    "steadfast: {}: damage in the log at {at}, {size} bytes: {reason}; \
                     `steadfast verify` names the file, `steadfast repair --plan` the choices",
                    dir.display()
                );
                output::line(out, &Line::Damage { phys_offset: at.get(), size, reason })?;
            }
            _ => {}
        }
        at = next;
    }
    Ok(damaged)
}

fn collect_keys(view: &RecordView<'_>, keys: &mut Keys) {
    if !keys.contains_key(view.topic()) {
        keys.insert(view.topic().to_owned(), BTreeSet::new());
    }
    let Some(of_topic) = keys.get_mut(view.topic()) else { return };
    of_topic.extend(view.keys().map(str::to_owned));
    if let Some(unique) = view.unique_key()
        && (view.queue_offset().get() as i64) % SAMPLE == 0
    {
        of_topic.insert(unique.to_owned());
    }
}

/// Prints a queue and its messages. Returns whether some could not be read.
fn dump_queue(
    dir: &Path,
    store: &Store,
    queue: &QueueKey,
    out: &mut Output,
) -> Result<bool, Failure> {
    let Some((min, end)) = store.queue_range(queue) else { return Ok(false) };
    let (topic, queue_id) = (queue.topic(), queue.queue_id());
    output::line(
        out,
        &Line::Queue {
            topic,
            queue_id,
            min_offset: min.get(),
            max_offset: end.get(),
            max_physic_offset: last_record_end(store, queue, end),
        },
    )?;
    let mut damaged = false;
    let mut at = min;
    while at < end {
        let batch = match store.read(queue, at, ReadLimit::records(BATCH)) {
            Ok(batch) if !batch.is_empty() => batch,
            Ok(_) => break,
            Err(error) => {
                let status = match error.kind() {
                    // Given up before: the log itself is sound.
                    ErrorKind::Damaged { .. } if is_filler(store, queue, at) => "LOST",
                    ErrorKind::Damaged { .. } => "DAMAGED",
                    _ => "NOT_READABLE",
                };
                damaged |= status != "LOST";
                eprintln!("steadfast: {}: {error}", dir.display());
                output::line(out, &Line::Gap { topic, queue_id, offset: at.get(), status })?;
                at = at.next();
                continue;
            }
        };
        let items = store.queue_items(queue, at, batch.len())?;
        for (view, item) in batch.iter().zip(&items) {
            let line = Line::Msg {
                cq_offset: item.offset.get(),
                tags_code: item.tags_code,
                cq_size: item.size,
                topic: view.topic(),
                queue_id: view.queue_id(),
                queue_offset: view.queue_offset().get() as i64,
                phys_offset: view.physical_offset().get(),
                body_sha: sha(view.body()),
            };
            output::line(out, &line)?;
        }
        at = batch.next_offset();
    }
    Ok(damaged)
}

/// Whether no record belongs to that position any more.
fn is_filler(store: &Store, queue: &QueueKey, at: QueueOffset) -> bool {
    let items = store.queue_items(queue, at, 1).unwrap_or_default();
    items.first().is_some_and(|item| item.size == i32::MAX as u32)
}

/// Where the record of the queue's last entry ends; -1 without one, as Java begins.
fn last_record_end(store: &Store, queue: &QueueKey, end: QueueOffset) -> i64 {
    let last = end.get().checked_sub(1).map(QueueOffset::new);
    let items = last.and_then(|last| store.queue_items(queue, last, 1).ok());
    let end =
        items.and_then(|items| items.first().map(|i| i.physical_offset.get() + u64::from(i.size)));
    end.map_or(-1, |end| end as i64)
}

fn dump_keys(store: &Store, keys: Keys, out: &mut Output) -> Result<(), Failure> {
    let mut topics: Vec<_> = keys.into_iter().collect();
    topics.sort_by(|a, b| java_order(&a.0, &b.0));
    let (begin, end) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for (topic, keys) in &topics {
        let mut keys: Vec<_> = keys.iter().collect();
        keys.sort_by(|a, b| java_order(a, b));
        for key in keys {
            let found = store.query(topic, key, begin, end, QUERY_MOST)?;
            let mut phys_offsets: Vec<_> =
                found.iter().map(|record| record.view().physical_offset().get()).collect();
            phys_offsets.sort_unstable();
            output::line(out, &Line::Query { topic, key, phys_offsets })?;
        }
    }
    Ok(())
}
