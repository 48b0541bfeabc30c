//! Opening the log: look at the files, walk what is not known to be good, decide by the table, and
//! only then touch anything.

use std::{io, sync::Arc};

use crate::{
    checkpoint::{self, Checkpoint, frames},
    disk::{Access, Disk, FilePath, failed, load},
    error::{Error, ErrorKind, Result},
    format::{frame::ChecksumRule, java::JAVA_FIELDS_BYTES, layout::BLANK_BYTES},
    log::{DamagedRange, segment::Segment},
    offset::{PhysicalOffset, StoreTime},
    options::OnDamage,
};

pub(crate) mod cut;
pub(crate) mod files;
pub(crate) mod floors;
pub(crate) mod kept;
pub(crate) mod lock;
pub(crate) mod parallel;
pub(crate) mod reader;
pub(crate) mod report;
pub(crate) mod scan;
mod start;
pub(crate) mod table;
mod unread;

use files::{LogFiles, SEGMENT_MOST};
use kept::Syncing;
use report::{Finding, RecoveryReport};
use scan::{Extent, Scan};
use start::{LOOK_BACK, frames_from, look_back};
use table::{Action, Behind, Provenance};

/// RocketMQ's marker of a store in use.
pub(crate) const ABORT: &str = "abort";
/// RocketMQ's checkpoint.
pub(crate) const JAVA_CHECKPOINT: &str = "checkpoint";

/// What is known before anything was scanned.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) files: LogFiles,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) provenance: Provenance,
    /// Why the provenance is foreign, if so.
    pub(crate) foreign: Option<String>,
    /// The last writer closed the store, and nothing was written since.
    pub(crate) clean: bool,
    /// Our durable end, also where another program wrote since.
    pub(crate) durable_end: PhysicalOffset,
}

impl Inspected {
    /// An error where there is neither a log nor anything of ours that speaks of one.
    pub(crate) fn expect_store(&self) -> Result<()> {
        if self.files.segment_bytes.is_none() && self.checkpoint.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "there is no store in this directory"));
        }
        Ok(())
    }

    /// Where the log began when we wrote our last checkpoint, if it begins later now. Retention
    /// says what it removes before it does.
    pub(crate) fn start_before(&self) -> Option<PhysicalOffset> {
        let start = self.files.bases.first()?;
        let checkpoint = self.checkpoint.as_ref().filter(|_| self.foreign.is_none())?;
        Some(checkpoint.log_start).filter(|before| before < start)
    }
}

/// What the log is like after recovery.
#[derive(Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) start: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
    /// Below, everything is durable, or counts so because nothing is written here.
    pub(crate) durable: PhysicalOffset,
    pub(crate) damage: Vec<DamagedRange>,
    /// Where records begin, of what was walked.
    pub(crate) boundaries: Vec<PhysicalOffset>,
    pub(crate) report: RecoveryReport,
    /// From here on every record carries a checksum of all of it.
    pub(crate) record_crc_from: Option<PhysicalOffset>,
    /// What has to be cut before the first append, if anything.
    cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    bytes_until: Option<PhysicalOffset>,
}

/// Looks at the directory's own files and finds out who wrote last. Touches nothing.
pub(crate) fn inspect(disk: &dyn Disk) -> Result<Inspected> {
    unread::refuse(disk)?;
    let mut files = files::list_log(disk)?;
    let checkpoint = checkpoint::newest(disk)?;
    let mut durable_end = PhysicalOffset::ZERO;
    if let Some(checkpoint) = &checkpoint {
        // Also without a segment: then frames tell that there was a log.
        let segment_bytes = files.segment_bytes.unwrap_or(SEGMENT_MOST);
        durable_end = checkpoint.durable_end.max(frames::last_end(disk, segment_bytes)?);
    }
    let clean_end = checkpoint.as_ref().filter(|c| c.clean).map(|c| c.durable_end);
    let clean = clean_end == Some(durable_end) && !exists(disk, &FilePath::new(ABORT))?;
    let foreign = match &checkpoint {
        None if files.bases.is_empty() => None,
        None => Some("there is no checkpoint of this store".to_owned()),
        Some(checkpoint) => foreign_sign(disk, &files, checkpoint, clean_end)?,
    };
    if foreign.is_some() || checkpoint.is_none() {
        unread::refuse_part_of_a_log(disk, &files)?;
    }
    let provenance = match foreign {
        Some(_) => Provenance::Foreign,
        None => Provenance::Ours { durable_end },
    };
    let clean = clean && foreign.is_none();
    if let Some(checkpoint) = checkpoint.as_ref().filter(|_| foreign.is_none()) {
        files.retire(checkpoint.log_start);
    }
    Ok(Inspected { files, checkpoint, provenance, foreign, clean, durable_end })
}

