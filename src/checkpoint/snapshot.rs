//! All queues' ends as of one log position: what recovery starts from, and the only memory of
//! queue offsets once retention took the log they were counted in.

use crate::{
    disk::{self, Disk, EntryKind, FilePath, failed, load},
    error::Result,
    format::{
        be::{be32, be64},
        crc::crc32,
        entry::OFFSET_MAX,
    },
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset},
};

use super::{OWN_DIR, newer};

const MAGIC: u32 = 0x5346_5153;
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const PREFIX: &str = "queues-";
/// A snapshot of a million queues with long names; more is no snapshot of ours.
const MAX_BYTES: u64 = 1 << 30;

/// Which snapshot file a checkpoint means, and how to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotRef {
    /// Part of the file's name.
    pub(crate) sequence: u64,
    /// The queues hold an entry for each record below this position and none above.
    pub(crate) at: PhysicalOffset,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Checksum of the file.
    pub(crate) crc: u32,
}

/// One queue in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueState {
    pub(crate) key: QueueKey,
    pub(crate) min: QueueOffset,
    pub(crate) end: QueueOffset,
}

/// The file of snapshot number `sequence`.
pub(crate) fn path(sequence: u64) -> FilePath {
    FilePath::new(&format!("{OWN_DIR}/{PREFIX}{sequence:020}"))
}

/// Writes snapshot number `sequence` of `queues` as of `at` and makes it durable.
pub(crate) fn write(
    disk: &dyn Disk,
    sequence: u64,
    at: PhysicalOffset,
    queues: &[QueueState],
) -> Result<SnapshotRef> {
    let bytes = encode(at, queues);
    let path = path(sequence);
    disk::remove(disk, &path)?;
    let file = disk.create(&path, bytes.len() as u64).map_err(failed("create", &path))?;
    file.write_all_at(&bytes, 0).map_err(failed("write", &path))?;
    file.sync_data().map_err(failed("sync", &path))?;
    disk.sync_dir(&path.parent()).map_err(failed("sync the directory of", &path))?;
    Ok(SnapshotRef { sequence, at, bytes: bytes.len() as u64, crc: crc32(&bytes) })
}

/// The queues of a snapshot, or `None` when the file is missing or not what the checkpoint meant.
pub(crate) fn read(disk: &dyn Disk, wanted: &SnapshotRef) -> Result<Option<Vec<QueueState>>> {
    if wanted.bytes > MAX_BYTES {
        return Ok(None);
    }
    match load(disk, &path(wanted.sequence), MAX_BYTES)? {
        Some(bytes) if bytes.len() as u64 == wanted.bytes && crc32(&bytes) == wanted.crc => {
            decode(&bytes, wanted)
        }
        _ => Ok(None),
    }
}

/// Removes all snapshots but number `keep`. What cannot be removed now is removed the next time.
pub(crate) fn remove_others(disk: &dyn Disk, keep: Option<u64>) {
    let dir = FilePath::new(OWN_DIR);
    let Ok(entries) = disk.list(&dir) else { return };
    for entry in entries {
        let Some(number) = entry.name.strip_prefix(PREFIX) else { continue };
        if entry.kind == EntryKind::File && number.parse().ok() != keep {
            let _ = disk.remove(&dir.join(&entry.name));
        }
    }
}

fn encode(at: PhysicalOffset, queues: &[QueueState]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + queues.len() * 40);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&at.get().to_be_bytes());
    out.extend_from_slice(&(queues.len() as u64).to_be_bytes());
    for queue in queues {
        let topic = queue.key.topic().as_bytes();
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic);
        out.extend_from_slice(&queue.key.queue_id().to_be_bytes());
        out.extend_from_slice(&queue.min.get().to_be_bytes());
        out.extend_from_slice(&queue.end.get().to_be_bytes());
    }
    out
}

/// The bytes' checksum was right; still nothing in them is trusted further than it reaches.
fn decode(bytes: &[u8], wanted: &SnapshotRef) -> Result<Option<Vec<QueueState>>> {
    if bytes.len() < HEADER_BYTES || be32(bytes, 0) != MAGIC {
        return Ok(None);
    }
    if be32(bytes, 4) != VERSION {
        return Err(newer(path(wanted.sequence).as_str(), be32(bytes, 4), VERSION));
    }
    if be64(bytes, 8) != wanted.at.get() {
        return Ok(None);
    }
    let mut queues = Vec::new();
    let mut rest = &bytes[HEADER_BYTES..];
    while !rest.is_empty() {
        let Some((queue, behind)) = decode_queue(rest) else { return Ok(None) };
        queues.push(queue);
        rest = behind;
    }
    Ok((queues.len() as u64 == be64(bytes, 16)).then_some(queues))
}

fn decode_queue(bytes: &[u8]) -> Option<(QueueState, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let (id, rest) = rest.split_first_chunk()?;
    let (min, rest) = rest.split_first_chunk()?;
    let (end, rest) = rest.split_first_chunk()?;
    let topic = std::str::from_utf8(topic).ok()?;
    let (min, end) = (u64::from_be_bytes(*min), u64::from_be_bytes(*end));
    if min > end || end > OFFSET_MAX {
        return None;
    }
    let queue = QueueState {
        key: QueueKey::new(topic, i32::from_be_bytes(*id)).ok()?,
        min: QueueOffset::new(min),
        end: QueueOffset::new(end),
    };
    Some((queue, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Vec<QueueState> {
        (0..5)
            .map(|i| QueueState {
                key: QueueKey::new(&format!("Topic{i}"), i).unwrap(),
                min: QueueOffset::new(i as u64),
                end: QueueOffset::new(10 * i as u64),
            })
            .collect()
    }

    #[test]
    fn a_snapshot_decodes_to_what_was_encoded() {
        let at = PhysicalOffset::new(99);
        let bytes = encode(at, &queues());
        let wanted = SnapshotRef { sequence: 1, at, bytes: bytes.len() as u64, crc: 0 };
        assert_eq!(decode(&bytes, &wanted).unwrap(), Some(queues()));
    }

    #[test]
    fn a_snapshot_cut_anywhere_is_none() {
        let at = PhysicalOffset::new(99);
        let bytes = encode(at, &queues());
        let wanted = SnapshotRef { sequence: 1, at, bytes: 0, crc: 0 };
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], &wanted).unwrap(), None, "len {len}");
        }
    }

    #[test]
    fn a_snapshot_of_offsets_that_no_queue_can_have_is_none() {
        let at = PhysicalOffset::new(99);
        let wanted = SnapshotRef { sequence: 1, at, bytes: 0, crc: 0 };
        for (end, known) in [(OFFSET_MAX, true), (OFFSET_MAX + 1, false), (u64::MAX, false)] {
            let end = QueueOffset::new(end);
            let states = [QueueState { key: QueueKey::new("t", 0).unwrap(), min: end, end }];
            let found = decode(&encode(at, &states), &wanted).unwrap();
            assert_eq!(found.is_some(), known, "{end}");
        }
    }
}
