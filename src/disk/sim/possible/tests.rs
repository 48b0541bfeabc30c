use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::disk::{
    Disk, FilePath,
    sim::{CallKind, Fault, FaultPlan, Rng, SyncFailure, Walk, When},
};

/// Random calls on a disk of any kind, with all that a kernel does by itself.
fn walked(seed: u64) -> (SimDisk, Walk) {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(rng.bits());
    let remembers = rng.chance(1, 2);
    if remembers {
        disk.remember_writes();
    }
    let mut walk = Walk::new(vec![Arc::new(disk.clone())], rng.split());
    let steps = rng.below(60);
    for _ in 0..steps {
        if rng.chance(1, 10) {
            disk.background_writeback(&mut rng);
        }
        walk.step().unwrap();
    }
    (disk, walk)
}

/// As [`walked`], and syncs fail.
fn hurt(seed: u64) -> SimDisk {
    let mut rng = Rng::new(!seed);
    let (disk, mut walk) = walked(seed);
    let how = *rng.pick(&[SyncFailure::KeptClean, SyncFailure::Reverted]);
    let plan = FaultPlan::none().on_failed_sync(how);
    let often = When::PerMillion(300_000);
    disk.set_faults(plan.fail(CallKind::SyncData, often, Fault::Io));
    for _ in 0..rng.below(30) {
        // A step that fails in the middle is a step, too.
        let _ = walk.step();
        if rng.chance(1, 10) {
            disk.fail_background_writeback(&mut rng);
        }
        if rng.chance(1, 10) {
            disk.drop_clean_pages();
        }
    }
    disk
}

#[test]
fn what_a_power_failure_leaves_is_possible() {
    let (mut lost, mut mixed) = (0, 0);
    for seed in 0..3000 {
        let disk = if seed % 3 == 0 { hurt(seed) } else { walked(seed).0 };
        for power in 0..8 {
            let found = disk.power_failure(&mut Rng::new(power)).tree();
            if let Err(why) = disk.could_become(&found) {
                panic!("seed={seed} power={power}: {why}");
            }
            lost += u32::from(found.len() < disk.tree().len());
            mixed += u32::from(found != disk.tree() && found.len() == disk.tree().len());
        }
    }
    assert!(lost > 1000 && mixed > 1000, "{lost} {mixed}");
}

#[test]
fn what_two_power_failures_leave_is_possible() {
    for seed in 0..500 {
        let (disk, _) = walked(seed);
        let once = disk.power_failure(&mut Rng::new(seed));
        let mut walk = Walk::new(vec![Arc::new(once.clone())], Rng::new(seed));
        (0..30).for_each(|_| walk.step().unwrap());
        for power in 0..4 {
            let found = once.power_failure(&mut Rng::new(power)).tree();
            once.could_become(&found).unwrap_or_else(|why| panic!("seed={seed}: {why}"));
        }
    }
}

/// Trees that power failures left, with a chance for each.
fn found(seeds: u64) -> impl Iterator<Item = (u64, SimDisk, BTreeMap<String, Found>, Rng)> {
    (0..seeds).map(|seed| {
        let (disk, _) = walked(seed);
        let mut rng = Rng::new(seed);
        let found = disk.power_failure(&mut rng).tree();
        (seed, disk, found, rng)
    })
}

fn any_file<'a>(
    found: &'a mut BTreeMap<String, Found>,
    rng: &mut Rng,
) -> Option<(String, &'a mut Vec<u8>)> {
    let files = found.iter_mut().filter_map(|(path, found)| match found {
        Found::File(bytes) if !bytes.is_empty() => Some((path.clone(), bytes)),
        _ => None,
    });
    let mut files: Vec<_> = files.collect();
    if files.is_empty() {
        return None;
    }
    Some(files.swap_remove(rng.below(files.len() as u64) as usize))
}

