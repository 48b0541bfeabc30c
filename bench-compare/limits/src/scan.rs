//! How fast a file is read and written in order, and how many mappings there can be.

use std::{
    os::unix::{fs::FileExt, io::AsRawFd},
    time::Instant,
};

use crate::{Args, body, map, mk};

pub(crate) fn seqwrite(a: &Args, dir: &str) {
    let bytes = a.n("bytes", 2 << 30);
    let path = format!("{dir}/sw.dat");
    let b = body(1 << 20);
    let f = mk(&path, bytes, "falloc");
    let t = Instant::now();
    for i in 0..bytes >> 20 {
        f.write_all_at(&b, i << 20).unwrap();
    }
    let w = t.elapsed().as_secs_f64();
    f.sync_data().unwrap();
    let s = t.elapsed().as_secs_f64();
    println!(
        "{{\"peer\":\"limit\",\"case\":\"seqwrite-buffered\",\"bytes\":{bytes},\"cache_mb_s\":{:.0},\"durable_mb_s\":{:.0}}}",
        bytes as f64 / w / 1e6,
        bytes as f64 / s / 1e6
    );
    let _ = std::fs::remove_file(&path);
}

/// Sequential read: page cache warm (mmap sum, mmap record crc, read(2)) and cold (after DONTNEED).
pub(crate) fn seqread(a: &Args, dir: &str) {
    let bytes = a.n("bytes", 1 << 30);
    let rec = a.n("body", 1024) as usize;
    let path = format!("{dir}/sr.dat");
    let f = mk(&path, bytes, "empty");
    let b = body(1 << 20);
    for i in 0..bytes >> 20 {
        f.write_all_at(&b, i << 20).unwrap();
    }
    f.sync_all().unwrap();
    let n = bytes / rec as u64;
    let rep = |c: &str, s: f64, x: u64| {
        println!(
            "{{\"peer\":\"limit\",\"case\":\"seqread-{c}\",\"body\":{rec},\"secs\":{s:.4},\"mb_s\":{:.0},\"msgs_s\":{:.0},\"x\":{}}}",
            bytes as f64 / s / 1e6,
            n as f64 / s,
            x & 1
        )
    };
    let drop_cache = || {
        assert_eq!(
            unsafe { libc::posix_fadvise(f.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) },
            0
        )
    };
    let sum = |p: *mut u8| -> u64 {
        let s = unsafe { std::slice::from_raw_parts(p as *const u64, (bytes / 8) as usize) };
        s.iter().fold(0u64, |a, b| a.wrapping_add(*b))
    };
    for pass in ["1st-map", "mapped"] {
        let p = map(&f, bytes, 0);
        if pass == "mapped" {
            std::hint::black_box(sum(p));
        }
        let t = Instant::now();
        let x = sum(p);
        rep(&format!("warm-mmap-sum-{pass}"), t.elapsed().as_secs_f64(), x);
        let t = Instant::now();
        let mut x = 0u64;
        for i in 0..n as usize {
            x ^= crc32fast::hash(unsafe { std::slice::from_raw_parts(p.add(i * rec), rec) }) as u64;
        }
        rep(&format!("warm-mmap-crc-{pass}"), t.elapsed().as_secs_f64(), x);
        unsafe { libc::munmap(p as _, bytes as usize) };
    }
    let mut buf = vec![0u8; 256 << 10];
    let t = Instant::now();
    let mut o = 0u64;
    while o < bytes {
        f.read_exact_at(&mut buf, o).unwrap();
        o += buf.len() as u64;
    }
    rep("warm-pread-256k", t.elapsed().as_secs_f64(), buf[9] as u64);
    drop_cache();
    let t = Instant::now();
    let mut o = 0u64;
    while o < bytes {
        f.read_exact_at(&mut buf, o).unwrap();
        o += buf.len() as u64;
    }
    rep("cold-pread-256k", t.elapsed().as_secs_f64(), buf[9] as u64);
    drop_cache();
    let p = map(&f, bytes, 0);
    let t = Instant::now();
    let x = sum(p);
    rep("cold-mmap-sum", t.elapsed().as_secs_f64(), x);
    unsafe { libc::munmap(p as _, bytes as usize) };
    drop_cache();
    let p = map(&f, bytes, 0);
    unsafe { libc::madvise(p as _, bytes as usize, libc::MADV_SEQUENTIAL) };
    let t = Instant::now();
    let x = sum(p);
    rep("cold-mmap-sum-MADV_SEQUENTIAL", t.elapsed().as_secs_f64(), x);
    unsafe { libc::munmap(p as _, bytes as usize) };
    let _ = std::fs::remove_file(&path);
}

/// How many one-page file mappings and open files a process gets: the wall for mmap-per-queue designs.
pub(crate) fn mapcount(dir: &str) {
    let path = format!("{dir}/mc.dat");
    let f = mk(&path, 1 << 20, "falloc");
    let mut n = 0;
    // alternate protections so that neighbouring mappings do not merge
    for i in 0..200_000 {
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                if i & 1 == 0 { 1 } else { 3 },
                libc::MAP_SHARED,
                f.as_raw_fd(),
                0,
            )
        };
        if p == libc::MAP_FAILED {
            break;
        }
        n += 1;
    }
    println!("{{\"peer\":\"limit\",\"case\":\"mappings\",\"max\":{n}}}");
    let _ = std::fs::remove_file(&path);
    std::process::exit(0);
}
