//! Opening: after a kill, with so much log that no checkpoint covers; and after a clean close.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{FlushMode, Message, Store};

use common::{body, criterion, options, queue, sized};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A directory with `bytes` of log in records of 1 KiB, left behind without a close.
fn killed(dir: &Path, bytes: u64) {
    let mut options = options(FlushMode::Async);
    options.segment_bytes = sized(32 << 20, 1 << 20) as u64;
    let store = Store::builder(dir).options(options).open_stepped().unwrap();
    let (queue, text) = (queue(0), body(900));
    while store.progress().written.get() < bytes {
        store.append(&Message::new(&queue, &text).key("k")).unwrap().wait().unwrap();
    }
    store.flush().unwrap();
    store.abandon();
}

/// Opens a new copy of `whole` each time.
fn opened(whole: &Path, rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        copy(whole, dir.path());
        let begun = Instant::now();
        let builder = Store::builder(dir.path()).options(options(FlushMode::Async));
        let store = builder.open_stepped().unwrap();
        spent += begun.elapsed();
        store.abandon();
    }
    spent
}

fn recovery(c: &mut Criterion) {
    let sizes: &[usize] = if common::only_trying() { &[1] } else { &[16, 64] };
    for mib in sizes {
        let whole = tempfile::tempdir().unwrap();
        killed(whole.path(), (*mib as u64) << 20);
        let mut group = c.benchmark_group("open");
        group.throughput(Throughput::Bytes((*mib as u64) << 20));
        group.bench_function(BenchmarkId::new("after-kill-MiB", mib), |b| {
            b.iter_custom(|rounds| opened(whole.path(), rounds));
        });
        let builder = Store::builder(whole.path()).options(options(FlushMode::Async));
        builder.open().unwrap().close().unwrap();
        group.bench_function(BenchmarkId::new("after-close-MiB", mib), |b| {
            b.iter_custom(|rounds| opened(whole.path(), rounds));
        });
        group.finish();
    }
}

criterion_group!(name = benches; config = criterion(); targets = recovery);
criterion_main!(benches);
