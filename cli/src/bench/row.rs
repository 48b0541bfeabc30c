//! What each measurement prints: the same columns each time.

use std::{io::Write, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{exit::Failure, output::Output};

/// One measurement.
#[derive(Serialize)]
pub(super) struct Row {
    name: &'static str,
    messages: u64,
    body_bytes: usize,
    seconds: f64,
    messages_per_second: f64,
    /// Millions of bytes: of the log, or of bodies where the log is another process's.
    megabytes_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Row {
    /// `times` are nanoseconds.
    pub(super) fn new(
        name: &'static str,
        (messages, body_bytes): (u64, usize),
        bytes: u64,
        took: Duration,
        times: &Histogram<u64>,
    ) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            name,
            messages,
            body_bytes,
            seconds,
            messages_per_second: messages as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: times.max() as f64 / 1e3,
        }
    }

    pub(super) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        writeln!(
            out,
            "{:<19} {:>9} {:>6} {:>8.2} {:>11.0} {:>8.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            self.name,
            self.messages,
            self.body_bytes,
            self.seconds,
            self.messages_per_second,
            self.megabytes_per_second,
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p999_us,
            self.max_us
        )?;
        Ok(())
    }
}

/// Prints the columns' names, unless the lines are JSON, which has them in each.
pub(super) fn head(out: &mut Output, json: bool) -> Result<(), Failure> {
    if !json {
        writeln!(
            out,
            "{:<19} {:>9} {:>6} {:>8} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "",
            "messages",
            "bytes",
            "seconds",
            "messages/s",
            "MB/s",
            "p50 us",
            "p90",
            "p99",
            "p99.9",
            "max"
        )?;
        out.flush()?;
    }
    Ok(())
}

/// Nanoseconds up to a minute, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    // The bounds are constants that are right.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!())
}

/// Bytes that do not compress to nothing.
pub(super) fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}
