//! How fast a file is read and written in order, and how many mappings there can be.

use std::{fs::File, hint::black_box, io, os::unix::fs::FileExt, time::Instant};

use common::{Args, Failure};
use memmap2::{Advice, MmapOptions};
use rustix::fs::{Advice as FileAdvice, fadvise};

use crate::{
    memory::{Mapping, PAGE, Populate},
    scratch::{Fill, Scratch},
};

/// `seqwrite [bytes=] dir=`: pieces of 1 MiB, then one sync.
pub(crate) fn seqwrite(args: &Args) -> Result<(), Failure> {
    let bytes = args.number("bytes", 2 << 30)?;
    let scratch = Scratch::create(args, "sw.dat", bytes, Fill::Allocated)?;
    let piece = common::body(1 << 20);
    let start = Instant::now();
    scratch.write_all(&piece, bytes)?;
    let cached = start.elapsed().as_secs_f64();
    scratch.file().sync_data()?;
    let durable = start.elapsed().as_secs_f64();
    println!(
        "{{\"peer\":\"limit\",\"case\":\"seqwrite-buffered\",\"bytes\":{bytes},\
         \"cache_mb_s\":{:.0},\"durable_mb_s\":{:.0}}}",
        bytes as f64 / cached / 1e6,
        bytes as f64 / durable / 1e6
    );
    Ok(())
}

/// `seqread [bytes=] [body=] dir=`: reading in order with a warm page cache (mapped: summed, and
/// checksummed by records; by read calls) and with a cold one.
pub(crate) fn seqread(args: &Args) -> Result<(), Failure> {
    let bytes = args.number("bytes", 1 << 30)?;
    let len = args.number("body", 1024)?.max(1);
    let mut scratch = Scratch::create(args, "sr.dat", bytes, Fill::Empty)?;
    scratch.write_all(&common::body(1 << 20), bytes)?;
    scratch.file().sync_all()?;
    let report = |case: &str, start: Instant, sum: u64| {
        let secs = start.elapsed().as_secs_f64();
        println!(
            "{{\"peer\":\"limit\",\"case\":\"seqread-{case}\",\"body\":{len},\"secs\":{secs:.4},\
             \"mb_s\":{:.0},\"msgs_s\":{:.0},\"x\":{}}}",
            bytes as f64 / secs / 1e6,
            (bytes / len) as f64 / secs,
            sum & 1
        );
    };
    for pass in ["1st-map", "mapped"] {
        let memory = Mapping::new(&mut scratch, bytes, Populate::Touch)?;
        if pass == "mapped" {
            black_box(words_sum(&memory));
        }
        let start = Instant::now();
        let sum = words_sum(&memory);
        report(&format!("warm-mmap-sum-{pass}"), start, sum);
        let start = Instant::now();
        let records = memory.chunks_exact(len as usize);
        let sum = records.fold(0, |sum, record| sum ^ u64::from(crc32fast::hash(record)));
        report(&format!("warm-mmap-crc-{pass}"), start, sum);
    }
    for case in ["warm-pread-256k", "cold-pread-256k"] {
        if case == "cold-pread-256k" {
            drop_cache(scratch.file())?;
        }
        let start = Instant::now();
        let byte = read_all(scratch.file(), bytes)?;
        report(case, start, byte);
    }
    for case in ["cold-mmap-sum", "cold-mmap-sum-MADV_SEQUENTIAL"] {
        drop_cache(scratch.file())?;
        let memory = Mapping::new(&mut scratch, bytes, Populate::Touch)?;
        if case == "cold-mmap-sum-MADV_SEQUENTIAL" {
            memory.advise(Advice::Sequential)?;
        }
        let start = Instant::now();
        let sum = words_sum(&memory);
        report(case, start, sum);
    }
    Ok(())
}

/// As fast as memory is read: words of eight bytes, added up.
fn words_sum(memory: &[u8]) -> u64 {
    let (words, _) = memory.as_chunks();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

/// Reads `len` bytes in pieces; a byte of the last one.
fn read_all(file: &File, len: u64) -> io::Result<u64> {
    let mut piece = vec![0; 256 << 10];
    let mut at = 0;
    while at < len {
        let part = piece.len().min((len - at) as usize);
        file.read_exact_at(&mut piece[..part], at)?;
        at += part as u64;
    }
    Ok(u64::from(piece[9]))
}

/// Makes the kernel forget the pages of the file, which must be synced and not mapped.
fn drop_cache(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, FileAdvice::DontNeed)?)
}

/// `mapcount dir=`: how many mappings of one page a process gets, which is what designs with a
/// mapping for each queue run into.
pub(crate) fn mapcount(args: &Args) -> Result<(), Failure> {
    const ENOUGH: usize = 200_000;
    let scratch = Scratch::create(args, "mc.dat", 1 << 20, Fill::Allocated)?;
    let mut options = MmapOptions::new();
    options.len(PAGE);
    // All its room beforehand: when no mapping is left, nothing larger can be allocated.
    let mut mappings = Vec::with_capacity(ENOUGH);
    while mappings.len() < ENOUGH {
        // Alternating protections, so that neighbours do not merge.
        let mapping = match mappings.len() % 2 {
            0 => options.map_raw_read_only(scratch.file()),
            _ => options.map_raw(scratch.file()),
        };
        let Ok(mapping) = mapping else { break };
        mappings.push(mapping);
    }
    let count = mappings.len();
    drop(mappings);
    println!("{{\"peer\":\"limit\",\"case\":\"mappings\",\"max\":{count}}}");
    Ok(())
}
