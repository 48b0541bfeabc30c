//! What lies where in a store's directory, found without opening it; and hands to change it.

use std::{
    fs,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use steadfast::{
    PhysicalOffset, RecordView,
    disk::sim::Rng,
    internals::format::frame::{ChecksumRule, Frame, classify},
};

use super::{Change, Place};

/// A store that is at rest.
pub(crate) struct Anatomy {
    pub(crate) dir: PathBuf,
    /// With their bytes, ascending.
    pub(crate) segments: Vec<Segment>,
    /// Sound records, ascending.
    pub(crate) records: Vec<LogRecord>,
}

/// A file of the log.
pub(crate) struct Segment {
    pub(crate) base: u64,
    /// As seen from the store's directory.
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    /// Behind the last record and the blank one, where it stops making sense.
    pub(crate) end: u64,
    /// Where the blank record is.
    pub(crate) blank: Option<u64>,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    /// Number of its segment.
    pub(crate) segment: usize,
    /// Where in the segment's file.
    pub(crate) offset: u64,
    /// Where in the log.
    pub(crate) physical: u64,
    pub(crate) size: u64,
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: u64,
    /// Whether it is in a queue.
    pub(crate) in_queue: bool,
}

impl LogRecord {
    /// Its bytes in the segment's file.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

/// The bytes of a segment that are not what they were: ascending stretches.
pub(super) struct Touched(Vec<Range<u64>>);

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn within(&self, range: &Range<u64>) -> bool {
        let first = self.0.partition_point(|touched| touched.end <= range.start);
        self.0.get(first).is_some_and(|touched| touched.start < range.end)
    }
}

impl Segment {
    pub(crate) fn view(&self, record: &LogRecord) -> Option<RecordView<'_>> {
        RecordView::parse(self.bytes.get(record.offset as usize..)?).ok()
    }

    /// What of it is gone or other bytes in `dir` now.
    pub(super) fn changed_since(&self, dir: &Path) -> Touched {
        let now = fs::read(dir.join(&self.file)).unwrap_or_default();
        let mut touched: Vec<Range<u64>> = Vec::new();
        if now == self.bytes {
            return Touched(touched);
        }
        for (at, byte) in self.bytes.iter().enumerate() {
            if now.get(at) == Some(byte) {
                continue;
            }
            let at = at as u64;
            match touched.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => touched.push(at..at + 1),
            }
        }
        Touched(touched)
    }
}

/// The files in `dir`, by name; without directories.
pub(super) fn files_in(dir: &Path) -> Result<Vec<String>> {
    names(dir, false)
}

/// The directories in `dir`, by name.
pub(super) fn directories_in(dir: &Path) -> Result<Vec<String>> {
    names(dir, true)
}

