//! Frames: which bytes of the log were synced together. One per group commit, several for a long
//! one, in a file per segment.
//!
//! A frame is written after the log's sync returned and before its tickets settle. So after the
//! death of the process the last frame is the exact durable end, and after a power cut any frame
//! that survived is a true lower bound. Frames also say where records begin, for resuming behind a
//! broken length.

use std::{io, sync::Arc};

use crate::{
    disk::{self, Access, Disk, DiskFile, EntryKind, FilePath, failed},
    error::Result,
    format::{
        be::{be32, be64},
        crc::crc32,
        file_name,
    },
    offset::PhysicalOffset,
};

/// Where the frames are.
pub(crate) const FRAMES_DIR: &str = "steadfast/frames";
/// What is synced at once and longer gets several frames, so that walking can begin near any place
/// of the log.
pub(crate) const FRAME_MOST: u64 = 8 << 20;
const FRAME_BYTES: usize = 32;
/// Read at once.
const CHUNK: usize = 2048 * FRAME_BYTES;
const VERSION: u32 = 1 << 24;
const FLAG_RECORD_CRC: u32 = 1;
const FLAG_BYTES_CRC: u32 = 2;

/// A stretch of one segment that was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) start: PhysicalOffset,
    pub(crate) len: u32,
    /// Every record in it carries a checksum of the whole record.
    pub(crate) all_record_crc: bool,
    /// Checksum of the bytes, where the writer had them at hand.
    pub(crate) bytes_crc: Option<u32>,
}

impl Frame {
    pub(crate) fn end(&self) -> PhysicalOffset {
        self.start + u64::from(self.len)
    }

    /// Whether it lies in the segment `[base, base + segment_bytes)`. A right checksum does not say
    /// that its numbers can be added.
    fn is_inside(&self, base: PhysicalOffset, segment_bytes: u64) -> bool {
        let end = self.start.saturating_since(base).checked_add(self.len.into());
        self.start >= base && end.is_some_and(|end| end <= segment_bytes)
    }

    fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        let mut flags = VERSION;
        if self.all_record_crc {
            flags |= FLAG_RECORD_CRC;
        }
        if self.bytes_crc.is_some() {
            flags |= FLAG_BYTES_CRC;
        }
        out[..8].copy_from_slice(&self.start.get().to_be_bytes());
        out[8..12].copy_from_slice(&self.len.to_be_bytes());
        out[12..16].copy_from_slice(&flags.to_be_bytes());
        out[16..20].copy_from_slice(&self.bytes_crc.unwrap_or(0).to_be_bytes());
        let crc = crc32(&out[..28]);
        out[28..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FRAME_BYTES || be32(bytes, 28) != crc32(&bytes[..28]) {
            return None;
        }
        let flags = be32(bytes, 12);
        if flags & 0xff00_0000 != VERSION {
            return None;
        }
        Some(Self {
            start: PhysicalOffset::new(be64(bytes, 0)),
            len: be32(bytes, 8),
            all_record_crc: flags & FLAG_RECORD_CRC != 0,
            bytes_crc: (flags & FLAG_BYTES_CRC != 0).then(|| be32(bytes, 16)),
        })
    }
}

/// The parts of `[start, end)` between those of `boundaries` that lie in it: starts and lengths.
pub(crate) fn parts(
    start: PhysicalOffset,
    end: PhysicalOffset,
    boundaries: &[PhysicalOffset],
) -> impl Iterator<Item = (PhysicalOffset, u32)> {
    let inside = boundaries.iter().copied().filter(move |b| start < *b && *b < end);
    inside.chain([end]).scan(start, |start, end| {
        let part = (*start, (end - *start) as u32);
        *start = end;
        Some(part)
    })
}

fn path(base: PhysicalOffset) -> FilePath {
    FilePath::new(&format!("{FRAMES_DIR}/{:020}", base.get()))
}

