//! What lies in the store's directory, looked at without touching anything.

use std::collections::BTreeMap;

use crate::{
    disk::{self, Disk, EntryKind, FilePath},
    error::{Error, ErrorKind, Result},
    format::file_name,
    log::segment::LOG_DIR,
    offset::PhysicalOffset,
};

/// No segment is longer.
pub(crate) const SEGMENT_MOST: u64 = i32::MAX as u64;

/// The segments of a directory, ascending, all of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogFiles {
    pub(crate) bases: Vec<PhysicalOffset>,
    /// `None` without segments.
    pub(crate) segment_bytes: Option<u64>,
    /// A last segment without a byte, as the Java store leaves when it dies while creating one.
    pub(crate) empty_last: Option<FilePath>,
    /// Segments that retention was removing when the process ended: any of them may still be there.
    pub(crate) retired: Vec<PhysicalOffset>,
}

impl LogFiles {
    /// Takes the segments before `start` out, if there are later ones.
    pub(crate) fn retire(&mut self, start: PhysicalOffset) {
        let first = self.bases.partition_point(|base| *base < start);
        if first < self.bases.len() {
            self.retired = self.bases.drain(..first).collect();
        }
    }

    /// Where the segment begins in which `at` lies, whether its file is there or not: then it would
    /// begin a whole number of segments behind one that is. `at` itself before all segments.
    pub(crate) fn base_of(&self, at: PhysicalOffset) -> PhysicalOffset {
        let behind = self.bases.partition_point(|base| *base <= at);
        match (behind.checked_sub(1), self.segment_bytes) {
            (Some(last), Some(size)) => {
                let base = self.bases[last];
                base + (at - base) / size * size
            }
            _ => at,
        }
    }

    /// As [`base_of`](Self::base_of), but `None` unless the file is there.
    pub(crate) fn holding(&self, at: PhysicalOffset) -> Option<PhysicalOffset> {
        Some(self.base_of(at)).filter(|base| self.bases.binary_search(base).is_ok())
    }
}

/// A file of the log by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedSegment {
    pub(crate) base: u64,
    pub(crate) len: u64,
    pub(crate) path: FilePath,
}

/// The log's files by their names, ascending, and the last one apart if it is empty.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) naming the file that does not belong there.
pub(crate) fn named_segments(disk: &dyn Disk) -> Result<(Vec<NamedSegment>, Option<FilePath>)> {
    let dir = FilePath::new(LOG_DIR);
    let mut found = Vec::new();
    for entry in disk::list(disk, &dir)? {
        let path = dir.join(&entry.name);
        match entry.kind {
            // The Java store passes over directories, too.
            EntryKind::Directory => {}
            EntryKind::File => match file_name::position(&entry.name) {
                Some(base) => found.push(NamedSegment { base, len: entry.len, path }),
                None => {
                    return Err(foreign(&path, "its name is not a number below 2^63 in 20 digits"));
                }
            },
            EntryKind::Other => return Err(foreign(&path, "it is not a regular file")),
        }
    }
    found.sort();
    let empty = found.pop_if(|last| last.len == 0);
    Ok((found, empty.map(|last| last.path)))
}

/// The size that segments have: that of most of them. Where several sizes are as frequent, that
/// which is the distance between two neighbours, as a whole log's are.
pub(crate) fn common_size(found: &[NamedSegment]) -> Option<u64> {
    let mut sizes: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for segment in found.iter().filter(|segment| (1..=SEGMENT_MOST).contains(&segment.len)) {
        sizes.entry(segment.len).or_default().0 += 1;
    }
    for pair in found.windows(2) {
        if let Some((_, distances)) = sizes.get_mut(&(pair[1].base - pair[0].base)) {
            *distances += 1;
        }
    }
    sizes.into_iter().max_by_key(|(len, told)| (*told, *len)).map(|(len, _)| len)
}

/// Lists the log's files and checks their names and sizes.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) naming the file that does not belong there or has the
/// wrong size. Nothing was touched.
pub(crate) fn list_log(disk: &dyn Disk) -> Result<LogFiles> {
    let (found, empty_last) = named_segments(disk)?;
    let mut files = LogFiles { empty_last, ..LogFiles::default() };
    files.segment_bytes = common_size(&found);
    for NamedSegment { base, len, path } in found {
        if len > SEGMENT_MOST {
            return Err(foreign(&path, "no segment is that long"));
        }
        let expected = files.segment_bytes.unwrap_or(0);
        if len != expected || len == 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{path} has not the size of the log's other segments; restore it from a copy, \
                     or see `steadfast repair --plan` size={len} others={expected}"
                ),
            ));
        }
        if let Some(last) = files.bases.last()
            && PhysicalOffset::new(base).saturating_since(*last) < len
        {
            return Err(foreign(&path, "it overlaps the segment before"));
        }
        files.bases.push(PhysicalOffset::new(base));
    }
    Ok(files)
}

fn foreign(path: &FilePath, why: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{path} is not a segment of this log: {why}; move it away and open again"),
    )
}