/// Whether a file is there.
pub(crate) fn exists(disk: &dyn Disk, path: &FilePath) -> Result<bool> {
    match disk.open(path, Access::Read) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        // It is there, whatever it is.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(true),
        Err(e) => Err(failed("open", path)(e)),
    }
}

/// How it shows that another program wrote here since our last checkpoint, if it does.
fn foreign_sign(
    disk: &dyn Disk,
    files: &LogFiles,
    checkpoint: &Checkpoint,
    clean_end: Option<PhysicalOffset>,
) -> Result<Option<String>> {
    let path = FilePath::new(JAVA_CHECKPOINT);
    if let Some(bytes) = load(disk, &path, 1 << 20)? {
        let mut java = [0; JAVA_FIELDS_BYTES];
        let len = bytes.len().min(java.len());
        java[..len].copy_from_slice(&bytes[..len]);
        if java != checkpoint.java {
            return Ok(Some("the file checkpoint is not as this store left it".into()));
        }
    }
    let (Some(end), Some(segment_bytes)) = (clean_end, files.segment_bytes) else {
        return Ok(None);
    };
    // A program that appended behind our clean end left its first record there.
    for base in &files.bases {
        if *base <= end && end < *base + segment_bytes {
            let path = crate::log::segment::path_of(*base);
            let file = disk.open(&path, Access::Read).map_err(failed("open", &path))?;
            let mut head = [0; 8];
            let len = 8.min(segment_bytes - (end - *base)) as usize;
            file.read_exact_at(&mut head[..len], end - *base).map_err(failed("read", &path))?;
            if head != [0; 8] {
                return Ok(Some(format!("there are bytes behind the clean end offset={end}")));
            }
        }
    }
    Ok(None)
}

/// Walks the part of the log that is not known to be good and decides what it is. Touches nothing.
///
/// `from` is where the derived files are complete; walking begins there or a little before.
///
/// # Errors
///
/// [`Damaged`](ErrorKind::Damaged) with the ranges and the choices if there is damage and
/// `on_damage` refuses it, or if the log is shorter than what was durable.
pub(crate) fn examine(
    disk: &dyn Disk,
    inspected: &Inspected,
    from: PhysicalOffset,
    on_damage: OnDamage,
    now: StoreTime,
    progress: &mut dyn FnMut(PhysicalOffset),
) -> Result<RecoveredLog> {
    let files = &inspected.files;
    let start = files.bases.first().copied().unwrap_or(inspected.durable_end);
    let mut report = RecoveryReport {
        was_clean: inspected.clean,
        log_start: start,
        at: now,
        ..Default::default()
    };
    if let Some(reason) = &inspected.foreign {
        report.findings.push(Finding::ForeignWriter { reason: reason.clone() });
        unread::pending_timers(disk)?.into_iter().for_each(|text| report.note(text));
    }
    if let Some(before) = inspected.start_before() {
        report.note(format!(
            "the log begins later than it did: its first segments were removed by somebody else \
             start={start} before={before}"
        ));
    }
    let Some(segment_bytes) = files.segment_bytes else {
        // A log that was given up as a whole goes on behind where it was.
        let begins = inspected.checkpoint.as_ref().map_or(PhysicalOffset::ZERO, |c| c.log_start);
        if inspected.durable_end > begins {
            return Err(shorter(begins, inspected.durable_end));
        }
        return Ok(RecoveredLog {
            start,
            end: start,
            durable: start,
            damage: Vec::new(),
            boundaries: Vec::new(),
            report,
            record_crc_from: None,
            cut: None,
        });
    };
    let extent = Extent { disk, bases: &files.bases, segment_bytes };
    let from = look_back(disk, &extent, from.max(start), inspected.durable_end)?;
    let frames = frames_from(disk, &extent, from)?;
    let ours = inspected.checkpoint.as_ref().filter(|_| inspected.foreign.is_none());
    let record_crc_from = ours.and_then(|c| c.record_crc_from);
    let rule = |at: PhysicalOffset| {
        let before = frames.partition_point(|f| f.start <= at).checked_sub(1);
        let framed = before.is_some_and(|i| at < frames[i].end() && frames[i].all_record_crc);
        match framed || record_crc_from.is_some_and(|from| from <= at) {
            true => ChecksumRule::Required,
            false => ChecksumRule::WhenPresent,
        }
    };
    let clean_end = inspected.clean.then_some(inspected.durable_end);
    let scan = parallel::scan(&extent, from, clean_end, &rule, progress)?;
    report.checked_from = from;
    report.records_checked = scan.stretches.iter().map(|s| s.records).sum();
    let missing = missing_below(&extent, from);
    for gap in &missing {
        report.findings.push(Finding::Damage {
            start: gap.start,
            end: gap.end,
            reason: "the segment is missing".into(),
            row: table::Row::DurableDamage.label(),
        });
    }
    let mut log = decide(&scan, &extent, inspected.provenance, start, report);
    log.damage.splice(..0, missing);
    if log.end < inspected.durable_end {
        return Err(shorter(log.end, inspected.durable_end));
    }
    let files_end = files.bases.last().map_or(start, |base| *base + segment_bytes);
    if log.end > files_end {
        return Err(shorter(files_end, log.end));
    }
    log.record_crc_from = record_crc_from;
    log.report.log_end = log.end;
    if on_damage == OnDamage::Refuse {
        refuse(&log)?;
    }
    Ok(log)
}

