//! What is known besides: frames, checkpoints, consumer offsets, and what was left over.

use std::collections::BTreeMap;

use super::{
    Context, Findings, Severity,
    groups::{self, Broken},
};
use crate::{
    checkpoint::{self, OWN_DIR, Slot, frames, snapshot},
    consumer,
    disk::{self, EntryKind, FilePath, load},
    error::{ErrorKind, Result},
    format::{java::JAVA_FIELDS_BYTES, offsets_json},
    log::segment::path_of,
    name::QueueKey,
    recovery::{ABORT, JAVA_CHECKPOINT, cut::QUARANTINE_DIR, exists},
};

/// Our own files, and frames that carry a checksum of the log's bytes against those bytes.
pub(super) fn frames(context: &Context<'_>, findings: &mut Findings<'_>) -> Result<()> {
    let inspected = context.inspected;
    slots_are_sound(context, findings)?;
    if inspected.foreign.is_some() {
        return Ok(());
    }
    snapshot_is_there(context, findings);
    let Some(segment_bytes) = inspected.files.segment_bytes else { return Ok(()) };
    for base in inspected.files.bases.iter().filter(|base| **base < inspected.durable_end) {
        if context.live {
            break;
        }
        if let Some((path, at, len)) = frames::unsound(context.disk, *base, segment_bytes)? {
            let detail = "what was synced together is not known here; the checkpoint says how \
                          much was durable";
            findings.add("frames", Severity::Note, &path, (at, len), detail);
        }
    }
    let broken = groups::broken(context.disk, &inspected.files, context.damage, context.end)?;
    for Broken { base, frame, computed } in broken {
        let detail = format!(
            "bytes of a durable group are not what was synced, though its records look sound; \
             restore the file from a copy log_offset={} stored={} computed={computed}",
            frame.start,
            frame.bytes_crc.unwrap_or(0)
        );
        let range = (frame.start - base, frame.len.into());
        findings.add("group", Severity::Damage, &path_of(base), range, detail);
    }
    Ok(())
}

/// A broken slot costs nothing as long as the other one is newer; else what came since is checked
/// once more.
fn slots_are_sound(context: &Context<'_>, findings: &mut Findings<'_>) -> Result<()> {
    let slots = checkpoint::slots(context.disk)?;
    let newest = context.inspected.checkpoint.as_ref().map_or(0, |c| c.sequence);
    for (at, slot) in slots {
        let broken = match slot {
            Slot::Sound(_) => false,
            Slot::Zeros => newest > 1,
            Slot::Broken => true,
        };
        if broken && !context.live {
            let detail = "a checkpoint is broken; the one before it is used";
            findings.add("own-checkpoint", Severity::Note, &checkpoint::file(), (at, 512), detail);
        }
    }
    Ok(())
}

fn snapshot_is_there(context: &Context<'_>, findings: &mut Findings<'_>) {
    let Some(checkpoint) = &context.inspected.checkpoint else { return };
    let Some(wanted) = checkpoint.snapshot else { return };
    // A writer removes the old one as soon as a newer checkpoint is there.
    if context.snapshot.is_none() && !context.live {
        let file = snapshot::path(wanted.sequence);
        let detail = "the snapshot of the queues is missing or broken; the next open rebuilds all \
                      queues from the log";
        findings.note("snapshot", &file, detail);
    }
}

/// Saved consumer offsets against the queues' ends.
pub(super) fn offsets(
    context: &Context<'_>,
    mut ends: BTreeMap<QueueKey, u64>,
    findings: &mut Findings<'_>,
) -> Result<()> {
    // Of a queue whose messages are all gone only the snapshot knows the end.
    for state in context.snapshot.iter().flat_map(|snapshot| &snapshot.queues) {
        let end = ends.entry(state.key.clone()).or_default();
        *end = state.end.get().max(*end);
    }
    let path = FilePath::new(consumer::FILE);
    let most = offsets_json::OFFSETS_MAX_BYTES as u64;
    let Some(bytes) = load(context.disk, &path, most)?.filter(|b| !b.is_empty()) else {
        let backup = FilePath::new(consumer::BACKUP);
        if load(context.disk, &backup, most)?.is_some_and(|bytes| !bytes.is_empty()) {
            findings.note("offsets", &path, "missing or empty; its backup is used");
        }
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
            if offset < 0 {
                let detail = format!(
                    "a negative consumer offset counts as none and is kept as it is name={name} \
                     queue={key} offset={offset}"
                );
                findings.note("offset", &path, detail);
            } else if !context.live && offset as u64 > end {
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
    if !live && exists(disk, &abort)? {
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
