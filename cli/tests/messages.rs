//! Putting messages and getting them back, and what can go wrong with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
};

use common::{GEOMETRY, json_lines, lines, messages, put, run, start, status, text};
use serde_json::Value;

fn get(dir: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec!["get", dir.to_str().unwrap(), "--topic", "orders"];
    args.extend(more);
    let output = run(&args, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    lines(&output)
}

fn round_trip(flush: &str) {
    let dir = tempfile::tempdir().unwrap();
    let input = messages(700) + "\nlast without newline";
    let acked =
        put(dir.path(), "orders", &["--flush", flush, "--tag", "T", "--key", "a b"], &input);
    assert_eq!(acked.len(), 702);
    for (i, line) in acked.iter().enumerate() {
        assert_eq!((&line["status"], &line["queueOffset"]), (&"PUT_OK".into(), &i.into()));
    }
    assert_eq!(get(dir.path(), &[]).join("\n"), input);
    assert_eq!(get(dir.path(), &["--queue", "0", "--from", "701"]), ["last without newline"]);
    let one = get(dir.path(), &["--from", "7", "--max", "1", "--json"]);
    let one: Value = serde_json::from_str(&one[0]).unwrap();
    assert_eq!(one["msgId"], acked[7]["msgId"]);
    assert_eq!(one["physOffset"], acked[7]["physOffset"]);
    assert_eq!((&one["props"]["TAGS"], &one["props"]["KEYS"]), (&"T".into(), &"a b".into()));
    let since = one["storeTs"].to_string();
    let later = get(dir.path(), &["--since", &since, "--json"]);
    let first: Value = serde_json::from_str(&later[0]).unwrap();
    assert!(first["queueOffset"].as_u64() <= Some(7), "{first}");
    assert_eq!(get(dir.path(), &["--since", "2200-01-01T00:00:00Z"]).len(), 0);
}

#[test]
fn what_is_put_is_got_sync() {
    round_trip("sync");
}

#[test]
fn what_is_put_is_got_async() {
    round_trip("async");
}

#[test]
fn all_queues_come_in_log_order() {
    let dir = tempfile::tempdir().unwrap();
    for (round, queue) in ["3", "0", "3", "1"].iter().enumerate() {
        let input = format!("{round}a\n{round}b\n");
        put(dir.path(), "orders", &["--queue", queue, "--batch", "2"], &input);
    }
    put(dir.path(), "other", &[], "x\n");
    assert_eq!(get(dir.path(), &[]), ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"]);
    assert_eq!(get(dir.path(), &["--queue", "3"]), ["0a", "0b", "2a", "2b"]);
}

#[test]
fn a_typed_line_is_acknowledged_at_once_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "orders", &[], "first\n");
    let path = dir.path().to_str().unwrap();
    let mut args = vec!["put", path, "--topic", "orders", "--flush", "sync"];
    args.extend(GEOMETRY);
    let mut writer = start(&args);
    let mut typed = writer.stdin.take().unwrap();
    let mut acked = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut follower = start(&["get", path, "--topic", "orders", "--follow", "--max", "4"]);
    let mut followed = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(followed.next().unwrap().unwrap(), "first");
    for word in ["one", "two", "three"] {
        typed.write_all(format!("{word}\n").as_bytes()).unwrap();
        let line = acked.next().unwrap().unwrap();
        assert!(line.contains("PUT_OK"), "{line}");
        assert_eq!(followed.next().unwrap().unwrap(), word);
    }
    assert!(follower.wait().unwrap().success());
    drop(typed);
    assert!(writer.wait().unwrap().success());
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    for flush in ["sync", "async"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let mut args = vec!["put", path, "--topic", "orders", "--flush", flush];
        args.extend(GEOMETRY);
        let mut writer = start(&args);
        let mut typed = writer.stdin.take().unwrap();
        let acked = BufReader::new(writer.stdout.take().unwrap());
        typed.write_all(messages(500).as_bytes()).unwrap();
        let lines: Vec<_> = acked.lines().take(500).map(Result::unwrap).collect();
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_eq!(lines.len(), 500);
        assert_eq!(get(dir.path(), &[]).join("\n") + "\n", messages(500), "{flush}");
        let more = put(dir.path(), "orders", &[], "after\n");
        assert_eq!(more[0]["queueOffset"], 500, "{flush}");
        let verified = run(&["verify", path], "");
        assert_eq!(status(&verified), 0, "{}", text(&verified.stdout));
    }
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    put(dir.path(), "orders", &[], "first\n");
    let mut writer = start(&["put", path, "--topic", "orders"]);
    let mut typed = writer.stdin.take().unwrap();
    typed.write_all(b"second\n").unwrap();
    let mut acked = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(acked.next().unwrap().unwrap().contains("PUT_OK"));
    for command in [&["put", path, "--topic", "orders"][..], &["repair", path][..]] {
        let refused = run(command, "");
        assert_eq!(status(&refused), 3, "{command:?}");
        assert!(text(&refused.stderr).contains(&writer.id().to_string()), "{command:?}");
    }
    assert_eq!(get(dir.path(), &[]), ["first", "second"]);
    for command in ["dump", "verify"] {
        let output = run(&[command, path], "");
        assert_eq!(
            status(&output),
            0,
            "{command} {} {}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    drop(typed);
    assert!(writer.wait().unwrap().success());
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let path = path.to_str().unwrap();
    for (args, says) in [
        (&["put", path][..], "--topic"),
        (&["put", path, "--topic", "a/b"][..], "slash"),
        (&["put", path, "--topic", "t", "--queue", "-1"][..], "--queue"),
        (&["put", path, "--topic", "t", "-o", "segment=1"][..], "segment_bytes"),
        (&["put", path, "--topic", "t", "-o", "segment_bytes=1"][..], "4096"),
        (&["put", path, "--topic", "t", "-o", "flush_interval=5"][..], "500ms"),
        (&["get", path, "--topic", "t", "--since", "noon"][..], "1970"),
        (&["frobnicate"][..], "frobnicate"),
    ] {
        let output = run(args, "x\n");
        assert_eq!(status(&output), 2, "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn where_there_is_no_store_nothing_is_made_and_the_status_is_3() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let missing = dir.path().join("missing");
    for place in [path, missing.to_str().unwrap()] {
        for args in [&["get", place, "--topic", "t"][..], &["dump", place], &["verify", place]] {
            assert_eq!(status(&run(args, "")), 3, "{args:?}");
        }
        assert_eq!(status(&run(&["repair", place], "")), 3, "repair {place}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_illegal_message_is_said_so_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut args = vec!["put", path, "--topic", "orders", "-o", "max_message_bytes=10"];
    args.extend(GEOMETRY);
    let output = run(&args, "short\nlonger than ten bytes\nshort too\n");
    assert_eq!(status(&output), 1);
    let statuses: Vec<_> = json_lines(&output).iter().map(|l| l["status"].to_string()).collect();
    assert_eq!(statuses, ["\"PUT_OK\"", "\"MESSAGE_ILLEGAL\"", "\"PUT_OK\""]);
    assert_eq!(get(dir.path(), &[]), ["short", "short too"]);
    let unknown = run(&["get", path, "--topic", "order"], "");
    assert_eq!(status(&unknown), 1);
    assert!(text(&unknown.stderr).contains("orders/0"), "{}", text(&unknown.stderr));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "orders", &[], &messages(3000));
    let mut child = start(&["dump", dir.path().to_str().unwrap()]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 0);
    assert!(!text(&output.stderr).contains("read or write"), "{}", text(&output.stderr));
}
