//! The only file that spawns threads: short loops around the engine's steps.

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
};

/// How often housekeeping looks around; frames are synced this often.
const KEEP_INTERVAL: Duration = Duration::from_millis(100);
/// A thread that could not do its work tries again after this.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A dispatcher that found a burst lets the next one gather instead of being woken per record.
const NAP: Duration = Duration::from_micros(50);
/// So many records in one step are a burst.
const BURST: usize = 16;
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

fn flush(engine: &Engine, stop: &AtomicBool) {
    let marks = engine.log.marks();
    // What recovery left to sync waited long enough, in the process before.
    if marks.durable.get() < marks.written().get() && engine.log.flush().is_err() {
        return;
    }
    let mut last = engine.clock.elapsed();
    while !stop.load(Ordering::SeqCst) {
        match engine.flush_due(last) {
            None => {
                if engine.log.flush().is_err() {
                    // Latched: nothing will be flushed any more.
                    return;
                }
                last = engine.clock.elapsed();
            }
            Some(due) => {
                let now = engine.clock.elapsed();
                let (target, until) = match due {
                    Duration::MAX => (marks.durable.get() + 1, now + IDLE),
                    // A burst is flushed before its time, so that it need not wait at its end.
                    _ => (marks.durable.get() + engine.options.max_unflushed_bytes / 4, due),
                };
                marks.appended.wait_unless(target, &*engine.clock, until, stop);
            }
        }
    }
}

fn dispatch(engine: &Engine, stop: &AtomicBool) {
    let marks = engine.log.marks();
    while !stop.load(Ordering::SeqCst) {
        match engine.dispatch_step() {
            Ok(records) if records >= BURST => thread::park_timeout(NAP),
            Ok(_) => {
                let until = engine.clock.elapsed() + IDLE;
                let next = marks.dispatched.get() + 1;
                marks.visible().wait_unless(next, &*engine.clock, until, stop);
            }
            Err(error) => {
                marks.fail("dispatching", &error);
                return;
            }
        }
    }
}

fn prepare(engine: &Engine, stop: &AtomicBool) {
    let marks = engine.log.marks();
    while !stop.load(Ordering::SeqCst) {
        let now = engine.clock.elapsed();
        match engine.log.prepare_step() {
            Ok(next) if next.get() <= marks.appended.get() => {}
            Ok(next) => {
                marks.appended.wait_unless(next.get(), &*engine.clock, now + IDLE, stop);
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

/// Tells futures and callbacks whose deadline passed. A thread of its own that never touches the
/// disk: a disk that hangs is exactly when deadlines matter.
fn expire(engine: &Engine, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        engine.log.marks().durable.expire(engine.clock.elapsed());
        thread::park_timeout(KEEP_INTERVAL);
    }
}
