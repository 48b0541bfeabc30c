//! Damage that nobody reads.

use std::{fs, os::unix::fs::FileExt, thread, time::Duration};

use steadfast_broker::Scrubbed;
use tempfile::tempdir;

use crate::{Running, client::Client};

/// Waits until what was found in the background is as wanted.
fn until(running: &Running, wanted: impl Fn(&Scrubbed) -> bool) -> Scrubbed {
    for _ in 0..3000 {
        let found = running.scrubbed();
        if wanted(&found) {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", running.scrubbed());
}

#[test]
fn a_byte_that_rots_where_nobody_reads_is_found() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("scrubInterval", "20")]);
    let mut client = Client::connect(running.address());
    for n in 0..10 {
        client.send("t", &[], format!("message {n}").as_bytes());
    }
    let read = until(&running, |found| found.passes > 2 && found.bytes > 1000);
    assert!(read.damaged.is_empty(), "{read:?}");
    let path = dir.path().join("commitlog/00000000000000000000");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"message 5").unwrap() as u64;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", at).unwrap();
    let found = until(&running, |found| !found.damaged.is_empty());
    let place = *found.damaged.first().unwrap();
    assert!(found.damaged.len() == 1 && place < at && at - place < 200, "{found:?} {at}");
    // The others are served.
    assert_eq!(client.next_body("t", 6), b"message 6");
    running.stop();
}
