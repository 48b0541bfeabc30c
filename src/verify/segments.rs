//! The log's files by name and size.

use super::{Findings, Severity};
use crate::{
    disk::{self, Disk, EntryKind, FilePath},
    error::Result,
    format::file_name,
    log::segment::{LOG_DIR, path_of},
    offset::PhysicalOffset,
    recovery::{
        Inspected,
        files::{LogFiles, NamedSegment, common_size},
    },
};

/// Looks for what keeps a store from being opened at all. Returns whether there is nothing.
pub(super) fn names_are_sound(disk: &dyn Disk, findings: &mut Findings<'_>) -> Result<bool> {
    let dir = FilePath::new(LOG_DIR);
    let entries = disk::list(disk, &dir)?;
    let mut sound = true;
    let mut segments = Vec::new();
    for entry in entries.iter().filter(|e| e.kind != EntryKind::Directory) {
        let path = dir.join(&entry.name);
        match file_name::position(&entry.name) {
            Some(base) if entry.kind == EntryKind::File => {
                segments.push(NamedSegment { base, len: entry.len, path });
            }
            _ => {
                sound = false;
                let (severity, range) = (Severity::Inconsistency, (0, entry.len));
                let detail = "no segment of the log; move it away";
                findings.add("segment-file", severity, &path, range, detail);
            }
        }
    }
    segments.sort();
    segments.pop_if(|last: &mut NamedSegment| last.len == 0);
    let size = common_size(&segments).unwrap_or(0);
    let mut end = 0;
    for NamedSegment { base, len, path } in &segments {
        if *len != size || *len == 0 {
            sound = false;
            // What is cut off is lost; what is too much is not the log's.
            let severity = match *len < size {
                true => Severity::Damage,
                false => Severity::Inconsistency,
            };
            let detail = format!(
                "its size is not that of the log's other segments; restore it from a copy, or see \
                 `steadfast repair --plan` size={len} others={size}"
            );
            let range = ((*len).min(size), len.abs_diff(size));
            findings.add("segment-file", severity, path, range, detail);
        } else if *base < end {
            sound = false;
            let detail = "it overlaps the segment before";
            let severity = Severity::Inconsistency;
            findings.add("segment-file", severity, path, (0, *len), detail);
        }
        end = base.saturating_add(size);
    }
    Ok(sound)
}

/// The file that holds the log's byte `at`, or would, and where in it.
pub(super) fn place(files: &LogFiles, at: PhysicalOffset) -> (FilePath, u64) {
    let base = files.base_of(at);
    (path_of(base), at - base)
}

/// Notes the files behind the log's end.
pub(super) fn unused(inspected: &Inspected, end: PhysicalOffset, findings: &mut Findings<'_>) {
    let files = &inspected.files;
    if let Some(path) = &files.empty_last {
        findings.note("spare-segment", path, "an empty file; the next open removes it");
    }
    for base in files.bases.iter().skip(1).filter(|base| **base >= end) {
        let detail = "a segment behind the log's end; the next open removes it";
        findings.note("spare-segment", &path_of(*base), detail);
    }
}
