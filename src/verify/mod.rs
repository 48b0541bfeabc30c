//! Checking a store without touching it: every record, and everything derived from the log against
//! the log. Reads with read calls and may run beside a writer.

use std::{collections::BTreeMap, fmt, path::Path};

use crate::{
    checkpoint::{self, snapshot::QueueState},
    disk::{Access, Disk, FilePath, file::FileDisk},
    error::{ErrorKind, Result},
    format::index::IndexGeometry,
    log::{
        DamagedRange,
        segment::{LOG_DIR, path_of},
    },
    offset::{PhysicalOffset, StoreTime},
    options::{OnDamage, Options},
    recovery::{self, Inspected, RecoveredLog, report::Finding, scan::Extent},
};

mod geometry;
pub(crate) mod groups;
mod index;
mod own;
mod queues;
mod segments;
mod walk;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is lost: the next open deals with it.
    Note,
    /// Files contradict each other; the log is sound there.
    Inconsistency,
    /// Bytes of the log are not what was written.
    Damage,
}

impl Severity {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Inconsistency => "inconsistency",
            Self::Damage => "damage",
        }
    }
}

/// Something that [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyFinding {
    /// What sort of thing, one short name that never changes.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file, as seen from the store's directory.
    pub file: String,
    /// The first byte of that file that is concerned.
    pub offset: u64,
    /// How many bytes are concerned; 0 where it is the file as such.
    pub len: u64,
    /// One sentence.
    pub detail: String,
}

impl fmt::Display for VerifyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, severity, file, offset, len, detail } = self;
        write!(f, "{} {kind} {file} offset={offset} len={len}: {detail}", severity.name())
    }
}

/// What [`verify`] looked at, and how many findings of each severity there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifySummary {
    /// First byte of the log.
    pub log_start: PhysicalOffset,
    /// First byte behind its last record.
    pub log_end: PhysicalOffset,
    /// Sound records.
    pub records: u64,
    /// Queues that the log or the files know.
    pub queues: u64,
    /// Queue entries that were compared with their record.
    pub queue_entries: u64,
    /// Index entries that were compared with their record.
    pub index_entries: u64,
    /// Whether a process had the store open for writing.
    pub live: bool,
    /// Findings by severity.
    pub notes: u64,
    /// Findings by severity.
    pub inconsistencies: u64,
    /// Findings by severity.
    pub damages: u64,
}

impl VerifySummary {
    /// Whether nothing was found that the next open does not mend without loss.
    pub fn is_sound(&self) -> bool {
        self.inconsistencies == 0 && self.damages == 0
    }
}

/// More findings of one kind are counted, not told.
const MOST_OF_A_KIND: u64 = 1000;

/// Tells findings as they come, not too many of a kind.
struct Findings<'a> {
    tell: &'a mut dyn FnMut(&VerifyFinding),
    kinds: BTreeMap<(&'static str, Severity), u64>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        kind: &'static str,
        severity: Severity,
        file: &FilePath,
        (offset, len): (u64, u64),
        detail: impl Into<String>,
    ) {
        let count = self.kinds.entry((kind, severity)).or_default();
        *count += 1;
        if *count <= MOST_OF_A_KIND {
            let file = file.as_str().to_owned();
            let detail = detail.into();
            (self.tell)(&VerifyFinding { kind, severity, file, offset, len, detail });
        }
    }

    fn note(&mut self, kind: &'static str, file: &FilePath, detail: impl Into<String>) {
        self.add(kind, Severity::Note, file, (0, 0), detail);
    }

    fn finish(&mut self, summary: &mut VerifySummary) {
        for (&(kind, severity), &count) in &self.kinds {
            match severity {
                Severity::Note => summary.notes += count,
                Severity::Inconsistency => summary.inconsistencies += count,
                Severity::Damage => summary.damages += count,
            }
            if count > MOST_OF_A_KIND {
                (self.tell)(&VerifyFinding {
                    kind,
                    severity,
                    file: String::new(),
                    offset: 0,
                    len: 0,
                    detail: format!("and {} more of this kind", count - MOST_OF_A_KIND),
                });
            }
        }
    }
}

