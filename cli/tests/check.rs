//! Damage is found, named, and given up only when told so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path};

use common::{flip_bit, json_lines, lines, messages, put, run, status, text};
use serde_json::Value;

fn verify(dir: &Path) -> (i32, Vec<Value>) {
    let output = run(&["verify", dir.to_str().unwrap(), "--json"], "");
    (status(&output), json_lines(&output))
}

fn of_severity<'a>(findings: &'a [Value], severity: &str) -> Vec<&'a Value> {
    findings.iter().filter(|f| f["severity"] == severity).collect()
}

/// A store of several segments, queues and index files, and what was acknowledged.
fn filled(dir: &Path) -> Vec<Value> {
    let mut acked = put(dir, "orders", &["--key", "k j", "--tag", "T"], &messages(600));
    acked.extend(put(dir, "orders", &["--queue", "1", "--flush", "sync"], &messages(300)));
    acked.extend(put(dir, "other", &["--key", "k"], &messages(100)));
    acked
}

fn at(line: &Value) -> u64 {
    line["physOffset"].as_u64().unwrap()
}

#[test]
fn a_sound_store_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    assert_eq!(verify(dir.path()), (0, vec![]));
}

#[test]
fn every_flipped_bit_of_a_durable_record_is_named_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let acked = filled(dir.path());
    let (first, next) = (at(&acked[450]), at(&acked[451]));
    for bit_at in [first, first + 4, first + 21, first + 30, first + 95, next - 1] {
        let file = flip_bit(dir.path(), bit_at);
        let (status, findings) = verify(dir.path());
        assert_eq!(status, 1, "{bit_at}");
        let damage = of_severity(&findings, "damage");
        assert_eq!(damage.len(), 1, "{bit_at} {findings:?}");
        assert_eq!(damage[0]["file"], file, "{bit_at}");
        assert_eq!(damage[0]["offset"], first % 65536, "{bit_at}");
        assert_eq!(damage[0]["len"], next - first, "{bit_at}");
        flip_bit(dir.path(), bit_at);
    }
    assert_eq!(verify(dir.path()).0, 0);
}

#[test]
fn missing_derived_files_are_notes_and_wrong_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let queue = dir.path().join("consumequeue/orders/0/00000000000000002000");
    let index = fs::read_dir(dir.path().join("index")).unwrap().next().unwrap().unwrap().path();
    for (path, place, kind) in
        [(&queue, 45, "queue-entry"), (&index, 40 + 400 + 20 + 20 + 10, "index-")]
    {
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(path, bad).unwrap();
        let (status, findings) = verify(dir.path());
        let wrong = of_severity(&findings, "inconsistency");
        assert_eq!(status, 1, "{path:?}");
        assert!(wrong.iter().any(|f| f["kind"].as_str().unwrap().starts_with(kind)), "{wrong:?}");
        let file = path.strip_prefix(dir.path()).unwrap().to_str().unwrap();
        assert!(wrong.iter().all(|f| f["file"] == file), "{wrong:?}");
        fs::write(path, good).unwrap();
    }
    assert_eq!(verify(dir.path()).0, 0);
    fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 0, "{findings:?}");
    assert!(findings.iter().any(|f| f["kind"] == "queue-lags"), "{findings:?}");
    let repaired = run(&["repair", dir.path().to_str().unwrap()], "");
    assert_eq!(common::status(&repaired), 0, "{}", text(&repaired.stderr));
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 0, "{findings:?}");
    assert!(!findings.iter().any(|f| f["kind"] == "queue-lags"), "{findings:?}");
}

#[test]
fn repair_rebuilds_wrong_queues() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let before = lines(&run(&["dump", dir.path().to_str().unwrap()], ""));
    let queue = dir.path().join("consumequeue/orders/0/00000000000000002000");
    let mut bytes = fs::read(&queue).unwrap();
    bytes[45] ^= 1;
    fs::write(&queue, bytes).unwrap();
    for _ in 0..2 {
        let repaired = run(&["repair", dir.path().to_str().unwrap()], "");
        assert_eq!(status(&repaired), 0, "{}", text(&repaired.stderr));
        assert_eq!(verify(dir.path()), (0, vec![]));
    }
    assert_eq!(lines(&run(&["dump", dir.path().to_str().unwrap()], "")), before);
}

