//! Walks the log and classifies what it finds. Touches nothing, decides nothing.

use std::ops::Range;

use crate::{
    checkpoint::frames::FRAME_MOST,
    disk::Disk,
    error::Result,
    format::{
        frame::{ChecksumRule, Frame, classify, is_blank},
        resync::find_next_record,
    },
    offset::PhysicalOffset,
};

use super::reader::{READ_BYTES, Reader};

/// No record that any store writes is longer.
const RECORD_MOST: u64 = 128 << 20;
/// Behind damage, records up to this size are found wherever they lie.
const OVERLAP: usize = 8 << 20;

/// Sound records without a gap between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) start: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
    pub(crate) records: u64,
    /// What stopped it at `end`, in words; `None` at the end of the files.
    pub(crate) stopped_by: Option<String>,
}

/// All that a walk over the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Ascending. The first begins where the walk did, and may be empty.
    pub(crate) stretches: Vec<Stretch>,
    /// First byte behind the last one that is not zero, if that is behind the last stretch.
    pub(crate) bytes_until: Option<PhysicalOffset>,
    /// Where records begin, in each walk [`FRAME_MOST`] bytes apart or more.
    pub(crate) boundaries: Vec<PhysicalOffset>,
}

impl Scan {
    /// This, and `behind` it a walk that began where the segments of this one end.
    pub(crate) fn join(mut self, behind: Scan) -> Scan {
        self.bytes_until = self.bytes_until.max(behind.bytes_until);
        let mut rest = behind.stretches.into_iter();
        if let Some(first) = rest.next() {
            match self.stretches.last_mut() {
                Some(last) if last.end == first.start && last.stopped_by.is_none() => {
                    last.end = first.end;
                    last.records += first.records;
                    last.stopped_by = first.stopped_by;
                }
                // Nothing sound where a segment begins says nothing.
                Some(_) if first.records == 0 => {}
                _ => self.stretches.push(first),
            }
        }
        self.stretches.extend(rest);
        self.boundaries.extend(behind.boundaries);
        self
    }
}

/// The log's files, as `files::list_log` found them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) bases: &'a [PhysicalOffset],
    pub(crate) segment_bytes: u64,
}

impl<'a> Extent<'a> {
    /// Only the segments that are left when those behind `end` are removed.
    pub(crate) fn up_to(&self, end: PhysicalOffset) -> Self {
        let left = self.bases.partition_point(|base| *base < end).max(1).min(self.bases.len());
        Extent { bases: &self.bases[..left], ..*self }
    }
}

/// Walks the log from `from`, where a record begins or the log ends, to the end of all files, or
/// to `clean_end` if sound records reach exactly there: nothing was ever written behind it.
/// `rule` says for each position whether a record there must carry a checksum of all of it.
pub(crate) fn scan(
    extent: &Extent<'_>,
    from: PhysicalOffset,
    clean_end: Option<PhysicalOffset>,
    rule: &dyn Fn(PhysicalOffset) -> ChecksumRule,
    progress: &mut dyn FnMut(PhysicalOffset),
) -> Result<Scan> {
    let mut scan = Scan::default();
    scan.stretches.push(Stretch { start: from, end: from, records: 0, stopped_by: None });
    let first = extent.bases.partition_point(|base| *base + extent.segment_bytes <= from);
    let mut expected = from;
    for (number, base) in extent.bases.iter().enumerate().skip(first) {
        let mut position = from.saturating_since(*base);
        let mut reader = Reader::open(extent, *base)?;
        let data = reader.data_from(position)?;
        if *base + position != expected {
            stop(&mut scan, "the segment behind is missing".into());
            open_stretch(&mut scan, *base + position);
        }
        let last_file = number + 1 == extent.bases.len();
        while position < extent.segment_bytes {
            position = walk(&mut reader, position, &mut scan, rule, progress)?;
            if position == extent.segment_bytes {
                break;
            }
            if scan.stretches.len() == 1 && Some(*base + position) == clean_end {
                return Ok(scan);
            }
            match resume(&mut reader, &data, position, &mut scan, rule)? {
                Some(next) => {
                    open_stretch(&mut scan, *base + next);
                    position = next;
                }
                None => break,
            }
        }
        expected = *base + extent.segment_bytes;
        if position < extent.segment_bytes && !last_file {
            // Whatever the next segment holds begins a stretch of its own.
            open_stretch(&mut scan, expected);
        }
    }
    // Stretches opened in the hope of records that never came.
    while scan.stretches.len() > 1
        && scan.stretches.last().is_some_and(|s| s.records == 0 && s.start == s.end)
    {
        scan.stretches.pop();
    }
    Ok(scan)
}

/// Only the sound records from `from` on, as far as there is no gap.
pub(crate) fn first_stretch(
    extent: &Extent<'_>,
    from: PhysicalOffset,
    rule: &dyn Fn(PhysicalOffset) -> ChecksumRule,
) -> Result<Stretch> {
    let mut scan = Scan::default();
    scan.stretches.push(Stretch { start: from, end: from, records: 0, stopped_by: None });
    let mut expected = from;
    for base in extent.bases.iter().filter(|base| **base + extent.segment_bytes > from) {
        let position = from.saturating_since(*base);
        if *base + position != expected {
            break;
        }
        let mut reader = Reader::open(extent, *base)?;
        let stopped = walk(&mut reader, position, &mut scan, rule, &mut |_| {})?;
        if stopped < extent.segment_bytes {
            break;
        }
        expected = *base + extent.segment_bytes;
    }
    Ok(scan.stretches.swap_remove(0))
}

