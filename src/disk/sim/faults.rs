//! Which calls fail, when, and how.

use std::{io, sync::Arc};

use rustix::io::Errno;

use super::rng::Rng;

/// The kinds of calls, to count them and to make them fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Each is the method of the same name.
pub enum CallKind {
    Lock,
    Create,
    Open,
    List,
    Modified,
    Rename,
    Remove,
    CreateDir,
    RemoveDir,
    SyncDir,
    SyncAll,
    Usage,
    Len,
    Read,
    Write,
    DirtyAgain,
    SetLen,
    Allocate,
    WriteZeros,
    SyncData,
    Map,
}

impl CallKind {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Lock,
        Self::Create,
        Self::Open,
        Self::List,
        Self::Modified,
        Self::Rename,
        Self::Remove,
        Self::CreateDir,
        Self::RemoveDir,
        Self::SyncDir,
        Self::SyncAll,
        Self::Usage,
        Self::Len,
        Self::Read,
        Self::Write,
        Self::DirtyAgain,
        Self::SetLen,
        Self::Allocate,
        Self::WriteZeros,
        Self::SyncData,
        Self::Map,
    ];
}

/// How many calls of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts([u64; CallKind::ALL.len()]);

impl CallCounts {
    /// Calls of this kind.
    pub fn of(&self, kind: CallKind) -> u64 {
        self.0[kind as usize]
    }

    /// Calls of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, kind: CallKind) {
        self.0[kind as usize] += 1;
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// EIO. A sync also loses pages, see [`SyncFailure`].
    Io,
    /// ENOSPC. A write or an allocation does a part of its work first; a sync loses pages.
    NoSpace,
    /// EDQUOT, otherwise as `NoSpace`.
    Quota,
    /// EINTR.
    Interrupted,
    /// A read ends early (`UnexpectedEof`), a write stops in the middle (`WriteZero`); EIO for
    /// other calls.
    Short,
    /// EMFILE.
    TooManyFiles,
    /// ENOMEM.
    NoMemory,
    /// EROFS.
    ReadOnly,
    /// The disk lies: a sync says that all is well, and pages are lost as after a failure.
    /// Damage, not a crash: only a second copy elsewhere helps. Other calls succeed.
    Lost,
}

impl Fault {
    /// The error that the caller gets.
    pub fn error(self) -> io::Error {
        match self {
            Self::Io | Self::Short | Self::Lost => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
            Self::Quota => Errno::DQUOT.into(),
            Self::Interrupted => Errno::INTR.into(),
            Self::TooManyFiles => Errno::MFILE.into(),
            Self::NoMemory => Errno::NOMEM.into(),
            Self::ReadOnly => Errno::ROFS.into(),
        }
    }
}

/// What becomes of the pages that a failed sync could not write. Later syncs succeed either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncFailure {
    /// They keep the new bytes in memory and count as clean, so no later sync writes them
    /// (ext4, xfs).
    #[default]
    KeptClean,
    /// They go back to the old bytes (btrfs). Pages of a file that is mapped are kept clean
    /// instead: bytes that a reader holds must not change under it.
    Reverted,
}

/// When a rule strikes. Counted from 1, since the plan was set, among the calls the rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call of this number, once.
    Nth(u64),
    /// That call and all after it.
    From(u64),
    /// Each call by chance: so many in a million.
    PerMillion(u32),
}

/// Makes some calls fail.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Calls of this kind, or of any.
    pub call: Option<CallKind>,
    /// Calls about a path that begins so. Calls without a path (`usage`, `sync_all`) have "".
    pub under: String,
    /// Which of them.
    pub when: When,
    /// And how.
    pub fault: Fault,
}

/// All the failures to come. The default: none.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// With the calls each rule was asked about so far.
    rules: Vec<(FaultRule, u64)>,
    sync_failure: SyncFailure,
    halt_at: Option<u64>,
}

impl FaultPlan {
    /// Nothing fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a rule. Where several strike, the first added decides.
    #[must_use]
    pub fn rule(mut self, rule: FaultRule) -> Self {
        self.rules.push((rule, 0));
        self
    }

    /// Adds: calls of kind `call` fail with `fault`.
    #[must_use]
    pub fn fail(self, call: CallKind, when: When, fault: Fault) -> Self {
        self.rule(FaultRule { call: Some(call), under: String::new(), when, fault })
    }

    /// Adds: calls of any kind fail with `fault`. To try every call of a run, count them in a run
    /// without faults, then fail number 1, 2, 3, and so on.
    #[must_use]
    pub fn fail_any(self, when: When, fault: Fault) -> Self {
        self.rule(FaultRule { call: None, under: String::new(), when, fault })
    }

    /// Restricts the rule added last to paths that begin with `prefix`, such as `commitlog/`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        if let Some((rule, _)) = self.rules.last_mut() {
            prefix.clone_into(&mut rule.under);
        }
        self
    }

    /// What a failed sync does to the pages.
    #[must_use]
    pub fn on_failed_sync(mut self, failure: SyncFailure) -> Self {
        self.sync_failure = failure;
        self
    }

    /// Stops the machine right before the `n`-th call of the disk's life (from 1, see
    /// [`SimDisk::counts`](super::SimDisk::counts)): an
    /// image of that moment is kept for [`SimDisk::halted`](super::SimDisk::halted), and this and
    /// all later calls fail with EIO.
    #[must_use]
    pub fn halt_at(mut self, n: u64) -> Self {
        self.halt_at = Some(n);
        self
    }

    pub(super) fn halts_at(&self, n: u64) -> bool {
        self.halt_at == Some(n)
    }

    pub(super) fn sync_failure(&self) -> SyncFailure {
        self.sync_failure
    }

    /// The fault of this call. Every rule counts the call, whichever decides.
    pub(super) fn draw(&mut self, kind: CallKind, path: &Arc<str>, rng: &mut Rng) -> Option<Fault> {
        let mut decided = None;
        for (rule, seen) in &mut self.rules {
            if rule.call.is_some_and(|call| call != kind) || !path.starts_with(&rule.under) {
                continue;
            }
            *seen += 1;
            let strikes = match rule.when {
                When::Nth(n) => *seen == n,
                When::From(n) => *seen >= n,
                When::PerMillion(n) => rng.chance(n.into(), 1_000_000),
            };
            if strikes && decided.is_none() {
                decided = Some(rule.fault);
            }
        }
        decided
    }
}
