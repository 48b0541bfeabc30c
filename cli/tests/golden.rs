//! Directories that the Java store wrote are dumped as the Java store answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::Path,
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

fn dump_equals_java(name: &str) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    let dir = tempfile::tempdir().unwrap();
    let archive = File::open(data.join(format!("{name}.tar.gz"))).unwrap();
    tar::Archive::new(GzDecoder::new(archive)).unpack(dir.path()).unwrap();
    let java = fs::read_to_string(data.join(format!("{name}.jsonl"))).unwrap();
    let java: Vec<&str> = java.lines().collect();
    let parsed: Vec<Value> = java.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let holders = holders(&parsed);

    let output = run(&["dump", dir.path().join(name).to_str().unwrap()], "");
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
