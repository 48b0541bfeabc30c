//! Write-back that fails once, then a power failure, as ext4 and xfs do it: the sync that meets the
//! error says so, the pages count as clean from then on, and are not on the disk. They get there
//! only if somebody writes to them again and a later sync succeeds.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Result;

use super::{
    messages::Put,
    outcome::Outcome,
    peer::{Opening, Peer},
    process::{Silent, write_plan},
    runtime::{Tracer, fresh, others, reopened},
};

const PAGE: usize = 4096;
/// Messages before the failure, and behind it.
const BEFORE: u64 = 100;
const BEHIND: u64 = 20;

/// The log's files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Lets the first sync of each thread fail while one message is put, puts more, cuts the power.
pub(super) fn failing(peer: &Peer, scratch: &Path) -> Result<Result<Outcome, String>> {
    let dir = fresh(scratch, "writeback")?;
    let Ok(mut process) = peer.open(&dir, Opening::default())? else {
        return Ok(Err("it does not open".to_owned()));
    };
    let (mut puts, _) = process.put(&format!("0 {BEFORE} 1 stop"))?;
    // Acknowledged one by one: all of it is on the disk.
    let durable = log_files(&dir)?;
    let tracer = match Tracer::attach(&process, "1", dir.with_extension("calls")) {
        Ok(tracer) => tracer,
        Err(why) => return Ok(Err(why)),
    };
    let (during, silent) = process.put(&format!("{BEFORE} 1 1 go"))?;
    let dirty = log_files(&dir)?;
    let (_, failed) = tracer.end()?;
    let mut outcome = Outcome { silent: silent.map(|Silent(how)| how), ..Outcome::default() };
    let (behind, _) = process.put(&format!("{} {BEHIND} 1 go", BEFORE + 1))?;
    let told = |puts: &[Put]| puts.iter().filter(|put| put.acknowledged()).count();
    outcome.note = format!(
        "{} of 1 acknowledged while {failed} syncs failed{}; then {} of {BEHIND}{}",
        told(&during),
        others(&during),
        told(&behind),
        others(&behind),
    );
    outcome.after_failure = Some((told(&during) + told(&behind)) as u64);
    puts.extend(during);
    puts.extend(behind);
    drop(process);
    let lost = cut_power(&dir, &durable, &dirty)?;
    outcome.note.push_str(&format!("; {lost} pages of the log never reached the disk"));
    outcome.acknowledged = write_plan(&dir.with_extension("plan"), &puts)?.len() as u64;
    reopened(peer, &dir, Opening::default(), &puts, &mut outcome)?;
    Ok(Ok(outcome))
}

fn log_files(dir: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir.join("commitlog"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Takes back the pages that were dirty when the sync failed, but for those written to afterwards.
/// Everything else counts as durable. Returns how many.
fn cut_power(dir: &Path, durable: &Files, dirty: &Files) -> Result<u64> {
    let mut lost = 0;
    for (name, mut bytes) in log_files(dir)? {
        let (Some(old), Some(failed)) = (durable.get(&name), dirty.get(&name)) else { continue };
        let before = lost;
        for start in (0..bytes.len().min(old.len()).min(failed.len())).step_by(PAGE) {
            let page = start..(start + PAGE).min(old.len()).min(failed.len()).min(bytes.len());
            let was_dirty = old[page.clone()] != failed[page.clone()];
            if was_dirty && bytes[page.clone()] == failed[page.clone()] {
                bytes[page.clone()].copy_from_slice(&old[page]);
                lost += 1;
            }
        }
        if lost > before {
            fs::write(dir.join("commitlog").join(&name), &bytes)?;
        }
    }
    Ok(lost)
}
