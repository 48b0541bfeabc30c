//! The broker as a program: what it prints, how it stops, and what a kill leaves.
#![allow(clippy::unwrap_used, reason = "a test ends where anything is wrong")]

#[path = "../../broker/tests/it/client.rs"]
#[expect(dead_code, reason = "the broker's own tests use all of it")]
mod client;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use client::Client;
use rustix::process::{Pid, Signal, kill_process};

struct Serving {
    child: Child,
    broker: SocketAddr,
}

fn command(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.arg("serve").arg("--data").arg(data);
    command.args(["--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn serve(data: &Path, more: &[&str]) -> Serving {
    let mut child = command(data, more).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let broker = line.strip_prefix("ready broker=").and_then(|rest| rest.split(' ').next());
    let broker = broker.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    Serving { child, broker }
}

fn signal(serving: &Serving, signal: Signal) {
    kill_process(Pid::from_child(&serving.child), signal).unwrap();
}

#[test]
fn every_send_that_was_acknowledged_is_there_after_each_kill() {
    let kills = std::env::var("STEADFAST_KILLS").map_or(5, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for kill in 0..kills {
        let mut serving = serve(dir.path(), &["-o", "flushDiskType=SYNC_FLUSH"]);
        let producers: Vec<_> = (0..4)
            .map(|_| {
                let (acknowledged, next) = (acknowledged.clone(), next.clone());
                let mut client = Client::connect(serving.broker);
                thread::spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let body = format!("message {number}").into_bytes();
                        match client.try_send("t", &["TAGS=a"], &body) {
                            Ok(reply) if reply.code == 0 => {
                                acknowledged.lock().unwrap().insert(body)
                            }
                            Ok(reply) => panic!("{reply:?}"),
                            Err(_) => return,
                        };
                    }
                })
            })
            .collect();
        let before = acknowledged.lock().unwrap().len();
        while acknowledged.lock().unwrap().len() < before + 50 + 37 * kill {
            thread::yield_now();
        }
        signal(&serving, Signal::KILL);
        serving.child.wait().unwrap();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    }
    let mut serving = serve(dir.path(), &[]);
    let found: BTreeSet<_> = Client::connect(serving.broker).bodies("t", 0).into_iter().collect();
    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(acknowledged.difference(&found).count(), 0, "of {}", acknowledged.len());
    signal(&serving, Signal::TERM);
    assert!(serving.child.wait().unwrap().success());
    assert!(!dir.path().join("abort").exists(), "not stopped cleanly");
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.conf");
    std::fs::write(&file, "brokerName=b\nflushDiskType=NEVER\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, said) in [
        (
            &["-c", file][..],
            "broker.conf:2: flushDiskType cannot be \"NEVER\"; allowed is ASYNC_FLUSH",
        ),
        (&["-o", "noSuchKey=1"], "no key \"noSuchKey\""),
        (&["-o", "listenPort=x"], "listenPort cannot be \"x\"; allowed is a number"),
        (&["--only", "broker"], "--namesrv HOST:PORT"),
    ] {
        let output = command(dir.path(), args).stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(said), "{told}");
    }
    assert!(!dir.path().join("commitlog").exists());
}

#[test]
fn a_second_broker_on_the_directory_is_refused_and_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = serve(dir.path(), &[]);
    let second = command(dir.path(), &[]).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{told}");
    assert!(told.contains(&first.child.id().to_string()), "{told}");
    signal(&first, Signal::INT);
    assert!(first.child.wait().unwrap().success());
}