fn open_stretch(scan: &mut Scan, at: PhysicalOffset) {
    // An empty one says nothing, unless it is where the walk began.
    if scan.stretches.len() > 1
        && scan.stretches.last().is_some_and(|s| s.records == 0 && s.start == s.end)
    {
        scan.stretches.pop();
    }
    scan.stretches.push(Stretch { start: at, end: at, records: 0, stopped_by: None });
}

fn stop(scan: &mut Scan, reason: String) {
    if let Some(last) = scan.stretches.last_mut() {
        last.stopped_by.get_or_insert(reason);
    }
}

/// Walks sound records from `position` on. Returns where it stopped.
fn walk(
    reader: &mut Reader,
    mut position: u64,
    scan: &mut Scan,
    rule: &dyn Fn(PhysicalOffset) -> ChecksumRule,
    progress: &mut dyn FnMut(PhysicalOffset),
) -> Result<u64> {
    let mut told = position;
    let mut last_boundary = reader.base + position;
    while position < reader.len {
        let at = reader.base + position;
        let room = reader.len - position;
        let head = reader.bytes(position, 8)?;
        let need = match head.first_chunk::<4>() {
            Some(size) => u64::from(u32::from_be_bytes(*size)).clamp(8, RECORD_MOST),
            None => room,
        };
        let need = if is_blank(head) { 8 } else { need };
        let bytes = reader.bytes(position, need as usize)?;
        let size = match classify(bytes, at, room, rule(at)) {
            Frame::Record(view) => u64::from(view.size()),
            Frame::Blank { size } => u64::from(size),
            Frame::Empty => {
                stop(scan, "there are zeros where a record should begin".into());
                return Ok(position);
            }
            Frame::Bad(reason) => {
                stop(scan, reason.to_string());
                return Ok(position);
            }
        };
        if at.saturating_since(last_boundary) >= FRAME_MOST {
            last_boundary = at;
            scan.boundaries.push(at);
        }
        position += size;
        if let Some(last) = scan.stretches.last_mut() {
            last.end = reader.base + position;
            last.records += 1;
        }
        if position - told > 64 << 20 {
            told = position;
            progress(reader.base + position);
        }
    }
    Ok(position)
}

/// Looks for the next sound record behind `position`, and for the last byte that is not zero.
fn resume(
    reader: &mut Reader,
    data: &[Range<u64>],
    position: u64,
    scan: &mut Scan,
    rule: &dyn Fn(PhysicalOffset) -> ChecksumRule,
) -> Result<Option<u64>> {
    let mut at = position;
    while let Some(from) = first_byte(reader, data, at)? {
        // A size begins with zeros when the record is small. Where the walk stopped was looked at.
        let from = from.saturating_sub(3).max(at).max(position + 1);
        if from >= reader.len {
            break;
        }
        let (base, len) = (reader.base, reader.len);
        let bytes = reader.bytes(from, 2 * OVERLAP)?;
        if let Some(found) = find_next_record(bytes, 0, base + from, rule(base + from)) {
            return Ok(Some(from + found as u64));
        }
        if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
            let end = base + from + last as u64 + 1;
            scan.bytes_until = scan.bytes_until.max(Some(end));
        }
        let taken = bytes.len();
        if from + taken as u64 == len {
            break;
        }
        // A record may begin in the last part of the window and reach out of it.
        at = from + (taken - OVERLAP.min(taken / 2)) as u64;
    }
    // The very byte where the walk stopped, if nothing follows it.
    if scan.bytes_until.is_none_or(|until| until < reader.base + position + 1)
        && position < reader.len
        && reader.bytes(position, 1)?.first().is_some_and(|b| *b != 0)
    {
        scan.bytes_until = Some(reader.base + position + 1);
    }
    Ok(None)
}

/// The position of the first byte from `at` on that is not zero, where there is `data`. Zeros are
/// what is behind the end of nearly every log, and there can be a lot of them.
fn first_byte(reader: &mut Reader, data: &[Range<u64>], at: u64) -> Result<Option<u64>> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut next = data.partition_point(|range| range.end <= at);
    let mut at = at;
    while let Some(range) = data.get(next) {
        let (from, end) = (at.max(range.start), range.end.min(reader.len));
        if from >= end {
            next += 1;
            continue;
        }
        let bytes = reader.bytes(from, READ_BYTES.min((end - from) as usize))?;
        for (number, block) in bytes.chunks(ZEROS.len()).enumerate() {
            if block != &ZEROS[..block.len()]
                && let Some(first) = block.iter().position(|b| *b != 0)
            {
                return Ok(Some(from + (number * ZEROS.len() + first) as u64));
            }
        }
        at = from + bytes.len() as u64;
    }
    Ok(None)
}
