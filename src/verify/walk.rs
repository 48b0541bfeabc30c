//! The sound records of a log that was examined already, one after the other.

use std::sync::Arc;

use super::Context;
use crate::{
    disk::{Access, Disk, DiskFile, failed},
    error::Result,
    format::{frame::is_blank, view::RecordView},
    log::{DamagedRange, segment::path_of},
    offset::PhysicalOffset,
    recovery::{files::LogFiles, scan::Extent},
};

const READ_BYTES: usize = 1 << 20;

/// Reads records in log order, passing over what is known to be damaged.
pub(super) struct Walk<'a> {
    extent: Extent<'a>,
    damage: &'a [DamagedRange],
    at: PhysicalOffset,
    end: PhysicalOffset,
    file: Option<(PhysicalOffset, Arc<dyn DiskFile>)>,
    window: Vec<u8>,
    window_at: PhysicalOffset,
    stopped: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(context: &Context<'a>) -> Self {
        Self {
            extent: context.extent(),
            damage: context.damage,
            at: context.start,
            end: context.end,
            file: None,
            window: Vec::new(),
            window_at: PhysicalOffset::ZERO,
            stopped: false,
        }
    }

    /// Where something was in the way that was sound before.
    pub(super) fn stopped_at(&self) -> Option<PhysicalOffset> {
        self.stopped.then_some(self.at)
    }

    /// The next record, `None` at the log's end.
    pub(super) fn next(&mut self) -> Result<Option<RecordView<'_>>> {
        let size = loop {
            let hit = self.damage.iter().find(|d| d.start <= self.at && self.at < d.end);
            if let Some(hit) = hit {
                self.at = hit.end;
            }
            if self.at >= self.end {
                return Ok(None);
            }
            let Some(base) = self.base() else {
                self.stopped = true;
                return Ok(None);
            };
            let room = self.extent.segment_bytes - (self.at - base);
            let head = self.bytes(base, 8.min(room))?;
            if is_blank(head) {
                self.at = base + self.extent.segment_bytes;
                continue;
            }
            let size = head.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
            let size = u64::from(size).min(room);
            if RecordView::parse(self.bytes(base, size)?).is_err() {
                // A segment's last bytes may be too few for a blank record.
                if room < 8 {
                    self.at = base + self.extent.segment_bytes;
                    continue;
                }
                self.stopped = true;
                return Ok(None);
            }
            break size;
        };
        let from = (self.at - self.window_at) as usize;
        self.at = self.at + size;
        Ok(RecordView::parse(&self.window[from..]).ok())
    }

    fn base(&self) -> Option<PhysicalOffset> {
        let behind = self.extent.bases.partition_point(|base| *base <= self.at);
        let base = *self.extent.bases.get(behind.checked_sub(1)?)?;
        (self.at - base < self.extent.segment_bytes).then_some(base)
    }

    /// At least `need` bytes from here on, which the segment at `base` has.
    fn bytes(&mut self, base: PhysicalOffset, need: u64) -> Result<&[u8]> {
        let path = path_of(base);
        let same = self.file.as_ref().is_some_and(|(open, _)| *open == base);
        let have = same
            && self.window_at <= self.at
            && self.at + need <= self.window_at + self.window.len() as u64;
        if !have {
            let file = match self.file.take() {
                Some((_, file)) if same => file,
                _ => self.extent.disk.open(&path, Access::Read).map_err(failed("open", &path))?,
            };
            let left = self.extent.segment_bytes - (self.at - base);
            let take = need.max(READ_BYTES as u64).min(left);
            self.window.resize(take as usize, 0);
            let read = file.read_exact_at(&mut self.window, self.at - base);
            read.map_err(failed("read", &path))?;
            self.window_at = self.at;
            self.file = Some((base, file));
        }
        Ok(&self.window[(self.at - self.window_at) as usize..])
    }
}

/// What `look` says about the record that begins at `at`; `None` if none does. Its checksums are
/// not looked at.
pub(super) fn record_at<T>(
    disk: &dyn Disk,
    files: &LogFiles,
    at: PhysicalOffset,
    look: impl FnOnce(&RecordView<'_>) -> T,
) -> Result<Option<T>> {
    const HEAD: u64 = 8;
    let behind = files.bases.partition_point(|base| *base <= at);
    let base = behind.checked_sub(1).map(|i| files.bases[i]);
    let (Some(base), Some(segment_bytes)) = (base, files.segment_bytes) else { return Ok(None) };
    let room = (base + segment_bytes).saturating_since(at);
    if room < HEAD {
        return Ok(None);
    }
    let path = path_of(base);
    let file = disk.open(&path, Access::Read).map_err(failed("open", &path))?;
    let mut head = [0; HEAD as usize];
    file.read_exact_at(&mut head, at - base).map_err(failed("read", &path))?;
    let size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
    if size > room {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, at - base).map_err(failed("read", &path))?;
    let view = RecordView::parse(&bytes).ok().filter(|view| view.physical_offset() == at);
    Ok(view.map(|view| look(&view)))
}
