//! Making out the geometry of an index file, which is stored nowhere.

use std::io;

use crate::{
    disk::DiskFile,
    format::index::{
        INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, INDEX_SLOT_BYTES, IndexEntry, IndexGeometry,
        IndexHeader, decode_slot,
    },
};

/// Longer files are not searched: the geometry must be given.
const SEARCH_MOST: u64 = 64 << 20;
/// RocketMQ's own geometry.
const USUAL: IndexGeometry = IndexGeometry { slots: 5_000_000, entries: 20_000_000 };

/// The geometry with which the file's first and last entry are what its header says and the last
/// one is the head of its slot; `None` if there is none, or the file holds no entry.
pub(super) fn find(
    file: &dyn DiskFile,
    len: u64,
    header: &IndexHeader,
) -> io::Result<Option<IndexGeometry>> {
    if len == USUAL.file_bytes() {
        return Ok(Some(USUAL));
    }
    if len > SEARCH_MOST || header.entry_count < 2 {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let slots_and_entries = len - INDEX_HEADER_BYTES as u64;
    if !slots_and_entries.is_multiple_of(INDEX_SLOT_BYTES as u64) {
        return Ok(None);
    }
    // Every five slots more are one entry less.
    let least = slots_and_entries / INDEX_SLOT_BYTES as u64 % 5;
    let most = slots_and_entries / INDEX_SLOT_BYTES as u64;
    let mut slots = if least == 0 { 5 } else { least };
    while slots < most {
        let entries =
            (slots_and_entries - slots * INDEX_SLOT_BYTES as u64) / INDEX_ENTRY_BYTES as u64;
        let geometry = IndexGeometry { slots: slots as u32, entries: entries as u32 };
        if fits(&bytes, header, geometry) {
            return Ok(Some(geometry));
        }
        slots += 5;
    }
    Ok(None)
}

fn fits(bytes: &[u8], header: &IndexHeader, geometry: IndexGeometry) -> bool {
    let entry = |number: u32| {
        let at = usize::try_from(geometry.entry_at(number)).ok()?;
        bytes.get(at..)?.first_chunk().map(IndexEntry::decode)
    };
    let last_number = header.entry_count - 1;
    if header.entry_count > geometry.entries {
        return false;
    }
    let (Some(unused), Some(first), Some(last)) = (entry(0), entry(1), entry(last_number)) else {
        return false;
    };
    let slot = geometry.slot_at(geometry.slot_of(last.hash)) as usize;
    let head = bytes.get(slot..).and_then(|bytes| bytes.first_chunk()).map(|b| decode_slot(*b));
    unused == IndexEntry::decode(&[0; INDEX_ENTRY_BYTES])
        && first.physical_offset == header.begin_offset
        && first.previous == 0
        && first.hash <= i32::MAX as u32
        && last.physical_offset == header.end_offset
        && head == Some(last_number)
}
