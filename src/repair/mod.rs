//! Mending a store: everything derived is made anew, and damage in the log is given up where the
//! user says so. Nothing is ever removed without a copy in `quarantine/`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use crate::{
    checkpoint::{Checkpoint, CheckpointFile, frames, snapshot},
    clock::{Clock, SystemClock},
    disk::{Access, Disk, FilePath, failed, file::FileDisk},
    error::{ErrorKind, Result},
    log::segment::path_of,
    offset::{PhysicalOffset, StoreTime},
    open::{self, OpenRequest, ProgressFn},
    options::{OnDamage, Options},
    recovery::{self, Inspected, cut, report::Finding},
    verify::groups::{self, Broken},
};

mod placeholder;
mod sizes;

pub(crate) use placeholder::is_placeholder;

/// What a repair may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairMode {
    /// Nothing: only say what the others would do. Takes no lock.
    Plan,
    /// Make everything anew that comes from the log. Damage in the log stays as it is.
    Rebuild,
    /// Also give up what is damaged in the log, so that every program can walk past it.
    AcceptLoss,
}

/// A part of the log that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Its first byte in the log.
    pub start: PhysicalOffset,
    /// The first byte behind it.
    pub end: PhysicalOffset,
    /// The file it begins in, as seen from the store's directory.
    pub file: String,
    /// Where in that file.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// What becomes of it.
    pub remedy: Remedy,
}

/// What a repair that accepts loss does about a [`Loss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The bytes go to `quarantine/`, records without content take their place.
    Placeholder,
    /// The log is taken as ending here. There are no bytes to keep.
    Forget,
    /// The bytes stay and are taken as they are from now on: they are not what was written, but
    /// each record looks sound, so which one is wrong cannot be told.
    Accept,
    /// None: between sound records there is no room for a record, or so many segments are missing
    /// that the name of one must be wrong. The store serves everything else as it is.
    Leave,
}

/// What a repair found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What it was allowed to do.
    pub mode: RepairMode,
    /// The damage that was in the log.
    pub losses: Vec<Loss>,
    /// What the open that made the derived files anew found and did; empty for a plan.
    pub findings: Vec<Finding>,
}

impl RepairReport {
    /// Whether there is nothing left to give up.
    pub fn is_mended(&self) -> bool {
        match self.mode {
            RepairMode::AcceptLoss => self.losses.iter().all(|l| l.remedy != Remedy::Leave),
            _ => self.losses.is_empty(),
        }
    }
}

/// Mends the store in the directory `dir`, which nobody may have open. May be interrupted at any
/// point and repeated.
///
/// The queues, the key index and the checkpoints are made anew from the log in every mode but
/// [`Plan`](RepairMode::Plan).
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound) if there is no store, [`Locked`](ErrorKind::Locked),
/// [`Unsupported`](ErrorKind::Unsupported), [`Full`](ErrorKind::Full), [`Io`](ErrorKind::Io).
pub fn repair(
    dir: impl AsRef<Path>,
    options: &Options,
    mode: RepairMode,
    progress: impl Fn(&str, u64, u64) + Send + Sync + 'static,
) -> Result<RepairReport> {
    // Looked at first, so that nothing is made where there is no store.
    let disk = FileDisk::open(dir.as_ref(), Access::Read)?;
    let now = SystemClock::new().now();
    if mode == RepairMode::Plan {
        let resized = sizes::wrong(&disk)?;
        if !resized.is_empty() {
            // What is behind them is told once they have their size.
            let losses = resized.iter().filter_map(sizes::Wrong::loss).collect();
            let findings = resized.iter().map(sizes::Wrong::planned).collect();
            return Ok(RepairReport { mode, losses, findings });
        }
        let losses = assess(&disk, &look(&disk)?, now)?.losses;
        return Ok(RepairReport { mode, losses, findings: Vec::new() });
    }
    expect_any(&disk)?;
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir.as_ref(), Access::Write)?);
    repair_on(disk, options, mode, now, Box::new(progress))
}

