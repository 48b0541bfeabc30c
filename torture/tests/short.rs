//! A few cycles of every trial that any user can run on any machine. The long versions are run by
//! hand, see `docs/testing.md`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn torture(trial: &str, cycles: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    let done = command.args([trial, "--cycles", cycles]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{why}");
    assert!(said.contains(trial) && said.contains("cycles/s"), "{said}");
}

#[test]
fn what_was_acknowledged_survives_a_killed_process() {
    torture("kills", "8");
}

#[test]
fn many_threads_agree_while_segments_are_removed_under_them() {
    torture("stress", "3");
}
