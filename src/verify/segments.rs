//! The log's files by name and size.

use super::{Findings, Severity};
use crate::{
    disk::{self, Disk, EntryKind, FilePath},
    error::Result,
    format::file_name,
    log::segment::{LOG_DIR, path_of},
    offset::PhysicalOffset,
    recovery::{Inspected, files::LogFiles},
};

/// Looks for what keeps a store from being opened at all. Returns whether there is nothing.
pub(super) fn names_are_sound(disk: &dyn Disk, findings: &mut Findings<'_>) -> Result<bool> {
    let dir = FilePath::new(LOG_DIR);
    let entries = disk::list(disk, &dir)?;
    let mut sound = true;
    let mut bad = |path: &FilePath, len, detail: String, sound: &mut bool| {
        *sound = false;
        findings.add("segment-file", Severity::Inconsistency, path, (0, len), detail);
    };
    let mut segments = Vec::new();
    for entry in entries.iter().filter(|e| e.kind != EntryKind::Directory) {
        let path = dir.join(&entry.name);
        match file_name::position(&entry.name) {
            Some(base) if entry.kind == EntryKind::File => {
                segments.push((base, entry.len, path));
            }
            _ => {
                let detail = "no segment of the log; move it away".to_owned();
                bad(&path, entry.len, detail, &mut sound);
            }
        }
    }
    segments.sort();
    if segments.last().is_some_and(|(_, len, _)| *len == 0) {
        segments.pop();
    }
    let Some(&(_, first, _)) = segments.first() else { return Ok(sound) };
    let mut end = 0;
    for (base, len, path) in &segments {
        if *len != first || *len == 0 {
            let detail =
                format!("its size differs from the first segment's size={len} first={first}");
            bad(path, *len, detail, &mut sound);
        } else if *base < end {
            bad(path, *len, "it overlaps the segment before".to_owned(), &mut sound);
        }
        end = base.saturating_add(*len);
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