fn names(dir: &Path, directories: bool) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() == directories {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Anatomy {
    /// Looks through the store in `dir`.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut all = Self { dir: dir.to_owned(), segments: Vec::new(), records: Vec::new() };
        for name in files_in(&dir.join("commitlog"))? {
            let Ok(base) = name.parse() else { continue };
            let file = format!("commitlog/{name}");
            let bytes = fs::read(dir.join(&file))?;
            if !bytes.is_empty() {
                all.segments.push(Segment { base, file, bytes, end: 0, blank: None });
            }
        }
        for (number, segment) in all.segments.iter_mut().enumerate() {
            walk(number, segment, &mut all.records);
        }
        Ok(all)
    }

    /// The segments that hold a record.
    pub(super) fn used(&self) -> Vec<&Segment> {
        let mut used: Vec<_> = self.records.iter().map(|record| record.segment).collect();
        used.dedup();
        used.into_iter().map(|number| &self.segments[number]).collect()
    }

    /// The segment in that place; `None` if there is no such one, or it is another place too.
    pub(super) fn segment(&self, place: Place, rng: &mut Rng) -> Option<&Segment> {
        let used = self.used();
        if used.len() < 3 && place != Place::Last {
            return None;
        }
        place.of(&used, rng).copied()
    }

    /// A record in that place.
    pub(super) fn record(&self, place: Place, rng: &mut Rng) -> Option<&LogRecord> {
        let last = self.records.last()?;
        if place == Place::Tail {
            return Some(last);
        }
        let base = self.segment(place, rng)?.base;
        let there = self.records.iter().filter(|r| self.segments[r.segment].base == base);
        let there: Vec<_> = there.filter(|r| r.physical != last.physical).collect();
        (!there.is_empty()).then(|| *rng.pick(&there))
    }

    pub(super) fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join(file)).ok()
    }

    /// Puts `bytes` into `file`, which is there, at `at`.
    pub(super) fn write(&self, file: &str, at: u64, bytes: &[u8]) -> Result<Change> {
        let open = fs::OpenOptions::new().write(true).open(self.dir.join(file));
        let open = open.with_context(|| format!("cannot open {file}"))?;
        open.write_all_at(bytes, at)?;
        Ok(Change { file: file.to_owned(), offset: at, len: bytes.len() as u64 })
    }

    pub(super) fn zero(&self, file: &str, range: Range<u64>) -> Result<Change> {
        self.write(file, range.start, &vec![0; (range.end - range.start) as usize])
    }

    /// All of `file` becomes zeros.
    pub(super) fn zero_all(&self, file: &str) -> Result<Change> {
        let len = fs::metadata(self.dir.join(file))?.len();
        self.zero(file, 0..len)
    }

    /// Flips a bit of those of `range`.
    pub(super) fn flip(&self, file: &str, range: Range<u64>, rng: &mut Rng) -> Result<Change> {
        let at = rng.within(range);
        let byte = self.read(file).and_then(|bytes| bytes.get(at as usize).copied());
        let byte = byte.with_context(|| format!("{file} has no byte {at}"))?;
        self.write(file, at, &[byte ^ 1 << rng.below(8)])
    }

    /// The whole file becomes `bytes`.
    pub(super) fn replace(&self, file: &str, bytes: &[u8]) -> Result<Change> {
        let before = self.read(file).unwrap_or_default();
        fs::write(self.dir.join(file), bytes)?;
        let same = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let len = before.len().max(bytes.len()) - same;
        Ok(Change { file: file.to_owned(), offset: same as u64, len: len as u64 })
    }

    pub(super) fn resize(&self, file: &str, len: u64) -> Result<Change> {
        let path = self.dir.join(file);
        let before = fs::metadata(&path)?.len();
        fs::OpenOptions::new().write(true).open(&path)?.set_len(len)?;
        let (offset, len) = (before.min(len), before.abs_diff(len));
        Ok(Change { file: file.to_owned(), offset, len })
    }

    /// Takes away a file, or a directory with all that is in it; `None` if it is not there.
    pub(super) fn remove(&self, name: &str) -> Result<Option<Vec<Change>>> {
        let path = self.dir.join(name);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if path.exists() {
            fs::remove_file(path)?;
        } else {
            return Ok(None);
        }
        Ok(Some(vec![Change { file: name.to_owned(), offset: 0, len: 0 }]))
    }

    /// Two files change places.
    pub(super) fn swap(&self, one: &str, other: &str) -> Result<Option<Vec<Change>>> {
        let (Some(a), Some(b)) = (self.read(one), self.read(other)) else { return Ok(None) };
        if a == b {
            return Ok(None);
        }
        Ok(Some(vec![self.replace(one, &b)?, self.replace(other, &a)?]))
    }
}

fn walk(number: usize, segment: &mut Segment, records: &mut Vec<LogRecord>) {
    let len = segment.bytes.len() as u64;
    let mut at = 0;
    while at < len {
        let bytes = &segment.bytes[at as usize..];
        let physical = segment.base + at;
        let position = PhysicalOffset::new(physical);
        match classify(bytes, position, len - at, ChecksumRule::WhenPresent) {
            Frame::Record(view) => {
                let size = u64::from(view.size());
                records.push(LogRecord {
                    segment: number,
                    offset: at,
                    physical,
                    size,
                    topic: view.topic().to_owned(),
                    queue_id: view.queue_id(),
                    queue_offset: view.queue_offset().get(),
                    in_queue: view.has_queue_entry(),
                });
                at += size;
            }
            Frame::Blank { .. } => {
                segment.blank = Some(at);
                at = len;
            }
            _ => break,
        }
    }
    segment.end = at;
}
