//! What the measuring programs share: the command line, message bodies, why a case failed.

mod args;

use std::{
    env,
    io::{Write, stdout},
    process::ExitCode,
};

pub use args::Args;

/// Why a case could not be measured.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs `case` with the command and the words behind it; the exit status of the program `name`.
pub fn run(name: &str, case: impl FnOnce(&str, &Args) -> Result<(), Failure>) -> ExitCode {
    let mut words = env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let done = Args::parse(words).and_then(|args| case(&command, &args));
    let _ = stdout().flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// `len` bytes that do not compress, the same in every run.
pub fn body(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
