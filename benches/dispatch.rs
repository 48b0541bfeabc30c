//! Filling queues and index from the log, without threads: what follows each append.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{FlushMode, Message, Step, Store};

use common::{body, criterion, options, queue, sized};

fn dispatch(c: &mut Criterion) {
    let count = sized(20_000, 100);
    let mut group = c.benchmark_group("dispatch/256B");
    group.throughput(Throughput::Elements(count as u64));
    let text = body(256);
    for (name, keys) in [("without-keys", false), ("with-keys", true)] {
        for queues in [1, 64] {
            let dir = tempfile::tempdir().unwrap();
            let builder = Store::builder(dir.path()).options(options(FlushMode::Async));
            let store = builder.open_stepped().unwrap();
            let names: Vec<_> = (0..queues).map(queue).collect();
            let mut number = 0;
            group.bench_function(BenchmarkId::new(name, queues), |b| {
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        for _ in 0..count {
                            number += 1;
                            let mut message = Message::new(&names[number % queues], &text);
                            let key = format!("key-{number}");
                            if keys {
                                message = message.key(&key);
                            }
                            store.append(&message).unwrap().wait().unwrap();
                        }
                        let begun = Instant::now();
                        while store.progress().dispatched < store.progress().written {
                            store.step(Step::Dispatch).unwrap();
                        }
                        spent += begun.elapsed();
                        store.step(Step::Flush).unwrap();
                        store.step(Step::Prepare).unwrap();
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = dispatch);
criterion_main!(benches);