/// Segments that are not there, below where walking begins.
fn missing_below(extent: &Extent<'_>, from: PhysicalOffset) -> Vec<DamagedRange> {
    let pairs = extent.bases.iter().zip(extent.bases.iter().skip(1));
    let gaps = pairs
        .map(|(base, next)| DamagedRange { start: *base + extent.segment_bytes, end: *next })
        .take_while(|gap| gap.end <= from);
    gaps.filter(|gap| gap.start < gap.end).collect()
}

/// Goes through the holes of the scan in order and does what the table says for each.
fn decide(
    scan: &Scan,
    extent: &Extent<'_>,
    provenance: Provenance,
    start: PhysicalOffset,
    mut report: RecoveryReport,
) -> RecoveredLog {
    let mut damage = Vec::new();
    let mut cut = None;
    let mut end = start;
    let durable_end = match provenance {
        Provenance::Ours { durable_end } => durable_end,
        Provenance::Foreign => PhysicalOffset::ZERO,
    };
    for (number, stretch) in scan.stretches.iter().enumerate() {
        end = stretch.end;
        let next = scan.stretches.get(number + 1);
        let behind = match next {
            Some(_) => Behind::Records,
            None if scan.bytes_until > Some(end) => Behind::Bytes,
            None => Behind::Zeros,
        };
        let row = table::row(provenance, end, behind);
        match row.action() {
            Action::End => break,
            Action::Cut => {
                let last = scan.stretches.last().map_or(end, |s| s.end);
                let bytes_until = scan.bytes_until.max(Some(last));
                cut = Some(Cut { bytes_until });
                report.findings.push(Finding::Cut {
                    at: end,
                    bytes: bytes_until.map_or(0, |until| until.saturating_since(end)),
                    row: row.label(),
                    maybe_acknowledged: provenance != Provenance::Foreign,
                    done: true,
                });
                break;
            }
            Action::Keep => {
                let until = match next {
                    Some(next) => next.start,
                    None => past_stub(extent, durable_end),
                };
                let reason = stretch.stopped_by.clone();
                report.findings.push(Finding::Damage {
                    start: end,
                    end: until,
                    reason: reason.unwrap_or_else(|| "the segment is missing".into()),
                    row: row.label(),
                });
                damage.push(DamagedRange { start: end, end: until });
                if next.is_none() {
                    end = until;
                    if scan.bytes_until > Some(end) {
                        cut = Some(Cut { bytes_until: scan.bytes_until });
                    }
                }
            }
        }
    }
    let boundaries = scan.boundaries.iter().copied().filter(|b| *b < end).collect();
    let record_crc_from = None;
    RecoveredLog { start, end, durable: end, damage, boundaries, report, record_crc_from, cut }
}

/// Where appends can go on at or behind `end`: a rest of a segment too small for a blank record
/// belongs to the damage before it, and so does the rest of one that is missing.
fn past_stub(extent: &Extent<'_>, end: PhysicalOffset) -> PhysicalOffset {
    let before = extent.bases.partition_point(|base| *base <= end);
    match before.checked_sub(1).and_then(|i| extent.bases.get(i)) {
        Some(base) => {
            let segment_end = *base + extent.segment_bytes;
            if end > segment_end {
                // In a segment that is missing: nothing can be appended there.
                return extent.bases.get(before).copied().unwrap_or(end);
            }
            let room = segment_end.saturating_since(end);
            if room < u64::from(BLANK_BYTES) { segment_end.max(end) } else { end }
        }
        None => end,
    }
}

