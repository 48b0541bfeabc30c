//! The ordered set of segments. Readers take a snapshot; what they hold stays mapped.

use std::sync::Arc;

use crate::{offset::PhysicalOffset, sync::RwLock};

use super::segment::Segment;

/// The segments of the log, ascending, usually without a gap.
#[derive(Debug)]
pub(crate) struct Segments {
    list: RwLock<Arc<Vec<Arc<Segment>>>>,
}

impl Segments {
    pub(crate) fn new(list: Vec<Arc<Segment>>) -> Self {
        debug_assert!(list.is_sorted_by_key(|s| s.base));
        Self { list: RwLock::new(Arc::new(list)) }
    }

    /// All segments as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Vec<Arc<Segment>>> {
        self.list.read().clone()
    }

    /// The segment that holds the byte at `offset`.
    pub(crate) fn find(&self, offset: PhysicalOffset) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let behind = list.partition_point(|s| s.base <= offset);
        let segment = list.get(behind.checked_sub(1)?)?;
        (offset < segment.end()).then(|| segment.clone())
    }

    /// The first byte of the log that is still there.
    pub(crate) fn start(&self) -> PhysicalOffset {
        self.list.read().first().map_or(PhysicalOffset::ZERO, |s| s.base)
    }

    /// Adds the next segment.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write();
        assert!(
            list.last().is_none_or(|last| last.end() <= segment.base),
            "segments are added in order"
        );
        Arc::make_mut(&mut list).push(segment);
    }

    /// Takes the first segment out of the set. Its bytes stay readable for whoever holds it.
    pub(crate) fn remove_first(&self) -> Option<Arc<Segment>> {
        let mut list = self.list.write();
        if list.len() < 2 {
            return None;
        }
        Some(Arc::make_mut(&mut list).remove(0))
    }
}
