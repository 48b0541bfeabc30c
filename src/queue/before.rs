//! What the queues' files said before their entries are derived again. Where records carry no
//! checksum of all of them, as in a log of RocketMQ, one with a rotten queue id can claim the place
//! of another: the file still tells whose it is.

use super::{
    ConsumeQueue,
    files::{ENTRY, file_path},
};
use crate::{
    disk::Access,
    format::entry::{ENTRY_BYTES, OFFSET_MAX, QueueEntry},
    offset::QueueOffset,
};

/// Entries read at once; so many of each queue are remembered.
const CHUNK: u64 = 32;

/// Remembers pieces of the files, so that they can be written meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// By the queue's number.
    pieces: Vec<Option<Piece>>,
}

#[derive(Debug)]
struct Piece {
    first: u64,
    /// At most [`CHUNK`]; the file has nothing that can be read behind them.
    entries: Vec<[u8; ENTRY_BYTES]>,
}

impl Before {
    /// What the files have at `at`: nothing where they cannot be read, or hold no entry of a
    /// message. To be asked before anything is put there.
    pub(crate) fn entry(&mut self, queue: &ConsumeQueue, at: QueueOffset) -> Option<QueueEntry> {
        if at.get() >= OFFSET_MAX {
            return None;
        }
        let number = queue.id(0).queue as usize;
        if self.pieces.len() <= number {
            self.pieces.resize_with(number + 1, || None);
        }
        let place = &mut self.pieces[number];
        let known = place.take().filter(|p| (p.first..p.first + CHUNK).contains(&at.get()));
        let piece = place.insert(known.unwrap_or_else(|| Piece {
            first: at.get(),
            entries: read(queue, at).unwrap_or_default(),
        }));
        let bytes = piece.entries.get((at.get() - piece.first) as usize)?;
        QueueEntry::decode(bytes).filter(|entry| !entry.is_filler())
    }

    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        self.pieces = Vec::new();
    }
}

/// At most [`CHUNK`] entries from `at` on, of one file.
fn read(queue: &ConsumeQueue, at: QueueOffset) -> Option<Vec<[u8; ENTRY_BYTES]>> {
    let files = queue.files();
    let base = files.base_of(at);
    // Not kept open: whoever writes it first brings a short one to its length.
    let file = files.disk.open(&file_path(queue.key(), base), Access::Read).ok()?;
    let from = at.get() * ENTRY - base;
    let bytes = (file.len().ok()?.min(files.config.file_bytes)).saturating_sub(from);
    let mut entries = vec![[0; ENTRY_BYTES]; CHUNK.min(bytes / ENTRY) as usize];
    file.read_exact_at(entries.as_flattened_mut(), from).ok()?;
    Some(entries)
}
