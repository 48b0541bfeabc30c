//! The workloads of the comparison on the engine, measured as `RocketMq.java` measures them.
//!
//! `engine-bench append|futures|queues|read|tail|fill|open dir=DIR [key=value]...`: one line of JSON
//! a measurement on standard output; `../README.md` says what is in it.

mod append;
mod engine;
mod hist;
mod measure;
mod read;
mod recovery;

use std::process::ExitCode;

use common::{Args, Failure};

fn main() -> ExitCode {
    common::run("engine-bench", case)
}

fn case(command: &str, args: &Args) -> Result<(), Failure> {
    match command {
        "append" | "queues" if args.text("case", "") == "sync-futures" => append::futures(args),
        "append" | "queues" => append::run(args),
        "futures" => append::futures(args),
        "read" => read::back(args),
        "tail" => read::tail(args),
        "fill" => recovery::fill(args),
        "open" => recovery::open(args),
        other => Err(format!("no such command: {other:?}").into()),
    }
}
