//! Consumption: long polling, filters, giving back.

use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, Reply, bodies},
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

/// Asks for the messages of topic `t` for which a condition holds.
fn pull_where(client: &mut Client, condition: &str, from: i64, wait: &str) -> Reply {
    let from = from.to_string();
    let fields = [
        ("consumerGroup", "g"),
        ("topic", "t"),
        ("queueId", "0"),
        ("queueOffset", &from),
        ("maxMsgNums", "2"),
        ("sysFlag", "6"),
        ("suspendTimeoutMillis", wait),
        ("subscription", condition),
        ("expressionType", "SQL92"),
    ];
    client.call(11, &fields, b"")
}

#[test]
fn conditions_choose_messages_by_their_properties() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("enablePropertyFilter", "true")]);
    let mut client = Client::connect(running.address());
    for n in 0..10 {
        client.send("t", &[&format!("n={n}"), "TAGS=a"], format!("{n}").as_bytes());
    }
    client.until_there("t", 10);
    let reply = pull_where(&mut client, "n > 4 AND TAGS = 'a'", 0, "0");
    assert_eq!((reply.code, bodies(&reply.body)), (0, vec![b"5".to_vec(), b"6".to_vec()]));
    let reply = pull_where(&mut client, "n > 4", reply.number("nextBeginOffset"), "0");
    assert_eq!(bodies(&reply.body), [b"7", b"8"]);
    let reply = pull_where(&mut client, "n > 9", 0, "0");
    assert_eq!((reply.code, reply.number("nextBeginOffset")), (20, 10));
    let sent = std::thread::spawn({
        let address = running.address();
        move || {
            let mut client = Client::connect(address);
            client.send("t", &["n=3"], b"not this");
            client.send("t", &["n=12"], b"this");
        }
    });
    let reply = pull_where(&mut client, "n > 9", 0, "15000");
    assert_eq!((reply.code, bodies(&reply.body)), (0, vec![b"this".to_vec()]));
    sent.join().unwrap();
    let reply = pull_where(&mut client, "n >", 0, "0");
    assert_eq!(reply.code, 23, "{reply:?}");
    running.stop();
}

#[test]
fn conditions_are_refused_where_they_are_not_allowed() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &["n=1"], b"1");
    let reply = pull_where(&mut client, "n = 1", 0, "0");
    assert_eq!(reply.code, 23, "{reply:?}");
    running.stop();
}
