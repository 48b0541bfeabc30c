//! What the cases share: driving threads, the output line.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use common::{Args, Failure};

use crate::{
    engine::{self, Engine, Queue},
    hist::Hist,
};

/// The first `count` queues.
pub(crate) fn queues(count: u64) -> Result<Vec<Queue>, Failure> {
    (0..count.max(1)).map(engine::queue).collect()
}

/// Calls `put(i)` for each `i` below `total`, dealt to `threads` threads. Each latency reaches from
/// one call's return to the next one's in the same thread, so that no stall is hidden.
pub(crate) fn drive(
    threads: u64,
    total: u64,
    put: impl Fn(u64) -> Result<(), Failure> + Sync,
) -> Result<(Hist, Duration), Failure> {
    let barrier = Barrier::new(threads as usize + 1);
    let run = |first: u64| -> Result<Hist, Failure> {
        let mut hist = Hist::new();
        barrier.wait();
        let mut before = Instant::now();
        for i in (first..total).step_by(threads as usize) {
            put(i)?;
            let now = Instant::now();
            hist.add(now - before);
            before = now;
        }
        Ok(hist)
    };
    thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        barrier.wait();
        let start = Instant::now();
        let mut all = Hist::new();
        for worker in workers {
            all.merge(&worker.join().map_err(|_| "a producer panicked")??);
        }
        Ok((all, start.elapsed()))
    })
}

/// Waits until every queue entry is built; returns how long that took.
pub(crate) fn dispatched(engine: &Engine) -> Result<Duration, Failure> {
    let start = Instant::now();
    while engine.undispatched() > 0 {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("{} bytes not dispatched after 60 s", engine.undispatched()).into());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(start.elapsed())
}

/// One measurement, as a line of JSON on standard output.
pub(crate) struct Line<'a> {
    pub(crate) args: &'a Args,
    pub(crate) case: &'a str,
    pub(crate) body: usize,
    pub(crate) threads: u64,
    pub(crate) queues: u64,
    pub(crate) n: u64,
    pub(crate) elapsed: Duration,
    /// Further fields, each with a comma before it.
    pub(crate) more: String,
}

impl Line<'_> {
    /// Prints it.
    pub(crate) fn print(&self) {
        let secs = self.elapsed.as_secs_f64();
        println!(
            "{{\"peer\":\"{}\",\"case\":\"{}\",\"body\":{},\"threads\":{},\"queues\":{},\"n\":{},\
             \"secs\":{secs:.4},\"msgs_s\":{:.0},\"mb_s\":{:.1}{}}}",
            self.args.text("name", "steadfast"),
            self.args.text("case", self.case),
            self.body,
            self.threads,
            self.queues,
            self.n,
            self.n as f64 / secs,
            self.n as f64 * self.body as f64 / secs / 1e6,
            self.more,
        );
    }
}
