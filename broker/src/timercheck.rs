//! RocketMQ's note of how far its messages with a time got, so that either broker goes on where the
//! other one stopped.
//!
//! `config/timercheck` begins with four big-endian numbers of 8 bytes: before which time all is
//! delivered, in milliseconds; the end of `timerlog`; and twice up to where the queue of waiting
//! messages was taken into it (the second time the master's). What follows, versions, stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::files;

const FILE: &str = "config/timercheck";
const BYTES: usize = 4096;
/// What RocketMQ derives from the queue of waiting messages.
const WHEEL: &str = "timerwheel";
const LOG: &str = "timerlog";

/// How far RocketMQ got, or is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Of the messages before `queue` those due before this time are delivered.
    pub(crate) time: i64,
    pub(crate) queue: u64,
}

fn number(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().copied().map(i64::from_be_bytes)
}

/// What the note in `data` says; `None` without one.
///
/// # Errors
///
/// The path and why it cannot be read.
pub(crate) fn read(data: &Path) -> io::Result<Option<Check>> {
    let Some(bytes) = files::load(&data.join(FILE))? else { return Ok(None) };
    let (Some(time), Some(own), Some(master)) =
        (number(&bytes, 0), number(&bytes, 16), number(&bytes, 24))
    else {
        return Ok(None);
    };
    // It begins at the lesser one.
    let queue = u64::try_from(own.min(master)).unwrap_or(0);
    Ok(Some(Check { time, queue }))
}

/// Notes where RocketMQ is to begin: without its wheel and its log, which know nothing of what
/// came since.
///
/// # Errors
///
/// The path and why it cannot be written.
pub(crate) fn write(data: &Path, check: Check) -> io::Result<()> {
    let path = data.join(FILE);
    let mut bytes = files::load(&path)?.unwrap_or_default();
    bytes.resize(BYTES, 0);
    let queue = i64::try_from(check.queue).unwrap_or(i64::MAX);
    for (at, number) in [check.time, 0, queue, queue].iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&number.to_be_bytes());
    }
    files::replace(&path, &bytes)?;
    for derived in [data.join(WHEEL), data.join(LOG)] {
        remove(&derived)?;
    }
    Ok(())
}

fn remove(path: &PathBuf) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_the_rest_of_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        assert_eq!(read(data).unwrap(), None);
        let check = Check { time: 1_795_481_773_000, queue: 20 };
        write(data, check).unwrap();
        assert_eq!(read(data).unwrap(), Some(check));
        let path = data.join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), BYTES);
        bytes[40] = 7;
        bytes[31] = 3;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(data).unwrap(), Some(Check { queue: 3, ..check }));
        fs::create_dir_all(data.join(LOG)).unwrap();
        fs::write(data.join(LOG).join("00000000000000000000"), "x").unwrap();
        fs::write(data.join(WHEEL), "x").unwrap();
        write(data, check).unwrap();
        assert_eq!(fs::read(&path).unwrap()[40], 7);
        assert!(!data.join(LOG).exists() && !data.join(WHEEL).exists());
        fs::write(&path, "short").unwrap();
        assert_eq!(read(data).unwrap(), None);
    }
}
