//! Many schedules, each from its seed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::{
    counts::{Counts, TableRow, busy},
    driver::World,
};

const THREADS: usize = 2;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Runs one schedule. `Err` says what went wrong, and how to see it again.
fn run(seed: u64, told: bool) -> Result<Counts, String> {
    let mut world = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.insert(World::new(seed, told)).run();
    }));
    let mut world = world.ok_or("the set-up failed")?;
    match result {
        Ok(()) => Ok(world.counts),
        Err(payload) => {
            let why = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            if let Some(store) = world.store.take() {
                let _ = catch_unwind(AssertUnwindSafe(|| store.abandon()));
            }
            Err(format!(
                "seed {seed}: {why}\n  options: {}\n  replay: STEADFAST_SEED={seed} cargo test \
                 --release --test it crash_sim_replay -- --nocapture",
                world.setup
            ))
        }
    }
}

/// `STEADFAST_SEEDS` schedules from seed `STEADFAST_FIRST_SEED` on.
#[test]
fn crash_sim() {
    let seeds = from_env("STEADFAST_SEEDS").unwrap_or(300);
    let first = from_env("STEADFAST_FIRST_SEED").unwrap_or(0);
    let goes_on = from_env("STEADFAST_KEEP_GOING").is_some();
    let (next, done, failed) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let worker = || {
        let (mut counts, mut failures) = (Counts::default(), Vec::new());
        while goes_on || !failed.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + seeds {
                break;
            }
            let result = run(seed, false);
            let so_far = done.fetch_add(1, Relaxed) + 1;
            if so_far.is_multiple_of(50_000) {
                println!(
                    "crash_sim: {so_far} schedules in {:.0} s",
                    started.elapsed().as_secs_f64()
                );
            }
            match result {
                Ok(found) => counts.add(&found),
                Err(why) => {
                    failed.store(true, Relaxed);
                    failures.push((seed, why));
                }
            }
        }
        counts.busy = busy();
        (counts, failures)
    };
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            let (found, failed) = thread.join().unwrap();
            counts.add(&found);
            failures.extend(failed);
        }
    });
    let done = done.into_inner();
    told(done, started.elapsed(), &counts);
    let missed = TableRow::ALL.into_iter().filter(|row| counts.of_row(*row) == 0);
    let missed: Vec<_> = missed.map(TableRow::label).collect();
    failures.sort();
    if let Some((seed, _)) = failures.first() {
        println!("crash_sim: failed after {done} schedules, seed {seed}");
    }
    for (_, why) in failures.iter().take(20) {
        println!("{why}");
    }
    assert!(failures.is_empty(), "{} schedules failed, first: {}", failures.len(), failures[0].1);
    assert!(done < 20_000 || missed.is_empty(), "rows that no schedule reached: {missed:?}");
}

/// What the run was like. A cycle is an open after a crash or a close, and the check of all of it.
fn told(done: u64, elapsed: Duration, counts: &Counts) {
    let (seconds, cycles) = (elapsed.as_secs_f64(), counts.of("cycles"));
    println!(
        "crash_sim: {done} schedules, {cycles} crash-recover-check cycles in {seconds:.1} s; \
         {:.0} schedules and {:.0} cycles a second on {THREADS} threads",
        done as f64 / seconds,
        cycles as f64 / seconds
    );
    let busy = counts.busy.as_secs_f64();
    if busy > 0.0 {
        let (schedules, cycles) = (done as f64 / busy, cycles as f64 / busy);
        println!("crash_sim: {schedules:.0} schedules and {cycles:.0} cycles a second of one core");
    }
    println!("crash_sim: {counts}");
    for row in TableRow::ALL {
        println!("crash_sim: row {}: {}", row.label(), counts.of_row(row));
    }
}

/// Only the schedule of `STEADFAST_SEED`, saying what it does.
#[test]
fn crash_sim_replay() {
    let Some(seed) = from_env("STEADFAST_SEED") else { return };
    if let Err(why) = run(seed, true) {
        panic!("{why}");
    }
}
