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

/// The kinds of failures, of which each schedule has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    LogSync,
    SyncOrWrite,
    AnyCall,
    NoSpace,
    Scattered,
    ReadOnly,
    OpenFiles,
    Memory,
    ShortWrite,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 9] = [
        Self::LogSync,
        Self::SyncOrWrite,
        Self::AnyCall,
        Self::NoSpace,
        Self::Scattered,
        Self::ReadOnly,
        Self::OpenFiles,
        Self::Memory,
        Self::ShortWrite,
    ];
}

/// Calls that a file system answers with EROFS once it was made read-only.
const CHANGING: [CallKind; 9] = [
    CallKind::Create,
    CallKind::Rename,
    CallKind::Remove,
    CallKind::CreateDir,
    CallKind::Write,
    CallKind::DirtyAgain,
    CallKind::Allocate,
    CallKind::WriteZeros,
    CallKind::SyncData,
];

/// Draws the failures among about the next `calls` calls.
pub(crate) fn draw(
    rng: &mut Rng,
    disk: &SimDisk,
    kinds: &[FaultKind],
    calls: u64,
    only_halts: bool,
) -> Planned {
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
    if kind >= 68 && !only_halts && !kinds.is_empty() {
        planned.fails = true;
        let kind = *rng.pick(kinds);
        fail(rng, &mut planned, kind, calls);
    }
    planned
}

fn fail(rng: &mut Rng, planned: &mut Planned, kind: FaultKind, calls: u64) {
    let faults = [Fault::Io, Fault::Io, Fault::NoSpace, Fault::Quota, Fault::Interrupted];
    let fault = *rng.pick(&faults);
    let plan = std::mem::take(&mut planned.plan);
    let within = |rng: &mut Rng, calls| When::Nth(rng.within(1..calls));
    let (plan, when) = match kind {
        FaultKind::LogSync => {
            let n = within(rng, 8);
            (plan.fail(CallKind::SyncData, n, fault).under("commitlog/"), n)
        }
        FaultKind::SyncOrWrite => {
            let call = *rng.pick(&[CallKind::SyncData, CallKind::SyncDir, CallKind::Write]);
            let n = within(rng, 20);
            (plan.fail(call, n, fault), n)
        }
        FaultKind::AnyCall => {
            let n = within(rng, calls + 1);
            (plan.fail_any(n, fault), n)
        }
        FaultKind::NoSpace => {
            let from = When::From(rng.within(1..20));
            let plan = plan.fail(CallKind::Allocate, from, Fault::NoSpace);
            (plan.fail(CallKind::Create, from, Fault::NoSpace), from)
        }
        FaultKind::Scattered => {
            let often = When::PerMillion(20_000);
            (plan.fail_any(often, fault), often)
        }
        FaultKind::ReadOnly => {
            let from = When::From(rng.within(1..10));
            let add = |plan: FaultPlan, call: &CallKind| plan.fail(*call, from, Fault::ReadOnly);
            (CHANGING.iter().fold(plan, add), from)
        }
        FaultKind::OpenFiles => {
            let when =
                *rng.pick(&[When::From(rng.clone().within(1..12)), When::PerMillion(200_000)]);
            let plan = plan.fail(CallKind::Open, when, Fault::TooManyFiles);
            (plan.fail(CallKind::Create, when, Fault::TooManyFiles), when)
        }
        FaultKind::Memory => {
            let n = within(rng, 5);
            (plan.fail(CallKind::Map, n, Fault::NoMemory), n)
        }
        FaultKind::ShortWrite => {
            let n = within(rng, 20);
            (plan.fail(CallKind::Write, n, Fault::Short), n)
        }
    };
    planned.reverts = rng.chance(1, 3);
    let failure = if planned.reverts { SyncFailure::Reverted } else { SyncFailure::KeptClean };
    planned.plan = plan.on_failed_sync(failure);
    planned.shown += &format!(" {kind:?} {when:?} {fault:?} {failure:?}");
}
