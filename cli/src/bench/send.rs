//! `steadfast bench send`: how fast a broker takes messages.

use std::{
    io::Write,
    num::NonZeroUsize,
    process, thread,
    time::{Duration, Instant},
};

use clap::value_parser;
use serde::Serialize;
use steadfast::{Clock, SystemClock};
use steadfast_broker::wire;
use tokio::{net::TcpStream, task::JoinSet, time};

use super::{
    cpu,
    frames::Frames,
    lane::{Answers, Budget, Lane},
    row::{self, Row, body, histogram},
};
use crate::{
    exit::{Failure, Outcome},
    opening::Progress,
    output,
};

/// How fast a broker takes messages, ours or any that speaks RocketMQ's remoting protocol
///
/// Keeps so many sends in flight on each connection, and counts what is answered. The topic is made
/// by the first send, if the broker allows that. The messages stay in the broker.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the broker listens.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10911")]
    broker: String,
    /// Where the messages go.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    body: usize,
    /// Connections.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Sends on their way on each connection.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    in_flight: u16,
    /// Seconds at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// Messages at most [default: as many as go into the seconds].
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Queues of the topic that are sent to in turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = value_parser!(u32).range(1..=65_536))]
    queues: u32,
    /// The producer group.
    #[arg(long, value_name = "NAME", default_value = "steadfast-bench")]
    group: String,
    /// The broker's process on this machine, to tell how much it does in a second of a processor.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Times are of all answers, from when a send was ready to be written; messages and MB/s (of bodies)
are of those that were stored. Below them stands each answer with its number, and the first reason
for it. Exit status 1 if there was another one than SEND_OK.

Examples:
  steadfast bench send --topic bench
  steadfast bench send --topic bench --connections 1 --in-flight 1 --messages 10000
  steadfast bench send --broker 127.0.0.1:10911 --topic bench --pid $(pgrep -f 'steadfast serve')";

/// The time to connect.
const CONNECT_MOST: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Args) -> Result<Outcome, Failure> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = processors.min(args.connections as usize);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let (report, broken) = runtime.block_on(measure(args))?;
    report.print(args)?;
    if let Some(why) = broken {
        return Err(Failure::Refused(why));
    }
    Ok(Outcome::found(report.statuses.iter().any(|status| status.code != 0)))
}

/// What was measured, and why it ended early, if it did.
async fn measure(args: &Args) -> Result<(Report, Option<String>), Failure> {
    let mut lanes = Vec::new();
    // Other runs have other unique keys.
    let run = (SystemClock::default().now().as_millis() as u64) << 20 ^ u64::from(process::id());
    let body = body(args.body);
    for number in 0..u64::from(args.connections) {
        let run = run.wrapping_add(number << 44);
        let frames = Frames::new((&args.topic, args.queues), &args.group, &body, run);
        lanes.push(Lane::new(connect(&args.broker).await?, frames, args.in_flight));
    }
    let cpu_before = args.pid.map(cpu::of).transpose()?;
    let started = Instant::now();
    let budget = Budget::new(started + Duration::from_secs(args.seconds));
    let messages = args.messages.unwrap_or(u64::MAX);
    // The first one alone: it makes the topic, and tells whether any can be sent.
    budget.add(1);
    lanes[0].run(&budget).await.map_err(|e| {
        Failure::Refused(format!("{}: {e}, to the first send; is it a broker?", args.broker))
    })?;
    check_first(args, &lanes[0].answers)?;
    budget.add(messages - 1);
    let budget = std::sync::Arc::new(budget);
    let mut running = JoinSet::new();
    for mut lane in lanes {
        let budget = budget.clone();
        running.spawn(async move { (lane.run(&budget).await, lane) });
    }
    let (answers, broken) = finish(args, running, &budget, started).await;
    let took = started.elapsed();
    let cpu = match (args.pid, cpu_before) {
        // Who has gone away has no time left to ask for.
        (Some(_), Some(_)) if broken.is_some() => None,
        (Some(pid), Some(before)) => Some(cpu::of(pid)?.saturating_sub(before)),
        _ => None,
    };
    Ok((Report::new(args, answers, took, cpu), broken))
}

