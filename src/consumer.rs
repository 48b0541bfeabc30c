//! Consumer offsets.
use crate::{
    disk::Disk,
    error::Result,
    name::{Group, QueueKey},
    offset::{QueueOffset, StoreTime},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};
#[derive(Debug, Default)]
pub(crate) struct ConsumerOffsets {
    table: Mutex<BTreeMap<(Group, QueueKey), QueueOffset>>,
    dirty: AtomicBool,
}
pub(crate) struct Clamped {
    pub(crate) group: String,
    pub(crate) queue: String,
    pub(crate) saved: i64,
    pub(crate) now: QueueOffset,
}
pub(crate) struct ToSave;
impl ConsumerOffsets {
    pub(crate) fn load(_disk: &dyn Disk) -> Result<Self> {
        Ok(Self::default())
    }
    pub(crate) fn commit(&self, group: &Group, queue: &QueueKey, next: QueueOffset) {
        self.table.lock().insert((group.clone(), queue.clone()), next);
        self.dirty.store(true, Ordering::SeqCst);
    }
    pub(crate) fn get(&self, group: &Group, queue: &QueueKey) -> Option<QueueOffset> {
        self.table.lock().get(&(group.clone(), queue.clone())).copied()
    }
    pub(crate) fn clamp(&self, _max: impl Fn(&QueueKey) -> Option<QueueOffset>) -> Vec<Clamped> {
        Vec::new()
    }
    pub(crate) fn to_save(&self) -> Option<ToSave> {
        None
    }
    pub(crate) fn save(&self, _disk: &dyn Disk, _saved: ToSave, _now: StoreTime) -> Result<()> {
        Ok(())
    }
}
