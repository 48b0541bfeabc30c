//! One kind of damage, done by hand to a store that is at rest.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use steadfast::disk::sim::Rng;

use crate::damage::Damage;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do, such as flip-topic-middle; without it, prints all there are
    name: Option<String>,
    /// The store's directory; nobody may have it open
    dir: Option<PathBuf>,
    /// Where chance comes from
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Does it, and prints what was changed and which records that touches.
///
/// # Errors
///
/// There is no such damage, or it cannot be done.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (Some(name), Some(dir)) = (&args.name, &args.dir) else {
        for damage in Damage::all() {
            println!("{} ({:?})", damage.name(), damage.kind.part);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let damage = Damage::named(name).with_context(|| format!("there is no damage {name}"))?;
    let Some(applied) = damage.apply(dir, &mut Rng::new(args.seed))? else {
        println!("there is nothing it could be done to");
        return Ok(ExitCode::FAILURE);
    };
    for change in &applied.changes {
        println!("changed {} offset={} len={}", change.file, change.offset, change.len);
    }
    for r in &applied.records {
        let (at, size, topic) = (r.physical, r.size, &r.topic);
        let (queue, offset) = (r.queue_id, r.queue_offset);
        println!("record log_offset={at} size={size} queue={topic}/{queue} queue_offset={offset}");
    }
    if !applied.log {
        println!("the log is as it was");
    }
    Ok(ExitCode::SUCCESS)
}
