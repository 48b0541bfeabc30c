//! Physical limits: what the processor, the page cache and the disk allow for an append-only log.
//!
//! `limits prewarm|copy|fault|fsync|wake|seqwrite|seqread|mapcount [key=value]...`: one line of JSON
//! a measurement on standard output.

mod pages;
mod scan;
mod sync;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::{fs::FileExt, io::AsRawFd},
};

struct Args(HashMap<String, String>);
impl Args {
    fn s(&self, k: &str, d: &str) -> String {
        self.0.get(k).cloned().unwrap_or_else(|| d.into())
    }
    fn n(&self, k: &str, d: u64) -> u64 {
        self.0.get(k).map(|v| v.parse().unwrap()).unwrap_or(d)
    }
}

struct Hist {
    v: Vec<u64>,
}
impl Hist {
    fn new() -> Self {
        Hist { v: Vec::new() }
    }
    fn add(&mut self, ns: u64) {
        self.v.push(ns)
    }
    fn json(&mut self) -> String {
        self.v.sort_unstable();
        if self.v.is_empty() {
            return String::new();
        }
        let q = |p: f64| {
            self.v[((self.v.len() as f64 * p).ceil() as usize).clamp(1, self.v.len()) - 1] as f64
                / 1e3
        };
        format!(
            ",\"p50_us\":{:.2},\"p90_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\"max_us\":{:.1}",
            q(0.5),
            q(0.9),
            q(0.99),
            q(0.999),
            q(1.0)
        )
    }
}

fn mk(path: &str, len: u64, how: &str) -> File {
    let _ = std::fs::remove_file(path);
    let f =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    match how {
        "sparse" => f.set_len(len).unwrap(),
        "falloc" => assert_eq!(unsafe { libc::fallocate(f.as_raw_fd(), 0, 0, len as i64) }, 0),
        "zeroed" => {
            let z = vec![0u8; 1 << 20];
            let mut o = 0;
            while o < len {
                let n = z.len().min((len - o) as usize);
                f.write_all_at(&z[..n], o).unwrap();
                o += n as u64;
            }
            f.sync_all().unwrap();
        }
        "empty" => {}
        _ => panic!("{how}"),
    }
    f
}

fn map(f: &File, len: u64, flags: i32) -> *mut u8 {
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | flags,
            f.as_raw_fd(),
            0,
        )
    };
    assert_ne!(p, libc::MAP_FAILED);
    p as *mut u8
}

fn body(n: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// Makes the guest's free pages real: on a virtual machine whose balloon hands free pages back to the host, the first touch
/// of each page costs a host fault (several µs) that would otherwise fall on whichever case runs next.
fn prewarm(a: &Args) {
    let n = a.n("bytes", 3 << 30) as usize;
    unsafe {
        let p =
            libc::mmap(std::ptr::null_mut(), n, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        assert_ne!(p, libc::MAP_FAILED);
        libc::madvise(p, n, libc::MADV_HUGEPAGE);
        for o in (0..n).step_by(4096) {
            (p as *mut u8).add(o).write_volatile(1)
        }
    }
}

fn main() {
    let v: Vec<String> = std::env::args().collect();
    let a = Args(
        v[2..]
            .iter()
            .map(|x| {
                let (k, v) = x.split_once('=').unwrap();
                (k.into(), v.into())
            })
            .collect(),
    );
    let dir = a.s("dir", ".");
    std::fs::create_dir_all(&dir).unwrap();
    match v[1].as_str() {
        "prewarm" => prewarm(&a),
        "copy" => pages::copy(&a, &dir),
        "fault" => pages::fault(&a, &dir),
        "fsync" => sync::fsync(&a, &dir),
        "wake" => sync::wake(&a),
        "seqwrite" => scan::seqwrite(&a, &dir),
        "seqread" => scan::seqread(&a, &dir),
        "mapcount" => scan::mapcount(&dir),
        c => panic!("unknown command {c}"),
    }
}
