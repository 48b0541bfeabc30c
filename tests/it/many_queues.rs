//! Many queues over one log, within the usual limits of a process and with little memory.
//!
//! Heavy, so run by name: `cargo test --release --test it many_queues -- --ignored --nocapture`.
//! Memory and descriptors are asserted, times only printed. The queue files here are 4,000 bytes
//! long instead of RocketMQ's 6,000,000 (both are sparse), so that they fit any disk.

use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use steadfast::{FlushMode, Message, Options, QueueKey, QueueOffset, ReadLimit, Store};

const DESCRIPTORS: usize = 20_000;
/// The kernel's default for `vm.max_map_count`.
const MAPPINGS: usize = 65_530;

fn options() -> Options {
    let mut options = Options::default().flush(FlushMode::Async).segment_bytes(256 << 20);
    options.queue_file_bytes = 4000;
    options.index_slots = 1000;
    options.index_entries = 4000;
    options
}

fn queue(number: usize) -> QueueKey {
    QueueKey::new(&format!("topic-{:03}", number / 100), number as i32 % 100).unwrap()
}

fn body(number: usize, round: usize, bytes: usize) -> Vec<u8> {
    let mut body = format!("queue {number} message {round} ").into_bytes();
    body.resize(bytes.max(body.len()), b'x');
    body
}

/// Anonymous memory of this process, in bytes: what the page cache cannot take back.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Checks the bars and prints what was used.
fn within(what: &str, since: Instant, memory: u64) {
    let (used, maps, files) = (anonymous(), mappings(), descriptors());
    let (mib, millis) = (used >> 20, since.elapsed().as_millis());
    println!("{what}: {millis} ms, {mib} MiB anonymous, {maps} mappings, {files} descriptors");
    assert!(used < memory, "{what}: {mib} MiB of anonymous memory");
    assert!(maps < MAPPINGS, "{what}: {maps} mappings");
    assert!(files < DESCRIPTORS, "{what}: {files} descriptors");
}

fn bytes_under(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.filter_map(|e| e.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// The load, from creating the store to reading it back after a clean close and after a kill.
struct Load {
    queues: usize,
    rounds: usize,
    body: usize,
    memory: u64,
}

impl Load {
    fn run(&self, dir: &Path) {
        let keys: Vec<_> = (0..self.queues).map(queue).collect();
        let store = self.timed("opened", || Store::builder(dir).options(options()).open().unwrap());
        let begun = Instant::now();
        for round in 0..self.rounds {
            self.append(&store, &keys, round);
        }
        within("appended and dispatched", begun, self.memory);
        self.check(&store, &keys, self.rounds);
        self.timed("closed", || store.close().unwrap());
        println!("notes of our own: {} bytes", bytes_under(&dir.join("steadfast")));

        let store = self.timed("reopened after a clean close", || {
            Store::builder(dir).options(options()).open().unwrap()
        });
        assert!(store.recovery().was_clean, "{}", store.recovery());
        self.check(&store, &keys, self.rounds);
        self.append(&store, &keys, self.rounds);
        store.abandon();
        let store = self.timed("reopened after a kill", || {
            Store::builder(dir).options(options()).open().unwrap()
        });
        self.check(&store, &keys, self.rounds + 1);
        self.timed("closed", || store.close().unwrap());
    }

    fn timed<T>(&self, what: &str, run: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let out = run();
        within(what, begun, self.memory);
        out
    }

    fn append(&self, store: &Store, keys: &[QueueKey], round: usize) {
        for (number, key) in keys.iter().enumerate() {
            let receipt = store.append(&Message::new(key, &body(number, round, self.body)));
            let place = receipt.unwrap().wait().unwrap().placement;
            assert_eq!(place.queue_offset.get() as usize, round);
        }
        let last = QueueOffset::new(round as u64);
        assert!(store.wait_for(&keys[keys.len() - 1], last, Duration::from_secs(300)).unwrap());
    }

    fn check(&self, store: &Store, keys: &[QueueKey], rounds: usize) {
        let begun = Instant::now();
        // With large bodies a part of the queues tells enough.
        for (number, key) in keys.iter().enumerate().step_by(1 + rounds / 8) {
            let batch = store.read(key, QueueOffset::ZERO, ReadLimit::records(rounds + 1)).unwrap();
            let found: Vec<_> = batch.iter().map(|record| record.body().to_vec()).collect();
            let put: Vec<_> = (0..rounds).map(|r| body(number, r, self.body)).collect();
            assert!(found == put, "{key}: {} of {rounds} messages", found.len());
        }
        within("read back", begun, self.memory);
    }
}

fn run_limited(name: &str, load: &Load) {
    if env::var("STEADFAST_LIMITED").as_deref() == Ok(name) {
        let dir = tempfile::tempdir().unwrap();
        return load.run(dir.path());
    }
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\""))
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("many_queues::{name}"), "--ignored", "--nocapture"])
        .env("STEADFAST_LIMITED", name)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "100,000 queue files: about a minute"]
fn many_queues_fit_the_usual_limits() {
    let load = Load { queues: 100_000, rounds: 3, body: 100, memory: 300 << 20 };
    run_limited("many_queues_fit_the_usual_limits", &load);
}

#[test]
#[ignore = "2 GiB of log: about a minute"]
fn many_queues_with_much_log_need_little_memory() {
    let load = Load { queues: 10_000, rounds: 50, body: 4096, memory: 100 << 20 };
    run_limited("many_queues_with_much_log_need_little_memory", &load);
}
