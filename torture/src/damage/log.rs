//! Damage to the log's files.

use std::ops::Range;

use anyhow::Result;
use steadfast::{
    RecordView,
    disk::sim::Rng,
    internals::format::{
        crc::crc32,
        layout::{MAGIC_BLANK, MAGIC_V2},
    },
};

use super::{
    anatomy::{Anatomy, LogRecord, Segment},
    kind::{Kind, Part, Place},
};
use crate::damage::Change;

type Done = Result<Option<Vec<Change>>>;

const PAGE: u64 = 4096;
/// The property with a record's checksum: name, separator, ten digits, end.
const CHECKSUM: usize = 20;
const CHECKSUM_NAME: usize = 8;

const fn record(name: &'static str, hurt: super::kind::Hurt) -> Kind {
    Kind::new(name, Part::Log, Place::RECORDS, hurt)
}

const fn file(name: &'static str, hurt: super::kind::Hurt) -> Kind {
    Kind::new(name, Part::Log, Place::FILES, hurt)
}

/// In the order of the fields; then what happens to more than a field.
pub(super) const KINDS: &[Kind] = &[
    record("flip-total-size", |s, p, r| flip(s, p, r, |_, _| Some(0..4))),
    record("flip-magic", |s, p, r| flip(s, p, r, |_, _| Some(4..8))),
    record("magic-to-end-of-file", |s, p, r| on_record(s, p, r, end_of_file_magic)),
    record("flip-body-crc", |s, p, r| flip(s, p, r, |_, _| Some(8..12))),
    record("flip-queue-id", |s, p, r| flip(s, p, r, |_, _| Some(12..16))),
    record("flip-flag", |s, p, r| flip(s, p, r, |_, _| Some(16..20))),
    record("flip-queue-offset", |s, p, r| flip(s, p, r, |_, _| Some(20..28))),
    record("flip-physical-offset", |s, p, r| flip(s, p, r, |_, _| Some(28..36))),
    record("flip-sys-flag", |s, p, r| flip(s, p, r, |_, _| Some(36..40))),
    record("flip-born-timestamp", |s, p, r| flip(s, p, r, |_, _| Some(40..48))),
    record("flip-born-host", |s, p, r| flip(s, p, r, |v, _| Some(48..store_time(v)))),
    record("flip-store-timestamp", |s, p, r| flip(s, p, r, |v, _| field(store_time(v), 8))),
    record("flip-store-host", |s, p, r| {
        flip(s, p, r, |v, body| Some(store_time(v) + 8..body.start - 16))
    }),
    record("flip-reconsume-times", |s, p, r| flip(s, p, r, |_, body| field(body.start - 16, 4))),
    record("flip-prepared-offset", |s, p, r| flip(s, p, r, |_, body| field(body.start - 12, 8))),
    record("flip-body-length", |s, p, r| flip(s, p, r, |_, body| field(body.start - 4, 4))),
    record("flip-body", |s, p, r| flip(s, p, r, |_, body| Some(body))),
    record("flip-topic-length", |s, p, r| {
        flip(s, p, r, |v, body| Some(body.end..topic(v, &body).start))
    }),
    record("flip-topic", |s, p, r| flip(s, p, r, |v, body| Some(topic(v, &body)))),
    record("flip-properties-length", |s, p, r| {
        flip(s, p, r, |v, body| field(topic(v, &body).end, 2))
    }),
    record("flip-property", |s, p, r| flip(s, p, r, |v, _| Some(properties(v)))),
    record("flip-checksum-name", |s, p, r| {
        flip(s, p, r, |v, _| checksum(v).map(|at| at..at + CHECKSUM_NAME + 1))
    }),
    record("flip-checksum-value", |s, p, r| {
        flip(s, p, r, |v, _| checksum(v).map(|at| at + CHECKSUM_NAME + 1..at + CHECKSUM))
    }),
    file("flip-blank", flip_blank),
    record("zero-half-record", |s, p, r| {
        on_record(s, p, r, |s, segment, record| {
            zero_some(s, segment, record.offset + record.size / 2..record.range().end)
        })
    }),
    record("zero-properties", |s, p, r| on_record(s, p, r, zero_properties)),
    record("zero-record", |s, p, r| {
        on_record(s, p, r, |s, segment, record| zero_some(s, segment, record.range()))
    }),
    file("zero-page", |s, p, r| {
        on_segment(s, p, r, |s, segment, rng| {
            let pages = segment.end.div_ceil(PAGE).max(1);
            let at = rng.below(pages) * PAGE;
            zero_some(s, segment, at..(at + PAGE).min(segment.bytes.len() as u64))
        })
    }),
    file("zero-first-page", |s, p, r| {
        on_segment(s, p, r, |s, segment, _| {
            zero_some(s, segment, 0..PAGE.min(segment.bytes.len() as u64))
        })
    }),
    file("zero-file", |s, p, r| {
        on_segment(s, p, r, |s, segment, _| zero_some(s, segment, 0..segment.bytes.len() as u64))
    }),
    file("cut-short", |s, p, r| {
        on_segment(s, p, r, |s, segment, rng| {
            Ok(Some(vec![s.resize(&segment.file, rng.within(1..segment.end.max(2)))?]))
        })
    }),
    file("cut-to-zero", |s, p, r| {
        on_segment(s, p, r, |s, segment, _| Ok(Some(vec![s.resize(&segment.file, 0)?])))
    }),
    file("too-long", |s, p, r| {
        on_segment(s, p, r, |s, segment, rng| {
            let len = segment.bytes.len() as u64 + rng.within(1..10_000);
            Ok(Some(vec![s.resize(&segment.file, len)?]))
        })
    }),
    file("record-over-record", record_over_record),
    file("records-swapped", records_swapped),
    // What a recycled file is: an earlier one's bytes under a later name.
    Kind::new("recycled-segment", Part::Log, &[Place::Middle, Place::Last], recycled),
    file("segments-swapped", segments_swapped),
    file("stale-segment", |s, p, r| on_segment(s, p, r, stale)),
    file("foreign-segment", |s, p, r| on_segment(s, p, r, foreign)),
    file("junk-segment", |s, p, r| {
        on_segment(s, p, r, |s, segment, rng| {
            let mut junk = vec![0; segment.bytes.len()];
            rng.fill(&mut junk);
            Ok(Some(vec![s.replace(&segment.file, &junk)?]))
        })
    }),
    file("segment-gone", |s, p, r| on_segment(s, p, r, |s, segment, _| s.remove(&segment.file))),
    Kind::new("log-gone", Part::Log, Place::ANYWHERE, |s, _, _| s.remove("commitlog")),
    Kind::new("stray-file", Part::Log, Place::ANYWHERE, |s, _, _| {
        Ok(Some(vec![s.replace("commitlog/core.1234", b"not a segment")?]))
    }),
];

