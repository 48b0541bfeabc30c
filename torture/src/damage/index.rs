//! Damage to the key index.

use anyhow::Result;
use steadfast::{
    disk::sim::Rng,
    internals::format::index::{
        INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, IndexGeometry, IndexHeader, decode_slot,
        encode_slot,
    },
};

use super::{
    Change,
    anatomy::{Anatomy, files_in},
    kind::{Hurt, Kind, Part, Place},
};

type Done = Result<Option<Vec<Change>>>;

pub(super) const ROOT: &str = "index";

const fn file(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Index, Place::ENDS, hurt)
}

const fn all(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Index, Place::ANYWHERE, hurt)
}

pub(super) const KINDS: &[Kind] = &[
    all("index-gone", |s, _, _| s.remove(ROOT)),
    all("index-zeroed", |s, _, _| every_file(s, |s, name| s.zero_all(name))),
    all("index-rotten", |s, _, r| {
        let mut seed = r.split();
        every_file(s, |s, name| {
            let mut junk = s.read(name).unwrap_or_default();
            seed.fill(&mut junk);
            s.replace(name, &junk)
        })
    }),
    file("index-file-gone", |s, p, r| on_file(s, p, r, |s, f, _| s.remove(&f.name))),
    file("index-file-zeroed", |s, p, r| {
        on_file(s, p, r, |s, f, _| Ok(Some(vec![s.zero_all(&f.name)?])))
    }),
    file("index-file-cut-short", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            Ok(Some(vec![s.resize(&f.name, r.within(1..f.bytes.len() as u64))?]))
        })
    }),
    file("index-file-cut-to-zero", |s, p, r| {
        on_file(s, p, r, |s, f, _| Ok(Some(vec![s.resize(&f.name, 0)?])))
    }),
    file("index-file-too-long", |s, p, r| {
        on_file(s, p, r, |s, f, _| Ok(Some(vec![s.resize(&f.name, f.bytes.len() as u64 + 20)?])))
    }),
    file("index-header-flipped", |s, p, r| {
        on_file(s, p, r, |s, f, r| Ok(Some(vec![s.flip(&f.name, 0..40, r)?])))
    }),
    file("index-header-zeroed", |s, p, r| {
        on_file(s, p, r, |s, f, _| Ok(Some(vec![s.zero(&f.name, 0..40)?])))
    }),
    file("index-slot-flipped", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            let slot = f.geometry.slot_at(f.geometry.slot_of(f.entry(f.any(r)).hash));
            Ok(Some(vec![s.flip(&f.name, slot..slot + 4, r)?]))
        })
    }),
    file("index-slot-zeroed", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            let slot = f.geometry.slot_at(f.geometry.slot_of(f.entry(f.any(r)).hash));
            Ok(Some(vec![s.zero(&f.name, slot..slot + 4)?]))
        })
    }),
    file("index-entry-hash-flipped", |s, p, r| flip_entry(s, p, r, 0, 4)),
    file("index-entry-offset-flipped", |s, p, r| flip_entry(s, p, r, 4, 8)),
    file("index-entry-time-flipped", |s, p, r| flip_entry(s, p, r, 12, 4)),
    file("index-entry-previous-flipped", |s, p, r| flip_entry(s, p, r, 16, 4)),
    file("index-page-zeroed", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            let from = f.geometry.entry_at(f.any(r));
            let end = f.geometry.entry_at(f.header.entry_count);
            Ok(Some(vec![s.zero(&f.name, from..(from + 4096).min(end))?]))
        })
    }),
    // A chain that points at itself.
    file("index-loop", |s, p, r| {
        on_file(s, p, r, |s, f, r| {
            let number = f.any(r);
            let at = f.geometry.entry_at(number) + 16;
            Ok(Some(vec![s.write(&f.name, at, &number.to_be_bytes())?]))
        })
    }),
    // A chain whose older entry leads back to a newer one.
    file("index-long-loop", |s, p, r| on_file(s, p, r, long_loop)),
    file("index-file-stale", |s, p, r| on_file(s, p, r, stale)),
    all("index-files-swapped", |s, _, r| {
        let files = files(s)?;
        let [first, .., last] = &files[..] else { return Ok(None) };
        let (one, other) = if r.chance(1, 2) { (first, last) } else { (last, first) };
        s.swap(&one.name, &other.name)
    }),
    file("index-file-of-another", |s, p, r| {
        let files = files(s)?;
        let Some(one) = p.of(&files, r) else { return Ok(None) };
        let Some(other) = files.iter().find(|other| other.name != one.name) else {
            return Ok(None);
        };
        Ok(Some(vec![s.replace(&one.name, &other.bytes)?]))
    }),
    all("stray-file-in-index", |s, _, _| {
        if !s.dir.join(ROOT).is_dir() {
            return Ok(None);
        }
        Ok(Some(vec![s.replace("index/readme.txt", b"no index")?]))
    }),
];

struct File {
    /// As seen from the store's directory.
    name: String,
    bytes: Vec<u8>,
    geometry: IndexGeometry,
    header: IndexHeader,
}

