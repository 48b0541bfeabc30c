//! The engine under a scheduler that tries many orders of its threads' steps.
//!
//! These are the engine's own sources, all of them: what their locks, atomics, futexes and threads
//! are made of comes from `src/sync.rs`, which here is `sync.rs` beside this file, made of
//! shuttle's. A wake-up that is lost is a deadlock, which shuttle reports with the schedule that
//! leads there. Shuttle's memory is sequentially consistent, as is all that waiting relies on; the
//! weaker orderings are left to the thread sanitizer, see `docs/testing.md`.
//!
//! | variable | what it does |
//! |---|---|
//! | `STEADFAST_SCHEDULES` | random schedules for each small model, 1000; whole stores a tenth |
//! | `STEADFAST_SEED` | where they come from; 1 unless set |
//!
//! Words on the command line choose models by parts of their names.

#![allow(
    clippy::all,
    clippy::incompatible_msrv,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "the engine's sources are linted where they are built as the engine"
)]
#![allow(unsafe_code)]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use shuttle::{
    Config, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};

#[path = "../../src/builder.rs"]
mod builder;
#[path = "../../src/checkpoint/mod.rs"]
mod checkpoint;
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/consumer/mod.rs"]
mod consumer;
#[path = "../../src/consumers.rs"]
mod consumers;
#[path = "../../src/disk/mod.rs"]
mod disk;
#[path = "../../src/dispatch.rs"]
mod dispatch;
#[path = "../../src/engine.rs"]
mod engine;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/follow.rs"]
mod follow;
#[path = "../../src/format/mod.rs"]
mod format;
#[path = "../../src/index/mod.rs"]
mod index;
#[path = "../../src/keeper.rs"]
mod keeper;
#[path = "../../src/log/mod.rs"]
mod log;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/name.rs"]
mod name;
#[path = "../../src/offset.rs"]
mod offset;
#[path = "../../src/open.rs"]
mod open;
#[path = "../../src/options.rs"]
mod options;
#[path = "../../src/queue/mod.rs"]
mod queue;
#[path = "../../src/read.rs"]
mod read;
#[path = "../../src/recovery/mod.rs"]
mod recovery;
#[path = "../../src/rederive.rs"]
mod rederive;
#[path = "../../src/relocate.rs"]
mod relocate;
#[path = "../../src/repair/mod.rs"]
mod repair;
#[path = "../../src/rest.rs"]
mod rest;
#[path = "../../src/runtime.rs"]
mod runtime;
#[path = "../../src/store.rs"]
mod store;
#[path = "../../src/ticket.rs"]
mod ticket;
#[path = "../../src/verify/mod.rs"]
mod verify;
#[path = "../../src/watermark.rs"]
mod watermark;

// What the models name.
use clock::{Clock, SystemClock};
use error::{Error, ErrorKind, Result};
use message::{Message, Placement, PutStatus};
use name::{Group, QueueKey};
use offset::{QueueOffset, StoreTime};
use options::{FlushMode, OnDamage, Options};
use read::{ReadLimit, Record};
use store::{Step, Store};
use ticket::Ticket;

mod lives;
mod marks;
mod slow_disk;
mod sync;
mod time;

/// A name and what is run in each schedule.
type Model = (&'static str, fn());

macro_rules! models {
    ($($module:ident: $($name:ident),* $(,)?);* $(;)?) => {
        [$($((stringify!($name), $module::$name as fn(), stringify!($module))),*),*]
    };
}

/// Schedules of the present model that were begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

fn run(name: &str, model: fn(), seed: u64, schedules: usize) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        // Far more than any of them takes: who gets there turns round and round.
        config.max_steps = MaxSteps::FailAfter(500_000);
        config.silence_warnings = true;
        config
    };
    let counted = move || {
        BEGUN.fetch_add(1, Relaxed);
        time::begin();
        model();
    };
    BEGUN.store(0, Relaxed);
    let begun = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(RandomScheduler::new_from_seed(seed, schedules), config()).run(counted);
        Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config()).run(counted);
    }));
    let (count, took) = (BEGUN.load(Relaxed), begun.elapsed().as_secs_f64());
    match done {
        Ok(()) => println!("test {name} ... ok, {count} schedules in {took:.1} s"),
        Err(panic) => {
            println!("test {name} ... FAILED after {count} schedules, seed {seed}");
            resume_unwind(panic);
        }
    }
}

fn main() {
    let models = models![
        marks:
            every_waiter_wakes_when_one_thread_advances,
            every_waiter_wakes_when_two_threads_advance,
            a_waiter_that_waits_again_wakes_again,
            closing_wakes_everybody_and_tells_the_truth,
            stopping_wakes_a_pump,
            what_is_made_visible_is_dispatched_by_somebody,
            every_callback_is_called_once_with_the_truth,
            a_callback_is_called_though_nothing_happens_after_it,
            a_future_is_woken_or_ready,
            a_future_that_moved_to_another_task_wakes_that_one,
            a_future_that_is_dropped_leaves_nothing,
            what_is_not_durable_is_counted_while_both_ends_move;
        lives:
            what_is_acknowledged_survives_sync,
            what_is_read_is_whole_async,
            what_is_read_is_whole_async_by_writes,
            a_failed_sync_settles_everybody,
            a_failed_write_acknowledges_nobody_behind_it,
            closing_settles_who_waits,
            futures_settle_once_or_leave,
            appenders_that_are_held_back_go_on,
            a_saved_offset_is_not_taken_back,
            retention_takes_nothing_from_readers,
            who_follows_sees_a_beginning_of_the_queue,
            lost_queue_entries_come_back_under_readers;
    ];
    // As the harness would: `--list` names the tests, other words choose among them.
    let words: Vec<_> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        models.iter().for_each(|(name, ..)| println!("{name}: test"));
        return;
    }
    let chosen: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let number = |name| env::var(name).ok().map(|n: String| n.parse::<u64>().unwrap());
    let schedules = number("STEADFAST_SCHEDULES").unwrap_or(1000) as usize;
    let seed = number("STEADFAST_SEED").unwrap_or(1);
    for (name, model, module) in models {
        if chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str())) {
            let most = if module == "lives" { schedules.div_ceil(10) } else { schedules };
            run(name, model, seed, most);
        }
    }
}
