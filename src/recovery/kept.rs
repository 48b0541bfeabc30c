//! What is kept above the durable end: synced and said to be durable, now or by the flusher.

use std::{ops::Range, sync::Arc};

use crate::{
    checkpoint::frames::{self, Frame, FrameWriter},
    disk::{Access, Disk, failed},
    error::Result,
    log::segment::path_of,
    offset::PhysicalOffset,
    options::{FlushMode, Options, RecordChecksum},
};

use super::{Inspected, RecoveredLog, files::LogFiles, scan::Extent, table::Provenance};

/// When the bytes above the durable end are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncing {
    /// Before anything of the log is served.
    AtOpen,
    /// By the flusher, like what is appended.
    ByFlusher,
}

/// ASYNC_FLUSH serves what is not synced yet, so opening does not wait for the disk either. Of
/// another program's log no record boundary is known at which the flusher could begin.
pub(crate) fn syncing(inspected: &Inspected, log: &RecoveredLog, options: &Options) -> Syncing {
    let ours = inspected.provenance != Provenance::Foreign;
    // The flusher's frames, and the checkpoints until then, say of all bytes what holds for the
    // records to come.
    let told_alike =
        log.record_crc_from.is_some() || options.record_checksum == RecordChecksum::Off;
    match options.flush {
        FlushMode::Async if ours && told_alike => Syncing::ByFlusher,
        FlushMode::Async | FlushMode::Sync => Syncing::AtOpen,
    }
}

/// [`dirty`] for what is left to the flusher.
pub(crate) fn dirty_unsynced(
    disk: &dyn Disk,
    files: &LogFiles,
    unsynced: Range<PhysicalOffset>,
) -> Result<()> {
    let Some(segment_bytes) = files.segment_bytes else { return Ok(()) };
    let extent = Extent { disk, bases: &files.bases, segment_bytes };
    dirty(&extent, unsynced.start, unsynced.end, Syncing::ByFlusher)
}

/// Makes sure that the next sync writes `[start, end)`, and that the kernel keeps it until then.
/// After a failed sync the page cache may hold as clean what never reached the disk.
pub(crate) fn dirty(
    extent: &Extent<'_>,
    start: PhysicalOffset,
    end: PhysicalOffset,
    syncing: Syncing,
) -> Result<()> {
    for base in extent.bases {
        let from = start.max(*base);
        let until = end.min(*base + extent.segment_bytes);
        if from < until {
            let path = path_of(*base);
            let file = extent.disk.open(&path, Access::Write).map_err(failed("open", &path))?;
            file.dirty_again(from - *base, until - from).map_err(failed("rewrite", &path))?;
            if syncing == Syncing::AtOpen {
                file.sync_data().map_err(failed("sync", &path))?;
            }
        }
    }
    Ok(())
}

/// Says in frames that everything from `from` up to the log's end is durable now.
pub(crate) fn write_frames(
    disk: &Arc<dyn Disk>,
    extent: &Extent<'_>,
    from: PhysicalOffset,
    log: &RecoveredLog,
) -> Result<()> {
    let mut writer = FrameWriter::new(disk.clone());
    for base in extent.bases {
        let start = from.max(*base);
        let end = log.end.min(*base + extent.segment_bytes);
        if start >= end {
            continue;
        }
        for (start, len) in frames::parts(start, end, &log.boundaries) {
            let all_record_crc = log.record_crc_from.is_some_and(|from| from <= start);
            let frame = Frame { start, len, all_record_crc, bytes_crc: None };
            writer.append(*base, &frame)?;
        }
    }
    writer.sync()
}
