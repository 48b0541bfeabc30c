//! What the engine's waiting is made of. In a file of its own so that `tests/interleavings.rs` can
//! put something in its place that tries every order of steps.

pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize},
};

pub(crate) use parking_lot::Mutex;
pub(crate) use rustix::thread::futex;