fn shorter(end: PhysicalOffset, durable_end: PhysicalOffset) -> Error {
    Error::new(
        ErrorKind::Damaged { at: end, len: durable_end.saturating_since(end) },
        format!(
            "the log is shorter than what was durable: segments were removed or another program \
             cut them; restore them, or give the rest up with `steadfast repair --accept-loss` \
             end={end} durable_end={durable_end}"
        ),
    )
}

fn refuse(log: &RecoveredLog) -> Result<()> {
    let Some(first) = log.damage.first() else { return Ok(()) };
    let ranges: Vec<_> = log.report.damage().map(|(a, b)| format!("{a}..{b}")).collect();
    Err(Error::new(
        ErrorKind::Damaged { at: first.start, len: first.end - first.start },
        format!(
            "acknowledged records may be damaged at {}; nothing was changed. Restore the files \
             from a copy, or open with OnDamage::Serve to serve everything else, or give the \
             records up with `steadfast repair --accept-loss`",
            ranges.join(", ")
        ),
    ))
}

/// Brings the files into the state that was decided on: cuts, and unless that is the flusher's,
/// syncs what is kept and writes the frame that says so. Safe to repeat after a crash anywhere in
/// it. Returns up to where the log is durable. What is kept behind that has to be made
/// [dirty](kept::dirty) before any of it is served.
pub(crate) fn apply(
    disk: &Arc<dyn Disk>,
    inspected: &Inspected,
    log: &RecoveredLog,
    syncing: Syncing,
    now: StoreTime,
) -> Result<PhysicalOffset> {
    let files = &inspected.files;
    if let Some(path) = &files.empty_last {
        disk.remove(path).map_err(failed("remove", path))?;
    }
    cut::remove(&**disk, &files.retired)?;
    if inspected.foreign.is_some() || inspected.checkpoint.is_none() {
        // Frames of ours say nothing about bytes that another program may have replaced, nor about
        // a log that begins anew.
        frames::remove(&**disk, |_| true)?;
    }
    let Some(segment_bytes) = files.segment_bytes else { return Ok(log.end) };
    let extent = Extent { disk: &**disk, bases: &files.bases, segment_bytes };
    match &log.cut {
        Some(found) => {
            cut::cut(&extent, log.end, found.bytes_until, now)?;
        }
        None => cut::remove_behind(&extent, log.end)?,
    }
    if inspected.clean {
        return Ok(log.end);
    }
    cut::zero_again(&extent.up_to(log.end), log.end)?;
    if let Some(checkpoint) = inspected.checkpoint.as_ref().filter(|_| inspected.foreign.is_none())
    {
        // The next checkpoint speaks of what only they tell, and they with it.
        frames::keep(&**disk, checkpoint.durable_end, segment_bytes)?;
    }
    let from = match inspected.provenance {
        Provenance::Ours { durable_end } => durable_end,
        // What another program wrote is taken as it is, but for its newest part, which may never
        // have been synced.
        Provenance::Foreign => {
            PhysicalOffset::new(log.end.get().saturating_sub(LOOK_BACK)).max(log.start)
        }
    };
    if syncing == Syncing::ByFlusher {
        return Ok(from);
    }
    if from < log.end {
        kept::dirty(&extent, from, log.end, syncing)?;
        // Walking may begin where a frame does, so a frame begins where a record does: of another
        // program's log only the segment's base is known to be such a place.
        let begin = match inspected.provenance {
            Provenance::Ours { durable_end } => durable_end,
            Provenance::Foreign => {
                let behind = files.bases.partition_point(|base| *base < log.end);
                behind.checked_sub(1).map_or(log.start, |i| files.bases[i])
            }
        };
        kept::write_frames(disk, &extent, begin, log)?;
    }
    Ok(log.end)
}

/// Maps the segments of the recovered log, readable up to its end.
pub(crate) fn map_segments(
    disk: &dyn Disk,
    inspected: &Inspected,
    log: &RecoveredLog,
    access: Access,
) -> Result<Vec<Arc<Segment>>> {
    let Some(segment_bytes) = inspected.files.segment_bytes else { return Ok(Vec::new()) };
    let mut segments = Vec::new();
    for base in &inspected.files.bases {
        // `remove_behind` keeps the first one, whatever it holds.
        if *base >= log.end && !segments.is_empty() {
            break;
        }
        let published = log.end.saturating_since(*base).min(segment_bytes);
        segments.push(Arc::new(Segment::open(disk, *base, segment_bytes, published, access)?));
    }
    Ok(segments)
}
