//! Damage to consume queues.

use std::fs;

use anyhow::Result;
use steadfast::disk::sim::Rng;

use super::{
    Change,
    anatomy::{Anatomy, directories_in, files_in},
    kind::{Hurt, Kind, Part, Place},
};

type Done = Result<Option<Vec<Change>>>;

const ENTRY: u64 = 20;
pub(super) const ROOT: &str = "consumequeue";

const fn file(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Queues, Place::ENDS, hurt)
}

const fn all(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Queues, Place::ANYWHERE, hurt)
}

pub(super) const KINDS: &[Kind] = &[
    all("queues-gone", |s, _, _| s.remove(ROOT)),
    all("queues-zeroed", |s, _, _| every_file(s, |s, file| s.zero_all(&file.name))),
    all("queues-rotten", |s, _, r| {
        let mut seed = r.split();
        every_file(s, |s, file| {
            let mut junk = vec![0; fs::metadata(s.dir.join(&file.name))?.len() as usize];
            seed.fill(&mut junk);
            s.replace(&file.name, &junk)
        })
    }),
    all("queue-gone", |s, p, r| {
        let Some(file) = pick(s, p, r)? else { return Ok(None) };
        s.remove(file.name.rsplit_once('/').map_or(ROOT, |(queue, _)| queue))
    }),
    file("queue-file-gone", |s, p, r| {
        let Some(file) = pick(s, p, r)? else { return Ok(None) };
        s.remove(&file.name)
    }),
    file("queue-file-zeroed", |s, p, r| on_file(s, p, r, |s, f, _| s.zero_all(&f.name))),
    file("queue-file-cut-short", |s, p, r| {
        on_file(s, p, r, |s, f, r| s.resize(&f.name, r.within(1..f.used)))
    }),
    file("queue-file-cut-to-zero", |s, p, r| on_file(s, p, r, |s, f, _| s.resize(&f.name, 0))),
    file("queue-file-too-long", |s, p, r| {
        on_file(s, p, r, |s, f, _| s.resize(&f.name, f.len + 4 * ENTRY))
    }),
    file("queue-file-stale", |s, p, r| {
        on_file(s, p, r, |s, f, r| s.zero(&f.name, r.below(f.used / ENTRY) * ENTRY..f.len))
    }),
    file("queue-file-of-another", |s, p, r| {
        let Some((one, other)) = two(s, p, r)? else { return Ok(None) };
        let Some(bytes) = s.read(&other.name) else { return Ok(None) };
        Ok(Some(vec![s.replace(&one.name, &bytes)?]))
    }),
    file("queue-files-swapped", |s, p, r| {
        let Some((one, other)) = two(s, p, r)? else { return Ok(None) };
        s.swap(&one.name, &other.name)
    }),
    file("queue-page-zeroed", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            let from = r.below(f.used / ENTRY) * ENTRY;
            s.zero(&f.name, from..(from + 4096).min(f.used))
        })
    }),
    file("queue-entry-zeroed", |s, p, r| {
        on_entry(s, p, r, |s, n, at, _| s.zero(n, at..at + ENTRY))
    }),
    file("queue-entry-offset-flipped", |s, p, r| {
        on_entry(s, p, r, |s, n, at, r| s.flip(n, at..at + 8, r))
    }),
    file("queue-entry-size-flipped", |s, p, r| {
        on_entry(s, p, r, |s, n, at, r| s.flip(n, at + 8..at + 12, r))
    }),
    file("queue-entry-tag-flipped", |s, p, r| {
        on_entry(s, p, r, |s, n, at, r| s.flip(n, at + 12..at + 20, r))
    }),
    file("queue-entry-of-another", |s, p, r| {
        let Some((one, other)) = two(s, p, r)? else { return Ok(None) };
        let Some(bytes) = s.read(&other.name) else { return Ok(None) };
        let from = (r.below(other.used / ENTRY) * ENTRY) as usize;
        let at = r.below(one.used / ENTRY) * ENTRY;
        Ok(Some(vec![s.write(&one.name, at, &bytes[from..from + ENTRY as usize])?]))
    }),
    // Entries behind the end, for records that are not there.
    Kind::new("queue-entries-ahead", Part::Queues, &[Place::Last], |s, p, r| {
        let Some(file) = pick(s, p, r)? else { return Ok(None) };
        if file.used + ENTRY > file.len {
            return Ok(None);
        }
        let end = s.segments.last().map_or(0, |l| l.base + l.bytes.len() as u64);
        let mut entry = (end + 100).to_be_bytes().to_vec();
        entry.extend_from_slice(&100_u32.to_be_bytes());
        entry.extend_from_slice(&[0; 8]);
        Ok(Some(vec![s.write(&file.name, file.used, &entry)?]))
    }),
    all("stray-file-in-queues", |s, _, _| {
        if !s.dir.join(ROOT).is_dir() {
            return Ok(None);
        }
        Ok(Some(vec![s.replace("consumequeue/readme.txt", b"not a queue")?]))
    }),
];

