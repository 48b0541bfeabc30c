//! Whole directories: copied, and listed to be compared.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Result;

/// Copies the whole of `from` to `to`.
///
/// # Errors
///
/// What cannot be read or written.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every file under `dir` with its bytes.
///
/// # Errors
///
/// What cannot be read.
pub(crate) fn listing(dir: &Path) -> Result<BTreeSet<(String, Vec<u8>)>> {
    let mut all = BTreeSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir)?.display().to_string();
                all.insert((name, fs::read(&path)?));
            }
        }
    }
    Ok(all)
}
