//! What `verify` has to say.

use anyhow::{Result, bail, ensure};
use steadfast::{ErrorKind, Severity, VerifyFinding};

use super::{Case, served, stores::Origin};
use crate::{
    damage::{Part, Place},
    files::listing,
};

/// What `verify` says of the store in `dir` that it did not say before it was hurt.
pub(super) fn findings(case: &Case<'_>, dir: &std::path::Path) -> Result<Vec<VerifyFinding>> {
    let mut found = Vec::new();
    let options = case.store.origin.options();
    let mut tell = |finding: &VerifyFinding| found.push(finding.clone());
    steadfast::verify(dir, &options, &mut tell, &mut |_, _| {})?;
    found.retain(|finding| !case.store.said.contains(&finding.to_string()));
    Ok(found)
}

/// Damage is found and named: the file, with a severity that says what it means.
pub(super) fn check(case: &Case<'_>) -> Result<()> {
    let before = listing(case.damaged)?;
    let found = findings(case, case.damaged);
    ensure!(listing(case.damaged)? == before, "it changed something");
    let found = match found {
        Ok(found) => found,
        // Nothing is left that would be a store.
        Err(e) if served::is_refused_anyhow(case) && case.store.origin.is_java() => {
            return match e.downcast_ref::<steadfast::Error>().map(steadfast::Error::kind) {
                Some(ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(()),
                _ => Err(e),
            };
        }
        Err(e) => return Err(e),
    };
    if !is_visible(case) {
        return Ok(());
    }
    let wanted = severity(case);
    let names = |finding: &&VerifyFinding| {
        // Sound records in their place: only what was derived from the right ones can tell. And a
        // queue that is ahead of the log tells of the log.
        let told = match case.damage.kind.name {
            "foreign-segment" => case.store.origin.is_java(),
            "flip-queue-offset" => is_misplaced(case) && finding.kind == "queue-entry",
            "queue-entries-ahead" => finding.kind == "log-ends-early",
            _ => false,
        };
        told || case.applied.changes.iter().any(|change| {
            // A directory that is gone is named by what should be in it.
            let inside = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}/"));
            finding.file == change.file
                || inside(&change.file, &finding.file)
                || inside(&finding.file, &change.file)
        })
    };
    let named: Vec<_> = found.iter().filter(names).collect();
    let all: Vec<_> = found.iter().map(ToString::to_string).take(4).collect();
    ensure!(!named.is_empty(), "nothing names what was changed: {all:#?}");
    let worst = named.iter().map(|finding| finding.severity).max();
    if worst < Some(wanted) {
        bail!("found as {worst:?} and not as {wanted:?}: {all:#?}");
    }
    Ok(())
}

/// Whether anything can tell.
fn is_visible(case: &Case<'_>) -> bool {
    let name = case.damage.kind.name;
    let origin = case.store.origin;
    match case.damage.kind.part {
        Part::Log => {
            // What came before the first segment of another program's log nobody knows, and what
            // the last one held that was not durable.
            let before_all = name == "segment-gone" && case.damage.place == Place::Early;
            let never_known = origin == Origin::AsyncKilled && case.damage.place >= Place::Last;
            // A record without a queue entry has no neighbours whose offsets could contradict.
            let alone = is_misplaced(case) && case.applied.records.iter().all(|r| !r.in_queue);
            !(is_quiet(case) || alone || origin.is_java() && before_all || never_known)
        }
        // Nothing is lost with them, and they are made anew without a word.
        Part::Checkpoint => false,
        // An older copy of offsets looks like any other.
        Part::Offsets => name != "offsets-stale",
        // With one file there is nothing to compare its length with.
        Part::Index if is_length_only(case) => index_files(case) > 1,
        // After a crash they are made anew from where the last checkpoint was.
        Part::Index if origin.is_killed() => !name.contains("header") && !name.contains("slot"),
        // Entries for records that are not in the log any more; delivery times of delayed messages.
        Part::Queues => {
            let mut files = case.applied.changes.iter().map(|change| &change.file);
            let expired = origin == Origin::Java("expired-preblank");
            !(expired || files.any(|file| file.contains("SCHEDULE_TOPIC_XXXX")))
        }
        _ => true,
    }
}

/// Whether it changed what no checksum covers.
pub(super) fn is_quiet(case: &Case<'_>) -> bool {
    let (name, origin) = (case.damage.kind.name, case.store.origin);
    let tail = ["zero-properties", "flip-checksum-name", "zero-page"].contains(&name);
    let field = name.starts_with("flip-") && !SEEN_WITHOUT_CHECKSUM.contains(&name);
    match origin {
        // Of a record without its checksum nobody can say that it had one.
        Origin::Java("clean-crc") => tail,
        _ => !origin.is_protected() && (tail || field),
    }
}

/// Whether a record says that its place in its queue is another one, and no checksum that it is
/// not.
pub(super) fn is_misplaced(case: &Case<'_>) -> bool {
    let origin = case.store.origin;
    let bare = !origin.is_protected() && origin != Origin::Java("clean-crc");
    bare && case.damage.kind.name == "flip-queue-offset"
}

/// Whether an index file has another length, and no byte in use is gone.
fn is_length_only(case: &Case<'_>) -> bool {
    let unused = |change: &crate::damage::Change| {
        let bytes = std::fs::read(case.store.dir().join(&change.file)).unwrap_or_default();
        bytes.iter().skip(change.offset as usize).all(|byte| *byte == 0)
    };
    match case.damage.kind.name {
        "index-file-too-long" => true,
        "index-file-cut-short" => case.applied.changes.iter().all(unused),
        _ => false,
    }
}

const SEEN_WITHOUT_CHECKSUM: &[&str] = &[
    "flip-total-size",
    "flip-magic",
    "flip-body-crc",
    "flip-body",
    "flip-queue-offset",
    "flip-physical-offset",
    "flip-body-length",
    "flip-topic-length",
    "flip-properties-length",
];

fn index_files(case: &Case<'_>) -> usize {
    std::fs::read_dir(case.store.dir().join("index")).map_or(0, |files| files.count())
}

/// How bad it must be called at least.
fn severity(case: &Case<'_>) -> Severity {
    match case.damage.kind.part {
        Part::Log if !case.applied.log => Severity::Inconsistency,
        // Nothing says how far a log goes that another program wrote, or what a crash left of it.
        Part::Log if case.is_torn_tail() => Severity::Note,
        Part::Log => Severity::Inconsistency,
        _ => Severity::Note,
    }
}
