//! Appending, acknowledged by the disk: messages per second with so many waiting threads. One sync
//! settles all that wait.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{thread, time::Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::FlushMode;

use common::{Renewed, append_each, body, criterion, only_trying, queue};

fn append_sync(c: &mut Criterion) {
    let mut group = c.benchmark_group("append/sync/1024B");
    group.throughput(Throughput::Elements(1));
    let text = body(1024);
    let waiters: &[u64] = if only_trying() { &[1, 16] } else { &[1, 16, 64, 256] };
    for waiters in waiters.iter().copied() {
        let mut store = Renewed::new(FlushMode::Sync);
        group.bench_function(BenchmarkId::new("waiters", waiters), |b| {
            b.iter_custom(|count| {
                let store = store.store();
                let queue = queue(0);
                let (queue, text) = (&queue, &text);
                let begun = Instant::now();
                thread::scope(|scope| {
                    for number in 0..waiters {
                        let share = count / waiters + u64::from(number < count % waiters);
                        scope.spawn(move || append_each(store, queue, text, share));
                    }
                });
                begun.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = append_sync);
criterion_main!(benches);