/// Where the frames of the segment at `base` are not as they are written: the first place that
/// holds something else, or is empty though there are frames behind it. The length is 0 without
/// the file.
pub(crate) fn unsound(
    disk: &dyn Disk,
    base: PhysicalOffset,
    segment_bytes: u64,
) -> Result<Option<(FilePath, u64, u64)>> {
    let path = path(base);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some((path, 0, 0))),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    let len = file.len().map_err(failed("read the length of", &path))?;
    let mut empty = None;
    let mut chunk = vec![0; CHUNK];
    let mut from = 0;
    while from < len {
        let bytes = &mut chunk[..(len - from).min(CHUNK as u64) as usize];
        file.read_exact_at(bytes, from).map_err(failed("read", &path))?;
        for (here, bytes) in (from..).step_by(FRAME_BYTES).zip(bytes.chunks(FRAME_BYTES)) {
            match Frame::decode(bytes) {
                Some(frame) if frame.is_inside(base, segment_bytes) => {
                    if let Some(at) = empty {
                        return Ok(Some((path, at, here - at)));
                    }
                }
                None if bytes.iter().all(|byte| *byte == 0) => empty = empty.or(Some(here)),
                _ => return Ok(Some((path, here, FRAME_BYTES as u64))),
            }
        }
        from += bytes.len() as u64;
    }
    // Zeros behind all frames are what a crash leaves of the last ones.
    Ok(empty.filter(|at| *at == 0).map(|at| (path, at, len)))
}

/// Appends the frames of one segment after another.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    disk: Arc<dyn Disk>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    base: PhysicalOffset,
    file: Arc<dyn DiskFile>,
    position: u64,
    dirty: bool,
    /// The file's name is not durable yet.
    new: bool,
}

impl FrameWriter {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: None }
    }

    /// Writes `frame` for the segment that begins at `base`. Not synced. After an error the next
    /// call opens the file again.
    pub(crate) fn append(&mut self, base: PhysicalOffset, frame: &Frame) -> Result<()> {
        let path = path(base);
        if self.open.as_ref().is_none_or(|open| open.base != base) {
            // The segment before is complete: its frames are synced before they are left behind.
            self.sync()?;
            self.open = Some(self.open_file(base)?);
        }
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.file.write_all_at(&frame.encode(), open.position).map_err(failed("write", &path))?;
        open.position += FRAME_BYTES as u64;
        open.dirty = true;
        self.open = Some(open);
        Ok(())
    }

    fn open_file(&self, base: PhysicalOffset) -> Result<Open> {
        let path = path(base);
        match self.disk.open(&path, Access::Write) {
            Ok(file) => {
                let len = file.len().map_err(failed("read the length of", &path))?;
                let position = len.next_multiple_of(FRAME_BYTES as u64);
                Ok(Open { base, file, position, dirty: false, new: false })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(&path, 0).map_err(failed("create", &path))?;
                Ok(Open { base, file, position: 0, dirty: true, new: true })
            }
            Err(e) => Err(failed("open", &path)(e)),
        }
    }

    /// Makes the frames written so far durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        match self.take_unsynced() {
            Some(unsynced) => unsynced.sync(),
            None => Ok(()),
        }
    }

    /// What is not durable yet, for syncing it without holding up the next frame. Counts as synced
    /// from here on: where the sync fails, frames are only missing.
    pub(crate) fn take_unsynced(&mut self) -> Option<Unsynced> {
        let open = self.open.as_mut().filter(|open| open.dirty)?;
        open.dirty = false;
        Some(Unsynced {
            disk: self.disk.clone(),
            file: open.file.clone(),
            base: open.base,
            new: std::mem::take(&mut open.new),
        })
    }
}

/// A frame file with frames that are not durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    base: PhysicalOffset,
    new: bool,
}

impl Unsynced {
    pub(crate) fn sync(self) -> Result<()> {
        let path = path(self.base);
        self.file.sync_data().map_err(failed("sync", &path))?;
        if self.new {
            let dir = FilePath::new(FRAMES_DIR);
            self.disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))?;
        }
        Ok(())
    }
}

/// The segments that have a frame file, ascending.
pub(crate) fn list(disk: &dyn Disk) -> Result<Vec<PhysicalOffset>> {
    let entries = disk::list(disk, &FilePath::new(FRAMES_DIR))?;
    let files = entries.iter().filter(|e| e.kind == EntryKind::File);
    let bases = files.filter_map(|e| file_name::position(&e.name));
    Ok(bases.map(PhysicalOffset::new).collect())
}