impl File {
    /// Number of one of its entries.
    fn any(&self, rng: &mut Rng) -> u32 {
        rng.within(1..self.header.entry_count.into()) as u32
    }

    fn entry(&self, number: u32) -> IndexEntry {
        entry(&self.bytes, self.geometry, number).unwrap_or(NONE)
    }
}

const NONE: IndexEntry = IndexEntry {
    hash: 0,
    physical_offset: steadfast::PhysicalOffset::ZERO,
    seconds: 0,
    previous: 0,
};

/// The files with entries, oldest first.
fn files(store: &Anatomy) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for name in files_in(&store.dir.join(ROOT))? {
        let name = format!("{ROOT}/{name}");
        let bytes = store.read(&name).unwrap_or_default();
        let Some(header) = bytes.first_chunk::<INDEX_HEADER_BYTES>().map(IndexHeader::decode)
        else {
            continue;
        };
        if header.entry_count < 2 {
            continue;
        }
        let Some(geometry) = geometry(&bytes, &header) else { continue };
        files.push(File { name, bytes, geometry, header });
    }
    Ok(files)
}

/// The numbers of slots and entries with which the first and last entry are what the header says,
/// and the last one is the head of its slot.
fn geometry(bytes: &[u8], header: &IndexHeader) -> Option<IndexGeometry> {
    let room = bytes.len() as u64 - INDEX_HEADER_BYTES as u64;
    let last = header.entry_count - 1;
    let all = (1..room / 4).filter(|slots| (room - slots * 4).is_multiple_of(20));
    let mut all = all.map(|slots| IndexGeometry {
        slots: slots as u32,
        entries: ((room - slots * 4) / 20) as u32,
    });
    all.find(|&geometry| {
        let first = entry(bytes, geometry, 1).map(|entry| entry.physical_offset);
        let Some(newest) = entry(bytes, geometry, last) else { return false };
        header.entry_count <= geometry.entries
            && first == Some(header.begin_offset)
            && newest.physical_offset == header.end_offset
            && slot(bytes, geometry, newest.hash) == Some(last)
    })
}

fn entry(bytes: &[u8], geometry: IndexGeometry, number: u32) -> Option<IndexEntry> {
    let at = geometry.entry_at(number) as usize;
    bytes.get(at..)?.first_chunk::<INDEX_ENTRY_BYTES>().map(IndexEntry::decode)
}

fn slot(bytes: &[u8], geometry: IndexGeometry, hash: u32) -> Option<u32> {
    let at = geometry.slot_at(geometry.slot_of(hash)) as usize;
    bytes.get(at..)?.first_chunk().map(|slot| decode_slot(*slot))
}

fn on_file(
    store: &Anatomy,
    place: Place,
    rng: &mut Rng,
    hurt: impl Fn(&Anatomy, &File, &mut Rng) -> Done,
) -> Done {
    let files = files(store)?;
    let Some(file) = place.of(&files, rng) else { return Ok(None) };
    hurt(store, file, rng)
}

fn every_file(store: &Anatomy, mut hurt: impl FnMut(&Anatomy, &str) -> Result<Change>) -> Done {
    let mut changes = Vec::new();
    for file in files(store)? {
        changes.push(hurt(store, &file.name)?);
    }
    Ok((!changes.is_empty()).then_some(changes))
}

fn flip_entry(store: &Anatomy, place: Place, rng: &mut Rng, at: u64, len: u64) -> Done {
    on_file(store, place, rng, |store, file, rng| {
        let from = file.geometry.entry_at(file.any(rng)) + at;
        Ok(Some(vec![store.flip(&file.name, from..from + len, rng)?]))
    })
}

fn long_loop(store: &Anatomy, file: &File, _: &mut Rng) -> Done {
    for number in (1..file.header.entry_count).rev() {
        let newer = file.entry(number);
        if newer.previous != 0 {
            let at = file.geometry.entry_at(newer.previous) + 16;
            return Ok(Some(vec![store.write(&file.name, at, &number.to_be_bytes())?]));
        }
    }
    Ok(None)
}

/// What the file was before its last entries were put.
fn stale(store: &Anatomy, file: &File, rng: &mut Rng) -> Done {
    let File { geometry, header, .. } = file;
    if header.entry_count < 3 {
        return Ok(None);
    }
    let count = rng.within(2..header.entry_count.into()) as u32;
    let last = file.entry(count - 1);
    let mut bytes = file.bytes.clone();
    let mut used = 0;
    for number in 0..geometry.slots {
        let at = geometry.slot_at(number) as usize;
        let mut head = bytes[at..].first_chunk().map_or(0, |slot| decode_slot(*slot));
        while head >= count {
            head = file.entry(head).previous;
        }
        used += u32::from(head != 0);
        bytes[at..at + 4].copy_from_slice(&encode_slot(head));
    }
    bytes[geometry.entry_at(count) as usize..].fill(0);
    let header = IndexHeader {
        entry_count: count,
        slot_count: used,
        end_offset: last.physical_offset,
        end_time: header.begin_time,
        ..*header
    };
    bytes[..INDEX_HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(Some(vec![store.replace(&file.name, &bytes)?]))
}
