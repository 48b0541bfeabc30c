//! One connection with many sends in flight.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use steadfast::{Clock, SystemClock};
use steadfast_broker::wire;
use tokio::{net::TcpStream, time};

use super::{frames::Frames, row::histogram};

/// A broker that answers nothing for so long is given up.
const SILENT_MOST: Duration = Duration::from_secs(30);
/// So much is read in one go.
const READ: usize = 256 << 10;
/// So much is put together before it is written.
const WRITE: usize = 256 << 10;

/// What all connections of a run share.
pub(super) struct Budget {
    left: AtomicU64,
    until: Instant,
    stopped: AtomicBool,
    answered: AtomicU64,
}

impl Budget {
    pub(super) fn new(until: Instant) -> Self {
        let (left, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { left, until, stopped: AtomicBool::new(false), answered }
    }

    /// So many more messages may be sent.
    pub(super) fn add(&self, messages: u64) {
        self.left.fetch_add(messages, Ordering::Relaxed);
    }

    /// Answers until now.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes at most `most` out, none when it is over.
    fn take(&self, most: usize) -> usize {
        if self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.until {
            return 0;
        }
        let take = |left: u64| Some(left - left.min(most as u64));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.map_or(0, |before| before.min(most as u64) as usize)
    }
}

/// What was answered.
#[derive(Default)]
pub(super) struct Answers {
    /// By their codes, with the first remark of each.
    pub(super) by_code: BTreeMap<i32, (u64, Option<String>)>,
    /// From when a send was ready to be written to its answer, in nanoseconds.
    pub(super) times: Option<Histogram<u64>>,
}

impl Answers {
    fn add(&mut self, answer: wire::Answer, took: Duration) {
        let (count, remark) = self.by_code.entry(answer.code).or_default();
        *count += 1;
        if remark.is_none() {
            *remark = answer.remark;
        }
        self.times.get_or_insert_with(histogram).saturating_record(took.as_nanos() as u64);
    }

    /// Takes what another connection was answered in.
    pub(super) fn merge(&mut self, other: Self) {
        for (code, (count, remark)) in other.by_code {
            let all = self.by_code.entry(code).or_default();
            all.0 += count;
            all.1 = all.1.take().or(remark);
        }
        if let Some(times) = other.times {
            // Both have the same bounds.
            let _added = self.times.get_or_insert_with(histogram).add(&times);
        }
    }
}

/// A connection, and its sends in flight. Their numbers are places in `begun`.
pub(super) struct Lane {
    stream: TcpStream,
    frames: Frames,
    begun: Vec<Option<Instant>>,
    free: Vec<i32>,
    unwritten: BytesMut,
    received: BytesMut,
    pub(super) answers: Answers,
}

impl Lane {
    pub(super) fn new(stream: TcpStream, frames: Frames, in_flight: u16) -> Self {
        Self {
            stream,
            frames,
            begun: vec![None; in_flight.into()],
            free: (0..in_flight.into()).rev().collect(),
            unwritten: BytesMut::new(),
            received: BytesMut::with_capacity(READ),
            answers: Answers::default(),
        }
    }

    /// Sends until the budget is used up and all is answered.
    ///
    /// # Errors
    ///
    /// The connection ended, or nothing came for long, while answers were awaited; the other
    /// connections are told to send no more.
    pub(super) async fn run(&mut self, budget: &Budget) -> io::Result<()> {
        let ended = self.send(budget).await;
        if ended.is_err() {
            budget.stopped.store(true, Ordering::Relaxed);
        }
        ended
    }

    /// Sends without an answer.
    pub(super) fn outstanding(&self) -> usize {
        self.begun.len() - self.free.len()
    }

    async fn send(&mut self, budget: &Budget) -> io::Result<()> {
        let mut look = time::interval(Duration::from_secs(1));
        let mut heard = Instant::now();
        loop {
            // Answers are read in between, however much there is to write: neither side waits for
            // the other to read.
            self.fill(budget);
            self.write()?;
            if self.outstanding() == 0 {
                return Ok(());
            }
            tokio::select! {
                biased;
                ready = self.stream.readable() => {
                    ready?;
                    if self.read(budget)? {
                        heard = Instant::now();
                    }
                }
                ready = self.stream.writable(), if self.unwritten.has_remaining() => ready?,
                _ = look.tick() => if heard.elapsed() > SILENT_MOST {
                    let why = format!("it answered nothing for {} s", SILENT_MOST.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
        }
    }

    /// Makes requests as there is room for.
    fn fill(&mut self, budget: &Budget) {
        let room = WRITE.saturating_sub(self.unwritten.len());
        let most = self.free.len().min(room.div_ceil(self.frames.len_of_one()));
        if most == 0 {
            return;
        }
        let (now, clock) = (Instant::now(), SystemClock::default().now().as_millis());
        for _ in 0..budget.take(most) {
            let Some(opaque) = self.free.pop() else { break };
            self.begun[opaque as usize] = Some(now);
            self.frames.put(opaque, clock, &mut self.unwritten);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.unwritten.has_remaining() {
            match self.stream.try_write(&self.unwritten) {
                Ok(written) => self.unwritten.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads what there is. Returns whether something was answered.
    fn read(&mut self, budget: &Budget) -> io::Result<bool> {
        self.received.reserve(READ);
        match self.stream.try_read_buf(&mut self.received) {
            Ok(0) => {
                let why = "it closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
        let now = Instant::now();
        let mut count = 0;
        while let Some(answer) = wire::next_answer(&mut self.received)? {
            let begun = usize::try_from(answer.opaque).ok().and_then(|n| self.begun.get_mut(n));
            let Some(begun) = begun.and_then(Option::take) else {
                let why = format!("it answered number {}, which was not asked", answer.opaque);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            };
            self.free.push(answer.opaque);
            self.answers.add(answer, now.saturating_duration_since(begun));
            count += 1;
        }
        budget.answered.fetch_add(count, Ordering::Relaxed);
        Ok(count > 0)
    }
}
