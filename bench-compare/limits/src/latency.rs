//! Latencies of one thread, each of them kept.

use std::time::Duration;

/// Some latencies, in nanoseconds.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Keeps one more.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency.as_nanos() as u64);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The JSON fields of the percentiles, each with a comma before it; nothing if there are none.
    pub(crate) fn json(mut self) -> String {
        self.0.sort_unstable();
        let Some(most) = self.0.len().checked_sub(1) else { return String::new() };
        let at = |share: f64| {
            let rank = (self.0.len() as f64 * share).ceil() as usize;
            self.0[rank.saturating_sub(1).min(most)] as f64 / 1e3
        };
        format!(
            ",\"p50_us\":{:.2},\"p90_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\
             \"max_us\":{:.1}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}
