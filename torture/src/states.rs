//! Whether the simulated disk and the kernel agree on what a power failure can leave: the same
//! random calls go to both, the power is cut, and the simulated disk is asked about what is found.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use steadfast::{
    disk::sim::{Found, Rng, SimDisk, Walk},
    internals,
};

use crate::{
    mounted::{Kind, Mounted},
    trial::Trial,
};

/// Directories with a simulated disk each: what costs time is the cut.
const TREES: u64 = 6;

pub(crate) struct States {
    kind: Kind,
    mounted: Option<Mounted>,
    cuts: u64,
    calls: u64,
    /// Trees that were as before the cut, those that were what syncs had made durable, the others.
    kept: u64,
    fell_back: u64,
    between: u64,
}

/// A directory, and its double.
struct Tree {
    name: String,
    sim: SimDisk,
    walk: Walk,
}

impl States {
    pub(crate) fn on(kind: Kind) -> Self {
        Self { kind, mounted: None, cuts: 0, calls: 0, kept: 0, fell_back: 0, between: 0 }
    }
}

impl Trial for States {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ext4 => "states-ext4",
            Kind::Xfs => "states-xfs",
            _ => "states",
        }
    }

    fn missing(&self) -> Option<String> {
        Mounted::missing(self.kind)
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        let mounted = Mounted::once(&mut self.mounted, self.kind)?;
        let home = mounted.root().join("states");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        let mut trees = Vec::new();
        for n in 0..TREES {
            let name = n.to_string();
            let sim = SimDisk::new(rng.bits());
            sim.remember_writes();
            let real = internals::disk::directory(&home.join(&name))?;
            let walk = Walk::new(vec![Arc::new(sim.clone()), real], rng.split());
            trees.push(Tree { name, sim, walk });
        }
        for _ in 0..rng.within(10..60 * TREES) {
            let tree = &mut trees[rng.below(TREES) as usize];
            if let Err(why) = tree.walk.step() {
                return Err(anyhow::Error::msg(why)).with_context(|| story(tree));
            }
            self.calls += 1;
            if rng.chance(1, 40) {
                mounted.write_some_back(&home, rng)?;
            }
        }
        mounted.write_some_back(&home, rng)?;
        // Closing a file may write it back, so the power goes first.
        mounted.shut_down(rng)?;
        let told: Vec<_> =
            trees.into_iter().map(|tree| (story(&tree), tree.name, tree.sim)).collect();
        mounted.restart()?;
        self.cuts += 1;
        for (story, name, sim) in told {
            let found = read(&home.join(&name)).context("what the cut left")?;
            if let Err(why) = sim.could_become(&found) {
                return Err(anyhow::Error::msg(why))
                    .context(story)
                    .context("the kernel left a state that the simulated disk does not know");
            }
            let now = sim.tree();
            let durable = found.keys().all(|path| {
                sim.durable_file(path).is_some_and(|bytes| found[path] == Found::File(bytes))
            });
            match () {
                () if found == now => self.kept += 1,
                () if durable => self.fell_back += 1,
                () => self.between += 1,
            }
        }
        ensure!(self.kept + self.fell_back + self.between == self.cuts * TREES, "trees were lost");
        Ok(())
    }

    fn counted(&self) -> String {
        let Self { cuts, calls, kept, fell_back, between, .. } = self;
        format!(
            "{cuts} cuts after {calls} calls; trees found: {kept} as they were, {fell_back} as \
             synced, {between} in between"
        )
    }
}

fn story(tree: &Tree) -> String {
    let calls: Vec<_> = tree.walk.told().collect();
    format!("tree {}, calls:\n  {}\n", tree.name, calls.join("\n  "))
}

/// All that is below `dir`, by paths from there.
fn read(dir: &Path) -> Result<BTreeMap<String, Found>> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(dir.to_owned(), String::new())];
    while let Some((dir, prefix)) = ahead.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                ahead.push((entry.path(), format!("{path}/")));
                found.insert(path, Found::Directory);
            } else {
                found.insert(path, Found::File(fs::read(entry.path())?));
            }
        }
    }
    Ok(found)
}
