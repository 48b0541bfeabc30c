//! `bench send` against a broker in this process: what it says was stored is in the store, and a
//! broker that refuses, or goes away, is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeSet,
    io::Read,
    net::TcpListener,
    path::Path,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use common::{json_lines, run, start, status, text};
use serde_json::Value;
use steadfast_broker::{Broker, BrokerConfig};
use tokio::runtime::Runtime;

fn broker(runtime: &Runtime, data: &Path, options: &[(&str, &str)]) -> Broker {
    let mut config = BrokerConfig::default();
    config.data = data.to_owned();
    config.listen.set_port(0);
    config.name_server_listen.set_port(0);
    config.store.segment_bytes = 1 << 20;
    for (key, value) in options {
        assert!(config.set(key, value).unwrap());
    }
    runtime.block_on(Broker::start(config)).unwrap()
}

fn arguments<'a>(broker: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = ["bench", "send", "--broker", broker, "--topic", "load", "--body", "100"];
    [&all[..], more].concat()
}

/// The one line of a run with `--json`.
fn report(output: &Output) -> Value {
    let mut lines = json_lines(output);
    assert_eq!(lines.len(), 1, "{}", text(&output.stderr));
    lines.remove(0)
}

fn count(report: &Value, name: &str) -> u64 {
    let statuses = report["statuses"].as_array().unwrap();
    statuses.iter().filter(|s| s["status"] == name).map(|s| s["count"].as_u64().unwrap()).sum()
}

/// Stops the broker. Gives the number of messages in its queues, and how many unique keys and
/// queues they have.
fn stop(runtime: &Runtime, broker: Broker, data: &Path) -> (u64, usize, usize) {
    runtime.block_on(broker.stop()).unwrap();
    let output = run(&["get", data.to_str().unwrap(), "--topic", "load", "--json"], "");
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
    let messages = json_lines(&output);
    let key = |message: &Value| message["props"]["UNIQ_KEY"].as_str().unwrap().to_owned();
    let keys: BTreeSet<_> = messages.iter().map(key).collect();
    let queues: BTreeSet<_> = messages.iter().map(|m| m["queueId"].as_i64().unwrap()).collect();
    (messages.len() as u64, keys.len(), queues.len())
}

#[test]
fn every_message_that_it_says_was_stored_is_in_the_store() {
    let runtime = Runtime::new().unwrap();
    for flush in ["ASYNC_FLUSH", "SYNC_FLUSH"] {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(&runtime, dir.path(), &[("flushDiskType", flush)]);
        let (address, pid) = (broker.address().to_string(), std::process::id().to_string());
        let more = ["--messages", "2000", "--connections", "3", "--in-flight", "40", "--queues"];
        let more = [&more[..], &["5", "--seconds", "600", "--pid", &pid, "--json"]].concat();
        let output = run(&arguments(&address, &more), "");
        assert_eq!(status(&output), 0, "{}", text(&output.stderr));
        let report = report(&output);
        assert_eq!((count(&report, "SEND_OK"), &report["messages"]), (2000, &2000.into()));
        assert_eq!(report["statuses"].as_array().unwrap().len(), 1, "{report}");
        assert!(report["p50_us"].as_f64() <= report["max_us"].as_f64(), "{report}");
        assert!(report["messages_per_broker_cpu_second"].as_f64().unwrap() > 0.0, "{report}");
        assert_eq!(stop(&runtime, broker, dir.path()), (2000, 2000, 5));
    }
}

#[test]
fn an_answer_that_is_not_send_ok_is_counted_by_its_name() {
    let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let broker = broker(&runtime, dir.path(), &[("brokerRole", "SYNC_MASTER")]);
    let address = broker.address().to_string();
    let more = ["--messages", "50", "--in-flight", "4", "--connections", "1", "--seconds", "600"];
    let output = run(&arguments(&address, &more), "");
    assert_eq!(status(&output), 1, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines[1].starts_with("send ") && lines[1].contains(" 50 "), "{printed}");
    assert!(lines[2].starts_with("SLAVE_NOT_AVAILABLE") && lines[2].ends_with(" 50"), "{printed}");
    assert_eq!(stop(&runtime, broker, dir.path()).0, 50);
}

#[test]
fn a_broker_that_takes_no_message_is_quoted() {
    let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let broker = broker(&runtime, dir.path(), &[("autoCreateTopicEnable", "false")]);
    let address = broker.address().to_string();
    let output = run(&arguments(&address, &[]), "");
    let told = text(&output.stderr);
    assert_eq!(status(&output), 1, "{told}");
    for part in [&address, "load", "TOPIC_NOT_EXIST (17)", "autoCreateTopicEnable"] {
        assert!(told.contains(part), "{told}");
    }
    runtime.block_on(broker.stop()).unwrap();
}

#[test]
fn where_nobody_listens_it_says_so_and_how_to_start_a_broker() {
    // A port that was free a moment ago, and is again.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = run(&arguments(&address, &[]), "");
    let told = text(&output.stderr);
    assert_eq!(status(&output), 3, "{told}");
    assert!(told.contains(&format!("cannot connect to {address}")), "{told}");
    assert!(told.contains(&format!("steadfast serve --listen {address}")), "{told}");
}

#[test]
fn a_broker_that_goes_away_ends_the_run_and_what_it_had_acknowledged_is_there() {
    let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let broker = broker(&runtime, dir.path(), &[]);
    let address = broker.address().to_string();
    let child = start(&arguments(&address, &["--seconds", "100000", "--json"]));
    let deadline = Instant::now() + Duration::from_secs(60);
    while broker.store().progress().dispatched.get() < 200_000 {
        assert!(Instant::now() < deadline, "nothing is sent");
        thread::sleep(Duration::from_millis(5));
    }
    let (stored, keys, _) = stop(&runtime, broker, dir.path());
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(status(&output), 1, "{told}");
    assert!(told.contains(&address) && told.contains("were not answered"), "{told}");
    let acknowledged = count(&report(&output), "SEND_OK");
    assert!((1..=stored).contains(&acknowledged), "{acknowledged} of {stored}");
    assert_eq!(keys as u64, stored);
}

#[test]
fn a_peer_that_is_no_broker_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _read = stream.read(&mut [0; 64]).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let output = run(&arguments(&address, &["--connections", "1"]), "");
    peer.join().unwrap();
    let told = text(&output.stderr);
    assert_eq!(status(&output), 1, "{told}");
    assert!(told.contains(&address) && told.contains("is it a broker?"), "{told}");
}