async fn connect(broker: &str) -> Result<TcpStream, Failure> {
    let failed = |why: String| {
        Failure::Blocked(format!(
            "cannot connect to {broker}: {why}; start a broker there, such as \
             `steadfast serve --listen {broker}`, or name another one with --broker"
        ))
    };
    let stream = match time::timeout(CONNECT_MOST, TcpStream::connect(broker)).await {
        Ok(connected) => connected.map_err(|e| failed(e.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", CONNECT_MOST.as_secs()))),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn check_first(args: &Args, answers: &Answers) -> Result<(), Failure> {
    match answers.by_code.iter().find(|(code, _)| !wire::is_stored(**code)) {
        None => Ok(()),
        Some((code, (_, remark))) => Err(Failure::Refused(format!(
            "{} does not take messages of topic {}: {}: {}",
            args.broker,
            args.topic,
            name(*code),
            remark.as_deref().unwrap_or("it does not say why")
        ))),
    }
}

/// Waits until all connections are done, and shows how far they are.
async fn finish(
    args: &Args,
    mut running: JoinSet<(std::io::Result<()>, Lane)>,
    budget: &Budget,
    started: Instant,
) -> (Answers, Option<String>) {
    let progress = Progress::with_template("{msg} {wide_bar} {eta}");
    let mut look = time::interval(Duration::from_millis(250));
    let (mut answers, mut unanswered, mut broken) = (Answers::default(), 0, None);
    loop {
        let done = tokio::select! {
            done = running.join_next() => done,
            _ = look.tick() => {
                let (at, now) = (budget.answered(), started.elapsed());
                let rate = at as f64 / now.as_secs_f64().max(1e-9);
                let (at, total) = match args.messages {
                    Some(messages) => (at, messages),
                    None => (now.as_millis() as u64, args.seconds * 1000),
                };
                progress.show(&format!("sending, {rate:.0}/s"), at, total);
                continue;
            }
        };
        let Some(done) = done else { break };
        // They do not panic, and nobody aborts them.
        let Ok((ended, lane)) = done else { continue };
        unanswered += lane.outstanding();
        broken = broken.or(ended.err());
        answers.merge(lane.answers);
    }
    progress.clear();
    let broken = broken.map(|error| {
        format!(
            "{}: {error}; {unanswered} sends were not answered, they may be stored or not",
            args.broker
        )
    });
    (answers, broken)
}

/// The name of an answer, with its number where that is not one of a stored message.
fn name(code: i32) -> String {
    match wire::name_of_send_status(code) {
        Some(name) if wire::is_stored(code) => name.to_owned(),
        Some(name) => format!("{name} ({code})"),
        None => format!("code {code}"),
    }
}

#[derive(Serialize)]
struct Status {
    status: String,
    code: i32,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    row: Row,
    connections: u32,
    in_flight: u16,
    statuses: Vec<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_per_broker_cpu_second: Option<f64>,
}

impl Report {
    fn new(args: &Args, answers: Answers, took: Duration, cpu: Option<Duration>) -> Self {
        let status = |(code, (count, remark))| Status { status: name(code), code, count, remark };
        let statuses: Vec<_> = answers.by_code.into_iter().map(status).collect();
        let stored = statuses.iter().filter(|status| wire::is_stored(status.code));
        let stored: u64 = stored.map(|status| status.count).sum();
        let times = answers.times.unwrap_or_else(histogram);
        let bytes = stored * args.body as u64;
        let cpu = cpu.map(|cpu| cpu.as_secs_f64());
        Self {
            row: Row::new("send", (stored, args.body), bytes, took, &times),
            connections: args.connections,
            in_flight: args.in_flight,
            statuses,
            broker_cpu_seconds: cpu,
            messages_per_broker_cpu_second: cpu.map(|cpu| stored as f64 / cpu.max(0.01)),
        }
    }

    fn print(&self, args: &Args) -> Result<(), Failure> {
        let mut out = output::stdout();
        if args.json {
            output::line(&mut out, self)?;
            return Ok(out.flush()?);
        }
        row::head(&mut out, false)?;
        self.row.print(&mut out)?;
        for Status { status, count, remark, .. } in &self.statuses {
            let why = remark.as_ref().map_or_else(String::new, |remark| format!("  {remark}"));
            writeln!(out, "  {status:<17} {count:>9}{why}")?;
        }
        if let (Some(cpu), Some(each)) =
            (self.broker_cpu_seconds, self.messages_per_broker_cpu_second)
        {
            writeln!(out, "  broker: {cpu:.2} s of processors, {each:.0} messages in each")?;
        }
        Ok(out.flush()?)
    }
}
