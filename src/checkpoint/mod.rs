//! What this store knows to be durable, kept in `steadfast/` beside RocketMQ's own files.
//!
//! Two alternating slots name the durable end of the log, the snapshot of all queues' ends and the
//! state of the key index. All of it is a lower bound: the log is the truth, and losing these
//! files costs a full check at the next open, no message.

use std::{io, sync::Arc};

use crate::{
    disk::{Access, Disk, DiskFile, FilePath, failed},
    error::{Error, ErrorKind, Result},
    format::{
        be::{be32, be64},
        crc::crc32,
        java::JAVA_FIELDS_BYTES,
    },
    index::IndexState,
    offset::PhysicalOffset,
    options::FlushMode,
    sync::Mutex,
};

pub(crate) mod frames;
pub(crate) mod snapshot;

use snapshot::SnapshotRef;

/// The directory of our own files.
pub(crate) const OWN_DIR: &str = "steadfast";

const PATH: &str = "steadfast/checkpoint";
const MAGIC: u32 = 0x5346_4350;
const VERSION: u16 = 1;
const SLOT_BYTES: usize = 512;
/// Apart by a page, so that one torn write cannot hurt both.
const SLOT_DISTANCE: u64 = 4096;
const FLAG_CLEAN: u16 = 1;
const FLAG_SYNC: u16 = 2;
const FLAG_SNAPSHOT: u16 = 4;
const FLAG_INDEX: u16 = 8;
const FLAG_INDEX_BEHIND: u16 = 32;
const FLAG_RECORD_CRC: u16 = 64;

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Grows by one with each checkpoint; its parity names the slot.
    pub(crate) sequence: u64,
    /// Everything below was synced.
    pub(crate) durable_end: PhysicalOffset,
    /// First byte of the log when this was written.
    pub(crate) log_start: PhysicalOffset,
    /// The log ends exactly at `durable_end` and the derived files are complete.
    pub(crate) clean: bool,
    /// How the store that wrote this acknowledged.
    pub(crate) flush: FlushMode,
    /// From here on every record, also each that this store goes on to append, carries a checksum
    /// of the whole record.
    pub(crate) record_crc_from: Option<PhysicalOffset>,
    /// The queues' ends as of some log position.
    pub(crate) snapshot: Option<SnapshotRef>,
    /// The key index as of the same position.
    pub(crate) index: Option<IndexState>,
    /// The index could not be written behind what `index` says, so it lacks later keys.
    pub(crate) index_behind: bool,
    /// The fields of RocketMQ's checkpoint as we last wrote it: other bytes there mean another
    /// program ran.
    pub(crate) java: [u8; JAVA_FIELDS_BYTES],
}

