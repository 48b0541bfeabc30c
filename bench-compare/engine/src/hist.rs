//! Latencies, counted in buckets of about 1.6 % width: the same ones as `Hist.java`.

use std::{fmt::Write, time::Duration};

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

/// A log-linear histogram of nanoseconds. One per thread, then merged.
pub(crate) struct Hist {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Hist {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 << SUB_BITS], total: 0, max: 0 }
    }

    /// Counts one latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        self.counts[bucket_of(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds what `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The JSON fields of the percentiles, each name behind `prefix`; nothing if it is empty.
    pub(crate) fn json(&self, prefix: &str) -> String {
        let mut out = String::new();
        if self.total == 0 {
            return out;
        }
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let _ = write!(out, ",\"{prefix}{name}_us\":{:.2}", self.quantile(share));
        }
        let _ = write!(out, ",\"{prefix}max_us\":{:.1}", self.max as f64 / 1e3);
        out
    }

    /// In microseconds.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return lower_bound(bucket).min(self.max) as f64 / 1e3;
            }
        }
        self.max as f64 / 1e3
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB {
        return nanos as usize;
    }
    let exponent = nanos.ilog2();
    let within = (nanos >> (exponent - SUB_BITS)) & (SUB - 1);
    (((exponent - SUB_BITS + 1) as usize) << SUB_BITS) + within as usize
}

fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let exponent = (bucket >> SUB_BITS) as u32 + SUB_BITS - 1;
    (1 << exponent) + ((bucket & (SUB - 1)) << (exponent - SUB_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_where_it_says_and_is_narrow() {
        for nanos in (0..1 << 20).chain((1..40).map(|shift| (1u64 << 23) << shift)) {
            let low = lower_bound(bucket_of(nanos));
            assert!(low <= nanos && nanos - low <= nanos / 64, "nanos={nanos} low={low}");
        }
    }

    #[test]
    fn quantiles_come_from_the_counts() {
        let mut hist = Hist::new();
        (1..=1000).for_each(|us| hist.add(Duration::from_micros(us)));
        assert!((490.0..=500.0).contains(&hist.quantile(0.5)));
        assert!((970.0..=990.0).contains(&hist.quantile(0.99)));
        assert!(hist.json("x_").contains("\"x_max_us\":1000.0"));
    }
}
