//! System calls that a tracer makes fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The calls a store may make. Those that concern memory and threads only are left alone: without
/// memory no process goes on.
const CALLS: [&str; 32] = [
    "openat",
    "read",
    "pread64",
    "preadv",
    "write",
    "pwrite64",
    "pwritev",
    "fdatasync",
    "fsync",
    "syncfs",
    "sync_file_range",
    "fallocate",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mmap",
    "madvise",
    "msync",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "getdents64",
    "fcntl",
    "lseek",
];

/// Why nothing can be traced here.
pub(crate) fn missing() -> Option<String> {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=openat", "-e", "signal=none"])
        .args(["-e", "inject=fsync:error=EIO:when=1", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Err(e) => Some(format!("strace cannot be run: {e}")),
        Ok(done) if !done.status.success() => {
            Some(format!("strace cannot trace: {}", String::from_utf8_lossy(&done.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// The tracer's command line that only writes down all calls.
pub(crate) fn counting(log: &Path) -> Vec<String> {
    tracer(&CALLS.join(","), log)
}

/// The tracer's command line with one fault, such as `pwrite64:error=EIO:when=3`. Each thread
/// counts its own calls.
pub(crate) fn failing(fault: &str, log: &Path) -> Vec<String> {
    let call = fault.split(':').next().unwrap_or_default();
    let mut command = tracer(call, log);
    command.extend(["-y".into(), "-e".into(), format!("inject={fault}")]);
    command
}

fn tracer(calls: &str, log: &Path) -> Vec<String> {
    let mut command: Vec<_> = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e"]
        .map(String::from)
        .into();
    command.extend([format!("trace={calls}"), "-o".into(), log.display().to_string()]);
    command
}

/// Whether the fault in a log came to pass.
///
/// # Errors
///
/// The log cannot be read.
pub(crate) fn was_hit(log: &Path) -> Result<bool> {
    let log = fs::read(log).context("the tracer's log")?;
    Ok(log.windows(10).any(|bytes| bytes == b"(INJECTED)"))
}

/// How often a file of the log was synced after a sync of it had failed, at most.
///
/// # Errors
///
/// The log cannot be read.
pub(crate) fn syncs_after_a_failed_one(log: &Path) -> Result<u64> {
    let log = fs::read(log).context("the tracer's log")?;
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    // A call of a thread that another one's line interrupts.
    let mut pending: BTreeMap<String, String> = BTreeMap::new();
    for line in String::from_utf8_lossy(&log).lines().filter(|line| line.contains("sync")) {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        if let Some((_, path)) = call.split_once('<').filter(|_| !call.contains("resumed")) {
            let path = path.split('>').next().unwrap_or_default().to_owned();
            if let Some(again) = failed.get_mut(&path) {
                *again += 1;
            }
            pending.insert(thread.to_owned(), path);
        }
        // An interrupted call says nothing of the file.
        let fails = call.contains("(INJECTED)") && !call.contains("EINTR");
        if let Some(path) = pending.get(thread).filter(|path| fails && path.contains("commitlog/"))
        {
            failed.entry(path.clone()).or_default();
        }
    }
    Ok(failed.into_values().max().unwrap_or(0))
}

/// Which calls a store made, by name: the how manieth they were in their thread. Not those with
/// which the process started; and as every thread counts, none that would hit one of those too.
///
/// # Errors
///
/// The log cannot be read, or holds none.
pub(crate) fn made(log: &Path) -> Result<BTreeMap<String, BTreeSet<u64>>> {
    let log = fs::read(log).context("the tracer's log")?;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut made: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut starting: BTreeMap<String, u64> = BTreeMap::new();
    let mut opening = false;
    for line in String::from_utf8_lossy(&log).lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if name.contains(' ') {
            continue;
        }
        let count = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *count += 1;
        let said = name == "write" && arguments.starts_with("1,");
        opening |= said;
        if !opening {
            *starting.entry(name.to_owned()).or_default() += 1;
        }
        let too_early = starting.get(name).is_some_and(|before| *count <= *before);
        // What the allocator maps is no file.
        let memory = name == "mmap" && !arguments.contains("MAP_SHARED");
        if opening && !said && !memory && !too_early {
            made.entry(name.to_owned()).or_default().insert(*count);
        }
    }
    ensure!(!made.is_empty(), "the tracer saw no calls");
    Ok(made)
}
