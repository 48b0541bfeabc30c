//! The threads of an open store: short loops around the engine's steps. While opening there may be
//! others, which end before it does: see `recovery/parallel.rs`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    engine::Engine,
    error::{Error, ErrorKind, Result},
    log::CommitLog,
    offset::PhysicalOffset,
    options::FlushMode,
    watermark::Sleeper,
};

/// How often housekeeping looks around; frames are synced this often.
const KEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Who waits without a thread of his own hears so much too late, at most, that his time is over.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(100);
/// A thread that could not do its work tries again after this.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A dispatcher that finds a stream of records lets some gather, instead of taking each from under
/// the appender's hands.
const NAP: Duration = Duration::from_micros(50);
/// A group is waited for no longer than this, however slow the disk was the last time.
const GATHER: Duration = Duration::from_millis(2);
/// How long an idle thread sleeps at most.
const IDLE: Duration = Duration::from_secs(1);

/// The threads of an open store.
#[derive(Debug)]
pub(crate) struct Threads {
    engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self> {
        let mut threads =
            Self { engine: engine.clone(), stop: Arc::default(), handles: Vec::new() };
        threads.spawn("steadfast-flush", flush)?;
        threads.spawn("steadfast-dispatch", dispatch)?;
        threads.spawn("steadfast-prepare", prepare)?;
        threads.spawn("steadfast-spare", spare)?;
        threads.spawn("steadfast-keep", keep)?;
        threads.spawn("steadfast-expire", expire)?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, body: fn(&Engine, &AtomicBool)) -> Result<()> {
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            // A panic in a pump must not leave waiters behind for ever.
            let _guard = PanicGuard(&engine);
            body(&engine, &stop);
        });
        let handle = spawned.map_err(|e: io::Error| Error::io("cannot start a thread", e))?;
        self.handles.push(handle);
        Ok(())
    }

    /// Stops and joins them. What they had not done yet is for the caller to do.
    pub(crate) fn stop(mut self) {
        self.stop_all();
    }

    fn stop_all(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let marks = self.engine.log.marks();
        for mark in [&marks.appended, marks.written(), &marks.durable] {
            mark.wake_sleepers();
        }
        self.engine.rest.wake_up();
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop_all();
    }
}

struct PanicGuard<'a>(&'a Engine);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = Error::new(ErrorKind::Faulted, "a thread of the store panicked");
            self.0.log.marks().fail("working", &error);
        }
    }
}

/// Sizes the groups of SYNC_FLUSH. Those whom a sync has settled append again at once, so a flusher
/// that goes on immediately finds the first few of them and syncs for those alone, while all the
/// others wait for two syncs. Waiting for about half of what is in flight makes two groups take
/// turns: one is filled while the other one is synced.
#[derive(Default)]
struct Groups {
    /// Bytes that were not durable when the last sync began, or came while it lasted.
    in_flight: u64,
    /// How long it took.
    took: Duration,
}

impl Groups {
    /// Waits until the next group is worth a sync, but not long.
    fn gather(&self, engine: &Engine, stop: &AtomicBool) {
        let marks = engine.log.marks();
        let target = marks.durable.get() + self.in_flight / 16 * 7;
        if marks.appended.get() < target {
            let until = engine.clock.elapsed() + GATHER.min(self.took / 2);
            marks.appended.wait_unless(Sleeper::Waiter, target, &*engine.clock, until, stop);
        }
    }
}

fn flush(engine: &Engine, stop: &AtomicBool) {
    let marks = engine.log.marks();
    // What recovery left to sync waited long enough, in the process before.
    if marks.durable.get() < marks.written().get() && engine.log.flush().is_err() {
        return;
    }
    let mut last = engine.clock.elapsed();
    let mut groups = Groups::default();
    while !stop.load(Ordering::SeqCst) {
        if engine.options.flush == FlushMode::Sync {
            groups.gather(engine, stop);
        }
        match engine.flush_due(last) {
            None => {
                let (begun, from) = (engine.clock.elapsed(), marks.durable.get());
                // In SYNC_FLUSH somebody waits for the next flush.
                let worth = engine.options.flush == FlushMode::Async && engine.checkpoint_ahead();
                if engine.log.flush().is_err() {
                    // Latched: nothing will be flushed any more.
                    return;
                }
                if worth {
                    engine.checkpoint_behind();
                }
                let in_flight = marks.appended.get() - from;
                engine.made_visible();
                last = engine.clock.elapsed();
                groups = Groups { in_flight, took: last - begun };
            }
            Some(due) => {
                groups = Groups::default();
                let now = engine.clock.elapsed();
                let (target, until) = match due {
                    Duration::MAX => (marks.durable.get() + 1, now + IDLE),
                    // A burst is flushed before its time, so that it need not wait at its end.
                    _ => (marks.durable.get() + engine.options.max_unflushed_bytes / 4, due),
                };
                marks.appended.wait_unless(Sleeper::Waiter, target, &*engine.clock, until, stop);
            }
        }
    }
}

fn dispatch(engine: &Engine, stop: &AtomicBool) {
    let marks = engine.log.marks();
    let mut stream = false;
    while !stop.load(Ordering::SeqCst) {
        match engine.dispatch_step() {
            Ok(0) => {
                stream = false;
                engine.rest(IDLE, stop);
            }
            Ok(_) if stream => thread::park_timeout(NAP),
            Ok(_) => stream = true,
            Err(error) => {
                marks.fail("dispatching", &error);
                return;
            }
        }
    }
}

fn prepare(engine: &Engine, stop: &AtomicBool) {
    ahead(engine, stop, CommitLog::prepare_step);
}

/// Apart from the other preparing: it waits for the disk, and pages are needed meanwhile.
fn spare(engine: &Engine, stop: &AtomicBool) {
    ahead(engine, stop, CommitLog::spare_step);
}

/// Does `step` whenever the log has come to where the last one said.
fn ahead(engine: &Engine, stop: &AtomicBool, step: fn(&CommitLog) -> Result<PhysicalOffset>) {
    let marks = engine.log.marks();
    while !stop.load(Ordering::SeqCst) {
        match step(&engine.log) {
            Ok(next) if next.get() <= marks.appended.get() => {}
            Ok(next) => {
                let until = engine.clock.elapsed() + IDLE;
                let who = Sleeper::Background;
                marks.appended.wait_unless(who, next.get(), &*engine.clock, until, stop);
            }
            // No room now. An append that needs it finds out for itself.
            Err(_) => thread::park_timeout(RETRY_INTERVAL),
        }
    }
}

fn keep(engine: &Engine, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        // What went wrong is kept for `health`.
        let _ = engine.keep();
        thread::park_timeout(KEEP_INTERVAL);
    }
}

fn expire(engine: &Engine, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        engine.expire();
        thread::park_timeout(EXPIRE_INTERVAL);
    }
}
