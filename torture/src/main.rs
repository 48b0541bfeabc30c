//! `torture`: hurts real stores on real files, over and over, and checks that each keeps what it
//! promised. See `docs/testing.md`.

mod check;
mod kills;
mod message;
mod mounted;
mod power_cut;
mod promised;
mod trial;
mod writer;
mod writing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mounted::Kind;
use power_cut::PowerCut;
use trial::Budget;

/// Hurts real stores on real files, over and over, and checks that each keeps what it promised
///
/// Every trial goes on until its cycles or its minutes are used up, prints what it did, and ends at
/// the first promise that was not kept, with the seed of that cycle. What this machine lacks is
/// told as SKIP.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every trial in turn, sharing the minutes
    All(Budget),
    /// The writing process is killed while it opens, writes and rolls
    Kills(Budget),
    /// The power fails under a store on ext4
    PowerCutExt4(Budget),
    /// The power fails under a store on xfs
    PowerCutXfs(Budget),
    /// The process that is hurt; started by the trials
    #[command(hide = true)]
    Writer(writer::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::All(budget) => trial::run(&mut trial::all(), &budget),
        Command::Kills(budget) => trial::run(&mut [Box::new(kills::Kills::default())], &budget),
        Command::PowerCutExt4(budget) => power_cut(Kind::Ext4, &budget),
        Command::PowerCutXfs(budget) => power_cut(Kind::Xfs, &budget),
        Command::Writer(args) => return writer::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn power_cut(kind: Kind, budget: &Budget) -> anyhow::Result<()> {
    trial::run(&mut [Box::new(PowerCut::on(kind))], budget)
}
