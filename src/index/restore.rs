//! What of the index files on disk is taken over at open.

use std::sync::{Arc, atomic::Ordering};

use super::{IndexState, KeyIndex, end_of, file::IndexFile, name::is_index_name, root};
use crate::{
    disk::{self, Access, Disk, EntryKind, failed},
    error::Result,
    offset::PhysicalOffset,
};

/// What is known of the files before they are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The last user closed them in order: they are complete.
    #[cfg(test)]
    Complete,
    /// They were durable as far as this says; what is past it is not to be trusted. With `None`
    /// that is everything.
    UpTo(Option<IndexState>),
    /// Nothing.
    Nothing,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// From this record on keys have to be put again; `None` if all that was known is there.
    pub(crate) rebuild_from: Option<PhysicalOffset>,
    /// Files that were dropped or do not belong there, and why, in words.
    pub(crate) problems: Vec<String>,
}

impl KeyIndex {
    /// Takes over the files on disk, once, before anything else is called. A file that does not
    /// check out is dropped with all later ones (removed, unless the index only reads); keys are
    /// then to be put again from the returned record on. Durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub(crate) fn restore(&self, known: &Known) -> Result<Restored> {
        let mut restored = Restored::default();
        let mut names = list(&*self.disk, |name| {
            restored.problems.push(format!("{}/{name} is no index file", root()));
        })?;
        let mut files: Vec<Arc<IndexFile>> = Vec::new();
        // What is past the checkpoint goes without being looked at.
        let keep = match known {
            #[cfg(test)]
            Known::Complete => names.len(),
            Known::UpTo(Some(state)) => names.partition_point(|n| *n <= state.file_name),
            Known::UpTo(None) | Known::Nothing => 0,
        };
        let mut dropped = names.split_off(keep);
        for (n, name) in names.iter().enumerate() {
            match self.check(name, end_of(&files), known)? {
                Ok(file) => files.push(Arc::new(file)),
                Err(problem) => {
                    restored.problems.push(problem);
                    restored.rebuild_from = Some(end_of(&files));
                    dropped.extend_from_slice(&names[n..]);
                    break;
                }
            }
        }
        match known {
            Known::Nothing => restored.rebuild_from = Some(PhysicalOffset::ZERO),
            Known::UpTo(Some(state))
                if restored.rebuild_from.is_none()
                    && files.last().is_none_or(|f| f.path.name() != state.file_name) =>
            {
                restored.problems.push(format!("{} is missing", root().join(&state.file_name)));
                restored.rebuild_from = Some(end_of(&files));
            }
            _ => {}
        }
        if self.access == Access::Write {
            for name in dropped {
                let path = root().join(&name);
                self.disk.remove(&path).map_err(failed("remove", &path))?;
                self.names_changed.store(true, Ordering::SeqCst);
            }
        }
        *self.files.write() = files;
        Ok(restored)
    }

    /// Opens the file `name`, which follows one that ends at `after`. `Err` of the inner result
    /// says why it is not taken over.
    fn check(
        &self,
        name: &str,
        after: PhysicalOffset,
        known: &Known,
    ) -> Result<Result<IndexFile, String>> {
        let path = root().join(name);
        let opened = IndexFile::open(&*self.disk, path.clone(), self.geometry, self.access)?;
        let file = match opened {
            Ok(file) => file,
            Err(problem) => return Ok(Err(problem)),
        };
        let header = file.header();
        if header.entry_count > 1 && header.begin_offset < after {
            return Ok(Err(format!("{path} does not follow the file before it")));
        }
        match known {
            Known::UpTo(Some(state)) if state.file_name == name => {
                let cut = file.cut(state.count, state.end, self.access)?;
                Ok(cut.ok_or_else(|| format!("{path} does not hold what the checkpoint says")))
            }
            _ => Ok(Ok(file)),
        }
    }
}

/// The names of index files, sorted. `other` is told what else is there.
///
/// # Errors
///
/// I/O errors.
pub(crate) fn list(disk: &dyn Disk, mut other: impl FnMut(&str)) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in disk::list(disk, &root())? {
        if entry.kind == EntryKind::File && is_index_name(&entry.name) {
            names.push(entry.name);
        } else {
            other(&entry.name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
