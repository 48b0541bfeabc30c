//! `steadfast`: serves, looks into, fills, checks and mends message stores, and measures the engine.

mod bench;
mod dump;
mod exit;
mod get;
mod json;
mod opening;
mod options;
mod output;
mod put;
mod repair;
mod serve;
mod time;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A message log that keeps every message it acknowledged.
///
/// `serve` is a broker for RocketMQ's clients. The other commands work on a directory: one that this
/// program made, or one of a RocketMQ 5.x broker.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  the store said no, or damage was found; stderr says where and what to do
  2  wrong usage
  3  could not look: the store is locked, cannot be read, or there is none";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Put(put::Args),
    Get(get::Args),
    Dump(dump::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Put(args) => put::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    exit::code(result)
}