/// Checks the store in the directory `dir` and tells each finding. Changes nothing, takes no lock,
/// may run beside a process that writes. Memory use grows with the number of queues, not with
/// that of messages. `progress` is told where in the log it is and where that ends.
///
/// Of `options` only the index geometry is used, and only where the files do not tell it.
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound) if there is no store, [`Unsupported`](ErrorKind::Unsupported)
/// naming what is not read, [`Io`](ErrorKind::Io).
pub fn verify(
    dir: impl AsRef<Path>,
    options: &Options,
    tell: &mut dyn FnMut(&VerifyFinding),
    progress: &mut dyn FnMut(PhysicalOffset, PhysicalOffset),
) -> Result<VerifySummary> {
    let disk = FileDisk::open(dir.as_ref(), Access::Read)?;
    verify_on(&disk, options, tell, progress)
}

/// Like [`verify`], of the store on `disk`.
pub(crate) fn verify_on(
    disk: &dyn Disk,
    options: &Options,
    tell: &mut dyn FnMut(&VerifyFinding),
    progress: &mut dyn FnMut(PhysicalOffset, PhysicalOffset),
) -> Result<VerifySummary> {
    let mut findings = Findings { tell, kinds: BTreeMap::new() };
    let live = recovery::lock::is_held(disk)?;
    let mut summary = VerifySummary { live, ..VerifySummary::default() };
    if segments::names_are_sound(disk, &mut findings)? {
        check(disk, options, &mut findings, &mut summary, progress)?;
    }
    findings.finish(&mut summary);
    Ok(summary)
}

/// The geometry of the index files that are there, if it can be made out.
pub(crate) fn index_geometry(disk: &dyn Disk) -> Result<Option<IndexGeometry>> {
    index::geometry_on(disk)
}

/// What the checks share.
struct Context<'a> {
    disk: &'a dyn Disk,
    inspected: &'a Inspected,
    live: bool,
    /// Whoever wrote last did not say that it closed the store.
    abandoned: bool,
    start: PhysicalOffset,
    end: PhysicalOffset,
    damage: &'a [DamagedRange],
    /// The queues as our last checkpoint left them; `None` too where that cannot be read.
    snapshot: Option<Snapshot>,
}

/// The ends of queues, and where in the log they were so.
struct Snapshot {
    at: PhysicalOffset,
    queues: Vec<QueueState>,
}

impl<'a> Context<'a> {
    fn extent(&self) -> Extent<'a> {
        let files = &self.inspected.files;
        let segment_bytes = files.segment_bytes.unwrap_or(0);
        Extent { disk: self.disk, bases: &files.bases, segment_bytes }
    }

    /// Whether derived files must be complete up to the log's end.
    fn is_closed(&self) -> bool {
        self.inspected.clean && !self.live
    }

    /// From where on the next open puts all entries of the queues once more, whatever their files
    /// hold. `None` if it takes them as they are.
    fn derived_from(&self) -> Option<PhysicalOffset> {
        let inspected = self.inspected;
        if inspected.clean || self.live || inspected.foreign.is_some() {
            return None;
        }
        Some(self.snapshot.as_ref().map_or(self.start, |snapshot| snapshot.at))
    }
}