#[test]
fn a_byte_that_nobody_wrote_is_refused() {
    let mut tried = 0;
    for (seed, disk, mut tree, mut rng) in found(2000) {
        let Some((path, bytes)) = any_file(&mut tree, &mut rng) else { continue };
        let at = rng.below(bytes.len() as u64);
        // Bytes of walks are below.
        bytes[at as usize] = 0xff;
        assert!(disk.could_become(&tree).is_err(), "seed={seed} path={path} at={at}");
        tried += 1;
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_length_that_the_file_never_had_is_refused() {
    for (seed, disk, mut tree, mut rng) in found(1000) {
        let Some((path, bytes)) = any_file(&mut tree, &mut rng) else { continue };
        bytes.resize(bytes.len() + 1_000_000, 0);
        assert!(disk.could_become(&tree).is_err(), "seed={seed} path={path}");
    }
}

#[test]
fn a_name_that_nobody_made_is_refused() {
    for (seed, disk, mut tree, mut rng) in found(1000) {
        let bytes = any_file(&mut tree, &mut rng).map_or(Vec::new(), |(_, bytes)| bytes.clone());
        tree.insert("never".into(), Found::File(bytes));
        let why = disk.could_become(&tree).unwrap_err();
        assert!(why.contains("never"), "seed={seed}: {why}");
    }
}

#[test]
fn after_a_sync_of_all_nothing_but_that_is_possible() {
    let mut tried = 0;
    for (seed, disk, _, mut rng) in found(1000) {
        disk.sync_all().unwrap();
        let synced = disk.tree();
        disk.could_become(&synced).unwrap_or_else(|why| panic!("seed={seed}: {why}"));
        // Each name is needed.
        for path in synced.keys() {
            let mut tree = synced.clone();
            tree.retain(|name, _| name != path && !name.starts_with(&format!("{path}/")));
            assert!(disk.could_become(&tree).is_err(), "seed={seed} without {path}");
        }
        // Each byte is.
        let mut tree = synced.clone();
        let Some((_, bytes)) = any_file(&mut tree, &mut rng) else { continue };
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1;
        assert!(disk.could_become(&tree).is_err(), "seed={seed}");
        let mut tree = synced;
        let Some((_, bytes)) = any_file(&mut tree, &mut rng) else { continue };
        bytes.pop();
        assert!(disk.could_become(&tree).is_err(), "seed={seed}");
        tried += 1;
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn bytes_older_than_a_sync_are_refused() {
    for remembers in [false, true] {
        let disk = SimDisk::new(1);
        if remembers {
            disk.remember_writes();
        }
        let file = disk.create(&FilePath::new("f"), 8192).unwrap();
        disk.sync_dir(&FilePath::ROOT).unwrap();
        let tree = |byte| BTreeMap::from([("f".to_owned(), Found::File(vec![byte; 8192]))]);
        for byte in 1..4 {
            file.write_all_at(&[byte; 8192], 0).unwrap();
            disk.could_become(&tree(byte)).unwrap();
            disk.could_become(&tree(byte - 1)).unwrap();
            file.sync_data().unwrap();
            disk.could_become(&tree(byte)).unwrap();
            let why = disk.could_become(&tree(byte - 1)).unwrap_err();
            assert!(why.contains("f: at=0"), "{why}");
        }
        // Not synced: what was there between is possible where it was remembered.
        file.write_all_at(&[5; 8192], 0).unwrap();
        file.write_all_at(&[6; 8192], 0).unwrap();
        assert_eq!(disk.could_become(&tree(5)).is_ok(), remembers);
        disk.could_become(&tree(3)).unwrap();
        disk.could_become(&tree(6)).unwrap();
    }
}

#[test]
fn what_is_remembered_comes_back_from_power_failures() {
    let disk = SimDisk::new(1);
    disk.remember_writes();
    let file = disk.create(&FilePath::new("f"), 4096).unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    file.sync_data().unwrap();
    for byte in 1..4 {
        file.write_all_at(&[byte; 4096], 0).unwrap();
    }
    for byte in 0..4 {
        let left = |seed| disk.power_failure(&mut Rng::new(seed)).read_file("f");
        assert!((0..300).any(|seed| left(seed) == [byte; 4096]), "never {byte}");
    }
}

#[test]
fn any_length_since_the_last_sync_is_possible_and_pages_of_a_write() {
    let disk = SimDisk::new(1);
    disk.remember_writes();
    let file = disk.create(&FilePath::new("f"), 0).unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    let mut possible = vec![0, 100, 150, 4096, 8192, 9000];
    for (from, to) in [(0, 100), (100, 150), (150, 9000)] {
        file.write_all_at(&vec![1; to - from], from as u64).unwrap();
    }
    for (cut, to) in [(5000, 5000), (700, 6000)] {
        file.set_len(cut).unwrap();
        file.set_len(to).unwrap();
        possible.extend([cut, to]);
    }
    for len in 0..=9000 {
        let tree = |bytes| BTreeMap::from([("f".to_owned(), Found::File(bytes))]);
        let mut bytes = vec![1; len];
        if len == 6000 {
            // Shortened before.
            disk.could_become(&tree(bytes.clone())).unwrap_err();
            bytes[700..].fill(0);
        }
        let found = disk.could_become(&tree(bytes));
        assert_eq!(found.is_ok(), possible.contains(&(len as u64)), "{len}: {found:?}");
    }
    let lens = (0..500).map(|seed| disk.power_failure(&mut Rng::new(seed)).read_file("f").len());
    let lens: std::collections::BTreeSet<_> = lens.map(|len| len as u64).collect();
    assert_eq!(lens, possible.into_iter().collect());
}

#[test]
fn an_end_that_is_not_on_the_disk_may_stop_where_blocks_were_allocated() {
    let disk = SimDisk::new(1);
    disk.remember_writes();
    let file = disk.create(&FilePath::new("f"), 0).unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    file.write_all_at(&[1; 5000], 0).unwrap();
    let tree = |len| BTreeMap::from([("f".to_owned(), Found::File(vec![1; len]))]);
    disk.could_become(&tree(4500)).unwrap_err();
    file.allocate(0, 4500).unwrap();
    for len in [0, 4096, 4500, 5000] {
        disk.could_become(&tree(len)).unwrap();
    }
    let left = |seed| disk.power_failure(&mut Rng::new(seed)).read_file("f");
    assert!((0..300).any(|seed| left(seed) == [1; 4500]));
    file.sync_data().unwrap();
    file.allocate(0, 3000).unwrap();
    disk.could_become(&tree(3000)).unwrap_err();
}

#[test]
fn a_replaced_file_stays_away_when_the_one_in_its_place_went_on() {
    let disk = SimDisk::new(1);
    disk.create_dir(&FilePath::new("a")).unwrap();
    let (old, new) = (FilePath::new("old"), FilePath::new("a/new"));
    for path in [&old, &new] {
        disk.create(path, 9).unwrap();
    }
    disk.sync_all().unwrap();
    disk.rename(&new, &old).unwrap();
    disk.rename(&old, &FilePath::new("a/newer")).unwrap();
    disk.sync_dir(&FilePath::new("a")).unwrap();
    let now = disk.tree();
    disk.could_become(&now).unwrap();
    let mut still = now.clone();
    still.insert("old".into(), Found::File(vec![0; 9]));
    disk.could_become(&still).unwrap();
    disk.sync_dir(&FilePath::ROOT).unwrap();
    disk.could_become(&now).unwrap();
    disk.could_become(&still).unwrap_err();
}

#[test]
fn zeros_that_were_synced_are_as_written_as_other_bytes() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        let file = disk.create(&FilePath::new("f"), 4096).unwrap();
        file.allocate(0, 4096).unwrap();
        file.write_zeros(0, 4096).unwrap();
        disk.sync_all().unwrap();
        file.write_all_at(&[7; 4096], 0).unwrap();
        // Seen on ext4 with blocks of 1 KiB, where some of a page's blocks were written before.
        let torn = [vec![7; 1024], vec![0; 3072]].concat();
        disk.could_become(&BTreeMap::from([("f".into(), Found::File(torn))])).unwrap();
    }
}

#[test]
fn a_rename_happens_as_a_whole() {
    let disk = SimDisk::new(1);
    let (old, new) = (FilePath::new("old"), FilePath::new("new"));
    let tree = |names: &[(&str, u8)]| -> BTreeMap<_, _> {
        names.iter().map(|(name, byte)| ((*name).to_owned(), Found::File(vec![*byte; 9]))).collect()
    };
    for (path, byte) in [(&old, 1), (&new, 2)] {
        disk.create(path, 9).unwrap().write_all_at(&[byte; 9], 0).unwrap();
    }
    disk.sync_all().unwrap();
    disk.rename(&old, &new).unwrap();
    disk.could_become(&tree(&[("old", 1), ("new", 2)])).unwrap();
    disk.could_become(&tree(&[("new", 1)])).unwrap();
    for never in [&[("old", 1), ("new", 1)][..], &[("old", 1)], &[("new", 2)], &[]] {
        disk.could_become(&tree(never)).unwrap_err();
    }
    disk.sync_dir(&FilePath::ROOT).unwrap();
    disk.could_become(&tree(&[("old", 1), ("new", 2)])).unwrap_err();
    disk.could_become(&tree(&[("new", 1)])).unwrap();
}
