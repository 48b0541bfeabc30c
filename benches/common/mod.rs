//! What the benchmarks share: sizes, bodies, stores in directories of their own.

#![allow(dead_code)]

use std::{env, time::Duration};

use criterion::{Criterion, measurement::WallTime};
use steadfast::{FlushMode, Message, Options, QueueKey, Store};
use tempfile::TempDir;

/// Whether this only checks that the benchmark runs (`cargo bench -- --test`).
pub(crate) fn only_trying() -> bool {
    env::args().any(|word| word == "--test")
}

/// `much` when measuring, `little` when only trying.
pub(crate) fn sized(much: usize, little: usize) -> usize {
    if only_trying() { little } else { much }
}

/// Few and long samples: what is measured has a disk in it.
pub(crate) fn criterion() -> Criterion<WallTime> {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args()
}

pub(crate) fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush);
    options.segment_bytes = sized(256 << 20, 1 << 20) as u64;
    options.index_slots = sized(100_000, 100) as u32;
    options.index_entries = sized(400_000, 400) as u32;
    // The benchmarks fill and empty their own directory; how full the rest is does not matter.
    options.retention.refuse_ratio = 100;
    options
}

pub(crate) fn queue(id: usize) -> QueueKey {
    QueueKey::new("bench", id as i32).unwrap()
}

pub(crate) fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| b'a' + (i % 26) as u8).collect()
}

/// A store in a temporary directory, replaced by a new one before it gets too large.
pub(crate) struct Renewed {
    flush: FlushMode,
    open: Option<(Store, TempDir)>,
}

impl Renewed {
    /// Larger, and it would measure how the disk swallows gigabytes.
    const MOST: u64 = 1 << 30;

    pub(crate) fn new(flush: FlushMode) -> Self {
        Self { flush, open: None }
    }

    pub(crate) fn store(&mut self) -> &Store {
        let full = |store: &Store| store.progress().written.get() > Self::MOST;
        if self.open.as_ref().is_some_and(|(store, _)| full(store)) {
            self.open = None;
        }
        let (store, _) = self.open.get_or_insert_with(|| {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::builder(dir.path()).options(options(self.flush)).open().unwrap();
            (store, dir)
        });
        store
    }
}

/// Appends `count` messages and waits for each.
pub(crate) fn append_each(store: &Store, queue: &QueueKey, body: &[u8], count: u64) {
    for _ in 0..count {
        let ticket = store.append(&Message::new(queue, body)).expect("room on the disk");
        ticket.wait().expect("a disk that works");
    }
}
