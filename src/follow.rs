//! Following, read-only, a store that another process writes.

use std::sync::Arc;

use crate::{
    disk::Access,
    engine::Engine,
    error::{Error, ErrorKind, Result},
    format::frame::ChecksumRule,
    log::segment::Segment,
    offset::PhysicalOffset,
    recovery::{files, lock, scan, scan::Extent},
};

impl Engine {
    /// Takes in what was published behind our end: synced records of a SYNC_FLUSH writer, sound
    /// ones of any other.
    pub(crate) fn refresh(&self) -> Result<()> {
        if self.writable.is_some() {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "only a store that was opened for reading follows another one",
            ));
        }
        let listed = files::list_log(&*self.disk)?;
        let Some(segment_bytes) = listed.segment_bytes else { return Ok(()) };
        let marks = self.log.marks();
        let end = PhysicalOffset::new(marks.visible().get());
        let extent = Extent { disk: &*self.disk, bases: &listed.bases, segment_bytes };
        let rule = |_| ChecksumRule::WhenPresent;
        let first = scan::first_stretch(&extent, end, &rule)?;
        let mut to = first.end;
        if let Some(synced) = lock::synced_by_writer(&*self.disk)? {
            to = to.min(synced);
        }
        if to <= end {
            return Ok(());
        }
        self.publish(&listed.bases, segment_bytes, to)?;
        for mark in [&marks.appended, marks.written(), &marks.durable] {
            mark.advance(to.get());
        }
        self.dispatch_all(|_| {})
    }

    /// Maps new segments and makes bytes up to `to` readable.
    fn publish(
        &self,
        bases: &[PhysicalOffset],
        segment_bytes: u64,
        to: PhysicalOffset,
    ) -> Result<()> {
        let known = self.log.segments().snapshot();
        for base in bases.iter().filter(|base| **base < to) {
            let published = to.saturating_since(*base).min(segment_bytes);
            match known.iter().find(|segment| segment.base == *base) {
                Some(segment) => segment.memory.publish_existing(published),
                None if known.last().is_none_or(|last| last.base < *base) => {
                    let opened =
                        Segment::open(&*self.disk, *base, segment_bytes, published, Access::Read)?;
                    self.log.segments().push(Arc::new(opened));
                }
                None => {}
            }
        }
        Ok(())
    }
}
