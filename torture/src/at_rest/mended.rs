//! What a repair has to leave.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use steadfast::{
    ErrorKind, OnDamage, Remedy, RepairMode, RepairReport, Severity, Store, VerifyFinding,
    disk::sim::Rng,
};

use crate::{damage::Part, files::listing};

use super::{
    Case, found,
    served::{self, Look},
};

/// Plans, rebuilds, gives up; again and again.
pub(super) fn check(case: &Case<'_>, _rng: &mut Rng) -> Result<()> {
    let dir = case.copy("mended")?;
    let before = listing(&dir)?;
    let planned = match repair(case, &dir, RepairMode::Plan) {
        Ok(planned) => planned,
        // What cannot be told to be a store is left to a person.
        Err(e) => {
            let in_log = case.damage.kind.part == Part::Log;
            ensure!(in_log || e.kind() == ErrorKind::Unsupported, "a derived file stops it: {e}");
            ensure!(listing(&dir)? == before, "a plan changed something");
            return Ok(());
        }
    };
    ensure!(listing(&dir)? == before, "a plan changed something");
    if let Err(e) = repair(case, &dir, RepairMode::Rebuild) {
        let offsets = case.damage.kind.part == Part::Offsets;
        ensure!(offsets && served::is_refused_anyhow(case), "rebuilding: {e}");
        return Ok(());
    }
    unless_unsound(case, &dir, Look::Keys)?;
    let done = repair(case, &dir, RepairMode::AcceptLoss).context("giving up")?;
    // What else is lost is known once a file has its size, or the log its end.
    let first = !planned.findings.is_empty()
        || planned.losses.iter().any(|loss| loss.remedy == Remedy::Forget);
    let same = done.losses.len() == planned.losses.len() || first;
    ensure!(same, "{done:?} was planned as {planned:?}");
    nothing_is_gone(case, &dir)?;
    let left = done.losses.iter().any(|loss| loss.remedy == Remedy::Leave);
    let log = of_log(&dir)?;
    let again = repair(case, &dir, RepairMode::AcceptLoss).context("giving up again")?;
    ensure!(left || again.losses.is_empty(), "nothing was to be left: {again:?}");
    ensure!(of_log(&dir)? == log, "the second repair changed the log");
    let found = found::findings(case, &dir)?;
    // Which of two records is in its place in a queue nobody can say.
    let misplaced = |f: &VerifyFinding| {
        found::is_misplaced(case) && ["queue-offset", "queue-entry"].contains(&f.kind)
    };
    let bad: Vec<_> =
        found.iter().filter(|f| f.severity > Severity::Note && !misplaced(f)).collect();
    // Sound records of another store are none of this one's, and stay.
    let strangers = case.damage.kind.name == "foreign-segment" || found::is_quiet(case);
    ensure!(left || strangers || bad.is_empty(), "verify finds after the repair: {bad:?}");
    unless_unsound(case, &dir, Look::GivenUp)?;
    fs::remove_dir_all(dir)?;
    Ok(())
}

fn repair(case: &Case<'_>, dir: &Path, mode: RepairMode) -> steadfast::Result<RepairReport> {
    let report = steadfast::repair(dir, &case.store.origin.options(), mode, |_, _, _| {})?;
    case.saw(&report.findings);
    Ok(report)
}

/// Everything sound is served, where anything is.
fn unless_unsound(case: &Case<'_>, dir: &Path, look: Look) -> Result<()> {
    let options = case.store.origin.options().on_damage(OnDamage::Serve);
    let Ok(store) = Store::builder(dir).options(options).open_read_only() else { return Ok(()) };
    served::whole(case, &store, look).context("after the repair")
}

fn of_log(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let all = listing(dir)?.into_iter();
    Ok(all.filter(|(name, _)| name.starts_with("commitlog") || name.starts_with("quar")).collect())
}

/// What was in a segment and is not any more is in quarantine.
fn nothing_is_gone(case: &Case<'_>, dir: &Path) -> Result<()> {
    let kept: Vec<_> = listing(dir)?.into_iter().filter(|(n, _)| n.starts_with("quar")).collect();
    for segment in &case.store.anatomy.segments {
        let before = fs::read(case.damaged.join(&segment.file)).unwrap_or_default();
        let after = fs::read(dir.join(&segment.file)).unwrap_or_default();
        let end = before.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let gone: Vec<_> = (0..end).filter(|at| after.get(*at) != Some(&before[*at])).collect();
        let kept_at = |at: usize| {
            let at = segment.base + at as u64;
            kept.iter().any(|(name, bytes)| {
                let name = name.trim_start_matches("quarantine/");
                let from = name.split('-').next().and_then(|n| n.parse::<u64>().ok());
                let within = from.and_then(|from| at.checked_sub(from));
                within.and_then(|i| bytes.get(i as usize))
                    == before.get((at - segment.base) as usize)
            })
        };
        let lost = gone.into_iter().find(|at| before[*at] != 0 && !kept_at(*at));
        ensure!(lost.is_none(), "byte {lost:?} of {} is nowhere", segment.file);
    }
    Ok(())
}