#[test]
fn only_accepted_loss_puts_placeholders_over_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let acked = filled(dir.path());
    let (first, next) = (at(&acked[450]), at(&acked[451]));
    let file = flip_bit(dir.path(), first + 95);
    let damaged = fs::read(dir.path().join(&file)).unwrap();
    for args in [&["repair", path, "--plan"][..], &["repair", path, "--plan", "--accept-loss"]] {
        let plan = run(args, "");
        assert_eq!(status(&plan), 1);
        assert!(text(&plan.stdout).contains(&file), "{}", text(&plan.stdout));
        assert!(text(&plan.stderr).contains("--accept-loss"), "{}", text(&plan.stderr));
    }
    let refused = run(&["repair", path], "");
    assert_eq!(status(&refused), 1);
    assert_eq!(fs::read(dir.path().join(&file)).unwrap(), damaged);
    let dump = run(&["dump", path], "");
    assert_eq!(status(&dump), 1);
    let damage: Vec<_> =
        json_lines(&dump).into_iter().filter(|line| line["type"] == "damage").collect();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((at(&damage[0]), &damage[0]["size"]), (first, &(next - first).into()));

    for round in 0..2 {
        let repaired = run(&["repair", path, "--accept-loss"], "");
        assert_eq!(status(&repaired), 0, "{round} {}", text(&repaired.stderr));
        let (status, findings) = verify(dir.path());
        assert_eq!(status, 0, "{round} {findings:?}");
        assert!(findings.iter().all(|f| f["kind"] == "quarantine"), "{findings:?}");
    }
    let kept: Vec<_> = fs::read_dir(dir.path().join("quarantine")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    let range = (first % 65536) as usize..(first % 65536 + next - first) as usize;
    assert_eq!(fs::read(kept[0].path()).unwrap(), damaged[range]);

    let dump = run(&["dump", path], "");
    assert_eq!(status(&dump), 0, "{}", text(&dump.stderr));
    let records: Vec<_> = json_lines(&dump)
        .into_iter()
        .filter(|line| line["type"] == "record" || line["type"] == "blank")
        .collect();
    let mut end = 0;
    for record in &records {
        assert_eq!(at(record), end, "the log can be walked");
        end += record["size"].as_u64().unwrap();
    }
    let placeholder = records.iter().find(|record| at(record) == first).unwrap();
    assert_eq!(placeholder["topic"], "STEADFAST_PLACEHOLDER");
    let got = run(&["get", path, "--topic", "orders", "--queue", "0"], "");
    assert_eq!(status(&got), 1, "the lost message is named");
    assert_eq!(lines(&got).len(), 599);
    let after = put(dir.path(), "orders", &[], "after\n");
    assert_eq!(after[0]["queueOffset"], 600);
    assert_eq!(verify(dir.path()).0, 0);
}

/// The engine keeps the end only for the session that found the damage: its next checkpoint says
/// where the records end.
#[test]
fn a_lost_last_message_keeps_its_queue_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let acked = put(dir.path(), "orders", &[], &messages(100));
    put(dir.path(), "other", &[], &messages(5));
    flip_bit(dir.path(), at(&acked[99]) + 95);
    let repaired = run(&["repair", path, "--accept-loss"], "");
    assert_eq!(status(&repaired), 0, "{}", text(&repaired.stderr));
    put(dir.path(), "other", &[], "another session\n");
    let after = put(dir.path(), "orders", &[], "after\n");
    assert_eq!(after[0]["queueOffset"], 100);
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 0, "{findings:?}");
}

#[test]
fn a_missing_segment_is_damage_and_becomes_a_blank_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    filled(dir.path());
    fs::remove_file(dir.path().join("commitlog/00000000000000065536")).unwrap();
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 1);
    let damage = of_severity(&findings, "damage");
    assert_eq!(damage[0]["file"], "commitlog/00000000000000065536", "{damage:?}");
    let repaired = run(&["repair", path, "--accept-loss"], "");
    assert_eq!(common::status(&repaired), 0, "{}", text(&repaired.stderr));
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 0, "{findings:?}");
}

#[test]
fn a_log_that_lost_its_end_opens_again_only_after_accepting_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let acked = filled(dir.path());
    let last = at(acked.last().unwrap()) / 65536 * 65536;
    fs::remove_file(dir.path().join(format!("commitlog/{last:020}"))).unwrap();
    let refused = run(&["put", path, "--topic", "orders"], "x\n");
    assert_eq!(status(&refused), 1, "{}", text(&refused.stderr));
    assert_eq!(verify(dir.path()).0, 1);
    assert_eq!(status(&run(&["repair", path], "")), 1);
    let repaired = run(&["repair", path, "--accept-loss"], "");
    assert_eq!(status(&repaired), 0, "{}", text(&repaired.stderr));
    let (status, findings) = verify(dir.path());
    assert_eq!(status, 0, "{findings:?}");
    put(dir.path(), "orders", &[], "after\n");
    assert_eq!(verify(dir.path()).0, 0);
}

#[test]
fn an_entry_that_a_queue_file_lost_is_named_and_loses_nothing_and_repair_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    filled(dir.path());
    let file = "consumequeue/orders/0/00000000000000002000";
    let mut bytes = fs::read(dir.path().join(file)).unwrap();
    bytes[400..420].fill(0);
    fs::write(dir.path().join(file), bytes).unwrap();
    let (found, findings) = verify(dir.path());
    assert!(found != 0 && findings.iter().any(|f| f.to_string().contains(file)), "{findings:?}");
    // Reading finds the record in the log, and changes nothing.
    let get = ["get", path, "--topic", "orders", "--queue", "0"];
    let got = run(&get, "");
    assert_eq!((status(&got), lines(&got).len()), (0, 600), "{}", text(&got.stderr));
    assert_eq!(verify(dir.path()), (found, findings));
    let repaired = run(&["repair", path], "");
    assert_eq!(status(&repaired), 0, "{}", text(&repaired.stderr));
    let got = run(&get, "");
    assert_eq!((status(&got), lines(&got).len()), (0, 600), "{}", text(&got.stderr));
    assert_eq!(verify(dir.path()), (0, vec![]));
}
