//! Physical limits: what the processor, the page cache and the disk allow for an append-only log.
//!
//! `limits prewarm|copy|fault|fsync|wake|seqwrite|seqread|mapcount [key=value]...`: one line of JSON
//! a measurement on standard output.

mod latency;
mod memory;
mod pages;
mod scan;
mod scratch;
mod sync;
mod wake;

use std::process::ExitCode;

use common::{Args, Failure};

fn main() -> ExitCode {
    common::run("limits", case)
}

fn case(command: &str, args: &Args) -> Result<(), Failure> {
    match command {
        "prewarm" => memory::prewarm(args),
        "copy" => pages::copy(args),
        "fault" => pages::fault(args),
        "fsync" => sync::fsync(args),
        "wake" => wake::wake(args),
        "seqwrite" => scan::seqwrite(args),
        "seqread" => scan::seqread(args),
        "mapcount" => scan::mapcount(args),
        other => Err(format!("no such command: {other:?}").into()),
    }
}
