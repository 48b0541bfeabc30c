//! The workloads of the comparison on the engine, measured as `RocketMq.java` measures them.
//!
//! `engine-bench append|futures|queues|read|tail|fill|open dir=DIR [key=value]...`: one line of JSON
//! a measurement on standard output; `../README.md` says what is in it.

mod append;
mod args;
mod engine;
mod hist;
mod measure;
mod read;
mod recovery;

use std::{
    io::{Write, stdout},
    process,
};

use crate::args::Args;

/// Why a case could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() {
    let status = match run() {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("engine-bench: {failure}");
            1
        }
    };
    let _ = stdout().flush();
    process::exit(status);
}

fn run() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let args = Args::parse(words)?;
    match command.as_str() {
        "append" | "queues" if args.text("case", "") == "sync-futures" => append::futures(&args),
        "append" | "queues" => append::run(&args),
        "futures" => append::futures(&args),
        "read" => read::back(&args),
        "tail" => read::tail(&args),
        "fill" => recovery::fill(&args),
        "open" => recovery::open(&args),
        other => Err(format!("no such command: {other:?}").into()),
    }
}