/// A file of a queue.
struct File {
    /// As seen from the store's directory.
    name: String,
    len: u64,
    /// Behind the last byte that is not zero, as whole entries.
    used: u64,
}

/// The files with entries of each queue.
fn queues(store: &Anatomy) -> Result<Vec<Vec<File>>> {
    let root = store.dir.join(ROOT);
    let mut queues = Vec::new();
    for topic in directories_in(&root)? {
        for id in directories_in(&root.join(&topic))? {
            let mut files = Vec::new();
            for name in files_in(&root.join(&topic).join(&id))? {
                let name = format!("{ROOT}/{topic}/{id}/{name}");
                let bytes = store.read(&name).unwrap_or_default();
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
                let used = used.next_multiple_of(ENTRY);
                if used > 0 {
                    files.push(File { name, len: bytes.len() as u64, used });
                }
            }
            if !files.is_empty() {
                queues.push(files);
            }
        }
    }
    Ok(queues)
}

/// A file of any queue, in that place; of one with more than one file if there is such a one.
fn pick(store: &Anatomy, place: Place, rng: &mut Rng) -> Result<Option<File>> {
    let mut queues = queues(store)?;
    if queues.iter().any(|files| files.len() > 1) {
        queues.retain(|files| files.len() > 1);
    }
    if queues.is_empty() {
        return Ok(None);
    }
    let mut files = queues.swap_remove(rng.below(queues.len() as u64) as usize);
    Ok(match place {
        Place::Early => Some(files.swap_remove(0)),
        _ => files.pop(),
    })
}

/// Files of two queues, in that place, the second with other bytes.
fn two(store: &Anatomy, place: Place, rng: &mut Rng) -> Result<Option<(File, File)>> {
    let queues = queues(store)?;
    let mut files = queues.into_iter().filter_map(|mut files| match place {
        Place::Early => Some(files.swap_remove(0)),
        _ => files.pop(),
    });
    let mut files: Vec<_> = files.by_ref().collect();
    if files.len() < 2 {
        return Ok(None);
    }
    let one = files.swap_remove(rng.below(files.len() as u64) as usize);
    let other = files.swap_remove(rng.below(files.len() as u64) as usize);
    Ok(Some((one, other)))
}

fn on_file(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    hurt: impl Fn(&Anatomy, &File, &mut Rng) -> Result<Change>,
) -> Done {
    let Some(file) = pick(store, place, rng)? else { return Ok(None) };
    Ok(Some(vec![hurt(store, &file, rng)?]))
}

fn on_entry(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    hurt: impl Fn(&Anatomy, &str, u64, &mut Rng) -> Result<Change>,
) -> Done {
    let Some(file) = pick(store, place, rng)? else { return Ok(None) };
    let at = rng.below(file.used / ENTRY) * ENTRY;
    Ok(Some(vec![hurt(store, &file.name, at, rng)?]))
}

fn every_file(store: &Anatomy, mut hurt: impl FnMut(&Anatomy, &File) -> Result<Change>) -> Done {
    let mut changes = Vec::new();
    for file in queues(store)?.iter().flatten() {
        changes.push(hurt(store, file)?);
    }
    Ok((!changes.is_empty()).then_some(changes))
}
