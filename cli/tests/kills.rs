//! `put --flush sync` is killed at random moments, again and again over the same directory. Every
//! line it printed is there, in order, and no offset is given twice; `verify` of the killed
//! directory finds nothing worse than a tail.
//!
//! `STEADFAST_KILLS` sets the number of kills (default 5), `STEADFAST_SEED` the printed seed.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    thread,
    time::Duration,
};

use common::{GEOMETRY, json_lines, run, start, text};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Puts lines `round-0`, `round-1`, ... until it is killed after `delay`. Returns what it printed:
/// queue offset and line.
fn put_and_kill(dir: &str, round: u64, delay: Duration) -> Vec<(u64, String)> {
    let mut args = vec!["put", dir, "--topic", "kills", "--flush", "sync"];
    args.extend(GEOMETRY);
    let mut child = start(&args);
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let line = move |i: u64| format!("{round}-{i} {}", "y".repeat((i * 31 % 700) as usize));
    let writer = thread::spawn(move || {
        // Ends when the reader dies.
        for i in 0.. {
            if writeln!(stdin, "{}", line(i)).is_err() {
                return;
            }
        }
    });
    let reader = thread::spawn(move || {
        let mut printed = Vec::new();
        // A line that was cut off by the kill was not printed.
        for text in stdout.lines().map_while(Result::ok) {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { break };
            assert_eq!(value["status"], "PUT_OK");
            printed.push(value["queueOffset"].as_u64().unwrap());
        }
        printed
    });
    thread::sleep(delay);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "put ended by itself: {status}");
    writer.join().unwrap();
    let offsets = reader.join().unwrap();
    (0..).map(line).zip(offsets).map(|(line, offset)| (offset, line)).collect()
}

#[test]
fn every_line_that_put_printed_is_read_back_after_any_kill() {
    let seed = number("STEADFAST_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("STEADFAST_SEED={seed}");
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut state = seed;
    let rounds = number("STEADFAST_KILLS").unwrap_or(5);
    for round in 0..rounds {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        // From before the store is open to well into writing.
        let delay = Duration::from_millis(state >> 33 & 0xff);
        for (offset, line) in put_and_kill(dir, round, delay) {
            assert_eq!(acknowledged.insert(offset, line), None, "offset {offset} given twice");
        }
        if acknowledged.is_empty() {
            continue;
        }
        let verified = run(&["verify", dir], "");
        assert!(verified.status.success(), "round {round}: {}", text(&verified.stdout));
        // Each reading takes longer than the one before.
        if round % 10 != 9 && round + 1 != rounds {
            continue;
        }
        let read = run(&["get", dir, "--topic", "kills", "--json"], "");
        assert!(read.status.success(), "round {round}: {}", text(&read.stderr));
        let found = json_lines(&read);
        for (i, value) in found.iter().enumerate() {
            assert_eq!(value["queueOffset"].as_u64(), Some(i as u64), "in order, without gaps");
        }
        let bodies = run(&["get", dir, "--topic", "kills", "--queue", "0"], "");
        let bodies = common::lines(&bodies);
        for (offset, line) in &acknowledged {
            assert_eq!(bodies.get(*offset as usize), Some(line), "round {round}, offset {offset}");
        }
    }
    println!("{rounds} kills, {} lines were acknowledged", acknowledged.len());
    assert!(rounds < 20 || !acknowledged.is_empty(), "put never got to write: nothing was tested");
}
