//! `steadfast put`: each line of standard input becomes a message.

use std::{
    io::{self, BufRead, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
};

use serde::Serialize;
use steadfast::{
    Error, ErrorKind, FlushMode, Message, Placement, PutStatus, QueueKey, Store, Ticket,
};

use crate::{
    exit::{Failure, Outcome, sentence},
    opening::{self, StoreArgs},
    output::{self, Output},
};

/// Appends each line of standard input as a message
///
/// For each message one JSON line is printed once it is as safe as the flush mode promises. With
/// `--flush sync` that is: on the disk, whatever happens to the machine. The store is made if
/// there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// The queue of the topic.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    queue: i32,
    /// The tag of all messages, by which consumers choose.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// The keys of all messages, separated by spaces, by which they can be found.
    #[arg(long, value_name = "KEYS")]
    key: Option<String>,
    /// When a message is acknowledged: `sync` when it is on the disk, `async` when it is in the
    /// operating system's memory.
    #[arg(long, value_name = "sync|async", value_parser = ["sync", "async"])]
    flush: Option<String>,
    /// Append so many lines at a time, as one group that becomes visible at once. The last group
    /// may be smaller.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "\
A line is {\"status\":\"PUT_OK\",\"msgId\":...,\"queueId\":...,\"queueOffset\":...,\"physOffset\":...}.
The exit status is 1 if any other status was printed: FLUSH_DISK_TIMEOUT means that the outcome is
unknown, MESSAGE_ILLEGAL that the message cannot be stored as it is and was not.

Examples:
  seq 1000 | steadfast put data --topic numbers
  steadfast put data --topic orders --queue 2 --tag paid --key order-17 --flush sync <orders.txt
  steadfast put data --topic small -o segment_bytes=64K -o index_slots=1000 -o index_entries=4000";

/// Appends that wait for their acknowledgement at most.
const WINDOW: usize = 8192;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<String>,
    queue_id: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What the appending thread hands to the printing one.
enum Sent {
    /// An append.
    Ticket(Ticket),
    /// So many messages that can never be stored.
    Illegal(usize, Error),
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let queue = QueueKey::new(&args.topic, args.queue).map_err(|e| Failure::opening(&e))?;
    let mut options = args.store.options();
    match args.flush.as_deref() {
        Some("sync") => options.flush = FlushMode::Sync,
        Some("async") => options.flush = FlushMode::Async,
        _ => {}
    }
    let longest = options.max_message_bytes as usize;
    let store = opening::open(&args.store.dir, options)?;
    let (sender, receiver) = sync_channel(WINDOW);
    let (appended, printed) = thread::scope(|scope| {
        let printer = scope.spawn(|| print(args.queue, receiver));
        let appended = append(args, &store, &queue, longest, &sender);
        drop(sender);
        (appended, printer.join())
    });
    // What was acknowledged is safe whatever closing says, but it must be said.
    let closed = store.close().map_err(|e| args.store.named(e.into()));
    let Ok(printed) = printed else {
        return Err(Failure::Refused("the printing thread died".into()));
    };
    let printed = printed?;
    appended.map_err(|failure| args.store.named(failure))?;
    closed?;
    Ok(printed)
}

/// Reads and appends until the input ends or nobody prints any more.
fn append(
    args: &Args,
    store: &Store,
    queue: &QueueKey,
    longest: usize,
    sender: &SyncSender<Sent>,
) -> Result<(), Failure> {
    let mut input = io::BufReader::with_capacity(256 << 10, io::stdin().lock());
    let batch = args.batch as usize;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut used = 0;
        while used < batch {
            if lines.len() == used {
                lines.push(Vec::new());
            }
            if !read_line(&mut input, &mut lines[used], longest)? {
                break;
            }
            used += 1;
        }
        if used == 0 {
            return Ok(());
        }
        let messages: Vec<_> =
            lines[..used].iter().map(|body| message(args, queue, body)).collect();
        let sent = match append_patiently(store, &messages) {
            Ok(ticket) => Sent::Ticket(ticket),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge) => {
                Sent::Illegal(used, e)
            }
            Err(e) => return Err(e.into()),
        };
        if sender.send(sent).is_err() {
            return Ok(());
        }
    }
}

