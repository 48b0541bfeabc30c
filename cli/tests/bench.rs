//! The benches run, print their columns, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{json_lines, run, status, text};

#[test]
fn every_bench_prints_its_columns_and_removes_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for (what, rows) in [("append", 3), ("read", 2), ("recover", 2)] {
        let args = [
            "bench",
            what,
            "--dir",
            path,
            "--count",
            "300",
            "--size",
            "100",
            "-o",
            "segment_bytes=1M",
            "-o",
            "index_slots=1000",
            "-o",
            "index_entries=4000",
            "--json",
        ];
        let output = run(&args, "");
        assert_eq!(status(&output), 0, "{}", text(&output.stderr));
        let lines = json_lines(&output);
        assert_eq!(lines.len(), rows, "{what}");
        for line in &lines {
            assert!(line["messages_per_second"].as_f64().unwrap() > 0.0, "{line}");
            assert!(line["p50_us"].as_f64() <= line["max_us"].as_f64(), "{line}");
        }
        let table = run(&args[..args.len() - 1], "");
        assert_eq!(text(&table.stdout).lines().count(), rows + 1, "{}", text(&table.stdout));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
