//! How brokers end, and what happens to their routes meanwhile.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::tempdir;

use crate::{Running, client::Client};

const SYNC: (&str, &str) = ("flushDiskType", "SYNC_FLUSH");

#[test]
fn what_is_stored_while_a_broker_stops_is_answered() {
    for _ in 0..3 {
        let dir = tempdir().unwrap();
        let running = Running::start(dir.path(), &[SYNC]);
        let address = running.address();
        let answered = AtomicUsize::new(0);
        let produce = |number: usize| {
            let mut client = Client::connect(address);
            let mut told = Vec::new();
            for n in 0.. {
                let body = format!("{number} {n}").into_bytes();
                match client.try_send("t", &[], &body) {
                    Ok(reply) if reply.code == 0 => told.push(body),
                    Ok(reply) => panic!("{reply:?}"),
                    Err(_) => break,
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            told
        };
        let told: BTreeSet<Vec<u8>> = thread::scope(|scope| {
            let produce = &produce;
            let producers: Vec<_> = (0..8).map(|n| scope.spawn(move || produce(n))).collect();
            while answered.load(Ordering::Relaxed) < 40 {
                thread::yield_now();
            }
            running.stop();
            producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
        });
        assert!(!dir.path().join("abort").exists(), "not stopped cleanly");
        let running = Running::start(dir.path(), &[SYNC]);
        let stored = Client::connect(running.address()).bodies("t", 0);
        assert_eq!(stored.len(), told.len(), "stored and not answered");
        assert!(stored.iter().all(|body| told.contains(body)));
        running.stop();
    }
}

#[test]
fn a_broker_that_is_dropped_under_load_lets_its_store_go() {
    for _ in 0..10 {
        let dir = tempdir().unwrap();
        let running = Running::start(dir.path(), &[SYNC]);
        let mut clients: Vec<_> = (0..4).map(|_| Client::connect(running.address())).collect();
        clients[0].send("t", &[], b"one");
        for client in &mut clients {
            for _ in 0..50 {
                client.start_send("t", &[], b"more").unwrap();
            }
        }
        clients[0].next_reply().unwrap();
        drop(running);
        // It closes it by itself, so that the next one need not look for what was lost.
        let deadline = Instant::now() + Duration::from_secs(60);
        while dir.path().join("abort").exists() {
            assert!(Instant::now() < deadline, "the store was not closed");
            thread::sleep(Duration::from_millis(5));
        }
        let running = Running::start_when_free(dir.path(), &[SYNC]);
        running.stop();
    }
}

#[test]
fn a_route_comes_back_after_another_broker_took_the_name() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("registerNameServerPeriod", "100")]);
    Client::connect(running.address()).send("t", &[], b"one");
    let mut names = Client::connect(running.names());
    let mut other = Client::connect(running.names());
    let fields = [
        ("brokerName", "broker-a"),
        ("brokerAddr", "127.0.0.9:1"),
        ("clusterName", "DefaultCluster"),
        ("brokerId", "0"),
    ];
    assert_eq!(other.call(103, &fields, b"").code, 0);
    drop(other);
    let address = running.address().to_string();
    let is_back = (0..600).any(|_| {
        thread::sleep(Duration::from_millis(100));
        let route = names.call(105, &[("topic", "t")], b"");
        let route: Value = serde_json::from_slice(&route.body).unwrap_or_default();
        route["brokerDatas"][0]["brokerAddrs"]["0"] == *address
    });
    assert!(is_back, "the route is gone");
    running.stop();
}
