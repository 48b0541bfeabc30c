//! What the engine's threads, locks and waiting are made of. In a file of its own so that
//! `tests/interleavings` can put something in its place that tries every order of steps.

pub(crate) use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize},
    },
    thread, thread_local,
};

pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
pub(crate) use rustix::thread::futex;
