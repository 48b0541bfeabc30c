//! Directories that the Java store wrote are dumped as the Java store answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use common::{lines, run, text};
use flate2::read::GzDecoder;
use serde_json::Value;

/// The bits of the system flags that say "rolled back": such records are never indexed.
const ROLLED_BACK: u64 = 0xC;

/// Which records really have a key, by topic and key.
type Holders = HashMap<(String, String), HashSet<u64>>;

fn holders(java: &[Value]) -> Holders {
    let mut holders = Holders::new();
    for line in java.iter().filter(|line| line["type"] == "record") {
        if line["sysFlag"].as_u64().unwrap() & ROLLED_BACK == ROLLED_BACK {
            continue;
        }
        let keys = line["props"]["KEYS"].as_str().unwrap_or("").split(' ');
        for key in keys.chain(line["props"]["UNIQ_KEY"].as_str()) {
            let name = (line["topic"].as_str().unwrap().into(), key.into());
            holders.entry(name).or_default().insert(line["physOffset"].as_u64().unwrap());
        }
    }
    holders
}

/// Java's answer to a query without the records whose key only has the same hash.
fn true_matches(mut query: Value, holders: &Holders) -> Value {
    let name = (query["topic"].as_str().unwrap().into(), query["key"].as_str().unwrap().into());
    let real = holders.get(&name).cloned().unwrap_or_default();
    let offsets = query["physOffsets"].as_array_mut().unwrap();
    offsets.retain(|at| real.contains(&at.as_u64().unwrap()));
    query
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden")
}

/// Extracts a store; returns its directory.
fn unpack(name: &str, into: &Path) -> PathBuf {
    let archive = File::open(data().join(format!("{name}.tar.gz"))).unwrap();
    tar::Archive::new(GzDecoder::new(archive)).unpack(into).unwrap();
    into.join(name)
}

fn dump_equals_java(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let store = unpack(name, dir.path());
    let java = fs::read_to_string(data().join(format!("{name}.jsonl"))).unwrap();
    let java: Vec<&str> = java.lines().collect();
    let parsed: Vec<Value> = java.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let holders = holders(&parsed);

    let output = run(&["dump", store.to_str().unwrap()], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ours = lines(&output);
    for (number, (ours, java)) in ours.iter().zip(&java).enumerate() {
        let expected = &parsed[number];
        if expected["type"] == "query" {
            let found: Value = serde_json::from_str(ours).unwrap();
            assert_eq!(found, true_matches(expected.clone(), &holders), "line {}", number + 1);
        } else {
            assert_eq!(ours, java, "line {}", number + 1);
        }
    }
    assert_eq!(ours.len(), java.len(), "number of lines");
}

/// The torn record was never acknowledged for sure, and Java gives its queue offset again.
#[test]
fn a_torn_last_record_leaves_no_gap_in_its_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = unpack("halt-torn", dir.path());
    let geometry = ["-o", "index_slots=1000", "-o", "index_entries=4000"];
    let mut args = vec!["put", store.to_str().unwrap(), "--topic", "TopicP", "--queue", "3"];
    args.extend(geometry);
    let output = run(&args, "next\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(lines(&output)[0].contains("\"queueOffset\":174"), "{}", text(&output.stdout));
    assert!(run(&["verify", store.to_str().unwrap()], "").status.success());
}

#[test]
fn clean_mixed() {
    dump_equals_java("clean-mixed");
}

#[test]
fn clean_crc() {
    dump_equals_java("clean-crc");
}

#[test]
fn clean_fit() {
    dump_equals_java("clean-fit");
}

#[test]
fn halt_mixed() {
    dump_equals_java("halt-mixed");
}

#[test]
fn halt_torn() {
    dump_equals_java("halt-torn");
}

#[test]
fn expired_preblank() {
    dump_equals_java("expired-preblank");
}
