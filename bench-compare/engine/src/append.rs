//! W1, W2 and W5: appending, acknowledged from memory or from the disk.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use common::{Args, Failure};

use crate::{
    engine::Engine,
    hist::Hist,
    measure::{self, Line},
};

/// `append [case=async|sync] [flush=] [threads=|waiters=] [queues=] [body=] [n=] [warmup=] [close=1]`:
/// each thread appends and waits for its acknowledgement.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let body = common::body(args.number("body", 1024)? as usize);
    let threads = args.number("threads", args.number("waiters", 1)?)?.max(1);
    let queues = measure::queues(args.number("queues", 8)?)?;
    let n = args.number("n", 1_000_000)?;
    let engine = Engine::open(&args.dir()?, args)?;
    let put = |i: u64| engine.put(&queues[(i % queues.len() as u64) as usize], &body);

    measure::drive(threads, args.number("warmup", 300_000)?, put)?;
    measure::dispatched(&engine)?;
    let (hist, elapsed) = measure::drive(threads, n, put)?;
    let lag = measure::dispatched(&engine)?;

    let mut more = hist.json("");
    let end_to_end = n as f64 / (elapsed + lag).as_secs_f64();
    more += &format!(",\"dispatch_lag_s\":{:.4},\"e2e_msgs_s\":{end_to_end:.0}", lag.as_secs_f64());
    if args.number("close", 0)? == 1 {
        let start = Instant::now();
        engine.close()?;
        more += &format!(",\"close_ms\":{:.1}", start.elapsed().as_secs_f64() * 1e3);
    }
    let queues = queues.len() as u64;
    Line { args, case: "async", body: body.len(), threads, queues, n, elapsed, more }.print();
    Ok(())
}

/// `futures [outstanding=] [ms=] [queues=] [body=]`: one thread keeps that many appends in flight
/// and waits for the oldest. Two passes; the second one counts.
pub(crate) fn futures(args: &Args) -> Result<(), Failure> {
    let body = common::body(args.number("body", 1024)? as usize);
    let outstanding = args.number("outstanding", args.number("threads", 64)?)?.max(1) as usize;
    let queues = measure::queues(args.number("queues", 8)?)?;
    let span = Duration::from_millis(args.number("ms", 3000)?);
    let engine = Engine::open(&args.dir()?, args)?;
    for pass in 0..2 {
        let mut hist = Hist::new();
        let mut flying = VecDeque::with_capacity(outstanding);
        let mut n = 0;
        let start = Instant::now();
        while start.elapsed() < span {
            if flying.len() == outstanding {
                settle_oldest(&mut flying, &mut hist)?;
            }
            let queue = &queues[(n % queues.len() as u64) as usize];
            let called = Instant::now();
            flying.push_back((engine.append(queue, &body)?, called));
            n += 1;
        }
        while !flying.is_empty() {
            settle_oldest(&mut flying, &mut hist)?;
        }
        let elapsed = start.elapsed();
        if pass == 1 {
            let queues = queues.len() as u64;
            let (threads, more) = (outstanding as u64, hist.json(""));
            Line { args, case: "sync", body: body.len(), threads, queues, n, elapsed, more }
                .print();
        }
    }
    Ok(())
}

type Flying = VecDeque<(crate::engine::Pending, Instant)>;

fn settle_oldest(flying: &mut Flying, hist: &mut Hist) -> Result<(), Failure> {
    if let Some((pending, called)) = flying.pop_front() {
        pending.wait()?;
        hist.add(called.elapsed());
    }
    Ok(())
}