/// The sound frames of the segment `[base, base + segment_bytes)`, newest first, until `enough`
/// says so. Torn and zeroed frames are passed over: each sound one is true by itself.
pub(crate) fn newest_first(
    disk: &dyn Disk,
    base: PhysicalOffset,
    segment_bytes: u64,
    mut enough: impl FnMut(&Frame) -> bool,
) -> Result<()> {
    let path = path(base);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    let len = file.len().map_err(failed("read the length of", &path))?;
    let mut end = len - len % FRAME_BYTES as u64;
    let mut chunk = vec![0; CHUNK.min(usize::try_from(end).unwrap_or(CHUNK))];
    while end > 0 {
        let take = end.min(CHUNK as u64);
        let bytes = &mut chunk[..take as usize];
        file.read_exact_at(bytes, end - take).map_err(failed("read", &path))?;
        for bytes in bytes.rchunks_exact(FRAME_BYTES) {
            let Some(frame) = Frame::decode(bytes) else { continue };
            if frame.is_inside(base, segment_bytes) && enough(&frame) {
                return Ok(());
            }
        }
        end -= take;
    }
    Ok(())
}

/// The end of the newest frame that survived.
pub(crate) fn last_end(disk: &dyn Disk, segment_bytes: u64) -> Result<PhysicalOffset> {
    let mut end = PhysicalOffset::ZERO;
    for base in list(disk)?.into_iter().rev() {
        newest_first(disk, base, segment_bytes, |frame| {
            end = frame.end();
            true
        })?;
        if end > PhysicalOffset::ZERO {
            break;
        }
    }
    Ok(end)
}

/// Makes the frames of segments that end behind `from` durable as they were found. The process that
/// wrote them may have died before it synced them, or in vain.
pub(crate) fn keep(disk: &dyn Disk, from: PhysicalOffset, segment_bytes: u64) -> Result<()> {
    for base in list(disk)? {
        if base + segment_bytes <= from {
            continue;
        }
        let path = path(base);
        let file = disk.open(&path, Access::Write).map_err(failed("open", &path))?;
        let len = file.len().map_err(failed("read the length of", &path))?;
        file.dirty_again(0, len).map_err(failed("rewrite", &path))?;
        file.sync_data().map_err(failed("sync", &path))?;
    }
    Ok(())
}

/// Removes the frame files of segments for which `gone` holds. What cannot be removed now only
/// costs a little room.
pub(crate) fn remove(disk: &dyn Disk, gone: impl Fn(PhysicalOffset) -> bool) -> Result<()> {
    for base in list(disk)? {
        if gone(base) {
            let path = path(base);
            disk.remove(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::file::FileDisk;

    #[test]
    fn a_frame_reads_back_and_any_flipped_bit_is_noticed() {
        let frame = Frame {
            start: PhysicalOffset::new(1 << 40),
            len: 12_345,
            all_record_crc: true,
            bytes_crc: Some(77),
        };
        let bytes = frame.encode();
        assert_eq!(Frame::decode(&bytes), Some(frame));
        for bit in 0..FRAME_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(Frame::decode(&[0; FRAME_BYTES]), None);
    }

    #[test]
    fn a_frame_at_the_end_of_all_numbers_is_in_no_segment() {
        let frame = |start| Frame {
            start: PhysicalOffset::new(start),
            len: u32::MAX,
            all_record_crc: true,
            bytes_crc: None,
        };
        let base = PhysicalOffset::new(4096);
        for start in [u64::MAX, u64::MAX - 4096, 0, 4095, 4096] {
            assert!(!frame(start).is_inside(base, 4096), "{start}");
        }
        assert!(frame(4096).is_inside(base, u32::MAX.into()));
    }

    #[test]
    fn a_frame_file_that_holds_anything_is_told_of() {
        let (base, name) = (PhysicalOffset::ZERO, "steadfast/frames/00000000000000000000");
        let start = PhysicalOffset::new(u64::MAX - 4096);
        let frame = Frame { start, len: u32::MAX, all_record_crc: true, bytes_crc: None };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(FRAMES_DIR)).unwrap();
        std::fs::write(dir.path().join(name), frame.encode()).unwrap();
        let disk = FileDisk::open(dir.path(), Access::Read).unwrap();
        let found = unsound(&disk, base, 4096).unwrap();
        assert_eq!(found, Some((FilePath::new(name), 0, 32)));
        // Longer than any that was written here.
        let frame = Frame { start: base, len: 4096, ..frame };
        let mut bytes = frame.encode().to_vec();
        bytes.resize(1 << 20, 7);
        std::fs::write(dir.path().join(name), &bytes).unwrap();
        let found = unsound(&disk, base, 4096).unwrap();
        assert_eq!(found, Some((FilePath::new(name), 32, 32)));
    }
}
