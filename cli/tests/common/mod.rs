//! Running the tool for real.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// Small files, so that a few hundred messages fill several.
pub(crate) const GEOMETRY: [&str; 8] = [
    "-o",
    "segment_bytes=64K",
    "-o",
    "queue_file_bytes=2000",
    "-o",
    "index_slots=100",
    "-o",
    "index_entries=400",
];

/// The tool with these arguments, ready to be started with pipes.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the tool.
pub(crate) fn start(args: &[&str]) -> Child {
    command(args).spawn().unwrap()
}

/// Runs the tool with `input` until it ends.
pub(crate) fn run(args: &[&str], input: &str) -> Output {
    let mut child = start(args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // In a thread of its own: the tool may stop reading, or write before it has read all.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Puts `count` lines into a small store and returns what was printed.
pub(crate) fn put(dir: &Path, topic: &str, more: &[&str], input: &str) -> Vec<Value> {
    let dir = dir.to_str().unwrap();
    let mut args = vec!["put", dir, "--topic", topic];
    args.extend(GEOMETRY);
    args.extend(more);
    let output = run(&args, input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    json_lines(&output)
}

/// `count` different messages, one a line.
pub(crate) fn messages(count: usize) -> String {
    (0..count).map(|i| format!("message {i} {}\n", "x".repeat(i * 37 % 300))).collect()
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of standard output.
pub(crate) fn lines(output: &Output) -> Vec<String> {
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The JSON lines of standard output.
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    lines(output).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit status.
pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Flips a bit of the log at `at`, a position in the whole log of 64 KiB segments.
pub(crate) fn flip_bit(dir: &Path, at: u64) -> String {
    let name = format!("commitlog/{:020}", at - at % 65536);
    let path = dir.join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(at % 65536) as usize] ^= 4;
    std::fs::write(path, bytes).unwrap();
    name
}
