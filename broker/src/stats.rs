//! How many messages come and go, for operators who ask.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

/// So many seconds are looked back on.
const WINDOW: usize = 600;

/// Counts of a broker since its start.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    put: AtomicU64,
    got: AtomicU64,
    /// One a second, the newest last.
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    put: u64,
    got: u64,
}

impl Stats {
    /// A message is handed to the store.
    pub(crate) fn put(&self) {
        self.put.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a pull is answered with.
    pub(crate) fn got(&self, records: &[u8]) {
        self.got.fetch_add(count(records), Ordering::Relaxed);
    }

    /// Messages put and got until now.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.put.load(Ordering::Relaxed), self.got.load(Ordering::Relaxed))
    }

    /// Once a second.
    pub(crate) fn tick(&self) {
        let (put, got) = self.totals();
        let mut samples = self.samples.lock();
        if samples.len() > WINDOW {
            samples.pop_front();
        }
        samples.push_back(Sample { at: Instant::now(), put, got });
    }

    /// Messages put and got each second, over the last 10 s, minute and 10 minutes.
    pub(crate) fn rates(&self) -> [(f64, f64); 3] {
        let samples = self.samples.lock();
        [10, 60, WINDOW].map(|seconds| {
            let Some(last) = samples.back() else { return (0.0, 0.0) };
            let Some(first) = samples.get(samples.len().saturating_sub(seconds + 1)) else {
                return (0.0, 0.0);
            };
            let passed = last.at.saturating_duration_since(first.at).as_secs_f64().max(1.0);
            let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / passed;
            (rate(last.put, first.put), rate(last.got, first.got))
        })
    }
}

/// How many records there are, one behind the other, each with its size in front.
fn count(mut records: &[u8]) -> u64 {
    let mut number = 0;
    while let Some((size, _)) = records.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some(rest) = records.get(size.max(4)..) else { break };
        (records, number) = (rest, number + 1);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_and_what_is_none_ends_it() {
        let record = [0, 0, 0, 6, 1, 2];
        assert_eq!(count(&record.repeat(3)), 3);
        assert_eq!((count(&[]), count(&[0, 0, 0, 9]), count(&[0; 8])), (0, 0, 2));
        let stats = Stats::default();
        stats.put();
        stats.got(&record.repeat(2));
        assert_eq!(stats.totals(), (1, 2));
    }
}
