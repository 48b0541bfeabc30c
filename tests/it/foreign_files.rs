//! What does not belong into the directory is named and left alone; what may not be written is not.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use steadfast::{ErrorKind, OnDamage, Store};

use crate::directory::{
    Left, SEGMENT_BYTES, check, filled, listing, open, options, put, segment_of,
};

const MESSAGES: usize = 120;

/// Checks that opening fails, names `named` and changes nothing, and that all is well once
/// `undo` took the strange thing away.
pub(crate) fn refused(dir: &Path, named: &str, undo: impl FnOnce()) {
    let before = listing(dir);
    for on_damage in [OnDamage::Refuse, OnDamage::Serve] {
        let error = open(dir, on_damage).expect_err("a foreign file was taken for a segment");
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(listing(dir), before, "refusing changed something");
    }
    undo();
    drop(open(dir, OnDamage::Refuse).unwrap());
}

#[test]
fn foreign_things_among_the_segments_are_named_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut kept = filled(dir, MESSAGES, Left::Closed);
    let log = dir.join("commitlog");
    let behind = format!("{:020}", 10 * SEGMENT_BYTES);

    for name in ["README", "0000000000001638", "00000000000000000000.bak", "+0000000000000000000"] {
        let path = log.join(name);
        fs::write(&path, "mine").unwrap();
        refused(dir, name, || fs::remove_file(&path).unwrap());
    }
    let path = log.join(&behind);
    for len in [1, SEGMENT_BYTES - 1, SEGMENT_BYTES + 1] {
        fs::write(&path, vec![0; len as usize]).unwrap();
        refused(dir, &behind, || fs::remove_file(&path).unwrap());
    }
    let inside = log.join(format!("{:020}", SEGMENT_BYTES / 2));
    fs::write(&inside, vec![0; SEGMENT_BYTES as usize]).unwrap();
    refused(dir, "overlaps", || fs::remove_file(&inside).unwrap());

    symlink(segment_of(dir, 0).0, &path).unwrap();
    refused(dir, &behind, || fs::remove_file(&path).unwrap());
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    refused(dir, &behind, || fs::remove_file(&path).unwrap());

    // RocketMQ passes over directories, and so do we.
    fs::create_dir(log.join("mine")).unwrap();
    fs::write(log.join("mine/notes"), "mine").unwrap();
    let store = open(dir, OnDamage::Refuse).unwrap();
    put(&store, &mut kept, 20);
    check(&store, &kept, |_| false);
    store.close().unwrap();
    assert_eq!(fs::read(log.join("mine/notes")).unwrap(), b"mine");
}

#[test]
fn foreign_things_elsewhere_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut kept = filled(dir, MESSAGES, Left::Closed);
    let notes = [
        "notes",
        "consumequeue/notes",
        "consumequeue/orders/notes",
        "index/notes",
        "config/notes",
        "steadfast/notes",
        "steadfast/frames/notes",
    ];
    for name in notes {
        fs::write(dir.join(name), "mine").unwrap();
    }
    for _ in 0..2 {
        let store = open(dir, OnDamage::Refuse).unwrap();
        check(&store, &kept, |_| false);
        put(&store, &mut kept, 20);
        store.abandon();
    }
    for name in notes {
        assert_eq!(fs::read(dir.join(name)).unwrap(), b"mine", "{name}");
    }
}

// ---------------------------------------------------------------- other processes

/// Started again as another process, maybe as another user: opens, says what came of it, and keeps
/// the store open until its input ends.
#[test]
#[ignore = "the other process; started by the other tests"]
fn other_process() {
    let Ok(dir) = env::var("STEADFAST_OTHER_DIR") else { return };
    let builder = Store::builder(dir).options(options());
    let store = match env::var("STEADFAST_OTHER_MODE").as_deref() {
        Ok("read") => builder.open_read_only(),
        _ => builder.open(),
    };
    match &store {
        Ok(store) => println!("\n> open {:?}", store.queue_range(&crate::directory::queue(0))),
        Err(e) => println!("\n> {:?} {e}", e.kind()),
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Runs `during` while the other process has done what it says, which is returned.
fn beside(dir: &Path, mode: &str, user: Option<u32>, during: impl FnOnce(u32)) -> Option<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "foreign_files::other_process", "--ignored", "--nocapture"])
        .env("STEADFAST_OTHER_DIR", dir)
        .env("STEADFAST_OTHER_MODE", mode)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut child = match command.spawn() {
        // Another user may not be able to reach this binary.
        Err(_) if user.is_some() => return None,
        spawned => spawned.unwrap(),
    };
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = out.find_map(|line| Some(line.unwrap().strip_prefix("> ")?.to_owned()));
    during(child.id());
    drop(child.stdin.take());
    // The rest of what the test harness has to say.
    out.for_each(drop);
    child.wait().unwrap();
    Some(said.expect("the other process said nothing"))
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_store() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let kept = filled(dir, MESSAGES, Left::Closed);
    let said = beside(dir, "write", None, |holder| {
        let before = listing(dir);
        let error = open(dir, OnDamage::Refuse).expect_err("two processes write one directory");
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains(&holder.to_string()), "{error} holder={holder}");
        // The holder may be making its next segment meanwhile; nothing else comes or goes.
        let others = |all: BTreeMap<String, String>| -> Vec<String> {
            let next = |name: &String| name.starts_with("commitlog/") || name.ends_with(".tmp");
            all.into_keys().filter(|name| !next(name)).collect()
        };
        assert_eq!(others(listing(dir)), others(before));
        // Looking is allowed meanwhile.
        let store = Store::builder(dir).options(options()).open_read_only().unwrap();
        check(&store, &kept, |_| false);
    });
    assert!(said.unwrap().starts_with("open"));
    check(&open(dir, OnDamage::Refuse).unwrap(), &kept, |_| false);
}

/// Sets the permissions of everything under `path`.
fn permit(path: &Path, directories: u32, files: u32) {
    let mode = if path.is_dir() { directories } else { files };
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            permit(&entry.unwrap().path(), directories, files);
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Permissions do not bind root, so as root the other process is somebody else.
fn somebody() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    root.then_some(65_534)
}

#[test]
fn a_directory_that_may_not_be_written_is_not_and_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path(), MESSAGES, Left::Killed);
    permit(home.path(), 0o555, 0o444);
    let before = listing(home.path());
    let Some(said) = beside(home.path(), "write", somebody(), |_| {}) else {
        println!("SKIP: another user cannot start this binary");
        return;
    };
    assert!(said.starts_with("Io ") && said.contains("lock"), "{said}");
    let said = beside(home.path(), "read", somebody(), |_| {}).unwrap();
    assert!(said.starts_with("open Some"), "{said}");
    assert_eq!(listing(home.path()), before);
    permit(home.path(), 0o755, 0o644);
}

#[test]
fn a_segment_that_may_not_be_read_is_named() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path(), MESSAGES, Left::Killed);
    permit(home.path(), 0o777, 0o666);
    let before = listing(home.path());
    let (segment, _) = segment_of(home.path(), SEGMENT_BYTES);
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o0)).unwrap();
    for mode in ["write", "read"] {
        let Some(said) = beside(home.path(), mode, somebody(), |_| {}) else {
            println!("SKIP: another user cannot start this binary");
            return;
        };
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(said.starts_with("Io ") && said.contains(name), "{mode}: {said}");
    }
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(listing(home.path()), before);
}
