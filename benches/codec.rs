//! The bytes: encoding, parsing and verifying records, queue entries, searching for records.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{hint::black_box, net::SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{
    Message, PhysicalOffset, QueueOffset, RecordChecksum, RecordView, StoreTime,
    internals::format::{
        crc::crc32,
        entry::{DelayLevels, QueueEntry},
        frame::ChecksumRule,
        record::{RecordLimits, RecordPlan},
        resync::find_next_record,
    },
};

use common::{body, criterion, queue, sized};

const LIMITS: RecordLimits = RecordLimits { max_message_bytes: 4 << 20, segment_bytes: 1 << 30 };
const NOW: StoreTime = StoreTime::from_millis(1_700_000_000_000);

fn plan<'a>(message: &'a Message<'a>) -> RecordPlan<'a> {
    let host = SocketAddr::from(([127, 0, 0, 1], 10911));
    RecordPlan::new(message, &LIMITS, RecordChecksum::On, NOW, host).unwrap()
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for bytes in [128, 1024, 4096] {
        let (queue, text) = (queue(0), body(bytes));
        let message = Message::new(&queue, &text).tag("T1").key("k-17");
        let planned = plan(&message);
        let mut out = vec![0; planned.size() as usize];
        group.throughput(Throughput::Bytes(planned.size().into()));
        group.bench_function(BenchmarkId::new("plan", bytes), |b| {
            b.iter(|| plan(black_box(&message)).size());
        });
        group.bench_function(BenchmarkId::new("encode", bytes), |b| {
            b.iter(|| planned.encode(&mut out, QueueOffset::new(7), PhysicalOffset::new(99), NOW));
        });
        group.bench_function(BenchmarkId::new("parse", bytes), |b| {
            b.iter(|| RecordView::parse(black_box(&out)).unwrap().queue_offset());
        });
        let view = RecordView::parse(&out).unwrap();
        group.bench_function(BenchmarkId::new("verify", bytes), |b| {
            b.iter(|| black_box(&view).verify().unwrap());
        });
        group.bench_function(BenchmarkId::new("entry", bytes), |b| {
            b.iter(|| QueueEntry::of(black_box(&view), &DelayLevels::default()).encode());
        });
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("crc32", bytes), |b| {
            b.iter(|| crc32(black_box(&text)));
        });
    }
    let noise = body(sized(1 << 20, 1 << 12));
    group.throughput(Throughput::Bytes(noise.len() as u64));
    group.bench_function("find-record-in-noise", |b| {
        let (at, rule) = (PhysicalOffset::ZERO, ChecksumRule::WhenPresent);
        b.iter(|| find_next_record(black_box(&noise), 0, at, rule));
    });
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = codec);
criterion_main!(benches);
