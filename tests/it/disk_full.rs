//! A file system without room: a clear error, no signal, nothing lost, and on it goes once there is
//! room again. Needs root, for a small tmpfs; says SKIP without.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use steadfast::{
    Error, ErrorKind, FlushMode, Group, Message, Options, PutStatus, QueueKey, QueueOffset,
    ReadLimit, Store,
};

/// Files that are deleted one by one, each when there is no room.
const BALLAST: [&str; 4] = ["a", "b", "c", "d"];
const BALLAST_BYTES: usize = 3 << 20;

/// A tmpfs of 24 MiB, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        match mount {
            Ok(status) if status.success() => Ok(Self(dir)),
            Ok(_) => Err("mounting a tmpfs is not allowed here".into()),
            Err(e) => Err(format!("there is no mount command: {e}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn options(flush: FlushMode) -> Options {
    let mut options = Options::default().flush(flush).segment_bytes(1 << 20);
    options.queue_file_bytes = 20_000;
    options.index_slots = 1000;
    options.index_entries = 4000;
    // The file system itself is to say no.
    options.retention.refuse_ratio = 100;
    options
}

fn body(number: u64) -> Vec<u8> {
    format!("message {number} {}", "x".repeat(900 + number as usize % 100)).into_bytes()
}

/// Appends message number `kept`, which counts what was acknowledged.
fn append(store: &Store, queue: &QueueKey, kept: &mut u64) -> Result<(), Error> {
    let (text, key) = (body(*kept), format!("k{kept}"));
    let receipt = store.append(&Message::new(queue, &text).key(&key))?.wait()?;
    assert_eq!(receipt.status, PutStatus::PutOk);
    assert_eq!(receipt.placement.queue_offset.get(), *kept, "a refused append took an offset");
    *kept += 1;
    Ok(())
}

/// Everything that was acknowledged is there.
fn check(store: &Store, queue: &QueueKey, kept: u64) {
    let there = store.wait_for(queue, QueueOffset::new(kept - 1), Duration::from_secs(20)).unwrap();
    let range = store.queue_range(queue);
    assert!(there, "{kept} kept, there is {range:?}, {store:?}\n{}", store.recovery());
    let mut next = 0;
    while next < kept {
        let batch = store.read(queue, QueueOffset::new(next), ReadLimit::records(64)).unwrap();
        assert!(!batch.is_empty(), "nothing at {next} of {kept}");
        for record in batch.iter() {
            assert_eq!(record.body(), body(next));
            next += 1;
        }
    }
}

/// Appends until there is no room. Returns what the store says then.
fn fill(store: &Store, queue: &QueueKey, kept: &mut u64) -> Error {
    for _ in 0..40_000 {
        if let Err(e) = append(store, queue, kept) {
            return e;
        }
    }
    panic!("more fits on the file system than it has room for");
}

/// In a process of its own: a store to a page without a block would kill it.
#[test]
#[ignore = "needs a small file system; started by the other tests"]
fn in_a_full_file_system() {
    let Ok(dir) = env::var("STEADFAST_FULL_DIR") else { return };
    let home = PathBuf::from(dir);
    let dir = home.join("store");
    let flush = match env::var("STEADFAST_FULL_MODE").as_deref() {
        Ok("sync") => FlushMode::Sync,
        _ => FlushMode::Async,
    };
    for name in BALLAST {
        fs::write(home.join(name), vec![7; BALLAST_BYTES]).unwrap();
    }
    let (last, others) = BALLAST.split_last().unwrap();
    let queue = QueueKey::new("orders", 0).unwrap();
    let group = Group::new("billing").unwrap();
    let mut kept = 0;
    let store = Store::builder(&dir).options(options(flush)).open().unwrap();
    for name in others {
        let error = fill(&store, &queue, &mut kept);
        println!("{kept} messages, then: {error}");
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.is_transient());
        assert!(error.to_string().contains("free some space"), "{error}");
        for _ in 0..20 {
            let again = append(&store, &queue, &mut kept);
            assert!(again.is_ok() || again.is_err_and(|e| e.kind() == ErrorKind::Full));
        }
        check(&store, &queue, kept);
        store.consumers().commit(&group, &queue, QueueOffset::new(kept / 2)).unwrap();
        fs::remove_file(home.join(name)).unwrap();
        // Without opening it again, and at once.
        append(&store, &queue, &mut kept).expect("there is room again");
        check(&store, &queue, kept);
    }
    // Closing may have no room for its notes; what was acknowledged is in the log all the same.
    fill(&store, &queue, &mut kept);
    stuff(&home.join("rest"));
    println!("closing: {:?}", store.close());
    println!("opening: {:?}", Store::builder(&dir).options(options(flush)).open().map(drop));
    fs::remove_file(home.join("rest")).unwrap();
    fs::remove_file(home.join(last)).unwrap();
    for _ in 0..2 {
        reopened(&dir, flush, &mut kept, &queue);
    }
}

/// Takes all the room there is.
fn stuff(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}

fn reopened(dir: &Path, flush: FlushMode, kept: &mut u64, queue: &QueueKey) {
    let store = Store::builder(dir).options(options(flush)).open().unwrap();
    append(&store, queue, kept).unwrap();
    check(&store, queue, *kept);
    store.close().unwrap();
}

fn full(mode: &str) {
    let mount = match Mount::new() {
        Ok(mount) => mount,
        Err(why) => {
            println!("SKIP: {why}");
            return;
        }
    };
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "disk_full::in_a_full_file_system", "--ignored", "--nocapture"])
        .env("STEADFAST_FULL_DIR", mount.0.path())
        .env("STEADFAST_FULL_MODE", mode)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else_async() {
    full("async");
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else_sync() {
    full("sync");
}