fn on_record(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    hurt: impl Fn(&Anatomy, &Segment, &LogRecord) -> Done,
) -> Done {
    let Some(record) = store.record(place, rng) else { return Ok(None) };
    hurt(store, &store.segments[record.segment], record)
}

fn on_segment(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    hurt: impl Fn(&Anatomy, &Segment, &mut Rng) -> Done,
) -> Done {
    let Some(segment) = store.segment(place, rng) else { return Ok(None) };
    hurt(store, segment, rng)
}

/// Flips a bit in what `pick` gives: a range of the record's bytes. It is told the body's.
fn flip(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    pick: fn(&RecordView<'_>, Range<usize>) -> Option<Range<usize>>,
) -> Done {
    let Some(record) = store.record(place, rng) else { return Ok(None) };
    let segment = &store.segments[record.segment];
    let Some(view) = segment.view(record) else { return Ok(None) };
    let body = body(&view);
    let Some(range) = pick(&view, body).filter(|range| !range.is_empty()) else { return Ok(None) };
    let range = record.offset + range.start as u64..record.offset + range.end as u64;
    Ok(Some(vec![store.flip(&segment.file, range, rng)?]))
}

fn field(at: usize, len: usize) -> Option<Range<usize>> {
    Some(at..at + len)
}

/// Where the store time is: behind the born host.
fn store_time(view: &RecordView<'_>) -> usize {
    48 + if view.sys_flag() & 0x10 == 0 { 8 } else { 20 }
}

fn body(view: &RecordView<'_>) -> Range<usize> {
    let store_host = if view.sys_flag() & 0x20 == 0 { 8 } else { 20 };
    let start = store_time(view) + 8 + store_host + 4 + 8 + 4;
    start..start + view.body().len()
}

fn topic(view: &RecordView<'_>, body: &Range<usize>) -> Range<usize> {
    let length = if view.magic() == MAGIC_V2 { 2 } else { 1 };
    body.end + length..body.end + length + view.topic().len()
}

/// All properties but the checksum.
fn properties(view: &RecordView<'_>) -> Range<usize> {
    let end = view.size() as usize;
    end - view.properties_bytes().len()..checksum(view).unwrap_or(end)
}

fn checksum(view: &RecordView<'_>) -> Option<usize> {
    view.record_crc().map(|_| view.size() as usize - CHECKSUM)
}

fn end_of_file_magic(store: &Anatomy, segment: &Segment, record: &LogRecord) -> Done {
    let magic = MAGIC_BLANK.to_be_bytes();
    Ok(Some(vec![store.write(&segment.file, record.offset + 4, &magic)?]))
}

fn flip_blank(store: &Anatomy, place: Place, rng: &mut Rng) -> Done {
    let Some(segment) = store.segment(place, rng) else { return Ok(None) };
    let Some(at) = segment.blank else { return Ok(None) };
    Ok(Some(vec![store.flip(&segment.file, at..at + 8, rng)?]))
}

fn zero_some(store: &Anatomy, segment: &Segment, range: Range<u64>) -> Done {
    let bytes = &segment.bytes[range.start as usize..range.end as usize];
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    Ok(Some(vec![store.zero(&segment.file, range)?]))
}

fn zero_properties(store: &Anatomy, segment: &Segment, record: &LogRecord) -> Done {
    let Some(view) = segment.view(record) else { return Ok(None) };
    let len = view.properties_bytes().len() as u64;
    zero_some(store, segment, record.range().end - len..record.range().end)
}

/// A record's bytes where another of the same size begins: torn or misdirected writes do that.
fn record_over_record(store: &Anatomy, place: Place, rng: &mut Rng) -> Done {
    let Some(record) = store.record(place, rng) else { return Ok(None) };
    let others: Vec<_> = store.records.iter().filter(|r| r.physical != record.physical).collect();
    // One of the same size cannot be told by its length; else any.
    let same: Vec<_> = others.iter().copied().filter(|r| r.size == record.size).collect();
    let from = if same.is_empty() { &others } else { &same };
    if from.is_empty() {
        return Ok(None);
    }
    let from = *rng.pick(from);
    let bytes = &store.segments[from.segment].bytes[from.offset as usize..];
    let bytes = &bytes[..from.size.min(record.size) as usize];
    Ok(Some(vec![store.write(&store.segments[record.segment].file, record.offset, bytes)?]))
}

/// Two records of the same size change places.
fn records_swapped(store: &Anatomy, place: Place, rng: &mut Rng) -> Done {
    let Some(base) = store.segment(place, rng).map(|segment| segment.base) else { return Ok(None) };
    for one in store.records.iter().filter(|r| store.segments[r.segment].base == base) {
        let twin = store.records.iter().find(|r| r.size == one.size && r.physical > one.physical);
        let Some(other) = twin else { continue };
        let bytes_of = |record: &LogRecord| {
            &store.segments[record.segment].bytes[record.offset as usize..][..one.size as usize]
        };
        let (first, second) = (bytes_of(one), bytes_of(other));
        return Ok(Some(vec![
            store.write(&store.segments[one.segment].file, one.offset, second)?,
            store.write(&store.segments[other.segment].file, other.offset, first)?,
        ]));
    }
    Ok(None)
}

fn recycled(store: &Anatomy, place: Place, rng: &mut Rng) -> Done {
    let used = store.used();
    let Some(segment) = store.segment(place, rng) else { return Ok(None) };
    let Some(first) = used.first().filter(|first| first.base < segment.base) else {
        return Ok(None);
    };
    Ok(Some(vec![store.replace(&segment.file, &first.bytes)?]))
}

fn segments_swapped(store: &Anatomy, place: Place, rng: &mut Rng) -> Done {
    let used = store.used();
    let Some(segment) = store.segment(place, rng) else { return Ok(None) };
    let Some(other) = used.iter().find(|other| other.base != segment.base) else {
        return Ok(None);
    };
    store.swap(&segment.file, &other.file)
}

/// What the file was at an earlier time: the same up to a record, then zeros.
fn stale(store: &Anatomy, segment: &Segment, rng: &mut Rng) -> Done {
    let there = store.records.iter().filter(|r| store.segments[r.segment].base == segment.base);
    let there: Vec<_> = there.collect();
    if there.len() < 2 {
        return Ok(None);
    }
    let at = rng.pick(&there[1..]).offset;
    zero_some(store, segment, at..segment.bytes.len() as u64)
}

/// A file of another store: sound records, each in its own position, but not those that were here.
fn foreign(store: &Anatomy, segment: &Segment, rng: &mut Rng) -> Done {
    let there = store.records.iter().filter(|r| store.segments[r.segment].base == segment.base);
    let mut there: Vec<_> = there.collect();
    if there.len() < 3 {
        return Ok(None);
    }
    let by = rng.within(1..there.len() as u64) as usize;
    there.rotate_left(by);
    let mut bytes = Vec::new();
    for record in there {
        let physical = segment.base + bytes.len() as u64;
        let Some(view) = segment.view(record) else { return Ok(None) };
        let mut copy = view.bytes().to_vec();
        copy[28..36].copy_from_slice(&physical.to_be_bytes());
        other_body(&view, &mut copy);
        if let Some(at) = checksum(&view) {
            let mut crc = crc32(&copy[..at]) & i32::MAX as u32;
            for digit in &mut copy[at + CHECKSUM_NAME + 1..at + CHECKSUM - 1] {
                *digit = b'0' + (crc % 10) as u8;
                crc /= 10;
            }
        }
        bytes.append(&mut copy);
    }
    // The same records take the same room, so the blank record is where it was.
    bytes.extend_from_slice(&segment.bytes[bytes.len()..]);
    Ok(Some(vec![store.replace(&segment.file, &bytes)?]))
}

/// Gives the copy of a record another body, and a checksum that is right for it.
fn other_body(view: &RecordView<'_>, copy: &mut [u8]) {
    let body = view.body();
    let at = body.as_ptr().addr() - view.bytes().as_ptr().addr();
    let Some(first) = copy[at..at + body.len()].first_mut() else { return };
    *first ^= 1;
    let crc = crc32(&copy[at..at + body.len()]) & i32::MAX as u32;
    copy[8..12].copy_from_slice(&crc.to_be_bytes());
}