/// Like [`repair`] of the store on `disk`, not for plans.
pub(crate) fn repair_on(
    disk: Arc<dyn Disk>,
    options: &Options,
    mode: RepairMode,
    now: StoreTime,
    progress: Box<ProgressFn>,
) -> Result<RepairReport> {
    let mut findings = Vec::new();
    let mut losses = {
        let _lock = recovery::lock::take(&*disk)?;
        findings.extend(sizes::restore(&*disk, now)?);
        let inspected = look(&*disk)?;
        let assessed = assess(&*disk, &inspected, now)?;
        let shorter = assessed.losses.iter().any(|loss| loss.remedy == Remedy::Forget);
        if shorter && mode != RepairMode::AcceptLoss {
            // No open takes such a log; nothing is rebuilt from it.
            return Ok(RepairReport { mode, losses: assessed.losses, findings });
        }
        if shorter {
            forget(&*disk, &inspected, assessed.end, options.segment_bytes)?;
        }
        assessed.losses
    };
    let progress: Arc<ProgressFn> = progress.into();
    if mode == RepairMode::AcceptLoss && !losses.is_empty() {
        // What damage still tells of the queues' ends is in our snapshot then: offsets that were
        // given are not given again, though nothing in the log will say so.
        findings.extend(rebuild(disk.clone(), options, progress.clone())?);
        let _lock = recovery::lock::take(&*disk)?;
        let inspected = look(&*disk)?;
        let assessed = assess(&*disk, &inspected, now)?;
        give_up(&disk, &inspected, &assessed, now)?;
        losses.retain(|loss| loss.remedy == Remedy::Forget);
        losses.extend(assessed.losses);
    }
    for finding in rebuild(disk, options, progress)? {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    Ok(RepairReport { mode, losses, findings })
}

/// An error where nothing says that there is, or was, a store.
fn expect_any(disk: &dyn Disk) -> Result<()> {
    match sizes::wrong(disk)?.is_empty() {
        true => look(disk).map(drop),
        false => Ok(()),
    }
}

fn look(disk: &dyn Disk) -> Result<Inspected> {
    let inspected = recovery::inspect(disk)?;
    inspected.expect_store()?;
    Ok(inspected)
}

/// The whole log, examined.
struct Assessed {
    losses: Vec<Loss>,
    /// Where the log ends, with damage or without.
    end: PhysicalOffset,
}

fn assess(disk: &dyn Disk, inspected: &Inspected, now: StoreTime) -> Result<Assessed> {
    let files = &inspected.files;
    let start = files.bases.first().copied().unwrap_or(inspected.durable_end);
    let examined = recovery::examine(disk, inspected, start, OnDamage::Serve, now, &mut |_| {});
    let log = match examined {
        Ok(log) => log,
        Err(error) => {
            let ErrorKind::Damaged { at, len } = error.kind() else { return Err(error) };
            let (start, end) = (at, at + len);
            let reason = error.to_string();
            let loss = loss(inspected, start, end, reason, Remedy::Forget);
            return Ok(Assessed { losses: vec![loss], end: at });
        }
    };
    let mut losses = Vec::new();
    for finding in &log.report.findings {
        let Finding::Damage { start, end, reason, .. } = finding else { continue };
        for (start, end) in pieces(inspected, *start, *end) {
            let room = end - start;
            let is_one = inspected.files.segment_bytes.is_none_or(|size| room <= size);
            let has_room =
                || is_segment_end(inspected, end) || placeholder::first_len(room).is_some();
            let fits = is_one && has_room();
            let remedy = if fits { Remedy::Placeholder } else { Remedy::Leave };
            losses.push(loss(inspected, start, end, reason.clone(), remedy));
        }
    }
    if inspected.foreign.is_none() {
        for Broken { frame, .. } in groups::broken(disk, files, &log.damage, log.end)? {
            let reason = "bytes of a durable group are not what was synced".to_owned();
            losses.push(loss(inspected, frame.start, frame.end(), reason, Remedy::Accept));
        }
        losses.sort_by_key(|loss| loss.start);
    }
    Ok(Assessed { losses, end: log.end })
}

fn loss(
    inspected: &Inspected,
    start: PhysicalOffset,
    end: PhysicalOffset,
    reason: String,
    remedy: Remedy,
) -> Loss {
    let base = inspected.files.base_of(start);
    let file = path_of(base).as_str().to_owned();
    Loss { start, end, file, offset: start - base, reason, remedy }
}

fn is_segment_end(inspected: &Inspected, at: PhysicalOffset) -> bool {
    let (Some(last), Some(size)) = (at.get().checked_sub(1), inspected.files.segment_bytes) else {
        return false;
    };
    inspected.files.base_of(PhysicalOffset::new(last)) + size == at
}

/// So many segments are made again at most: a wrong name can say that there were any number.
const PIECES_MOST: u64 = 4096;

/// `[start, end)` cut where segments end, or as it is if that makes too many.
fn pieces(
    inspected: &Inspected,
    start: PhysicalOffset,
    end: PhysicalOffset,
) -> Vec<(PhysicalOffset, PhysicalOffset)> {
    let size = inspected.files.segment_bytes.unwrap_or(u64::MAX);
    if end.saturating_since(start) / size > PIECES_MOST {
        return vec![(start, end)];
    }
    let mut pieces = Vec::new();
    let mut at = start;
    while at < end {
        let base = inspected.files.base_of(at);
        let until = end.min(PhysicalOffset::new(base.get().saturating_add(size)));
        pieces.push((at, until));
        at = until;
    }
    pieces
}

/// Takes damage out of the way. In an order in which a crash anywhere leaves what the next repair
/// takes up again: copies, then what we know of the range, then the range itself.
fn give_up(
    disk: &Arc<dyn Disk>,
    inspected: &Inspected,
    assessed: &Assessed,
    now: StoreTime,
) -> Result<()> {
    let mut touched: Vec<PhysicalOffset> = Vec::new();
    for loss in &assessed.losses {
        match loss.remedy {
            // That was done before.
            Remedy::Forget | Remedy::Leave => {}
            Remedy::Accept => touched.push(inspected.files.base_of(loss.start)),
            Remedy::Placeholder => {
                let base = inspected.files.base_of(loss.start);
                if inspected.files.bases.contains(&base) {
                    cut::quarantine(&**disk, base, loss.start, loss.end, now)?;
                }
                touched.push(base);
            }
        }
    }
    touched.dedup();
    if inspected.foreign.is_none() && !touched.is_empty() {
        restate_segments(disk, inspected, &touched)?;
    }
    for loss in assessed.losses.iter().filter(|l| l.remedy == Remedy::Placeholder) {
        overwrite(&**disk, inspected, loss, now)?;
    }
    Ok(())
}

/// Our durable end becomes what is there. The queues' ends stay known: offsets that were given are
/// not given again.
fn forget(
    disk: &dyn Disk,
    inspected: &Inspected,
    end: PhysicalOffset,
    segment_bytes: u64,
) -> Result<()> {
    let Some(last) = &inspected.checkpoint else { return Ok(()) };
    // Without a segment the log begins anew, behind all that it was.
    let gone = inspected.files.bases.is_empty();
    let behind = inspected.durable_end.get().checked_next_multiple_of(segment_bytes);
    let end = if gone { PhysicalOffset::new(behind.unwrap_or(0)) } else { end };
    let states = match &last.snapshot {
        Some(wanted) => snapshot::read(disk, wanted)?.map(|states| (wanted.at, states)),
        None => None,
    };
    // Frames first: with them gone and the old checkpoint still there, the log is still too short.
    frames::remove(disk, |_| true)?;
    // A number that no snapshot has: a checkpoint's own.
    let number = last.sequence + 1;
    let snapshot = states.map(|(at, states)| snapshot::write(disk, number, at.min(end), &states));
    let log_start = if gone { end } else { last.log_start.min(end) };
    let restated = Checkpoint {
        durable_end: end,
        log_start,
        clean: false,
        snapshot: snapshot.transpose()?,
        index: None,
        ..last.clone()
    };
    restate(disk, &restated)
}

/// Makes `checkpoint` the newest, in both slots: neither says any more what another one said.
fn restate(disk: &dyn Disk, checkpoint: &Checkpoint) -> Result<()> {
    let checkpoints = CheckpointFile::open(disk, checkpoint.sequence)?;
    for _ in 0..2 {
        checkpoints.write(checkpoint.clone())?;
    }
    Ok(())
}

/// What is known of changed segments says no more than what was durable: not what its bytes are,
/// and not that each record has a checksum, which a short placeholder has no room for.
fn restate_segments(
    disk: &Arc<dyn Disk>,
    inspected: &Inspected,
    touched: &[PhysicalOffset],
) -> Result<()> {
    if let Some(last) = &inspected.checkpoint {
        restate(&**disk, &Checkpoint { record_crc_from: None, ..last.clone() })?;
    }
    let size = inspected.files.segment_bytes.unwrap_or(0);
    frames::remove(&**disk, |base| touched.contains(&base))?;
    let mut writer = frames::FrameWriter::new(disk.clone());
    for base in touched {
        let end = inspected.durable_end.min(*base + size);
        if end > *base {
            let len = (end - *base) as u32;
            let frame = frames::Frame { start: *base, len, all_record_crc: false, bytes_crc: None };
            writer.append(*base, &frame)?;
        }
    }
    writer.sync()
}

/// Puts placeholders over a range of one segment, and a blank record where the segment ends.
fn overwrite(disk: &dyn Disk, inspected: &Inspected, loss: &Loss, now: StoreTime) -> Result<()> {
    let base = inspected.files.base_of(loss.start);
    let path = path_of(base);
    let file = match inspected.files.bases.contains(&base) {
        true => disk.open(&path, Access::Write).map_err(failed("open", &path))?,
        false => {
            let size = inspected.files.segment_bytes.unwrap_or(0);
            disk.create(&path, size).map_err(failed("create", &path))?
        }
    };
    if is_segment_end(inspected, loss.end) {
        let bytes = placeholder::encode_to_segment_end(loss.start, loss.end - loss.start, now)?;
        file.write_all_at(&bytes, loss.start - base).map_err(failed("write", &path))?;
    } else {
        let mut at = loss.start;
        while let Some(len) = placeholder::first_len(loss.end - at) {
            let bytes = placeholder::encode(at, len, now)?;
            file.write_all_at(&bytes, at - base).map_err(failed("write", &path))?;
            at = at + len;
        }
    }
    file.sync_data().map_err(failed("sync", &path))?;
    let dir: FilePath = path.parent();
    disk.sync_dir(&dir).map_err(failed("sync the directory", &dir))
}

/// Makes queues, index and checkpoints anew from the log.
fn rebuild(
    disk: Arc<dyn Disk>,
    options: &Options,
    progress: Arc<ProgressFn>,
) -> Result<Vec<Finding>> {
    let mut options = options.clone().on_damage(OnDamage::Serve);
    if let Some(last) = recovery::inspect(&*disk)?.checkpoint {
        options.flush = last.flush;
    }
    if let Some(geometry) = crate::verify::index_geometry(&*disk)? {
        (options.index_slots, options.index_entries) = (geometry.slots, geometry.entries);
    }
    let engine = open::open(OpenRequest {
        disk,
        clock: Arc::new(SystemClock::new()),
        options,
        access: Access::Write,
        store_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        progress: Box::new(move |what, at, end| progress(what, at, end)),
        rebuild: true,
    })?;
    let findings = engine.report.findings.clone();
    engine.close()?;
    Ok(findings)
}
