//! Damage to checkpoints, markers, consumer offsets and our own files.

use anyhow::Result;
use steadfast::{
    disk::sim::Rng,
    internals::format::offsets_json::{self, OffsetTable},
};

use super::{
    Change,
    anatomy::{Anatomy, files_in},
    index,
    kind::{Hurt, Kind, Part, Place},
    queues,
};

type Done = Result<Option<Vec<Change>>>;

const CHECKPOINT: &str = "checkpoint";
const OFFSETS: &str = "config/consumerOffset.json";
const BACKUP: &str = "config/consumerOffset.json.bak";
const OWN: &str = "steadfast";
const OWN_CHECKPOINT: &str = "steadfast/checkpoint";
const FRAMES: &str = "steadfast/frames";
/// The two slots of our checkpoint: where, and where in them their number is.
const SLOTS: [u64; 2] = [0, 4096];
const SLOT: u64 = 512;
const FRAME: u64 = 32;

const fn java(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Checkpoint, Place::ANYWHERE, hurt)
}

const fn own(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Own, Place::ANYWHERE, hurt)
}

const fn offsets(name: &'static str, hurt: Hurt) -> Kind {
    Kind::new(name, Part::Offsets, Place::ANYWHERE, hurt)
}

pub(super) const KINDS: &[Kind] = &[
    java("checkpoint-gone", |s, _, _| s.remove(CHECKPOINT)),
    java("checkpoint-zeroed", |s, _, _| zeroed(s, CHECKPOINT)),
    java("checkpoint-rotten", |s, _, r| rotten(s, CHECKPOINT, r)),
    java("checkpoint-cut-short", |s, _, r| {
        let Some(bytes) = s.read(CHECKPOINT).filter(|bytes| bytes.len() > 40) else {
            return Ok(None);
        };
        let len = r.below(bytes.len() as u64);
        Ok(Some(vec![s.resize(CHECKPOINT, len)?]))
    }),
    // Times far ahead of the log: RocketMQ then thinks that all of it was flushed.
    java("checkpoint-ahead", |s, _, _| {
        let far = 4_000_000_000_000_u64.to_be_bytes().repeat(3);
        if s.read(CHECKPOINT).is_none() {
            return Ok(None);
        }
        Ok(Some(vec![s.write(CHECKPOINT, 0, &far)?]))
    }),
    java("checkpoint-and-queues-gone", |s, _, _| {
        both(s.remove(CHECKPOINT)?, s.remove(queues::ROOT)?)
    }),
    java("checkpoint-queues-and-index-gone", |s, _, _| {
        let queues = both(s.remove(CHECKPOINT)?, s.remove(queues::ROOT)?)?;
        both(queues, s.remove(index::ROOT)?)
    }),
    java("abort-gone", |s, _, _| s.remove("abort")),
    java("abort-left", |s, _, _| {
        if s.read("abort").is_some() {
            return Ok(None);
        }
        Ok(Some(vec![s.replace("abort", b"1234")?]))
    }),
    java("lock-gone", |s, _, _| s.remove("lock")),
    own("own-gone", |s, _, _| s.remove(OWN)),
    own("own-and-queues-gone", |s, _, _| both(s.remove(OWN)?, s.remove(queues::ROOT)?)),
    own("own-checkpoint-gone", |s, _, _| s.remove(OWN_CHECKPOINT)),
    own("own-checkpoint-zeroed", |s, _, _| zeroed(s, OWN_CHECKPOINT)),
    own("own-checkpoint-rotten", |s, _, r| rotten(s, OWN_CHECKPOINT, r)),
    own("own-checkpoint-cut-to-zero", |s, _, _| {
        if s.read(OWN_CHECKPOINT).is_none() {
            return Ok(None);
        }
        Ok(Some(vec![s.resize(OWN_CHECKPOINT, 0)?]))
    }),
    own("own-checkpoint-newest-flipped", |s, _, r| {
        let Some(slot) = newest_slot(s) else { return Ok(None) };
        // The bytes that its checksum covers and that say something.
        Ok(Some(vec![s.flip(OWN_CHECKPOINT, slot..slot + 160, r)?]))
    }),
    own("own-checkpoint-stale", |s, _, _| {
        let Some(slot) = newest_slot(s) else { return Ok(None) };
        Ok(Some(vec![s.zero(OWN_CHECKPOINT, slot..slot + SLOT)?]))
    }),
    own("snapshot-gone", |s, _, _| {
        let Some(name) = snapshot(s)? else { return Ok(None) };
        s.remove(&name)
    }),
    own("snapshot-flipped", |s, _, r| {
        let Some(name) = snapshot(s)? else { return Ok(None) };
        let len = s.read(&name).map_or(0, |bytes| bytes.len() as u64);
        Ok(Some(vec![s.flip(&name, 0..len, r)?]))
    }),
    own("frames-gone", |s, _, _| s.remove(FRAMES)),
    own("frames-zeroed", |s, _, _| every_frame_file(s, |s, name| s.zero_all(name))),
    own("frames-rotten", |s, _, r| {
        let mut seed = r.split();
        every_frame_file(s, |s, name| {
            let mut junk = s.read(name).unwrap_or_default();
            seed.fill(&mut junk);
            s.replace(name, &junk)
        })
    }),
    own("frame-flipped", |s, _, r| {
        let names = files_in(&s.dir.join(FRAMES))?;
        if names.is_empty() {
            return Ok(None);
        }
        let name = format!("{FRAMES}/{}", r.pick(&names));
        let frames = s.read(&name).map_or(0, |bytes| bytes.len() as u64 / FRAME);
        if frames == 0 {
            return Ok(None);
        }
        let at = r.below(frames) * FRAME;
        Ok(Some(vec![s.flip(&name, at..at + FRAME, r)?]))
    }),
    own("frame-files-swapped", |s, _, _| {
        let names = files_in(&s.dir.join(FRAMES))?;
        let [first, .., last] = &names[..] else { return Ok(None) };
        s.swap(&format!("{FRAMES}/{first}"), &format!("{FRAMES}/{last}"))
    }),
    offsets("offsets-gone", |s, _, _| s.remove(OFFSETS)),
    offsets("offsets-zeroed", |s, _, _| zeroed(s, OFFSETS)),
    offsets("offsets-torn", |s, _, r| torn(s, OFFSETS, r)),
    offsets("offsets-and-backup-torn", |s, _, r| both(torn(s, OFFSETS, r)?, torn(s, BACKUP, r)?)),
    offsets("offsets-stale", |s, _, _| {
        let Some(older) = s.read(BACKUP).filter(|older| s.read(OFFSETS).as_ref() != Some(older))
        else {
            return Ok(None);
        };
        Ok(Some(vec![s.replace(OFFSETS, &older)?]))
    }),
    offsets("offsets-ahead", |s, _, _| {
        changed_offsets(s, |offset| offset.saturating_add(1_000_000))
    }),
    offsets("offsets-negative", |s, _, _| changed_offsets(s, |_| -5)),
];

