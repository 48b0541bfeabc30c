//! Bytes that are no requests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use tempfile::tempdir;

use crate::{Running, client::Client};

#[test]
fn a_peer_that_breaks_the_protocol_loses_its_connection_and_nobody_elses() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut other = Client::connect(running.address());
    let bad: [&[u8]; 6] = [
        &[0x16, 3, 1, 0, 200],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0, 0, 0, 3, 0, 0, 0, 0],
        &[0, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4],
        &[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'x'],
        &[0, 0, 0, 6, 1, 0, 0, 2, 1, 2],
    ];
    for address in [running.address(), running.names()] {
        for bytes in bad {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream.write_all(bytes).unwrap();
            let ended = stream.read(&mut [0; 16]);
            assert!(matches!(ended, Ok(0) | Err(_)), "{bytes:?} was answered");
            let timed_out = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
            assert!(!ended.is_err_and(|e| timed_out(&e)), "{bytes:?} was kept");
        }
    }
    // Half a frame is waited for, and keeps nobody.
    let mut half = TcpStream::connect(running.address()).unwrap();
    half.write_all(&[0, 0, 1]).unwrap();
    other.send("t", &[], b"goes on");
    running.stop();
}

#[test]
fn fields_that_are_missing_or_wrong_are_named() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    for code in [10, 11, 12, 14, 15, 17, 29, 30, 31, 32, 33, 36, 37, 38, 310, 320, 361] {
        let reply = client.call(code, &[], b"");
        assert_ne!(reply.code, 0, "{code}");
        assert!(reply.remark.contains("lacks"), "{code}: {reply:?}");
    }
    for code in [34, 41, 42, 46] {
        assert_eq!(client.call(code, &[], b"{\"").code, 1, "{code}");
    }
    client.send("t", &[], b"goes on");
    running.stop();
}
