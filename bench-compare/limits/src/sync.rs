//! What making bytes durable costs, and what waking those who wait for it costs.

use std::{
    fs::OpenOptions,
    os::unix::{
        fs::{FileExt, OpenOptionsExt},
        io::AsRawFd,
    },
    time::Instant,
};

use crate::{Args, Hist, body, map, mk, pages::MADV_POPULATE_WRITE};

/// One thread: append `batch` bytes, make durable, repeat. The group-commit bound is the best of these.
pub(crate) fn fsync(a: &Args, dir: &str) {
    let mode = a.s("mode", "pwrite+fdatasync");
    let how = a.s("file", "falloc");
    let batch = a.n("batch", 4096);
    let secs_max = a.n("ms", 3000) as f64 / 1e3;
    let len: u64 = a.n("bytes", 256 << 20);
    let path = format!("{dir}/fsync.dat");
    let f0 = mk(&path, len, &how);
    if how != "empty" {
        f0.sync_all().unwrap();
    }
    let direct = mode.contains("odirect");
    let f = if direct {
        let mut o = OpenOptions::new();
        o.read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | if mode.contains("dsync") { libc::O_DSYNC } else { 0 });
        o.open(&path).unwrap()
    } else {
        f0
    };
    let p = if mode.starts_with("mmap") { map(&f, len, 0) } else { std::ptr::null_mut() };
    if a.n("populate", 0) == 1 {
        unsafe { libc::madvise(p as _, len as usize, MADV_POPULATE_WRITE) };
        f.sync_all().unwrap();
    }
    let raw = body(batch as usize + 4096);
    let sh = raw.as_ptr().align_offset(4096);
    let b = &raw[sh..];
    let b = if b.len() >= batch as usize { &b[..batch as usize] } else { panic!() };
    let fd = f.as_raw_fd();
    let (mut h, mut off) = (Hist::new(), 0u64);
    let t0 = Instant::now();
    while t0.elapsed().as_secs_f64() < secs_max && off + batch <= len {
        let t = Instant::now();
        if p.is_null() {
            f.write_all_at(b, off).unwrap();
        } else {
            unsafe {
                std::ptr::copy_nonoverlapping(b.as_ptr(), p.add(off as usize), batch as usize)
            }
        }
        let lo = off & !4095;
        let hi = (off + batch + 4095) & !4095;
        let rc = unsafe {
            match mode.as_str() {
                "pwrite+fdatasync" | "mmap+fdatasync" | "odirect+fdatasync" => libc::fdatasync(fd),
                "pwrite+fsync" => libc::fsync(fd),
                "mmap+msync" => {
                    libc::msync(p.add(lo as usize) as _, (hi - lo) as usize, libc::MS_SYNC)
                }
                "mmap+sfr" | "pwrite+sfr" => {
                    libc::sync_file_range(fd, lo as i64, (hi - lo) as i64, 7)
                }
                "mmap+sfr+fdatasync" => {
                    libc::sync_file_range(fd, lo as i64, (hi - lo) as i64, 7);
                    libc::fdatasync(fd)
                }
                "odirect+dsync" | "odirect-nosync" | "pwrite-nosync" => 0,
                m => panic!("{m}"),
            }
        };
        assert_eq!(rc, 0);
        h.add(t.elapsed().as_nanos() as u64);
        off += batch;
    }
    let secs = t0.elapsed().as_secs_f64();
    let n = h.v.len();
    println!(
        "{{\"peer\":\"limit\",\"case\":\"sync:{mode}/{how}{}\",\"batch\":{batch},\"n\":{n},\"secs\":{secs:.3},\"syncs_s\":{:.0},\"mb_s\":{:.1}{}}}",
        if a.n("populate", 0) == 1 { "+pop" } else { "" },
        n as f64 / secs,
        (n as u64 * batch) as f64 / secs / 1e6,
        h.json()
    );
    if !p.is_null() {
        unsafe { libc::munmap(p as _, len as usize) };
    }
    let _ = std::fs::remove_file(&path);
}

/// Cost of waking W parked threads (futex round trip): the CPU bound of per-waiter acks, with no disk at all.
pub(crate) fn wake(a: &Args) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::*};
    let w = a.n("threads", 64) as usize;
    let rounds = a.n("rounds", 2000);
    let cells: Arc<Vec<AtomicU32>> = Arc::new((0..w).map(|_| AtomicU32::new(0)).collect());
    let done = Arc::new(AtomicU32::new(0));
    let hs: Vec<_> = (0..w)
        .map(|i| {
            let (c, d) = (cells.clone(), done.clone());
            std::thread::spawn(move || {
                for r in 1..=rounds as u32 {
                    while c[i].load(Acquire) < r {
                        let cur = c[i].load(Acquire);
                        if cur < r {
                            unsafe {
                                libc::syscall(
                                    libc::SYS_futex,
                                    c[i].as_ptr(),
                                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                                    cur,
                                    0usize,
                                )
                            };
                        }
                    }
                    if d.fetch_add(1, AcqRel) + 1 == w as u32 * r {
                        unsafe {
                            libc::syscall(
                                libc::SYS_futex,
                                d.as_ptr(),
                                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                                1,
                            )
                        };
                    }
                }
            })
        })
        .collect();
    let t = Instant::now();
    for r in 1..=rounds as u32 {
        for c in cells.iter() {
            c.store(r, Release);
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    c.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                )
            };
        }
        loop {
            let v = done.load(Acquire);
            if v >= w as u32 * r {
                break;
            }
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    done.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    v,
                    0usize,
                )
            };
        }
    }
    let s = t.elapsed().as_secs_f64();
    for h in hs {
        h.join().unwrap();
    }
    println!(
        "{{\"peer\":\"limit\",\"case\":\"futex-wake-round\",\"threads\":{w},\"rounds\":{rounds},\"secs\":{s:.3},\"wakes_s\":{:.0},\"us_round\":{:.1}}}",
        (rounds * w as u64) as f64 / s,
        s * 1e6 / rounds as f64
    );
}
