//! The same faults at our store and at RocketMQ's, side by side: `torture peers`. What each says
//! and serves afterwards is compared with what it had acknowledged.

mod messages;
mod ours;
mod outcome;
mod peer;
mod process;
mod rest;
mod runtime;
mod table;
mod writeback;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

pub(crate) use ours::Args as PeerArgs;
pub(crate) use ours::run as run_peer;

use peer::Peer;

/// The fault table.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with the Java driver, as `tests/interop/run.sh build` leaves it; without it only
    /// our store is tried
    #[arg(long)]
    driver: Option<PathBuf>,
    /// Versions of the Java store
    #[arg(long, value_delimiter = ',', default_value = "5.3.1,5.5.1")]
    versions: Vec<String>,
    /// A few faults only
    #[arg(long)]
    short: bool,
    /// Only faults with this in their name
    #[arg(long)]
    only: Option<String>,
    /// Messages in each store
    #[arg(long, default_value_t = 2480)]
    messages: u64,
    /// Where the bits to flip are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Settings for the Java store beside those of the driver, such as `crc=true,verify=true`
    #[arg(long)]
    java: Option<String>,
    /// Where the stores are made, on a real disk; by default a temporary directory
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// A full table of an earlier run: our store must do the same again
    #[arg(long)]
    against: Option<PathBuf>,
    /// Directory for the results: `results.jsonl` and tables
    #[arg(long)]
    out: PathBuf,
}

/// Throws every fault at every store, prints and writes the table.
///
/// # Errors
///
/// Our store lost, changed or hid something that the fault did not touch; or the trial itself
/// failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let temporary = tempfile::Builder::new().prefix("steadfast-peers.").tempdir()?;
    let scratch = args.scratch.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(scratch)?;
    fs::create_dir_all(&args.out)?;
    let peers = peers(args, scratch)?;
    let mut rows = rest::run(args, &peers, scratch)?;
    rows.extend(runtime::run(args, &peers, scratch)?);
    fs::write(args.out.join("results.jsonl"), table::json(&rows))?;
    fs::write(args.out.join("table.md"), table::full(&rows))?;
    let (summary, runtime) = (table::summary(&rows), table::runtime(&rows));
    fs::write(args.out.join("summary.md"), &summary)?;
    fs::write(args.out.join("runtime.md"), &runtime)?;
    println!("{summary}\n{runtime}\n{} cases in {} s", rows.len(), begun.elapsed().as_secs());
    let mut broken = 0;
    for row in &rows {
        for promise in row.broken() {
            let known = row.fault.is_known();
            broken += u64::from(!known);
            println!("{}: {promise}", if known { "known" } else { "NOT KEPT" });
        }
    }
    ensure!(broken == 0, "our store did not keep a promise");
    if let Some(path) = &args.against {
        let committed = fs::read_to_string(path).context("no earlier table there")?;
        let different = table::differences(&rows, &committed);
        ensure!(different.is_empty(), "not as in the table:\n{}", different.join("\n"));
    }
    Ok(())
}

fn peers(args: &Args, scratch: &Path) -> Result<Vec<Peer>> {
    let mut peers = vec![Peer::ours()];
    let Some(driver) = &args.driver else {
        println!("SKIP the Java store: no --driver");
        return Ok(peers);
    };
    let driver = driver.canonicalize().context("no Java driver there")?;
    for version in &args.versions {
        peers.push(Peer::java(&driver, version, args.java.as_deref(), scratch)?);
    }
    Ok(peers)
}