impl Checkpoint {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        let mut flags = 0;
        if self.clean {
            flags |= FLAG_CLEAN;
        }
        if self.flush == FlushMode::Sync {
            flags |= FLAG_SYNC;
        }
        if let Some(from) = self.record_crc_from {
            flags |= FLAG_RECORD_CRC;
            put(&mut out, 160, &from.get().to_be_bytes());
        }
        if self.index_behind {
            flags |= FLAG_INDEX_BEHIND;
        }
        put(&mut out, 0, &MAGIC.to_be_bytes());
        put(&mut out, 4, &VERSION.to_be_bytes());
        put(&mut out, 8, &self.sequence.to_be_bytes());
        put(&mut out, 16, &self.durable_end.get().to_be_bytes());
        put(&mut out, 24, &self.log_start.get().to_be_bytes());
        if let Some(snapshot) = &self.snapshot {
            flags |= FLAG_SNAPSHOT;
            put(&mut out, 32, &snapshot.sequence.to_be_bytes());
            put(&mut out, 40, &snapshot.at.get().to_be_bytes());
            put(&mut out, 48, &snapshot.bytes.to_be_bytes());
            put(&mut out, 56, &snapshot.crc.to_be_bytes());
        }
        if let Some(index) = &self.index {
            flags |= FLAG_INDEX;
            let name = index.file_name.as_bytes();
            assert!(name.len() <= 32, "index file names have 17 digits");
            out[64] = name.len() as u8;
            put(&mut out, 65, name);
            put(&mut out, 100, &index.count.to_be_bytes());
            put(&mut out, 104, &index.end.get().to_be_bytes());
        }
        put(&mut out, 112, &self.java);
        put(&mut out, 6, &flags.to_be_bytes());
        let crc = crc32(&out[..SLOT_BYTES - 4]);
        put(&mut out, SLOT_BYTES - 4, &crc.to_be_bytes());
        out
    }

    /// `Ok(None)` for a slot that was never written or is torn; an error for a sound slot of a
    /// version this program does not know.
    fn decode(slot: &[u8; SLOT_BYTES]) -> Result<Option<Self>> {
        let crc = crc32(&slot[..SLOT_BYTES - 4]);
        if be32(slot, 0) != MAGIC || be32(slot, SLOT_BYTES - 4) != crc {
            return Ok(None);
        }
        let version = u16::from_be_bytes([slot[4], slot[5]]);
        if version != VERSION {
            return Err(newer(PATH, u32::from(version), u32::from(VERSION)));
        }
        let flags = u16::from_be_bytes([slot[6], slot[7]]);
        let snapshot = (flags & FLAG_SNAPSHOT != 0).then(|| SnapshotRef {
            sequence: be64(slot, 32),
            at: PhysicalOffset::new(be64(slot, 40)),
            bytes: be64(slot, 48),
            crc: be32(slot, 56),
        });
        let mut index = None;
        if flags & FLAG_INDEX != 0 {
            let len = usize::from(slot[64]).min(32);
            index = Some(IndexState {
                file_name: String::from_utf8_lossy(&slot[65..65 + len]).into_owned(),
                count: be32(slot, 100),
                end: PhysicalOffset::new(be64(slot, 104)),
            });
        }
        let mut java = [0; JAVA_FIELDS_BYTES];
        java.copy_from_slice(&slot[112..112 + JAVA_FIELDS_BYTES]);
        Ok(Some(Self {
            sequence: be64(slot, 8),
            durable_end: PhysicalOffset::new(be64(slot, 16)),
            log_start: PhysicalOffset::new(be64(slot, 24)),
            clean: flags & FLAG_CLEAN != 0,
            flush: if flags & FLAG_SYNC != 0 { FlushMode::Sync } else { FlushMode::Async },
            record_crc_from: (flags & FLAG_RECORD_CRC != 0)
                .then(|| PhysicalOffset::new(be64(slot, 160))),
            snapshot,
            index,
            index_behind: flags & FLAG_INDEX_BEHIND != 0,
            java,
        }))
    }
}

/// The error for a file of ours that a later version wrote.
fn newer(path: &str, version: u32, known: u32) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "{path} was written by a newer version of this program; open the store with that one, \
             or move the directory {OWN_DIR}/ away to have it rebuilt from the log \
             version={version} known={known}"
        ),
    )
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What one of the two slots holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A checkpoint of that number.
    Sound(u64),
    /// It was never written.
    Zeros,
    /// Anything else.
    Broken,
}

/// A slot's place and its bytes, if the file is as long.
type SlotBytes = (u64, Option<[u8; SLOT_BYTES]>);

/// Both slots; nothing without the file. What is behind them does not matter: it was never ours.
fn read_slots(disk: &dyn Disk) -> Result<Vec<SlotBytes>> {
    let path = FilePath::new(PATH);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    let len = file.len().map_err(failed("read the length of", &path))?;
    let read = |at: u64| {
        let mut slot = [0; SLOT_BYTES];
        if at + SLOT_BYTES as u64 > len {
            return Ok((at, None));
        }
        file.read_exact_at(&mut slot, at).map_err(failed("read", &path))?;
        Ok((at, Some(slot)))
    };
    [0, SLOT_DISTANCE].into_iter().map(read).collect()
}

/// Where the slots are and what they hold; nothing without the file.
pub(crate) fn slots(disk: &dyn Disk) -> Result<Vec<(u64, Slot)>> {
    let held = |bytes: Option<[u8; SLOT_BYTES]>| match bytes {
        None => Ok(Slot::Broken),
        Some(bytes) if bytes == [0; SLOT_BYTES] => Ok(Slot::Zeros),
        Some(bytes) => match Checkpoint::decode(&bytes)? {
            Some(found) => Ok(Slot::Sound(found.sequence)),
            None => Ok(Slot::Broken),
        },
    };
    read_slots(disk)?.into_iter().map(|(at, bytes)| Ok((at, held(bytes)?))).collect()
}

