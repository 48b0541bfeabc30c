//! A bounded set of open files of all queues: which ones stay is decided by the clock algorithm,
//! and one that waits for a sync always stays.

use std::sync::Arc;

use hashbrown::HashTable;

use super::files::FileId;
use crate::{disk::DiskFile, name::QueueKey};

/// A file with writes that no sync has covered.
pub(super) struct Dirty {
    pub(super) key: QueueKey,
    pub(super) base: u64,
    pub(super) file: Arc<dyn DiskFile>,
}

struct Slot {
    id: FileId,
    key: QueueKey,
    file: Arc<dyn DiskFile>,
    /// Used since the hand last passed.
    used: bool,
    dirty: bool,
}

/// The open files.
pub(super) struct FileCache {
    capacity: usize,
    slots: Vec<Slot>,
    /// Places in `slots` by file.
    places: HashTable<usize>,
    hand: usize,
}

impl FileCache {
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0);
        Self { capacity, slots: Vec::new(), places: HashTable::new(), hand: 0 }
    }

    pub(super) fn get(&mut self, id: FileId) -> Option<Arc<dyn DiskFile>> {
        let place = self.place(id)?;
        let slot = &mut self.slots[place];
        slot.used = true;
        Some(slot.file.clone())
    }

    /// Keeps the file open, closing another one for it that is clean. `false` if there is none.
    pub(super) fn insert(&mut self, id: FileId, key: &QueueKey, file: &Arc<dyn DiskFile>) -> bool {
        if self.place(id).is_some() {
            // Another reader was faster; this descriptor closes with its last user.
            return true;
        }
        if self.slots.len() >= self.capacity {
            let Some(victim) = self.victim() else { return false };
            self.remove_place(victim);
        }
        let slot = Slot { id, key: key.clone(), file: file.clone(), used: true, dirty: false };
        self.places.insert_unique(hash(id), self.slots.len(), |&p| hash(self.slots[p].id));
        self.slots.push(slot);
        true
    }

    /// Two rounds of the hand: the first one clears every mark that says "used".
    fn victim(&mut self) -> Option<usize> {
        for _ in 0..2 * self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            if slot.dirty {
                continue;
            }
            if !slot.used {
                return Some(self.hand);
            }
            slot.used = false;
        }
        None
    }

    /// As [`get`](Self::get), for a file that is going to be written to.
    pub(super) fn get_to_write(&mut self, id: FileId) -> Option<Arc<dyn DiskFile>> {
        let place = self.place(id)?;
        self.slots[place].dirty = true;
        self.get(id)
    }

    /// As [`insert`](Self::insert), for a file that is going to be written to.
    pub(super) fn insert_to_write(
        &mut self,
        id: FileId,
        key: &QueueKey,
        file: &Arc<dyn DiskFile>,
    ) -> bool {
        let inserted = self.insert(id, key, file);
        if let Some(place) = self.place(id) {
            self.slots[place].dirty = true;
        }
        inserted
    }

    /// The dirty files, in the order of their names, which count as clean from now on.
    pub(super) fn take_dirty(&mut self) -> Vec<Dirty> {
        let mut dirty = Vec::new();
        for slot in self.slots.iter_mut().filter(|s| s.dirty) {
            slot.dirty = false;
            dirty.push(Dirty {
                key: slot.key.clone(),
                base: slot.id.base,
                file: slot.file.clone(),
            });
        }
        dirty.sort_by(|a, b| (&a.key, a.base).cmp(&(&b.key, b.base)));
        dirty
    }

    pub(super) fn remove(&mut self, id: FileId) {
        if let Some(place) = self.place(id) {
            self.remove_place(place);
        }
    }

    fn remove_place(&mut self, place: usize) {
        self.unlink(place);
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            let (id, old) = (moved.id, self.slots.len());
            if let Some(entry) = self.places.find_mut(hash(id), |&p| p == old) {
                *entry = place;
            }
        }
    }

    fn unlink(&mut self, place: usize) {
        if let Ok(entry) = self.places.find_entry(hash(self.slots[place].id), |&p| p == place) {
            entry.remove();
        }
    }

    fn place(&self, id: FileId) -> Option<usize> {
        self.places.find(hash(id), |&p| self.slots[p].id == id).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.slots.len(), self.places.len());
        self.slots.len()
    }
}

/// Spreads the few varying bits over the word (Fibonacci hashing, twice).
fn hash(id: FileId) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let mixed = (u64::from(id.queue) ^ id.base.rotate_left(32)).wrapping_mul(GOLDEN);
    (mixed ^ (mixed >> 29)).wrapping_mul(GOLDEN)
}
