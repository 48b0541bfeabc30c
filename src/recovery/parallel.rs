//! Work that opening does on several threads, where the disk has use for that.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::resume_unwind,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

use crate::{disk::Disk, error::Result, format::frame::ChecksumRule, offset::PhysicalOffset};

use super::scan::{self, Extent, Scan};

/// Less than this is not worth a thread.
const WORTH_BYTES: u64 = 64 << 20;

/// Says which records must carry a checksum of all of them.
pub(crate) type Rule<'a> = dyn Fn(PhysicalOffset) -> ChecksumRule + Sync + 'a;

/// As [`scan::scan`], several segments at a time.
pub(crate) fn scan(
    extent: &Extent<'_>,
    from: PhysicalOffset,
    clean_end: Option<PhysicalOffset>,
    rule: &Rule<'_>,
    progress: &mut dyn FnMut(PhysicalOffset),
) -> Result<Scan> {
    let pieces = pieces(extent, from);
    let threads = extent.disk.readers().min(pieces.len());
    // What lies behind a clean end is not looked at, so there is little to do.
    if threads < 2 || extent.segment_bytes < WORTH_BYTES || clean_end.is_some() {
        return scan::scan(extent, from, clean_end, rule, progress);
    }
    scan_pieces(extent, from, &pieces, threads, rule, progress)
}

/// Parts of `extent.bases` from the segment on that holds `from`, which can be walked each by
/// itself, because a record begins where a segment does. Behind a missing segment none begins: the
/// walk before has to say that it is missing.
fn pieces(extent: &Extent<'_>, from: PhysicalOffset) -> Vec<Range<usize>> {
    let bases = extent.bases;
    let first = bases.partition_point(|base| *base + extent.segment_bytes <= from);
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for next in first..bases.len() {
        match pieces.last_mut() {
            Some(last) if bases[next] != bases[next - 1] + extent.segment_bytes => {
                last.end = next + 1;
            }
            _ => pieces.push(next..next + 1),
        }
    }
    pieces
}

fn scan_pieces(
    extent: &Extent<'_>,
    from: PhysicalOffset,
    pieces: &[Range<usize>],
    threads: usize,
    rule: &Rule<'_>,
    progress: &mut dyn FnMut(PhysicalOffset),
) -> Result<Scan> {
    let (taken, checked) = (AtomicUsize::new(0), AtomicU64::new(0));
    // Walks pieces until none is left.
    let walk = |told: &mut dyn FnMut(PhysicalOffset)| -> Result<Vec<(usize, Scan)>> {
        let mut done = Vec::new();
        loop {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(number) else { return Ok(done) };
            let bases = &extent.bases[piece.clone()];
            // The first walk has to say if what it begins with is missing.
            let from = if number == 0 { from } else { bases[0] };
            let mut last = from;
            let scan = scan::scan(&Extent { bases, ..*extent }, from, None, rule, &mut |at| {
                checked.fetch_add(at.saturating_since(last), Ordering::Relaxed);
                last = at;
                told(at);
            })?;
            done.push((number, scan));
        }
    };
    let walked: Vec<Result<_>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk(&mut |_| {}))).collect();
        // Told as if all of it were one walk.
        let own = walk(&mut |_| progress(from + checked.load(Ordering::Relaxed)));
        let others = others.into_iter().map(|o| o.join().unwrap_or_else(|e| resume_unwind(e)));
        std::iter::once(own).chain(others).collect()
    });
    let mut scans = BTreeMap::new();
    for walked in walked {
        scans.extend(walked?);
    }
    Ok(scans.into_values().reduce(Scan::join).unwrap_or_default())
}

/// Does `beside` on a thread of its own while this one does `own`; one after the other where the
/// disk has no use for two: then `beside` comes as late as a thread may, so that the simulation
/// sees what relies on its coming first.
pub(crate) fn both<A: Send, B>(
    disk: &dyn Disk,
    beside: impl FnOnce() -> A + Send,
    own: impl FnOnce() -> B,
) -> (A, B) {
    if disk.readers() < 2 {
        let own = own();
        return (beside(), own);
    }
    thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let own = own();
        (beside.join().unwrap_or_else(|e| resume_unwind(e)), own)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        disk::{Access, file::FileDisk},
        format::{
            record::encode_blank,
            testing::{Random, Sample},
        },
        log::segment::{LOG_DIR, path_of},
        options::RecordChecksum,
    };

    const SEGMENT: usize = 8192;
    const SEGMENTS: usize = 5;

    /// One segment full of records, `base` being its first byte.
    fn segment(random: &mut Random, base: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut sample = Sample::random(random);
            sample.body.truncate(300);
            sample.at = PhysicalOffset::new((base + bytes.len()) as u64);
            let record = sample.encode(RecordChecksum::On);
            if bytes.len() + record.len() + 8 > SEGMENT {
                let mut blank = [0; 8];
                encode_blank(&mut blank, (SEGMENT - bytes.len()) as u32);
                bytes.extend(blank);
                bytes.resize(SEGMENT, 0);
                return bytes;
            }
            bytes.extend(record);
        }
    }

    #[test]
    fn pieces_tell_what_one_walk_tells() {
        let mut random = Random::seeded();
        let mut stretches = 0;
        for _ in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(LOG_DIR)).unwrap();
            let mut bases = Vec::new();
            for number in 0..SEGMENTS {
                let base = number * SEGMENT;
                let mut bytes = segment(&mut random, base);
                for _ in 0..random.below(3) {
                    let at = random.below(SEGMENT as u64) as usize;
                    let until = at + random.below((SEGMENT - at) as u64 + 1) as usize;
                    match random.below(3) {
                        0 => bytes[at] ^= 1,
                        1 => bytes[at..until].fill(0),
                        _ => bytes[at..].fill(0),
                    }
                }
                if random.below(6) > 0 || number == 0 {
                    let path = path_of(PhysicalOffset::new(base as u64));
                    fs::write(dir.path().join(path.as_str()), bytes).unwrap();
                    bases.push(PhysicalOffset::new(base as u64));
                }
            }
            let disk = FileDisk::open(dir.path(), Access::Read).unwrap();
            let extent = Extent { disk: &disk, bases: &bases, segment_bytes: SEGMENT as u64 };
            let first = random.below(SEGMENTS as u64);
            let from = PhysicalOffset::new(first * SEGMENT as u64);
            let rule = |_| ChecksumRule::Required;
            let whole = scan::scan(&extent, from, None, &rule, &mut |_| {}).unwrap();
            stretches += whole.stretches.len();
            for threads in 1..=3 {
                let pieces = pieces(&extent, from);
                let scan = scan_pieces(&extent, from, &pieces, threads, &rule, &mut |_| {});
                if pieces.is_empty() {
                    continue;
                }
                assert_eq!(scan.unwrap(), whole, "{bases:?} from {from}, {threads} threads");
            }
        }
        assert!(stretches > 400, "hardly anything was damaged: {stretches}");
    }
}
