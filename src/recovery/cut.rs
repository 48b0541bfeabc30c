//! Cutting the end of the log off, keeping every byte of it.

use std::ops::Range;

use crate::{
    disk::{self, Access, Disk, FilePath, failed, replace},
    error::Result,
    format::file_name,
    log::segment::{LOG_DIR, path_of},
    offset::{PhysicalOffset, StoreTime},
};

use super::scan::Extent;

/// Where cut bytes are kept.
pub(crate) const QUARANTINE_DIR: &str = "quarantine";
const TEMP: &str = "steadfast/quarantine.tmp";
/// One quarantine file holds at most this much.
const PIECE: u64 = 64 << 20;

/// Sets aside what lies in `[at, bytes_until)`, zeroes it, and removes the segments behind the one
/// that `at` lies in. Durable when this returns. Safe to repeat after a crash anywhere in it: bytes
/// are zeroed only after their copy is durable. Returns how many bytes were set aside.
pub(crate) fn cut(
    extent: &Extent<'_>,
    at: PhysicalOffset,
    bytes_until: Option<PhysicalOffset>,
    now: StoreTime,
) -> Result<u64> {
    let mut set_aside = 0;
    let until = bytes_until.unwrap_or(at);
    for base in extent.bases.iter().rev() {
        let start = at.max(*base);
        let end = until.min(*base + extent.segment_bytes);
        if start < end {
            quarantine(extent.disk, *base, start, end, now)?;
            zero(extent.disk, *base, start, end)?;
            set_aside += end - start;
        }
    }
    remove_behind(extent, at)?;
    Ok(set_aside)
}

/// Copies `[start, end)` of the segment at `base` into files of its own.
pub(crate) fn quarantine(
    disk: &dyn Disk,
    base: PhysicalOffset,
    start: PhysicalOffset,
    end: PhysicalOffset,
    now: StoreTime,
) -> Result<()> {
    quarantine_file(disk, &path_of(base), base.get(), start - base..end - base, now)
}

/// Copies `range` of the file `segment`, whose name says `base`, into files of its own.
pub(crate) fn quarantine_file(
    disk: &dyn Disk,
    segment: &FilePath,
    base: u64,
    range: Range<u64>,
    now: StoreTime,
) -> Result<()> {
    let dir = FilePath::new(QUARANTINE_DIR);
    // A repair may be the first of ours to write here.
    for dir in [&dir, &FilePath::new(TEMP).parent()] {
        disk.create_dir(dir).map_err(failed("create the directory", dir))?;
    }
    disk.sync_dir(&FilePath::ROOT).map_err(failed("sync", &FilePath::ROOT))?;
    let file = disk.open(segment, Access::Read).map_err(failed("open", segment))?;
    let mut from = range.start;
    while from < range.end {
        let mut bytes = vec![0; (range.end - from).min(PIECE) as usize];
        file.read_exact_at(&mut bytes, from).map_err(failed("read", segment))?;
        let name = format!("{:020}-{}", base.saturating_add(from), now);
        replace(disk, &FilePath::new(TEMP), &dir.join(&name), &bytes)?;
        from += bytes.len() as u64;
    }
    Ok(())
}

fn zero(
    disk: &dyn Disk,
    base: PhysicalOffset,
    start: PhysicalOffset,
    end: PhysicalOffset,
) -> Result<()> {
    let path = path_of(base);
    let file = disk.open(&path, Access::Write).map_err(failed("open", &path))?;
    let zeros = vec![0; (end - start).min(1 << 20) as usize];
    let mut from = start;
    while from < end {
        let take = (end - from).min(zeros.len() as u64);
        let piece = &zeros[..take as usize];
        file.write_all_at(piece, from - base).map_err(failed("write zeros to", &path))?;
        from = from + take;
    }
    file.sync_data().map_err(failed("sync", &path))
}

/// Zeroes anew what was cut behind `end` before. The sync of those zeros may have failed: then they
/// are what the page cache shows, and a power failure would bring the old records back, which may
/// line up with new ones.
pub(crate) fn zero_again(extent: &Extent<'_>, end: PhysicalOffset) -> Result<()> {
    let dir = FilePath::new(QUARANTINE_DIR);
    for entry in disk::list(extent.disk, &dir)? {
        let offset = entry.name.split('-').next().and_then(file_name::position);
        let Some(from) = offset.map(PhysicalOffset::new) else { continue };
        let Some(until) = from.get().checked_add(entry.len).map(PhysicalOffset::new) else {
            continue;
        };
        for base in extent.bases {
            let start = from.max(end).max(*base);
            let until = until.min(*base + extent.segment_bytes);
            if start < until {
                zero(extent.disk, *base, start, until)?;
            }
        }
    }
    Ok(())
}

/// Removes the segments that begin behind the one in which the log ends.
pub(crate) fn remove_behind(extent: &Extent<'_>, end: PhysicalOffset) -> Result<()> {
    // A segment that begins exactly at the end is unused: another one will be made.
    let keep = extent.bases.partition_point(|base| *base < end).max(1);
    remove(extent.disk, extent.bases.get(keep..).unwrap_or(&[]))
}

/// Removes the segments at `bases`, the last one first. Durable when this returns.
pub(crate) fn remove(disk: &dyn Disk, bases: &[PhysicalOffset]) -> Result<()> {
    for base in bases.iter().rev() {
        disk::remove(disk, &path_of(*base))?;
    }
    if !bases.is_empty() {
        let dir = FilePath::new(LOG_DIR);
        disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))?;
    }
    Ok(())
}
