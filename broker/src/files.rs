//! Small files that are replaced as a whole, so that a crash leaves the old one or the new one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::protocol::json;

/// No file of configuration is longer.
const MOST: u64 = 256 << 20;

/// The bytes of a file, `None` if there is none.
///
/// # Errors
///
/// The path and why it cannot be read.
pub(crate) fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let length = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(named)?.len(),
    };
    if length > MOST {
        let kind = io::ErrorKind::InvalidData;
        return Err(named(io::Error::new(kind, format!("{length} bytes are too many"))));
    }
    fs::read(path).map(Some).map_err(named)
}

/// What the JSON of a file says, the default if there is none. `way_out` tells what can be done
/// about one that cannot be understood.
///
/// # Errors
///
/// The path and why it cannot be read.
pub(crate) fn load_json<T: DeserializeOwned + Default>(
    path: &Path,
    way_out: &str,
) -> io::Result<T> {
    let Some(bytes) = load(path)? else { return Ok(T::default()) };
    json::read(&bytes).map_err(|e| {
        let text = format!("{}: {e}; put the copy with .bak in its place{way_out}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Replaces a file. It is durable when this returns; the one before is kept as `.bak`, as the Java
/// broker does.
///
/// # Errors
///
/// The path and why it cannot be written. Then the old one is in its place.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let write = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let new = path.with_added("tmp");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if path.exists() {
            let kept = path.with_added("bak");
            let _gone = fs::remove_file(&kept);
            fs::hard_link(path, &kept)?;
        }
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(named)
}

/// A file that is written when what it tells of has changed.
#[derive(Debug)]
pub(crate) struct Saver {
    path: PathBuf,
    changed: AtomicBool,
    /// One save at a time, from looking at the state to the file's new name: all of them write the
    /// same temporary file, and the last one has to be the newest.
    saving: Mutex<()>,
}

impl Saver {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, changed: AtomicBool::new(false), saving: Mutex::new(()) }
    }

    /// The next save writes it.
    pub(crate) fn set_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Writes what `state` gives, if anything changed since. All changes before are durable then.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written; the next call tries again.
    pub(crate) fn save(
        &self,
        state: impl FnOnce() -> serde_json::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let _saving = self.saving.lock();
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let written = state().map_err(io::Error::from).and_then(|json| replace(&self.path, &json));
        written.inspect_err(|_| self.set_changed())
    }
}

trait WithAdded {
    fn with_added(&self, extension: &str) -> std::path::PathBuf;
}

impl WithAdded for Path {
    fn with_added(&self, extension: &str) -> std::path::PathBuf {
        let mut name = self.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_the_one_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config/topics.json");
        assert_eq!(load(&path).unwrap(), None);
        for bytes in [b"one", b"two", b"six"] {
            replace(&path, bytes).unwrap();
            assert_eq!(load(&path).unwrap().unwrap(), bytes);
        }
        assert_eq!(load(&path.with_added("bak")).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }
}
