//! Where walking the log begins.

use super::scan::Extent;
use crate::{checkpoint::frames, disk::Disk, error::Result, offset::PhysicalOffset};

/// Even after a clean close this much of the log's end is checked: it costs milliseconds, and it
/// is where a misbehaving disk shows first.
pub(super) const LOOK_BACK: u64 = 16 << 20;

/// The position at or a little before `from` from which walking can begin: a record begins there.
/// The log ends at `durable_end` or behind it.
pub(super) fn look_back(
    disk: &dyn Disk,
    extent: &Extent<'_>,
    from: PhysicalOffset,
    durable_end: PhysicalOffset,
) -> Result<PhysicalOffset> {
    if durable_end.saturating_since(from) >= LOOK_BACK {
        // Frames can be long, and enough will be walked as it is.
        return Ok(from);
    }
    let target = PhysicalOffset::new(from.get().saturating_sub(LOOK_BACK));
    let near = extent.bases.partition_point(|base| *base < target);
    if let Some(base) = extent.bases.get(near).filter(|base| **base <= from) {
        return Ok(*base);
    }
    // One large segment around all of it: its frames say where records begin.
    let Some(base) = near.checked_sub(1).and_then(|i| extent.bases.get(i)).copied() else {
        return Ok(from);
    };
    if from > base + extent.segment_bytes {
        return Ok(from);
    }
    let mut found = from;
    frames::newest_first(disk, base, extent.segment_bytes, |frame| {
        if frame.start < found {
            found = frame.start;
        }
        from.saturating_since(found) >= LOOK_BACK
    })?;
    Ok(found)
}

/// All frames that reach past `from`, ascending.
pub(super) fn frames_from(
    disk: &dyn Disk,
    extent: &Extent<'_>,
    from: PhysicalOffset,
) -> Result<Vec<frames::Frame>> {
    let mut all = Vec::new();
    for base in frames::list(disk)? {
        if base + extent.segment_bytes <= from {
            continue;
        }
        frames::newest_first(disk, base, extent.segment_bytes, |frame| {
            all.push(*frame);
            frame.end() <= from
        })?;
    }
    all.sort_by_key(|frame| frame.start);
    Ok(all)
}
