//! What lies in the store's directory, looked at without touching anything.

use crate::{
    disk::{self, Disk, EntryKind, FilePath},
    error::{Error, ErrorKind, Result},
    format::file_name,
    log::segment::LOG_DIR,
    offset::PhysicalOffset,
};

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

/// Lists the log's files and checks their names and sizes.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) naming the file that does not belong there or has the
/// wrong size. Nothing was touched.
pub(crate) fn list_log(disk: &dyn Disk) -> Result<LogFiles> {
    let dir = FilePath::new(LOG_DIR);
    let mut files = LogFiles::default();
    let mut found = Vec::new();
    for entry in disk::list(disk, &dir)? {
        let path = dir.join(&entry.name);
        match entry.kind {
            // The Java store passes over directories, too.
            EntryKind::Directory => {}
            EntryKind::File => match file_name::position(&entry.name) {
                Some(base) => found.push((base, entry.len, path)),
                None => {
                    return Err(foreign(&path, "its name is not a number below 2^63 in 20 digits"));
                }
            },
            EntryKind::Other => return Err(foreign(&path, "it is not a regular file")),
        }
    }
    found.sort();
    if let Some((_, 0, path)) = found.last() {
        files.empty_last = Some(path.clone());
        found.pop();
    }
    for (base, len, path) in found {
        let expected = *files.segment_bytes.get_or_insert(len);
        if len != expected || len == 0 {
            let why =
                format!("its size differs from the first segment's size={len} first={expected}");
            return Err(foreign(&path, &why));
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
