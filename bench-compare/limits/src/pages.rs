//! What copying into a file costs, and what making its pages ready costs.

use std::{os::unix::fs::FileExt, time::Instant};

use crate::{Args, body, map, mk};

pub(crate) const MADV_POPULATE_WRITE: i32 = 23;

/// Copy records (and optionally CRC-32 them) into a target; one pass over `bytes`.
pub(crate) fn copy(a: &Args, dir: &str) {
    let bytes = a.n("bytes", 1 << 30);
    let rec = a.n("body", 1024) as usize;
    let crc = a.n("crc", 1) == 1;
    let mode = a.s("mode", "mmap-populated");
    let b = body(rec);
    let path = format!("{dir}/copy.dat");
    let n = bytes / rec as u64;
    let mut sum = 0u32;
    let mut prep = 0.0;
    let mut bs = vec![b.clone(); 64];
    for (i, x) in bs.iter_mut().enumerate() {
        x[0] = i as u8;
    }
    let secs;
    if mode.starts_with("pwrite") {
        let f = mk(&path, bytes, if mode == "pwrite-falloc" { "falloc" } else { "empty" });
        let t = Instant::now();
        for i in 0..n {
            let b = &bs[(i & 63) as usize];
            if crc {
                sum ^= crc32fast::hash(b);
            }
            f.write_all_at(b, i * rec as u64).unwrap();
        }
        secs = t.elapsed().as_secs_f64();
    } else {
        let (p, f) = match mode.as_str() {
            "anon" => {
                let p = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        bytes as usize,
                        3,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                        -1,
                        0,
                    )
                };
                (p as *mut u8, None)
            }
            _ => {
                let f = mk(&path, bytes, if mode == "mmap-sparse" { "sparse" } else { "falloc" });
                let t = Instant::now();
                let p = map(
                    &f,
                    bytes,
                    if mode == "mmap-MAP_POPULATE" { libc::MAP_POPULATE } else { 0 },
                );
                if mode == "mmap-populated" {
                    assert_eq!(
                        unsafe { libc::madvise(p as _, bytes as usize, MADV_POPULATE_WRITE) },
                        0
                    );
                }
                if mode == "mmap-touched" {
                    for o in (0..bytes).step_by(4096) {
                        unsafe { p.add(o as usize).write_volatile(0) }
                    }
                }
                prep = t.elapsed().as_secs_f64();
                (p, Some(f))
            }
        };
        let t = Instant::now();
        for i in 0..n {
            let b = &bs[(i & 63) as usize];
            if crc {
                sum ^= crc32fast::hash(b);
            }
            unsafe { std::ptr::copy_nonoverlapping(b.as_ptr(), p.add((i as usize) * rec), rec) };
            std::hint::black_box(p);
        }
        secs = t.elapsed().as_secs_f64();
        unsafe { libc::munmap(p as _, bytes as usize) };
        drop(f);
    }
    let _ = std::fs::remove_file(&path);
    println!(
        "{{\"peer\":\"limit\",\"case\":\"copy-{mode}{}\",\"body\":{rec},\"n\":{n},\"secs\":{secs:.4},\"msgs_s\":{:.0},\"mb_s\":{:.0},\"ns_rec\":{:.1},\"prep_s\":{prep:.4},\"x\":{}}}",
        if crc { "+crc" } else { "" },
        n as f64 / secs,
        (n * rec as u64) as f64 / secs / 1e6,
        secs * 1e9 / n as f64,
        sum & 1
    );
}

/// Page-fault and page-preparation costs on a 1 GiB file, per 4 KiB page.
pub(crate) fn fault(a: &Args, dir: &str) {
    let bytes = a.n("bytes", 1 << 30);
    let pages = (bytes / 4096) as f64;
    let path = format!("{dir}/fault.dat");
    let rep = |c: &str, s: f64| {
        println!(
            "{{\"peer\":\"limit\",\"case\":\"fault-{c}\",\"secs\":{s:.4},\"ns_page\":{:.1},\"mb_s\":{:.0}}}",
            s * 1e9 / pages,
            bytes as f64 / s / 1e6
        )
    };
    let touch = |p: *mut u8| {
        for o in (0..bytes).step_by(4096) {
            unsafe { p.add(o as usize).write_volatile(1) }
        }
    };
    for how in ["sparse", "falloc", "zeroed"] {
        let t = Instant::now();
        let f = mk(&path, bytes, how);
        if how == "falloc" {
            rep("fallocate-call(whole file)", t.elapsed().as_secs_f64());
        }
        let p = map(&f, bytes, 0);
        let t = Instant::now();
        touch(p);
        rep(&format!("first-touch-{how}"), t.elapsed().as_secs_f64());
        let t = Instant::now();
        unsafe { libc::msync(p as _, bytes as usize, libc::MS_SYNC) };
        rep(&format!("msync-whole-{how}"), t.elapsed().as_secs_f64());
        let t = Instant::now();
        touch(p);
        rep(&format!("re-dirty-after-msync-{how}"), t.elapsed().as_secs_f64());
        let t = Instant::now();
        unsafe { libc::munmap(p as _, bytes as usize) };
        rep(&format!("munmap-{how}"), t.elapsed().as_secs_f64());
    }
    let f = mk(&path, bytes, "falloc");
    let t = Instant::now();
    let p = map(&f, bytes, libc::MAP_POPULATE);
    rep("MAP_POPULATE-falloc", t.elapsed().as_secs_f64());
    let t = Instant::now();
    touch(p);
    rep("touch-after-MAP_POPULATE", t.elapsed().as_secs_f64());
    unsafe { libc::munmap(p as _, bytes as usize) };
    let f = mk(&path, bytes, "falloc");
    let p = map(&f, bytes, 0);
    let t = Instant::now();
    assert_eq!(unsafe { libc::madvise(p as _, bytes as usize, MADV_POPULATE_WRITE) }, 0);
    rep("MADV_POPULATE_WRITE-falloc", t.elapsed().as_secs_f64());
    let t = Instant::now();
    touch(p);
    rep("touch-after-MADV_POPULATE_WRITE", t.elapsed().as_secs_f64());
    let hp = unsafe { libc::madvise(p as _, bytes as usize, libc::MADV_HUGEPAGE) };
    let ml = unsafe { libc::mlock(p as _, 4 << 20) };
    println!(
        "{{\"peer\":\"limit\",\"case\":\"caps\",\"madv_hugepage_rc\":{hp},\"mlock_4m_rc\":{ml}}}"
    );
    unsafe { libc::munmap(p as _, bytes as usize) };
    let _ = std::fs::remove_file(&path);
}
