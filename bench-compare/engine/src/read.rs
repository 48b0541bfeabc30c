//! W3: reading back, and how soon an append is seen by a reader that waits for it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{Args, Failure};

use crate::{
    engine::{self, Engine, Queue},
    hist::Hist,
    measure::{self, Line},
};

/// `read [queues=] [n=] [body=] [batch=] [rounds=]`: fills, then reads all queues one after the
/// other, in batches, from the page cache. Checksums are verified, every byte of each body is
/// summed. One line a pass.
pub(crate) fn back(args: &Args) -> Result<(), Failure> {
    let body = common::body(args.number("body", 1024)? as usize);
    let queues = measure::queues(args.number("queues", 8)?)?;
    let n = args.number("n", 1_000_000)?;
    let batch = args.number("batch", 32)? as usize;
    let engine = Engine::open(&args.dir()?, args)?;
    for i in 0..n {
        engine.put(&queues[(i % queues.len() as u64) as usize], &body)?;
    }
    measure::dispatched(&engine)?;
    thread::sleep(Duration::from_millis(1500));
    for round in 0..args.number("rounds", 3)? {
        let start = Instant::now();
        let (mut got, mut sum) = (0, 0u64);
        for queue in &queues {
            let end = engine.queue_end(queue);
            let mut offset = 0;
            while offset < end {
                let count = engine.read(queue, offset, batch, |body| sum ^= sum_of(body))?;
                if count == 0 {
                    return Err(format!("nothing at offset {offset} of {end}").into());
                }
                got += count;
                offset += count;
            }
        }
        let elapsed = start.elapsed();
        if got != n {
            return Err(format!("read {got} of {n} messages").into());
        }
        let more = format!(",\"round\":{round},\"sum\":{}", sum & 1);
        let queues = queues.len() as u64;
        Line { args, case: "read", body: body.len(), threads: 1, queues, n: got, elapsed, more }
            .print();
    }
    Ok(())
}

/// The sum of all bytes, eight at a time.
fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, &byte| sum.wrapping_add(u64::from(byte)))
}

/// `tail [rate=] [n=] [body=] [warm=]`: one producer at a fixed rate, one reader that blocks until
/// the next message is there. `p50_us`...: from the call of append to the return of the reader's
/// wait, what the Java harness measures. `read_p50_us`...: until the reader has checked bytes.
pub(crate) fn tail(args: &Args) -> Result<(), Failure> {
    let body = common::body(args.number("body", 1024)? as usize);
    let n = args.number("n", 50_000)?;
    let rate = args.number("rate", 10_000)?.max(1);
    let engine = Engine::open(&args.dir()?, args)?;
    let warm = engine::queue_of("W")?;
    for _ in 0..args.number("warm", 200_000)? {
        engine.put(&warm, &body)?;
    }
    measure::dispatched(&engine)?;

    let queue = engine::queue(0)?;
    let zero = Instant::now();
    let called: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
    let (seen, had) = thread::scope(|scope| -> Result<_, Failure> {
        let reader = scope.spawn(|| follow(&engine, &queue, zero, &called));
        let start = zero.elapsed();
        for (i, called) in called.iter().enumerate() {
            pause_until(zero, start + Duration::from_nanos(i as u64 * 1_000_000_000 / rate));
            called.store(zero.elapsed().as_nanos() as u64, Ordering::Release);
            engine.put(&queue, &body)?;
        }
        reader.join().map_err(|_| "the reader panicked")?
    })?;
    let more = format!("{}{},\"rate\":{rate},\"visible\":{n}", seen.json(""), had.json("read_"));
    let elapsed = Duration::from_secs_f64(n as f64 / rate as f64);
    Line { args, case: "tail", body: body.len(), threads: 1, queues: 1, n, elapsed, more }.print();
    Ok(())
}

/// Waits for each message in turn; the latencies until its wait returned, and until it was read.
fn follow(
    engine: &Engine,
    queue: &Queue,
    zero: Instant,
    called: &[AtomicU64],
) -> Result<(Hist, Hist), Failure> {
    let (mut seen, mut had) = (Hist::new(), Hist::new());
    let mut next = 0;
    while next < called.len() as u64 {
        engine.wait_for(queue, next, Duration::from_secs(10))?;
        let woken = zero.elapsed();
        let count = engine.read(queue, next, 32, |body| {
            std::hint::black_box(sum_of(body));
        })?;
        let read = zero.elapsed();
        if count == 0 {
            return Err(format!("nothing at offset {next} after the wait").into());
        }
        for called in &called[next as usize..(next + count) as usize] {
            let called = Duration::from_nanos(called.load(Ordering::Acquire));
            // What was appended after the wake-up was seen by the read only.
            let visible = if woken > called { woken } else { read };
            seen.add(visible.saturating_sub(called));
            had.add(read.saturating_sub(called));
        }
        next += count;
    }
    Ok((seen, had))
}

/// Parks while there is time, spins at the end: as the Java harness does.
fn pause_until(zero: Instant, due: Duration) {
    loop {
        let now = zero.elapsed();
        if now >= due {
            return;
        }
        if due - now > Duration::from_micros(60) {
            thread::park_timeout(Duration::from_micros(20));
        }
    }
}
