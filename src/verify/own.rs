//! What is known besides: frames, checkpoints, consumer offsets, and what was left over.

use std::collections::BTreeMap;

use super::{Context, Findings, Severity};
use crate::{
    checkpoint::{OWN_DIR, frames, snapshot},
    consumer,
    disk::{self, Access, EntryKind, FilePath, failed, load},
    error::{ErrorKind, Result},
    format::{crc::crc32_from, java::JAVA_FIELDS_BYTES, offsets_json},
    log::segment::path_of,
    name::QueueKey,
    recovery::{ABORT, JAVA_CHECKPOINT, cut::QUARANTINE_DIR},
};

/// Frames that carry a checksum of the log's bytes, against those bytes; and the snapshot.
pub(super) fn frames(context: &Context<'_>, findings: &mut Findings<'_>) -> Result<()> {
    let inspected = context.inspected;
    if inspected.foreign.is_some() {
        return Ok(());
    }
    snapshot_is_there(context, findings)?;
    let Some(segment_bytes) = inspected.files.segment_bytes else { return Ok(()) };
    for base in &inspected.files.bases {
        let path = path_of(*base);
        let file = context.disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        let mut buffer = vec![0; 1 << 20];
        let mut problem = Ok(());
        frames::newest_first(context.disk, *base, segment_bytes, |frame| {
            let Some(stored) = frame.bytes_crc else { return false };
            let known = context.damage.iter().any(|d| d.start < frame.end() && frame.start < d.end);
            if known || frame.end() > context.end {
                return false;
            }
            let (mut at, mut left, mut crc) = (frame.start - *base, u64::from(frame.len), 0);
            while left > 0 {
                let piece = &mut buffer[..left.min(1 << 20) as usize];
                if let Err(e) = file.read_exact_at(piece, at) {
                    problem = Err(failed("read", &path)(e));
                    return true;
                }
                crc = crc32_from(crc, piece);
                at += piece.len() as u64;
                left -= piece.len() as u64;
            }
            if crc != stored {
                let detail = format!(
                    "bytes of a durable group are not what was synced, though its records look \
                     sound; restore the file from a copy log_offset={} stored={stored} \
                     computed={crc}",
                    frame.start
                );
                let range = (frame.start - *base, frame.len.into());
                findings.add("group", Severity::Damage, &path, range, detail);
            }
            false
        })?;
        problem?;
    }
    Ok(())
}

fn snapshot_is_there(context: &Context<'_>, findings: &mut Findings<'_>) -> Result<()> {
    let Some(checkpoint) = &context.inspected.checkpoint else { return Ok(()) };
    let Some(wanted) = checkpoint.snapshot else { return Ok(()) };
    // A writer removes the old one as soon as a newer checkpoint is there.
    if snapshot::read(context.disk, &wanted)?.is_none() && !context.live {
        let file = snapshot::path(wanted.sequence);
        let detail = "the snapshot of the queues is missing or broken; the next open rebuilds all \
                      queues from the log";
        findings.note("snapshot", &file, detail);
    }
    Ok(())
}

/// Saved consumer offsets against the queues' ends.
pub(super) fn offsets(
    context: &Context<'_>,
    ends: &BTreeMap<QueueKey, u64>,
    findings: &mut Findings<'_>,
) -> Result<()> {
    let path = FilePath::new(consumer::FILE);
    let most = offsets_json::OFFSETS_MAX_BYTES as u64;
    let Some(bytes) = load(context.disk, &path, most)?.filter(|b| !b.is_empty()) else {
        return Ok(());
    };
    let table = match offsets_json::parse(&bytes) {
        Ok(table) => table,
        Err(e) => {
            let backup = load(context.disk, &FilePath::new(consumer::BACKUP), most)?;
            let usable = backup.is_some_and(|bytes| offsets_json::parse(&bytes).is_ok());
            let (severity, then) = match usable {
                true => (Severity::Note, "its backup is used"),
                false => (Severity::Inconsistency, "and there is no backup; restore one of them"),
            };
            let detail = format!("cannot be read, {then}: {e}");
            findings.add("offsets", severity, &path, (0, bytes.len() as u64), detail);
            return Ok(());
        }
    };
    for (name, queues) in &table.offsets {
        let Some((topic, _)) = consumer::split(name) else { continue };
        for (&queue_id, &offset) in queues {
            let Ok(key) = QueueKey::new(topic, queue_id) else { continue };
            let Some(&end) = ends.get(&key) else { continue };
            // Beside a writer the queue may have grown since the log was read.
            if !context.live && (offset < 0 || offset as u64 > end) {
                let detail = format!(
                    "a consumer offset is not in its queue; the next open pulls it back \
                     name={name} queue={key} offset={offset} end={end}"
                );
                findings.add("offset", Severity::Inconsistency, &path, (0, 0), detail);
            }
        }
    }
    Ok(())
}

/// What a crash or a repair left.
pub(super) fn leftovers(context: &Context<'_>, findings: &mut Findings<'_>) -> Result<()> {
    let (disk, live) = (context.disk, context.live);
    let abort = FilePath::new(ABORT);
    if !live && load(disk, &abort, 1 << 20)?.is_some() {
        findings.note("abort", &abort, "the last writer did not close the store");
    }
    let java = FilePath::new(JAVA_CHECKPOINT);
    match load(disk, &java, 1 << 20) {
        Ok(Some(bytes)) if bytes.len() < JAVA_FIELDS_BYTES => {
            findings.note("java-checkpoint", &java, format!("too short len={}", bytes.len()));
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            findings.note("java-checkpoint", &java, e.to_string());
        }
        Err(e) => return Err(e),
    }
    for (dir, what) in [(QUARANTINE_DIR, "bytes that were set aside"), (OWN_DIR, "")] {
        let dir = FilePath::new(dir);
        let entries = disk::list(disk, &dir)?;
        for entry in entries.iter().filter(|e| e.kind == EntryKind::File) {
            let path = dir.join(&entry.name);
            if !what.is_empty() {
                findings.add("quarantine", Severity::Note, &path, (0, entry.len), what);
            } else if entry.name.ends_with(".tmp") && !live {
                findings.note("temporary", &path, "left by a crash; it is made anew when needed");
            }
        }
    }
    Ok(())
}
