//! Consumption: long polling, filters, giving back.

use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, bodies},
};

#[test]
fn a_waiting_pull_is_answered_by_the_first_message_that_fits() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut producer = Client::connect(running.address());
    producer.send("t", &["TAGS=other"], b"before");
    let mut waiting: Vec<_> = (0..200)
        .map(|n: i32| {
            let mut client = Client::connect(running.address());
            let group = format!("g{n}");
            let fields = [
                ("consumerGroup", group.as_str()),
                ("topic", "t"),
                ("queueId", "0"),
                ("queueOffset", "0"),
                ("sysFlag", "6"),
                ("suspendTimeoutMillis", "30000"),
                ("subscription", "wanted || more"),
            ];
            let opaque = client.start(11, &fields, b"").unwrap();
            (client, opaque)
        })
        .collect();
    producer.send("t", &["TAGS=other"], b"not this");
    producer.send("t", &["TAGS=more"], b"this");
    // One that nobody answers keeps nobody from stopping.
    let mut idle = Client::connect(running.address());
    let never = [
        ("consumerGroup", "g"),
        ("topic", "t"),
        ("queueId", "0"),
        ("queueOffset", "3"),
        ("sysFlag", "6"),
        ("suspendTimeoutMillis", "30000"),
        ("subscription", "*"),
    ];
    idle.start(11, &never, b"").unwrap();
    for (client, opaque) in &mut waiting {
        let reply = client.finish(*opaque).unwrap();
        assert_eq!((reply.code, bodies(&reply.body)), (0, vec![b"this".to_vec()]));
        assert_eq!(reply.number("nextBeginOffset"), 3);
    }
    running.stop();
    assert!(!dir.path().join("abort").exists(), "not stopped cleanly");
}

#[test]
fn offsets_outside_of_the_queue_are_told_where_to_go() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"one");
    // Queues follow the log a moment later.
    assert_eq!(client.next_body("t", 0), b"one");
    let beyond = client.pull("t", "*", 7, 0);
    assert_eq!((beyond.code, beyond.number("nextBeginOffset")), (21, 1));
    let end = client.pull("t", "*", 1, 50);
    assert_eq!((end.code, end.number("nextBeginOffset")), (19, 1));
    assert_eq!(client.pull("unknown", "*", 0, 0).code, 17);
    running.stop();
}

#[test]
fn a_message_given_back_comes_again_and_then_is_a_dead_letter() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("messageDelayLevel", "1s 1s 1s 1s 1s")]);
    let mut client = Client::connect(running.address());
    let mut id = client.send("t", &["TAGS=a"], b"try").fields["msgId"].clone();
    for (round, expected) in ["%RETRY%g", "%RETRY%g", "%DLQ%g"].into_iter().enumerate() {
        let position = u64::from_str_radix(&id[16..], 16).unwrap().to_string();
        let fields = [
            ("group", "g"),
            ("offset", position.as_str()),
            ("delayLevel", "0"),
            ("originTopic", "t"),
            ("maxReconsumeTimes", "2"),
        ];
        assert_eq!(client.call(36, &fields, b"").code, 0);
        let at = if expected == "%DLQ%g" { 0 } else { round as i64 };
        assert_eq!(client.next_body(expected, at), b"try");
        let record = client.pull(expected, "*", at, 0).body;
        let phys = u64::from_be_bytes(record[28..36].try_into().unwrap());
        id = format!("{:016X}{phys:016X}", 0);
        let times = u32::from_be_bytes(record[72..76].try_into().unwrap());
        assert_eq!(times as usize, round + 1);
    }
    running.stop();
}
