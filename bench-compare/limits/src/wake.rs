//! What waking those costs who wait for bytes to be durable.

use std::{
    sync::atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Release},
    },
    thread,
    time::Instant,
};

use common::{Args, Failure};
use rustix::{
    io::Errno,
    thread::futex::{self, Flags},
};

/// `wake [threads=] [rounds=]`: waking parked threads one by one, a round trip of the futex each.
/// What acknowledging waiters costs the processor, with no disk at all.
pub(crate) fn wake(args: &Args) -> Result<(), Failure> {
    let threads = u32::try_from(args.number("threads", 64)?)?;
    let rounds = u32::try_from(args.number("rounds", 2000)?)?;
    threads.checked_mul(rounds).ok_or("too many rounds")?;
    let cells: Vec<_> = (0..threads).map(|_| AtomicU32::new(0)).collect();
    let done = AtomicU32::new(0);
    let secs = thread::scope(|scope| -> Result<f64, Failure> {
        let follow = |cell| follow(cell, &done, threads, rounds);
        let followers: Vec<_> =
            cells.iter().map(|cell| scope.spawn(move || follow(cell))).collect();
        let start = Instant::now();
        for round in 1..=rounds {
            for cell in &cells {
                cell.store(round, Release);
                futex::wake(cell, Flags::PRIVATE, 1)?;
            }
            wait_for(&done, threads * round)?;
        }
        let secs = start.elapsed().as_secs_f64();
        for follower in followers {
            follower.join().map_err(|_| "a woken thread panicked")??;
        }
        Ok(secs)
    })?;
    println!(
        "{{\"peer\":\"limit\",\"case\":\"futex-wake-round\",\"threads\":{threads},\
         \"rounds\":{rounds},\"secs\":{secs:.3},\"wakes_s\":{:.0},\"us_round\":{:.1}}}",
        f64::from(rounds) * f64::from(threads) / secs,
        secs * 1e6 / f64::from(rounds)
    );
    Ok(())
}

/// One thread: waits for each round, and the last of a round wakes the one who began it.
fn follow(cell: &AtomicU32, done: &AtomicU32, threads: u32, rounds: u32) -> Result<(), Errno> {
    for round in 1..=rounds {
        wait_for(cell, round)?;
        if done.fetch_add(1, AcqRel) + 1 == threads * round {
            futex::wake(done, Flags::PRIVATE, 1)?;
        }
    }
    Ok(())
}

/// Returns once `cell` has reached `value`.
fn wait_for(cell: &AtomicU32, value: u32) -> Result<(), Errno> {
    loop {
        let now = cell.load(Acquire);
        if now >= value {
            return Ok(());
        }
        match futex::wait(cell, Flags::PRIVATE, now, None) {
            // It changed before we slept, or a signal came: look again.
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