fn both(one: Option<Vec<Change>>, other: Option<Vec<Change>>) -> Done {
    Ok(match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.into_iter().chain(other).flatten().collect()),
    })
}

fn zeroed(store: &Anatomy, name: &str) -> Done {
    match store.read(name) {
        Some(bytes) if bytes.iter().any(|byte| *byte != 0) => Ok(Some(vec![store.zero_all(name)?])),
        _ => Ok(None),
    }
}

fn rotten(store: &Anatomy, name: &str, rng: &mut Rng) -> Done {
    let Some(mut junk) = store.read(name).filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    rng.fill(&mut junk);
    Ok(Some(vec![store.replace(name, &junk)?]))
}

/// The first half of it is there.
fn torn(store: &Anatomy, name: &str, rng: &mut Rng) -> Done {
    let Some(bytes) = store.read(name).filter(|bytes| bytes.len() > 2) else { return Ok(None) };
    // Zeros at the end are what is left where the length reached the disk and the bytes did not.
    let keep = bytes.len() / 2;
    if rng.chance(1, 2) {
        return Ok(Some(vec![store.resize(name, keep as u64)?]));
    }
    Ok(Some(vec![store.zero(name, keep as u64..bytes.len() as u64)?]))
}

fn newest_slot(store: &Anatomy) -> Option<u64> {
    let bytes = store.read(OWN_CHECKPOINT)?;
    let number = |at: u64| {
        let slot = bytes.get(at as usize..(at + SLOT) as usize)?;
        let number = slot[8..16].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        (slot[..4] == *b"SFCP").then_some(number).flatten()
    };
    SLOTS.into_iter().filter_map(|at| Some((number(at)?, at))).max().map(|(_, at)| at)
}

/// The newest snapshot of the queues.
fn snapshot(store: &Anatomy) -> Result<Option<String>> {
    let names = files_in(&store.dir.join(OWN))?;
    let name = names.into_iter().rfind(|name| name.starts_with("queues-"));
    Ok(name.map(|name| format!("{OWN}/{name}")))
}

fn every_frame_file(
    store: &Anatomy,
    mut hurt: impl FnMut(&Anatomy, &str) -> Result<Change>,
) -> Done {
    let names = files_in(&store.dir.join(FRAMES))?;
    let changes: Result<Vec<_>> =
        names.iter().map(|name| hurt(store, &format!("{FRAMES}/{name}"))).collect();
    Ok(Some(changes?).filter(|changes| !changes.is_empty()))
}

fn changed_offsets(store: &Anatomy, change: fn(i64) -> i64) -> Done {
    let table = store.read(OFFSETS).and_then(|bytes| offsets_json::parse(&bytes).ok());
    let Some(OffsetTable { data_version, mut offsets }) = table.filter(|t| !t.offsets.is_empty())
    else {
        return Ok(None);
    };
    for offset in offsets.values_mut().flat_map(|queues| queues.values_mut()) {
        *offset = change(*offset);
    }
    let bytes = offsets_json::write(&OffsetTable { data_version, offsets });
    Ok(Some(vec![store.replace(OFFSETS, &bytes)?]))
}
