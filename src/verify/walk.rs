//! The sound records of a log that was examined already, one after the other.

use super::Context;
use crate::{
    disk::{Access, Disk, failed},
    error::Result,
    format::{frame::is_blank, view::RecordView},
    log::{DamagedRange, damage_in, segment::path_of},
    offset::PhysicalOffset,
    recovery::{files::LogFiles, reader::Reader, scan::Extent},
};

/// Reads records in log order, passing over what is known to be damaged.
pub(super) struct Walk<'a> {
    files: &'a LogFiles,
    extent: Extent<'a>,
    damage: &'a [DamagedRange],
    at: PhysicalOffset,
    end: PhysicalOffset,
    /// Of the segment that was read last.
    reader: Option<Reader>,
    stopped: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(context: &Context<'a>) -> Self {
        Self {
            files: &context.inspected.files,
            extent: context.extent(),
            damage: context.damage,
            at: context.start,
            end: context.end,
            reader: None,
            stopped: false,
        }
    }

    /// Where something was in the way that was sound before.
    pub(super) fn stopped_at(&self) -> Option<PhysicalOffset> {
        self.stopped.then_some(self.at)
    }

    /// The next record, `None` at the log's end.
    pub(super) fn next(&mut self) -> Result<Option<RecordView<'_>>> {
        let (base, size) = loop {
            if let Some(hit) = damage_in(self.damage, self.at, self.at + 1) {
                self.at = hit.end;
            }
            if self.at >= self.end {
                return Ok(None);
            }
            let Some(base) = self.files.holding(self.at) else {
                self.stopped = true;
                return Ok(None);
            };
            let room = self.extent.segment_bytes - (self.at - base);
            let head = self.bytes(base, self.at, 8.min(room))?;
            if is_blank(head) {
                self.at = base + self.extent.segment_bytes;
                continue;
            }
            let size = head.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
            let size = u64::from(size).min(room);
            if RecordView::parse(self.bytes(base, self.at, size)?).is_err() {
                // A segment's last bytes may be too few for a blank record.
                if room < 8 {
                    self.at = base + self.extent.segment_bytes;
                    continue;
                }
                self.stopped = true;
                return Ok(None);
            }
            break (base, size);
        };
        let at = self.at;
        self.at = at + size;
        Ok(RecordView::parse(self.bytes(base, at, size)?).ok())
    }

    /// At least `need` bytes from `at` on, which the segment at `base` has.
    fn bytes(&mut self, base: PhysicalOffset, at: PhysicalOffset, need: u64) -> Result<&[u8]> {
        let reader = match self.reader.take() {
            Some(open) if open.base == base => open,
            _ => Reader::open(&self.extent, base)?,
        };
        self.reader.insert(reader).bytes(at - base, need as usize)
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
    let (Some(base), Some(segment_bytes)) = (files.holding(at), files.segment_bytes) else {
        return Ok(None);
    };
    let room = segment_bytes - (at - base);
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