fn check(
    disk: &dyn Disk,
    options: &Options,
    findings: &mut Findings<'_>,
    summary: &mut VerifySummary,
    progress: &mut dyn FnMut(PhysicalOffset, PhysicalOffset),
) -> Result<()> {
    let inspected = recovery::inspect(disk)?;
    inspected.expect_store()?;
    let files = &inspected.files;
    let start = files.bases.first().copied().unwrap_or(inspected.durable_end);
    let files_end =
        files.bases.last().map_or(start, |base| *base + files.segment_bytes.unwrap_or(0));
    summary.log_start = start;
    let now = StoreTime::from_millis(0);
    let mut walked = |at| progress(at, files_end);
    let log = recovery::examine(disk, &inspected, start, OnDamage::Serve, now, &mut walked);
    let log = match log {
        Ok(log) => log,
        Err(error) if matches!(error.kind(), ErrorKind::Damaged { .. }) => {
            let ErrorKind::Damaged { at, len } = error.kind() else { return Err(error) };
            let (file, offset) = segments::place(files, at);
            let detail = error.to_string();
            findings.add("log-shorter", Severity::Damage, &file, (offset, len), detail);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    summary.log_end = log.end;
    tell_log(&inspected, &log, findings);
    let context = Context {
        disk,
        inspected: &inspected,
        live: summary.live,
        abandoned: recovery::exists(disk, &FilePath::new(recovery::ABORT))?,
        start: log.start,
        end: log.end,
        damage: &log.damage,
        snapshot: snapshot_of(disk, &inspected)?,
    };
    own::frames(&context, findings)?;
    let mut queues = queues::QueueCheck::new(&context, findings)?;
    let mut index = index::IndexCheck::new(&context, options, findings)?;
    let mut walk = walk::Walk::new(&context);
    while let Some(view) = walk.next()? {
        summary.records += 1;
        let at = view.physical_offset();
        if summary.records.is_multiple_of(1 << 16) {
            progress(at, log.end);
        }
        queues.record(&view, findings)?;
        index.record(&view, findings)?;
    }
    if let Some(at) = walk.stopped_at() {
        let (file, offset) = segments::place(files, at);
        let detail = "the log changed while it was read; nothing behind was compared";
        findings.add("moved", Severity::Note, &file, (offset, 0), detail);
        return Ok(());
    }
    let ends = queues.finish(findings)?;
    summary.queues = queues.count();
    summary.queue_entries = queues.compared();
    index.finish(findings)?;
    summary.index_entries = index.compared();
    own::offsets(&context, ends, findings)?;
    own::leftovers(&context, findings)
}

fn snapshot_of(disk: &dyn Disk, inspected: &Inspected) -> Result<Option<Snapshot>> {
    let ours = inspected.checkpoint.as_ref().filter(|_| inspected.foreign.is_none());
    let Some(wanted) = ours.and_then(|checkpoint| checkpoint.snapshot) else { return Ok(None) };
    let queues = checkpoint::snapshot::read(disk, &wanted)?;
    Ok(queues.map(|queues| Snapshot { at: wanted.at, queues }))
}

/// What the walk over the log found, as findings.
fn tell_log(inspected: &Inspected, log: &RecoveredLog, findings: &mut Findings<'_>) {
    let files = &inspected.files;
    if let Some(before) = inspected.start_before() {
        let detail = format!(
            "the log begins later than it did: its first segments were removed, and not by this \
             store start={} before={before}",
            log.start
        );
        let range = (0, log.start.saturating_since(before));
        findings.add("log-start", Severity::Damage, &path_of(before), range, detail);
    }
    for finding in &log.report.findings {
        match finding {
            Finding::Damage { start, end, reason, row } => {
                let (file, offset) = segments::place(files, *start);
                let detail = format!(
                    "{reason}; restore the file from a copy, or give the records up with \
                     `steadfast repair --accept-loss` log_offset={start} row={row}"
                );
                let range = (offset, end.saturating_since(*start));
                findings.add("record", Severity::Damage, &file, range, detail);
            }
            Finding::Cut { at, bytes, row, .. } => {
                let (file, offset) = segments::place(files, *at);
                let detail = format!(
                    "bytes behind the last sound record, never known to be durable; the next open \
                     sets them aside log_offset={at} row={row}"
                );
                findings.add("torn-tail", Severity::Note, &file, (offset, *bytes), detail);
            }
            Finding::ForeignWriter { .. } if inspected.checkpoint.is_none() => {
                findings.note("own-checkpoint", &checkpoint::file(), finding.to_string());
            }
            other => findings.note("log", &FilePath::new(LOG_DIR), other.to_string()),
        }
    }
    segments::unused(inspected, log.end, findings);
}
