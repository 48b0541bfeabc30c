//! Groups of records that were synced together, and the checksum of their bytes.

use crate::{
    checkpoint::frames::{self, Frame},
    disk::{Access, Disk, DiskFile, FilePath, failed},
    error::Result,
    format::crc::crc32_from,
    log::{DamagedRange, damage_in, segment::path_of},
    offset::PhysicalOffset,
    recovery::files::LogFiles,
};

/// Bytes read at once.
const PIECE: u64 = 1 << 20;

/// A group whose bytes are not those that were synced, though its records look sound.
pub(crate) struct Broken {
    /// The segment.
    pub(crate) base: PhysicalOffset,
    pub(crate) frame: Frame,
    pub(crate) computed: u32,
}

/// The broken groups of the log up to `end`, apart from those that `damage` touches.
pub(crate) fn broken(
    disk: &dyn Disk,
    files: &LogFiles,
    damage: &[DamagedRange],
    end: PhysicalOffset,
) -> Result<Vec<Broken>> {
    let mut broken = Vec::new();
    let Some(segment_bytes) = files.segment_bytes else { return Ok(broken) };
    let mut buffer = vec![0; PIECE as usize];
    for &base in &files.bases {
        let path = path_of(base);
        let file = disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        let mut problem = Ok(());
        frames::newest_first(disk, base, segment_bytes, |frame| {
            let Some(stored) = frame.bytes_crc else { return false };
            let known = damage_in(damage, frame.start, frame.end()).is_some();
            if known || frame.end() > end {
                return false;
            }
            match checksum(&*file, &path, base, frame, &mut buffer) {
                Ok(computed) if computed == stored => {}
                Ok(computed) => broken.push(Broken { base, frame: *frame, computed }),
                Err(e) => {
                    problem = Err(e);
                    return true;
                }
            }
            false
        })?;
        problem?;
    }
    Ok(broken)
}

fn checksum(
    file: &dyn DiskFile,
    path: &FilePath,
    base: PhysicalOffset,
    frame: &Frame,
    buffer: &mut [u8],
) -> Result<u32> {
    let (mut at, mut left, mut crc) = (frame.start - base, u64::from(frame.len), 0);
    while left > 0 {
        let piece = &mut buffer[..left.min(PIECE) as usize];
        file.read_exact_at(piece, at).map_err(failed("read", path))?;
        crc = crc32_from(crc, piece);
        at += piece.len() as u64;
        left -= piece.len() as u64;
    }
    Ok(crc)
}
