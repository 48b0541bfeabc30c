//! What copying into a file costs, and what making its pages ready costs.

use std::{hint::black_box, os::unix::fs::FileExt, time::Instant};

use common::{Args, Failure};
use memmap2::{Advice, MmapOptions};

use crate::{
    memory::{Mapping, PAGE, Populate, touch},
    scratch::{Fill, Scratch},
};

/// The records that are copied: some different ones, so that no checksum can be remembered.
struct Records {
    bodies: Vec<Vec<u8>>,
    crc: bool,
    /// Of all checksums, so that they have to be computed.
    sum: u32,
}

impl Records {
    fn new(len: usize, crc: bool) -> Self {
        let mut bodies = vec![common::body(len); 64];
        for (number, body) in bodies.iter_mut().enumerate() {
            body[0] = number as u8;
        }
        Self { bodies, crc, sum: 0 }
    }

    /// Record number `i`, checksummed if that is asked for.
    fn get(&mut self, i: usize) -> &[u8] {
        let record = &self.bodies[i & 63];
        if self.crc {
            self.sum ^= crc32fast::hash(record);
        }
        record
    }

    /// Copies as many as there is room for; in seconds.
    fn store(&mut self, memory: &mut [u8], len: usize) -> f64 {
        let start = Instant::now();
        for (i, place) in memory.chunks_exact_mut(len).enumerate() {
            place.copy_from_slice(self.get(i));
            black_box(place);
        }
        start.elapsed().as_secs_f64()
    }
}

/// `copy [mode=] [body=] [bytes=] [crc=1|0] dir=`: copies records (and takes their CRC-32) into a
/// target; one pass over `bytes`.
pub(crate) fn copy(args: &Args) -> Result<(), Failure> {
    let bytes = args.number("bytes", 1 << 30)?;
    let len = args.number("body", 1024)?.max(1);
    let crc = args.number("crc", 1)? == 1;
    let mode = args.text("mode", "mmap-populated");
    let count = bytes / len;
    let mut records = Records::new(len as usize, crc);
    let mut prep = 0.0;
    let secs = match mode.as_str() {
        "anon" => {
            let mut memory =
                MmapOptions::new().len(usize::try_from(bytes)?).populate().map_anon()?;
            records.store(&mut memory, len as usize)
        }
        "pwrite" | "pwrite-falloc" => {
            let fill = if mode == "pwrite-falloc" { Fill::Allocated } else { Fill::Empty };
            let scratch = Scratch::create(args, "copy.dat", bytes, fill)?;
            let start = Instant::now();
            for i in 0..count {
                scratch.file().write_all_at(records.get(i as usize), i * len)?;
            }
            start.elapsed().as_secs_f64()
        }
        "mmap-sparse" | "mmap-falloc" | "mmap-populated" | "mmap-touched" | "mmap-MAP_POPULATE" => {
            let fill = if mode == "mmap-sparse" { Fill::Sparse } else { Fill::Allocated };
            let mut scratch = Scratch::create(args, "copy.dat", bytes, fill)?;
            let start = Instant::now();
            let mut memory = prepared(&mut scratch, bytes, &mode)?;
            prep = start.elapsed().as_secs_f64();
            records.store(&mut memory, len as usize)
        }
        other => return Err(format!("no such mode: {other:?}").into()),
    };
    println!(
        "{{\"peer\":\"limit\",\"case\":\"copy-{mode}{}\",\"body\":{len},\"n\":{count},\
         \"secs\":{secs:.4},\"msgs_s\":{:.0},\"mb_s\":{:.0},\"ns_rec\":{:.1},\"prep_s\":{prep:.4},\
         \"x\":{}}}",
        if crc { "+crc" } else { "" },
        count as f64 / secs,
        (count * len) as f64 / secs / 1e6,
        secs * 1e9 / count as f64,
        records.sum & 1
    );
    Ok(())
}

/// The mapping of a file, with its pages made ready as `mode` says.
fn prepared<'a>(scratch: &'a mut Scratch, len: u64, mode: &str) -> Result<Mapping<'a>, Failure> {
    let at_once = mode == "mmap-MAP_POPULATE";
    let populate = if at_once { Populate::Mapping } else { Populate::Touch };
    let mut memory = Mapping::new(scratch, len, populate)?;
    match mode {
        "mmap-populated" => memory.advise(Advice::PopulateWrite)?,
        "mmap-touched" => touch(&mut memory, 0),
        _ => {}
    }
    Ok(memory)
}

/// `fault [bytes=] dir=`: page faults and preparing pages, per page of 4 KiB.
pub(crate) fn fault(args: &Args) -> Result<(), Failure> {
    let bytes = args.number("bytes", 1 << 30)?;
    let report = |case: &str, start: Instant| {
        let secs = start.elapsed().as_secs_f64();
        println!(
            "{{\"peer\":\"limit\",\"case\":\"fault-{case}\",\"secs\":{secs:.4},\"ns_page\":{:.1},\
             \"mb_s\":{:.0}}}",
            secs * 1e9 / (bytes / PAGE as u64) as f64,
            bytes as f64 / secs / 1e6
        );
    };
    let create = |fill| Scratch::create(args, "fault.dat", bytes, fill);
    for name in ["sparse", "falloc", "zeroed"] {
        let fill = Fill::named(name)?;
        let start = Instant::now();
        let mut scratch = create(fill)?;
        if fill == Fill::Allocated {
            report("fallocate-call(whole file)", start);
        }
        let mut memory = Mapping::new(&mut scratch, bytes, Populate::Touch)?;
        let start = Instant::now();
        touch(&mut memory, 1);
        report(&format!("first-touch-{name}"), start);
        let start = Instant::now();
        memory.msync(0, memory.len())?;
        report(&format!("msync-whole-{name}"), start);
        let start = Instant::now();
        touch(&mut memory, 1);
        report(&format!("re-dirty-after-msync-{name}"), start);
        let start = Instant::now();
        drop(memory);
        report(&format!("munmap-{name}"), start);
    }
    let mut scratch = create(Fill::Allocated)?;
    let start = Instant::now();
    let mut memory = Mapping::new(&mut scratch, bytes, Populate::Mapping)?;
    report("MAP_POPULATE-falloc", start);
    let start = Instant::now();
    touch(&mut memory, 1);
    report("touch-after-MAP_POPULATE", start);
    drop(memory);
    drop(scratch);
    let mut scratch = create(Fill::Allocated)?;
    let mut memory = Mapping::new(&mut scratch, bytes, Populate::Touch)?;
    let start = Instant::now();
    memory.advise(Advice::PopulateWrite)?;
    report("MADV_POPULATE_WRITE-falloc", start);
    let start = Instant::now();
    touch(&mut memory, 1);
    report("touch-after-MADV_POPULATE_WRITE", start);
    let huge = status(memory.advise(Advice::HugePage));
    drop(memory);
    let part = usize::try_from(bytes)?.min(4 << 20);
    let locked = status(MmapOptions::new().len(part).map_raw(scratch.file())?.lock());
    println!(
        "{{\"peer\":\"limit\",\"case\":\"caps\",\"madv_hugepage_rc\":{huge},\
         \"mlock_4m_rc\":{locked}}}"
    );
    Ok(())
}

/// As the system call says it.
fn status(done: std::io::Result<()>) -> i32 {
    if done.is_ok() { 0 } else { -1 }
}
