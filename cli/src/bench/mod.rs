//! `steadfast bench`: how fast the engine is on this machine, and how fast a broker answers.

mod cpu;
mod engine;
mod frames;
mod lane;
mod row;
mod send;

use clap::Subcommand;

use crate::exit::{Failure, Outcome};

/// Measures the engine on this machine, or a broker
///
/// The columns are the same each time: times are microseconds, of one message where messages are
/// appended, read or sent, of one open for `recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Appending, in both flush modes
    ///
    /// Works in a directory of its own, which is removed at the end.
    #[command(after_help = engine::EXAMPLES)]
    Append(engine::Args),
    /// Reading through a queue
    ///
    /// Works in a directory of its own, which is removed at the end.
    #[command(after_help = engine::EXAMPLES)]
    Read(engine::Args),
    /// Opening
    ///
    /// Works in a directory of its own, which is removed at the end.
    #[command(after_help = engine::EXAMPLES)]
    Recover(engine::Args),
    Send(send::Args),
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    match &args.what {
        What::Append(args) => engine::run(engine::What::Append, args),
        What::Read(args) => engine::run(engine::What::Read, args),
        What::Recover(args) => engine::run(engine::What::Recover, args),
        What::Send(args) => send::run(args),
    }
}
