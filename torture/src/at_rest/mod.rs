//! Stores that are damaged while nobody has them open: what `verify` says, what opening serves, and
//! what `repair` leaves.

use std::{cell::Cell, collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use steadfast::{Finding, disk::sim::Rng};
use tempfile::TempDir;

use crate::{
    damage::{Applied, Damage, LogRecord, Place},
    files::copy,
    trial::Trial,
};

mod found;
mod mended;
mod served;
mod stores;

use stores::{Origin, Pristine};

/// Every kind of damage, in every place, in stores of ours and of RocketMQ's.
#[derive(Default)]
pub(crate) struct AtRest {
    stores: Vec<Pristine>,
    /// Damage and store.
    tried: BTreeSet<(String, &'static str)>,
    hurt: u64,
    touched: u64,
    kept: u64,
}

/// A damaged copy of a store.
pub(crate) struct Case<'a> {
    pub(crate) store: &'a Pristine,
    pub(crate) damage: Damage,
    pub(crate) applied: &'a Applied,
    /// Where the log was cut by any open so far: touched records behind it are gone, and their
    /// offsets are given again.
    cut: Cell<Option<u64>>,
    /// A home for further copies.
    home: &'a Path,
    damaged: &'a Path,
}

impl Case<'_> {
    /// Takes in what an open or a repair said it cut.
    fn saw(&self, findings: &[Finding]) {
        for finding in findings {
            if let Finding::Cut { at, .. } = finding {
                let at = at.get().min(self.cut.get().unwrap_or(u64::MAX));
                self.cut.set(Some(at));
            }
        }
    }

    /// Whether `record` may lie where no sync was told of: in ASYNC_FLUSH a hole there is what a
    /// power failure leaves, and all behind it is cut.
    fn is_never_durable(&self, record: &LogRecord) -> bool {
        let hole =
            self.applied.records.first().is_some_and(|first| first.physical < record.physical);
        let last = self.damage.place >= Place::Last;
        self.store.origin == Origin::AsyncKilled && hole && last
    }

    /// Whether what is torn at the log's end was never known to be durable.
    fn is_torn_tail(&self) -> bool {
        let origin = self.store.origin;
        let unknown = origin.is_java() || origin == Origin::AsyncKilled;
        unknown && self.damage.place >= Place::Last
    }

    /// Another copy of the damaged directory.
    fn copy(&self, name: &str) -> Result<std::path::PathBuf> {
        let dir = self.home.join(name);
        copy(self.damaged, &dir)?;
        Ok(dir)
    }
}

impl Trial for AtRest {
    fn name(&self) -> &'static str {
        "damage"
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        if self.stores.is_empty() {
            self.stores =
                Origin::ALL.iter().map(|origin| Pristine::of(*origin)).collect::<Result<_>>()?;
        }
        let all = Damage::all();
        // Most combinations are possible; a few draws find one that is.
        for _ in 0..20 {
            let (damage, number) = (*rng.pick(&all), rng.below(self.stores.len() as u64) as usize);
            let (name, origin) = (damage.name(), self.stores[number].origin.name());
            let tried =
                self.one(damage, number, rng).with_context(|| format!("{name} in {origin}"))?;
            if tried {
                self.tried.insert((name, origin));
                return Ok(());
            }
        }
        Ok(())
    }

    fn counted(&self) -> String {
        format!(
            "{} kinds and places tried in {} stores; {} records touched, {} others kept",
            self.tried.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(),
            self.tried.iter().map(|(_, store)| store).collect::<BTreeSet<_>>().len(),
            self.touched,
            self.kept,
        )
    }
}

impl AtRest {
    /// One damage in one store; `false` if there is nothing there it could be done to.
    fn one(&mut self, damage: Damage, number: usize, rng: &mut Rng) -> Result<bool> {
        let store = &self.stores[number];
        let home = TempDir::new()?;
        let damaged = home.path().join("damaged");
        copy(store.dir(), &damaged)?;
        let Some(applied) = damage.apply(&damaged, rng)? else { return Ok(false) };
        let case = Case {
            store,
            damage,
            applied: &applied,
            cut: Cell::new(None),
            home: home.path(),
            damaged: &damaged,
        };
        let told = || format!("{:?}", applied.changes.iter().take(3).collect::<Vec<_>>());
        // All three are looked at, and the first that failed is told.
        let checks = [
            found::check(&case).context("verify"),
            served::check(&case, rng).context("open"),
            mended::check(&case, rng).context("repair"),
        ];
        let broken: Vec<_> = checks.into_iter().filter_map(Result::err).collect();
        if !broken.is_empty() {
            let all: Vec<_> = broken.iter().map(|e| format!("{e:#}")).collect();
            anyhow::bail!("{}\n  {}", told(), all.join("\n  "));
        }
        self.hurt += 1;
        self.touched += applied.records.len() as u64;
        self.kept += (store.anatomy.records.len() - applied.records.len()) as u64;
        Ok(true)
    }

    /// Every damage in every store, once. Tells each promise that was not kept and goes on.
    pub(crate) fn every(rng: &mut Rng, only: Option<&str>) -> Result<u64> {
        let stores =
            Origin::ALL.iter().map(|origin| Pristine::of(*origin)).collect::<Result<_>>()?;
        let mut all = Self { stores, ..Self::default() };
        let mut broken = 0;
        for damage in Damage::all() {
            let name = damage.name();
            if only.is_some_and(|only| !name.contains(only)) {
                continue;
            }
            for number in 0..all.stores.len() {
                let origin = all.stores[number].origin.name();
                match all.one(damage, number, rng) {
                    Ok(true) => {
                        all.tried.insert((name.clone(), origin));
                    }
                    Ok(false) => {}
                    Err(e) => {
                        broken += 1;
                        println!("{name} in {origin}: {e:#}");
                    }
                }
            }
        }
        println!("{} cases, {broken} broken: {}", all.hurt, all.counted());
        Ok(broken)
    }
}
