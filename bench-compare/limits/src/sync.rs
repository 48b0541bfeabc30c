//! What making bytes durable costs.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    time::{Duration, Instant},
};

use common::{Args, Failure};
use memmap2::Advice;
use rustix::fs::OFlags;

use crate::{
    latency::Latencies,
    memory::{Mapping, PAGE, Populate},
    scratch::{Fill, Scratch},
};

/// Where the bytes go.
enum Target<'a> {
    Calls(&'a File),
    Memory(Mapping<'a>),
}

/// What makes them durable.
#[derive(Clone, Copy)]
enum Sync {
    Nothing,
    Data,
    All,
    Pages,
}

impl Target<'_> {
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            Self::Calls(file) => file.write_all_at(bytes, at),
            Self::Memory(memory) => {
                memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Makes `len` bytes at `at` durable, or more.
    fn sync(&self, how: Sync, at: u64, len: usize) -> io::Result<()> {
        match (self, how) {
            (_, Sync::Nothing) => Ok(()),
            (Self::Calls(file), Sync::Data) => file.sync_data(),
            (Self::Calls(file), Sync::All | Sync::Pages) => file.sync_all(),
            (Self::Memory(memory), Sync::Data) => memory.sync_data(),
            (Self::Memory(memory), Sync::All) => memory.sync_all(),
            (Self::Memory(memory), Sync::Pages) => memory.msync(at as usize, len),
        }
    }
}

/// `fsync [mode=] [file=] [batch=] [ms=] [bytes=] [populate=1] dir=`: one thread that appends
/// `batch` bytes, makes them durable, and again. No group commit can be quicker.
pub(crate) fn fsync(args: &Args) -> Result<(), Failure> {
    let mode = args.text("mode", "pwrite+fdatasync");
    let kind = args.text("file", "falloc");
    let batch = args.number("batch", 4096)?;
    let most = Duration::from_millis(args.number("ms", 3000)?);
    let len = args.number("bytes", 256 << 20)?;
    let populate = args.number("populate", 0)? == 1;
    let sync = match mode.as_str() {
        "pwrite+fdatasync" | "mmap+fdatasync" | "odirect+fdatasync" => Sync::Data,
        "pwrite+fsync" => Sync::All,
        "mmap+msync" => Sync::Pages,
        "odirect+dsync" | "odirect-nosync" | "pwrite-nosync" => Sync::Nothing,
        other => return Err(format!("no such mode: {other:?}").into()),
    };
    let fill = Fill::named(&kind)?;
    let mut scratch = Scratch::create(args, "fsync.dat", len, fill)?;
    if fill != Fill::Empty {
        scratch.file().sync_all()?;
    }
    let direct = if mode.contains("odirect") { Some(open_direct(&scratch, &mode)?) } else { None };
    let mut target = if mode.starts_with("mmap") {
        let memory = Mapping::new(&mut scratch, len, Populate::Touch)?;
        if populate {
            memory.advise(Advice::PopulateWrite)?;
            memory.sync_all()?;
        }
        Target::Memory(memory)
    } else {
        Target::Calls(direct.as_ref().unwrap_or(scratch.file()))
    };
    // O_DIRECT takes only what begins at a page.
    let unaligned = common::body(batch as usize + PAGE);
    let aligned = unaligned.as_ptr().align_offset(PAGE);
    let bytes = unaligned.get(aligned..aligned + batch as usize).ok_or("no aligned bytes")?;
    let mut latencies = Latencies::default();
    let mut at = 0;
    let begun = Instant::now();
    while begun.elapsed() < most && at + batch <= len {
        let start = Instant::now();
        target.write(bytes, at)?;
        target.sync(sync, at, bytes.len())?;
        latencies.add(start.elapsed());
        at += batch;
    }
    let secs = begun.elapsed().as_secs_f64();
    let count = latencies.count();
    println!(
        "{{\"peer\":\"limit\",\"case\":\"sync:{mode}/{kind}{}\",\"batch\":{batch},\"n\":{count},\
         \"secs\":{secs:.3},\"syncs_s\":{:.0},\"mb_s\":{:.1}{}}}",
        if populate { "+pop" } else { "" },
        count as f64 / secs,
        (count as u64 * batch) as f64 / secs / 1e6,
        latencies.json()
    );
    Ok(())
}

/// The file once more, past the page cache.
fn open_direct(scratch: &Scratch, mode: &str) -> io::Result<File> {
    let mut flags = OFlags::DIRECT;
    if mode.contains("dsync") {
        flags |= OFlags::DSYNC;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags.bits() as i32);
    options.open(scratch.path())
}
