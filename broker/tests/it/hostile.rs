//! Bytes that are no requests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use steadfast::disk::sim::Rng;
use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, batch},
};

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
    for code in [
        10, 11, 12, 14, 15, 17, 29, 30, 31, 32, 33, 36, 37, 38, 202, 203, 204, 207, 208, 215, 222,
        300, 303, 307, 309, 310, 314, 315, 320, 321, 343, 345, 351, 352, 361,
    ] {
        let reply = client.call(code, &[], b"");
        assert_ne!(reply.code, 0, "{code}");
        assert!(reply.remark.contains("lacks"), "{code}: {reply:?}");
    }
    for code in [34, 41, 42, 46, 200] {
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
    let empty = vec!["{}"; 100_000].join(",");
    let empty = format!(r#"{{"clientID":"c","consumerDataSet":[{empty}]}}"#);
    let refused = client.call(34, &[], empty.as_bytes());
    assert!(refused.remark.contains("100001 objects, at most 20000"), "{refused:?}");
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
    let refused = (0..20_001).find_map(|n| {
        let reply = pull(&mut client, &format!("g{n}"));
        (reply.code != 0).then_some(reply)
    });
    let refused = refused.expect("names without end were taken in");
    assert!(refused.remark.contains("at most 20000"), "{refused:?}");
    let refused = client.try_send("another", &[], b"x").unwrap();
    assert!(refused.code != 0 && refused.remark.contains("at most 20000"), "{refused:?}");
    let offset =
        [("consumerGroup", "new"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "1")];
    let refused = client.call(15, &offset, b"");
    assert!(refused.code != 0 && refused.remark.contains("at most 20000"), "{refused:?}");
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

#[test]
fn a_batch_that_would_grow_beyond_measure_is_refused_before_it_does() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("maxMessageSize", "1000000")]);
    let mut client = Client::connect(running.address());
    let long = format!("a\u{1}{}\u{2}", "x".repeat(30_000));
    let refused = client.send_batch("t", &long, &batch(4000));
    assert_eq!(refused.code, 13);
    assert!(refused.remark.contains("would take"), "{refused:?}");
    let refused = client.send_batch("t", "", &batch(100_000));
    assert_eq!(refused.code, 13);
    assert!(refused.remark.contains("2200000 bytes, at most 1000000"), "{refused:?}");
    let sent = client.send_batch("t", "a\u{1}b\u{2}", &batch(3000));
    assert_eq!(sent.code, 0, "{sent:?}");
    client.until_there("t", 3000);
    running.stop();
}

/// A frame of a request, its header in JSON.
fn frame(code: i64, fields: &Value, body: &[u8]) -> Vec<u8> {
    let header = json!({
        "code": code, "flag": 0, "language": "JAVA", "opaque": 1, "version": 479,
        "extFields": fields,
    });
    let header = header.to_string();
    let mut frame = Vec::new();
    frame.extend((4 + header.len() as u32 + body.len() as u32).to_be_bytes());
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend([header.as_bytes(), body].concat());
    frame
}

/// Requests of all kinds as clients send them.
fn sound_frames() -> Vec<Vec<u8>> {
    let fields = json!({
        "a": "p", "b": "t", "c": "TBW102", "d": "1", "e": "0", "f": "0", "g": "0", "h": "0",
        "i": "TAGS\u{1}a\u{2}DELAY\u{1}1\u{2}TIMER_DELAY_MS\u{1}5\u{2}", "j": "0", "m": "true",
        "topic": "t", "group": "g", "consumerGroup": "g", "producerGroup": "p", "queueId": "0",
        "queueOffset": "0", "commitOffset": "0", "maxMsgNums": "9", "sysFlag": "7",
        "suspendTimeoutMillis": "50", "subscription": "a || b", "offset": "0", "key": "k",
        "timestamp": "0", "commitOrRollback": "8", "commitLogOffset": "0",
        "tranStateTableOffset": "0", "readQueueNums": "3", "writeQueueNums": "3",
        "brokerName": "x", "brokerAddr": "127.0.0.9:1", "clusterName": "c", "brokerId": "0",
    });
    let heartbeat = br#"{"clientID":"c","producerDataSet":[{"groupName":"p"}],"consumerDataSet":[
        {"groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[
        {"topic":"t","subString":"a||b","subVersion":1,"expressionType":"TAG"}]}]}"#;
    let locks = br#"{"consumerGroup":"g","clientId":"c","mqSet":[{"topic":"t","queueId":0}]}"#;
    let codes = [
        10, 11, 12, 14, 15, 17, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 41, 42, 46, 103, 104, 105,
        106, 206, 310, 320, 361,
    ];
    let body = |code| match code {
        34 => heartbeat.to_vec(),
        41 | 42 => locks.to_vec(),
        320 => batch(3),
        103 | 46 => b"{}".to_vec(),
        _ => b"some body".to_vec(),
    };
    codes.into_iter().map(|code| frame(code, &fields, &body(code))).collect()
}

#[test]
fn no_frames_end_a_server() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let sound = sound_frames();
    let mut rng = Rng::new(9);
    for round in 0..1500 {
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(4) {
            bytes.extend(&sound[rng.below(sound.len() as u64) as usize]);
        }
        for _ in 0..rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(5) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = b"0-9\"{}[]\xff\x00"[rng.below(10) as usize],
                2 => bytes[at] = rng.bits() as u8,
                3 => {
                    let digits = [b"-1".as_slice(), b"99999999999999999999", b"2147483647"];
                    let digits = digits[rng.below(3) as usize];
                    let zero = bytes.iter().skip(at).position(|byte| *byte == b'0');
                    if let Some(zero) = zero.map(|zero| zero + at) {
                        // The length stays right, or the frame would not get far.
                        let end = bytes.len().min(zero + digits.len());
                        bytes[zero..end].copy_from_slice(&digits[..end - zero]);
                    }
                }
                _ => bytes.insert(at, rng.bits() as u8),
            }
        }
        let address = if round % 4 == 0 { running.names() } else { running.address() };
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be closed while we write.
        let _written = stream.write_all(&bytes);
        if round % 8 == 0 {
            let _shut = stream.shutdown(std::net::Shutdown::Write);
            let _all = stream.read_to_end(&mut Vec::new());
        }
    }
    let mut client = Client::connect(running.address());
    client.send("fresh", &[], b"goes on");
    assert_eq!(client.next_body("fresh", 0), b"goes on");
    running.stop();
}

#[test]
fn a_name_server_knows_so_many_brokers_and_no_more() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.names());
    let mut register = |number: i32| {
        let (name, address) = (format!("b{number}"), format!("127.0.0.9:{number}"));
        let fields = [
            ("brokerName", name.as_str()),
            ("brokerAddr", &address),
            ("clusterName", "c"),
            ("brokerId", "0"),
        ];
        client.call(103, &fields, b"")
    };
    // One is ours.
    for number in 1..1000 {
        assert_eq!(register(number).code, 0);
    }
    let refused = register(1000);
    assert!(refused.code != 0 && refused.remark.contains("at most 1000"), "{refused:?}");
    assert_eq!(register(999).code, 0);
    running.stop();
}
