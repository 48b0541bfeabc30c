//! W4: filling a store that is closed or killed, and opening it in a fresh process.

use std::{
    thread,
    time::{Duration, Instant},
};

use common::{Args, Failure};

use crate::{engine::Engine, measure};

/// `fill [n=] [queues=] [body=] [end=clean|kill]`: says `FILLED` on standard error once everything
/// is dispatched; with `end=kill` it then waits to be killed.
pub(crate) fn fill(args: &Args) -> Result<(), Failure> {
    let body = common::body(args.number("body", 1024)? as usize);
    let queues = measure::queues(args.number("queues", 8)?)?;
    let engine = Engine::open(&args.dir()?, args)?;
    for i in 0..args.number("n", 2_000_000)? {
        engine.put(&queues[(i % queues.len() as u64) as usize], &body)?;
    }
    measure::dispatched(&engine)?;
    if args.text("end", "clean") == "clean" {
        thread::sleep(Duration::from_secs(1));
        engine.close()?;
        eprintln!("FILLED clean");
        return Ok(());
    }
    eprintln!("FILLED");
    thread::sleep(Duration::from_secs(600));
    Err("nobody killed the filler".into())
}

/// `open [n=] [queues=]`: how long opening takes until appends and reads are possible. With `n` it
/// fails unless that many messages are there.
pub(crate) fn open(args: &Args) -> Result<(), Failure> {
    let dir = args.dir()?;
    let start = Instant::now();
    let engine = Engine::open(&dir, args)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let queues = measure::queues(args.number("queues", 8)?)?;
    let messages: u64 = queues.iter().map(|queue| engine.queue_end(queue)).sum();
    let filled = args.number("n", messages)?;
    if messages != filled {
        return Err(format!("{messages} messages after the open, {filled} were put").into());
    }
    println!(
        "{{\"peer\":\"{}\",\"case\":\"{}\",\"queues\":{},\"log_gb\":{:.3},\"msgs\":{messages},\
         \"checked_gb\":{:.3},\"to_sync_gb\":{:.3},\"open_ms\":{open_ms:.1}}}",
        args.text("name", "steadfast"),
        args.text("case", "open"),
        queues.len(),
        engine.written() as f64 / 1e9,
        engine.written().saturating_sub(engine.checked_from()) as f64 / 1e9,
        engine.to_sync() as f64 / 1e9,
    );
    Ok(())
}