fn message<'a>(args: &Args, queue: &'a QueueKey, body: &'a [u8]) -> Message<'a> {
    let mut message = Message::new(queue, body);
    if let Some(tag) = &args.tag {
        message = message.tag(tag);
    }
    if let Some(key) = &args.key {
        message = message.key(key);
    }
    message
}

/// Waits as long as it takes while the disk cannot follow: input can wait.
fn append_patiently(store: &Store, messages: &[Message<'_>]) -> Result<Ticket, Error> {
    loop {
        let appended = match messages {
            [message] => store.append(message),
            messages => store.append_batch(messages),
        };
        match appended {
            Err(e) if e.kind() == ErrorKind::Busy => {}
            other => return other,
        }
    }
}

/// Reads up to a newline, which is taken away; false at the end of the input. Of a line that is
/// longer than `longest` only a little more than that is kept: enough to be refused.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = bytes.iter().position(|&b| b == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = (longest + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Prints each append, in order, once it is settled.
fn print(queue_id: i32, receiver: Receiver<Sent>) -> Result<Outcome, Failure> {
    let mut out = output::stdout();
    let mut outcome = Outcome::Done;
    loop {
        let sent = match receiver.try_recv() {
            Ok(sent) => sent,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // About to wait: what is settled must be seen.
                out.flush()?;
                match receiver.recv() {
                    Ok(sent) => sent,
                    Err(_) => break,
                }
            }
        };
        match sent {
            Sent::Ticket(ticket) => {
                if !ticket.is_settled() {
                    out.flush()?;
                }
                let receipt = ticket.wait()?;
                if receipt.status != PutStatus::PutOk {
                    outcome = Outcome::Found;
                }
                for placement in receipt.placements() {
                    print_placed(&mut out, queue_id, receipt.status, placement)?;
                }
            }
            Sent::Illegal(count, error) => {
                outcome = Outcome::Found;
                for _ in 0..count {
                    print_illegal(&mut out, queue_id, &error)?;
                }
            }
        }
    }
    out.flush()?;
    Ok(outcome)
}

fn print_placed(
    out: &mut Output,
    queue_id: i32,
    status: PutStatus,
    placement: &Placement,
) -> Result<(), Failure> {
    let line = Line {
        status: status.name(),
        msg_id: Some(message_id(placement)),
        queue_id,
        queue_offset: Some(placement.queue_offset.get()),
        phys_offset: Some(placement.physical_offset.get()),
        error: None,
    };
    output::line(out, &line)
}

fn print_illegal(out: &mut Output, queue_id: i32, error: &Error) -> Result<(), Failure> {
    let line = Line {
        status: "MESSAGE_ILLEGAL",
        msg_id: None,
        queue_id,
        queue_offset: None,
        phys_offset: None,
        error: Some(sentence(error)),
    };
    output::line(out, &line)
}

/// The host that the store writes into records unless told otherwise.
const STORE_HOST: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

fn message_id(placement: &Placement) -> String {
    let ip = u32::from(Ipv4Addr::LOCALHOST);
    format!("{ip:08X}{:08X}{:016X}", STORE_HOST.port(), placement.physical_offset.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], capacity: usize, longest: usize) -> Vec<String> {
        let mut input = io::BufReader::with_capacity(capacity, text);
        let mut line = Vec::new();
        let mut all = Vec::new();
        while read_line(&mut input, &mut line, longest).unwrap() {
            all.push(String::from_utf8(line.clone()).unwrap());
        }
        all
    }

    #[test]
    fn lines_are_messages_the_last_one_without_its_newline_too() {
        for capacity in 1..9 {
            assert_eq!(lines(b"ab\n\ncd\r\nef", capacity, 99), ["ab", "", "cd\r", "ef"]);
            assert_eq!(lines(b"", capacity, 99), [""; 0]);
            assert_eq!(lines(b"\n", capacity, 99), [""]);
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_one_byte_more_is_kept() {
        assert_eq!(lines(b"abcdefgh\nxy\n", 3, 4), ["abcde", "xy"]);
    }
}
