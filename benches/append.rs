//! Appending, acknowledged from memory: messages per second of one and of four threads.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{FlushMode, Store};

use common::{Renewed, append_each, body, criterion, queue};

/// Messages between looks at how large the store is.
const PIECE: u64 = 50_000;

fn appended(store: &Store, threads: u64, body: &[u8], count: u64) -> Duration {
    let queues: Vec<_> = (0..threads as usize).map(queue).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (number, queue) in queues.iter().enumerate() {
            let share = count / threads + u64::from((number as u64) < count % threads);
            scope.spawn(move || append_each(store, queue, body, share));
        }
    });
    begun.elapsed()
}

fn append(c: &mut Criterion) {
    for bytes in [128, 1024, 4096] {
        let mut group = c.benchmark_group(format!("append/async/{bytes}B"));
        group.throughput(Throughput::Elements(1));
        let text = body(bytes);
        for threads in [1, 4] {
            let mut store = Renewed::new(FlushMode::Async);
            group.bench_function(BenchmarkId::new("threads", threads), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    let mut left = count;
                    while left > 0 {
                        let piece = left.min(PIECE);
                        spent += appended(store.store(), threads, &text, piece);
                        left -= piece;
                    }
                    spent
                });
            });
        }
        group.finish();
    }
}

criterion_group!(name = benches; config = criterion(); targets = append);
criterion_main!(benches);
