//! Which calls of the disk fail in the next open or session.

use steadfast::disk::sim::{CallKind, Fault, FaultPlan, Rng, SimDisk, SyncFailure, When};

/// A plan, and what it means for what may be expected.
#[derive(Default)]
pub(crate) struct Planned {
    pub(crate) plan: FaultPlan,
    /// Calls may return errors.
    pub(crate) fails: bool,
    /// A failed sync may take bytes back that the process saw.
    pub(crate) reverts: bool,
    pub(crate) shown: String,
}

/// Draws the failures among about the next `calls` calls.
pub(crate) fn draw(rng: &mut Rng, disk: &SimDisk, calls: u64, only_halts: bool) -> Planned {
    let mut planned = Planned::default();
    let kind = rng.below(100);
    if kind < 40 {
        return planned;
    }
    if kind < 75 {
        let at = disk.counts().total() + rng.within(1..calls + 1);
        planned.plan = planned.plan.halt_at(at);
        planned.shown = format!("halt_at={at}");
    }
    if kind >= 68 && !only_halts {
        planned.fails = true;
        fail(rng, &mut planned, calls);
    }
    planned
}

fn fail(rng: &mut Rng, planned: &mut Planned, calls: u64) {
    let faults = [Fault::Io, Fault::Io, Fault::NoSpace, Fault::Quota, Fault::Interrupted];
    let fault = *rng.pick(&faults);
    let plan = std::mem::take(&mut planned.plan);
    let (plan, text) = match rng.below(6) {
        0 | 1 => {
            let n = When::Nth(rng.within(1..8));
            let plan = plan.fail(CallKind::SyncData, n, fault).under("commitlog/");
            (plan, format!("log sync {n:?} {fault:?}"))
        }
        2 => {
            let kind = *rng.pick(&[CallKind::SyncData, CallKind::SyncDir, CallKind::Write]);
            let n = When::Nth(rng.within(1..20));
            (plan.fail(kind, n, fault), format!("{kind:?} {n:?} {fault:?}"))
        }
        3 => {
            let n = When::Nth(rng.within(1..calls + 1));
            (plan.fail_any(n, fault), format!("any {n:?} {fault:?}"))
        }
        4 => {
            let from = When::From(rng.within(1..20));
            let plan = plan.fail(CallKind::Allocate, from, Fault::NoSpace);
            (plan.fail(CallKind::Create, from, Fault::NoSpace), format!("no space {from:?}"))
        }
        _ => (plan.fail_any(When::PerMillion(20_000), fault), format!("2% {fault:?}")),
    };
    planned.reverts = rng.chance(1, 3);
    let failure = if planned.reverts { SyncFailure::Reverted } else { SyncFailure::KeptClean };
    planned.plan = plan.on_failed_sync(failure);
    planned.shown += &format!(" {text} {failure:?}");
}
