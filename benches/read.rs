//! Reading with all checksums verified, from memory: one queue from end to end, and eight queues
//! whose records lie interleaved in the log.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{FlushMode, Message, QueueOffset, ReadLimit, Store};

use common::{body, criterion, options, queue, sized};

const BATCH: usize = 32;

fn filled(dir: &std::path::Path, queues: usize, bytes: usize, count: usize) -> Store {
    let store = Store::builder(dir).options(options(FlushMode::Async)).open().unwrap();
    let (keys, text) = ((0..queues).map(queue).collect::<Vec<_>>(), body(bytes));
    for i in 0..count {
        let ticket = store.append(&Message::new(&keys[i % queues], &text)).unwrap();
        ticket.wait().unwrap();
    }
    let last = QueueOffset::new((count / queues) as u64 - 1);
    assert!(store.wait_for(&keys[queues - 1], last, Duration::from_secs(600)).unwrap());
    store
}

fn read(c: &mut Criterion) {
    for (name, queues) in [("one-queue", 1), ("eight-queues", 8)] {
        let mut group = c.benchmark_group(format!("read/{name}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for bytes in [128, 1024] {
            let dir = tempfile::tempdir().unwrap();
            let count = sized(200_000, 800);
            let store = filled(dir.path(), queues, bytes, count);
            let keys: Vec<_> = (0..queues).map(queue).collect();
            let mut next = vec![QueueOffset::ZERO; queues];
            let mut turn = 0;
            group.bench_function(BenchmarkId::new("body", bytes), |b| {
                b.iter(|| {
                    turn = (turn + 1) % queues;
                    let batch =
                        store.read(&keys[turn], next[turn], ReadLimit::records(BATCH)).unwrap();
                    let read: usize = batch.iter().map(|record| record.body().len()).sum();
                    let at_end = batch.next_offset() == batch.end_offset();
                    next[turn] = if at_end { QueueOffset::ZERO } else { batch.next_offset() };
                    black_box(read)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(name = benches; config = criterion(); targets = read);
criterion_main!(benches);
