//! Segments of a wrong size: cut short they get zeros, which are damage; what is too much is set
//! aside.

use crate::{
    disk::{Access, Disk, failed},
    error::Result,
    offset::{PhysicalOffset, StoreTime},
    recovery::{
        cut::quarantine_file,
        files::{NamedSegment, common_size, named_segments},
        report::Finding,
    },
};

use super::{Loss, Remedy};

/// A segment that has not the size of the others.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    segment: NamedSegment,
    size: u64,
}

impl Wrong {
    /// What of the log is not there any more.
    pub(super) fn loss(&self) -> Option<Loss> {
        let NamedSegment { base, len, path } = &self.segment;
        (*len < self.size).then(|| Loss {
            start: PhysicalOffset::new(base.saturating_add(*len)),
            end: PhysicalOffset::new(base.saturating_add(self.size)),
            file: path.as_str().to_owned(),
            offset: *len,
            reason: format!("the file is too short size={len} others={}", self.size),
            remedy: Remedy::Placeholder,
        })
    }

    /// What would be done.
    pub(super) fn planned(&self) -> Finding {
        let NamedSegment { len, path, .. } = &self.segment;
        let size = self.size;
        let text = match *len < size {
            true => format!("{path} would get its size again size={len} others={size}"),
            false => {
                format!("what {path} has too much would be set aside size={len} others={size}")
            }
        };
        Finding::Note { text }
    }
}

/// Segments that have not the size of most; an empty last one is none, a crash leaves that.
pub(super) fn wrong(disk: &dyn Disk) -> Result<Vec<Wrong>> {
    let (found, _) = named_segments(disk)?;
    let Some(size) = common_size(&found) else { return Ok(Vec::new()) };
    let wrong = found.into_iter().filter(|segment| segment.len != size);
    Ok(wrong.map(|segment| Wrong { segment, size }).collect())
}

/// Gives each segment the size of the others. Durable when this returns, and safe to repeat.
pub(super) fn restore(disk: &dyn Disk, now: StoreTime) -> Result<Vec<Finding>> {
    let mut done = Vec::new();
    for Wrong { segment: NamedSegment { base, len, path }, size } in wrong(disk)? {
        let mut text = format!("{path} has its size again size={len} others={size}");
        if len > size {
            quarantine_file(disk, &path, base, size..len, now)?;
            text.push_str("; what it had too much is in quarantine/");
        }
        let file = disk.open(&path, Access::Write).map_err(failed("open", &path))?;
        file.set_len(size).map_err(failed("set the length of", &path))?;
        file.sync_data().map_err(failed("sync", &path))?;
        done.push(Finding::Note { text });
    }
    Ok(done)
}
