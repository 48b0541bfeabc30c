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
        assert!(reply.remark.contains("lacks") || code == 36, "{code}: {reply:?}");
    }
    for code in [34, 41, 42, 46] {
        assert_eq!(client.call(code, &[], b"{\"").code, 1, "{code}");
    }
    client.send("t", &[], b"goes on");
    running.stop();
}

/// A heartbeat of one consumer group with so many subscriptions.
fn heartbeat(group: &str, subscriptions: usize) -> Vec<u8> {
    let subscription = |n| format!(r#"{{"topic":"t{n}","subString":"*","subVersion":1}}"#);
    let all: Vec<_> = (0..subscriptions).map(subscription).collect();
    let all = all.join(",");
    format!(
        r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"{group}","messageModel":"CLUSTERING",
        "subscriptionDataSet":[{all}]}}]}}"#
    )
    .into_bytes()
}

#[test]
fn a_heartbeat_carries_so_much_and_no_more() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    assert_eq!(client.call(34, &[], &heartbeat("g", 10_000)).code, 0);
    let refused = client.call(34, &[], &heartbeat("g", 10_001));
    assert_ne!(refused.code, 0);
    assert!(refused.remark.contains("10001 subscriptions, at most 10000"), "{refused:?}");
    let groups: Vec<_> = (0..1001).map(|n| format!(r#"{{"groupName":"p{n}"}}"#)).collect();
    let body = |groups: &[String]| {
        format!(r#"{{"clientID":"c","producerDataSet":[{}]}}"#, groups.join(","))
    };
    let refused = client.call(34, &[], body(&groups).as_bytes());
    assert!(refused.remark.contains("1001 groups, at most 1000"), "{refused:?}");
    // Nor can many small ones say more.
    let mut client = Client::connect(running.address());
    assert_eq!(client.call(34, &[], body(&groups[..600]).as_bytes()).code, 0);
    assert_eq!(client.call(34, &[], body(&groups[..600]).as_bytes()).code, 0);
    let refused = client.call(34, &[], body(&groups[600..]).as_bytes());
    assert!(refused.remark.contains("at most 1000"), "{refused:?}");
    client.call(35, &[("producerGroup", "p0")], b"");
    assert_eq!(client.call(34, &[], body(&groups[1000..]).as_bytes()).code, 0);
    client.send("t", &[], b"goes on");
    running.stop();
}

#[test]
fn one_connection_brings_in_so_many_names_and_no_more() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"one");
    assert_eq!(client.next_body("t", 0), b"one");
    let pull = |client: &mut Client, group: &str| {
        let fields = [
            ("consumerGroup", group),
            ("topic", "t"),
            ("queueId", "0"),
            ("queueOffset", "0"),
            ("sysFlag", "4"),
            ("subscription", "*"),
        ];
        client.call(11, &fields, b"")
    };
    let refused = (0..1001).find_map(|n| {
        let reply = pull(&mut client, &format!("g{n}"));
        (reply.code != 0).then_some(reply)
    });
    let refused = refused.expect("names without end were taken in");
    assert!(refused.remark.contains("at most 1000"), "{refused:?}");
    let refused = client.try_send("another", &[], b"x").unwrap();
    assert!(refused.code != 0 && refused.remark.contains("at most 1000"), "{refused:?}");
    let offset =
        [("consumerGroup", "new"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "1")];
    let refused = client.call(15, &offset, b"");
    assert!(refused.code != 0 && refused.remark.contains("at most 1000"), "{refused:?}");
    // What is known, and others, are served.
    assert_eq!(pull(&mut client, "g0").code, 0);
    client.send("t", &[], b"goes on");
    assert_eq!(pull(&mut Client::connect(running.address()), "mine").code, 0);
    running.stop();
}

#[test]
fn locks_and_queues_have_limits_too() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let queues: Vec<_> =
        (0..10_001).map(|n| format!(r#"{{"brokerName":"b","topic":"t","queueId":{n}}}"#)).collect();
    let body = |queues: &[String]| {
        let queues = queues.join(",");
        format!(r#"{{"consumerGroup":"g","clientId":"c","mqSet":[{queues}]}}"#)
    };
    assert_eq!(client.call(41, &[], body(&queues[..10_000]).as_bytes()).code, 0);
    let refused = client.call(41, &[], body(&queues).as_bytes());
    assert!(refused.remark.contains("10001 queues, at most 10000"), "{refused:?}");
    let mut last = client.call(17, &[("topic", "a"), ("readQueueNums", "65536")], b"");
    for name in ["b", "c", "d", "e"] {
        assert_eq!(last.code, 0, "{last:?}");
        last = client.call(17, &[("topic", name), ("readQueueNums", "65536")], b"");
        if last.code != 0 {
            break;
        }
    }
    assert!(last.remark.contains("queues"), "{last:?}");
    running.stop();
}