/// The file with the slots.
pub(crate) fn file() -> FilePath {
    FilePath::new(PATH)
}

/// The newest sound checkpoint, if any.
pub(crate) fn newest(disk: &dyn Disk) -> Result<Option<Checkpoint>> {
    let mut newest: Option<Checkpoint> = None;
    for bytes in read_slots(disk)?.iter().filter_map(|(_, bytes)| bytes.as_ref()) {
        if let Some(found) = Checkpoint::decode(bytes)?
            && newest.as_ref().is_none_or(|n| n.sequence < found.sequence)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

/// Writes checkpoints; each is durable when [`write`](Self::write) returns.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    file: Arc<dyn DiskFile>,
    sequence: Mutex<u64>,
}

impl CheckpointFile {
    /// Opens the slots for writing after the checkpoint numbered `newest`, creating the file where
    /// it is missing or has a wrong length.
    pub(crate) fn open(disk: &dyn Disk, newest: u64) -> Result<Self> {
        let path = FilePath::new(PATH);
        let len = 2 * SLOT_DISTANCE;
        let file = match disk.open(&path, Access::Write) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                disk.create(&path, len).map_err(failed("create", &path))?
            }
            Err(e) => return Err(failed("open", &path)(e)),
        };
        if file.len().map_err(failed("read the length of", &path))? < len {
            file.set_len(len).map_err(failed("extend", &path))?;
        }
        disk.sync_dir(&path.parent()).map_err(failed("sync the directory of", &path))?;
        Ok(Self { file, sequence: Mutex::new(newest) })
    }

    /// Writes `checkpoint` into the slot that does not hold the newest one and syncs it. Its
    /// sequence number is given here; returns it as it was written.
    pub(crate) fn write(&self, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        let path = FilePath::new(PATH);
        let mut sequence = self.sequence.lock();
        checkpoint.sequence = *sequence + 1;
        let at = (checkpoint.sequence % 2) * SLOT_DISTANCE;
        // Until this one is durable its slot may hold anything: a later try gets another number,
        // but the same slot, for the other one holds the newest that is sure to be sound.
        *sequence += 2;
        self.file.write_all_at(&checkpoint.encode(), at).map_err(failed("write", &path))?;
        self.file.sync_data().map_err(failed("sync", &path))?;
        *sequence = checkpoint.sequence;
        Ok(checkpoint)
    }

    /// The number of the checkpoint that is written next.
    pub(crate) fn next(&self) -> u64 {
        *self.sequence.lock() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            sequence: 7,
            durable_end: PhysicalOffset::new(123_456),
            log_start: PhysicalOffset::new(4096),
            clean: true,
            flush: FlushMode::Sync,
            record_crc_from: Some(PhysicalOffset::new(5000)),
            snapshot: Some(SnapshotRef {
                sequence: 6,
                at: PhysicalOffset::new(100_000),
                bytes: 77,
                crc: 0xdead_beef,
            }),
            index: Some(IndexState {
                file_name: "20260102030405678".into(),
                count: 9,
                end: PhysicalOffset::new(99_000),
            }),
            index_behind: true,
            java: [3; JAVA_FIELDS_BYTES],
        }
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was_written() {
        let bytes = sample().encode();
        assert_eq!(Checkpoint::decode(&bytes).unwrap(), Some(sample()));
        let bare = Checkpoint { snapshot: None, index: None, clean: false, ..sample() };
        assert_eq!(Checkpoint::decode(&bare.encode()).unwrap(), Some(bare));
    }

    #[test]
    fn any_flipped_bit_makes_a_slot_count_as_torn() {
        let bytes = sample().encode();
        for bit in 0..SLOT_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&flipped).unwrap(), None, "bit {bit}");
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = sample().encode();
        bytes[5] = 2;
        let crc = crc32(&bytes[..SLOT_BYTES - 4]);
        put(&mut bytes, SLOT_BYTES - 4, &crc.to_be_bytes());
        let error = Checkpoint::decode(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("steadfast/checkpoint"), "{error}");
    }
}
