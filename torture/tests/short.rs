//! A few cycles of every trial; those that this user or machine cannot run say SKIP. The long
//! versions are run by hand, see `docs/testing.md`.

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

#[test]
fn what_was_acknowledged_survives_a_power_cut_on_real_file_systems() {
    torture("power-cut-ext4", "3");
    torture("power-cut-xfs", "3");
}

#[test]
fn what_a_power_cut_leaves_is_possible_on_the_simulated_disk() {
    torture("states-ext4", "3");
    torture("states-xfs", "3");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_of_a_whole_machine() {
    torture("qemu", "1");
}

#[test]
fn what_was_acknowledged_survives_a_disk_that_fails_and_forgets() {
    torture("fuse", "10");
}

#[test]
fn what_was_acknowledged_survives_any_call_that_fails() {
    torture("calls", "60");
}

#[test]
fn a_full_disk_is_an_error_and_room_again_is_enough() {
    for trial in ["full-tmpfs", "full-ext4", "full-xfs", "full-btrfs", "full-overlay"] {
        torture(trial, "2");
    }
}

#[test]
fn damage_at_rest_is_named_served_and_repaired() {
    torture("damage", "20");
}

#[test]
fn the_fault_table_is_still_true_of_our_store() {
    let out = tempfile::tempdir().unwrap();
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reliability/table.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    command.args(["peers", "--short", "--against", table, "--out"]).arg(out.path());
    let done = command.output().unwrap();
    let (said, why) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{why}");
    assert!(said.contains("cases in"), "{said}");
}
