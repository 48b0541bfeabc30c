//! What waits is delivered, whatever else waits beside it.

use std::{path::Path, time::Duration};

use serde_json::Value;
use steadfast::{Message, QueueKey, QueueOffset, Store};
use tempfile::tempdir;

use crate::{Running, client::Client, config};

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
const TIMER: &str = "rmq_sys_wheel_timer";
const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";

/// How long anything may take on a machine that is busy with others.
const LONG: Duration = Duration::from_secs(60);

/// A topic, a queue, properties, a body.
type Seed<'a> = (&'a str, i32, &'a [(&'a str, &'a str)], &'a str);

/// Puts messages into a store that no broker has open.
fn seed(data: &Path, messages: &[Seed<'_>]) {
    let options = config(data, &[]).store;
    let store = Store::builder(data).options(options).open().unwrap();
    for (topic, queue, properties, body) in messages {
        let queue = QueueKey::new(topic, *queue).unwrap();
        let message = Message::new(&queue, body.as_bytes());
        let message = properties.iter().fold(message, |m, (name, value)| m.property(name, value));
        store.append(&message).unwrap().wait().unwrap();
    }
    store.close().unwrap();
}

/// Waits until a queue has a message at `offset`.
fn wait_for(running: &Running, topic: &str, queue: i32, offset: u64) {
    let queue = QueueKey::new(topic, queue).unwrap();
    let there = running.store().wait_for(&queue, QueueOffset::new(offset), LONG).unwrap();
    assert!(there, "nothing came to {queue} at {offset}");
}

/// Asks again until the answer is what is waited for.
fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("waited in vain: {what}");
}

/// The number of queues that a name server tells of a topic.
fn routed_queues(running: &Running, topic: &str) -> i64 {
    let mut names = Client::connect(running.names());
    poll(topic, || {
        let route = names.call(105, &[("topic", topic)], b"");
        let route: Value = serde_json::from_slice(&route.body).ok()?;
        route["queueDatas"][0]["readQueueNums"].as_i64()
    })
}

#[test]
fn what_cannot_be_delivered_keeps_nothing_behind_it_waiting() {
    let dir = tempdir().unwrap();
    let long_group = format!("%RETRY%{}", "g".repeat(249));
    let large = "x".repeat(2000);
    let to = |topic| [("REAL_TOPIC", topic), ("REAL_QID", "0"), ("TIMER_OUT_MS", "1")];
    let mut messages = Vec::new();
    let (bad, long, good) = (to("%RETRY%a/b"), to(&long_group), to("t"));
    for topic in [SCHEDULE, TIMER] {
        messages.push((topic, 0, &bad[..], "bad"));
        messages.push((topic, 0, &long[..], "long"));
        messages.push((topic, 0, &good[..], &large));
        // It does not say where it was sent to.
        messages.push((topic, 0, &bad[2..], "lost"));
        messages.push((topic, 0, &good[..], topic));
    }
    seed(dir.path(), &messages);
    let running = Running::start(dir.path(), &[("maxMessageSize", "1000")]);
    wait_for(&running, "t", 0, 1);
    let mut client = Client::connect(running.address());
    let mut delivered = client.bodies("t", 0);
    delivered.sort_unstable();
    assert_eq!(delivered, [SCHEDULE, TIMER].map(|topic| topic.as_bytes().to_vec()));
    // What could not be is still where it waited, and nowhere else.
    for topic in [SCHEDULE, TIMER] {
        let queue = QueueKey::new(topic, 0).unwrap();
        let range = running.store().queue_range(&queue).unwrap();
        assert_eq!((range.0.get(), range.1.get()), (0, 5));
    }
    running.stop();
    // It is not tried again.
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("u", &["DELAY=1"], b"level");
    client.send("v", &["TIMER_DELAY_MS=1"], b"timer");
    assert_eq!(client.next_body("u", 0), b"level");
    assert_eq!(client.next_body("v", 0), b"timer");
    assert_eq!(client.bodies("t", 0).len(), 2);
    running.stop();
}

#[test]
fn a_name_that_no_group_can_have_is_refused_wherever_it_comes() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"try");
    assert_eq!(client.next_body("t", 0), b"try");
    let longest = "g".repeat(120);
    let too_long = "g".repeat(121);
    for (group, code) in [("a/b", 29), ("a b", 29), ("", 29), (&*too_long, 29), (&*longest, 0)] {
        let back = [("group", group), ("offset", "0"), ("delayLevel", "0"), ("originTopic", "t")];
        let told = client.call(36, &back, b"");
        assert_eq!(told.code, code, "{group:?}: {told:?}");
        let pull =
            [("consumerGroup", group), ("topic", "t"), ("queueId", "0"), ("queueOffset", "0")];
        let mut pull = pull.to_vec();
        pull.extend([("sysFlag", "4"), ("subscription", "*")]);
        let told = client.call(11, &pull, b"");
        assert_eq!(told.code, code, "{group:?}: {told:?}");
        let consumers = format!(r#"[{{"groupName":"{group}"}},{{"groupName":"ok"}}]"#);
        let heartbeat = format!(r#"{{"clientID":"c","consumerDataSet":{consumers}}}"#);
        let told = client.call(34, &[], heartbeat.as_bytes());
        assert_eq!(told.code, code, "{group:?}: {told:?}");
        assert!(code == 0 || told.remark.contains("group"), "{told:?}");
        // The others of the same client are known nevertheless.
        assert_eq!(client.call(38, &[("consumerGroup", "ok")], b"").code, 0);
    }
    running.stop();
}

#[test]
fn many_halves_of_producers_that_are_gone_keep_no_other_from_being_asked_about() {
    let dir = tempdir().unwrap();
    let settings = [("transactionCheckInterval", "100"), ("transactionTimeOut", "1")];
    let running = Running::start(dir.path(), &settings);
    let mut client = Client::connect(running.address());
    for _ in 0..300 {
        client.send("t", &["TRAN_MSG=true", "PGROUP=gone"], b"never");
    }
    client.send("t", &["TRAN_MSG=true", "PGROUP=here"], b"asked");
    // More of one group than are asked about in one round: each has its turn.
    for _ in 0..600 {
        client.send("t", &["TRAN_MSG=true", "PGROUP=many"], b"asked");
    }
    let groups =
        r#"{"clientID":"c","producerDataSet":[{"groupName":"here"},{"groupName":"many"}]}"#;
    client.call(34, &[], groups.as_bytes());
    let mut asked = std::collections::BTreeSet::new();
    poll("all are asked about", || {
        client.pull("SELF_TEST_TOPIC", "*", 0, 0);
        let numbers = client
            .pushed
            .drain(..)
            .map(|(_, fields, _)| fields["tranStateTableOffset"].parse::<i64>().unwrap());
        asked.extend(numbers);
        (asked.len() == 601).then_some(())
    });
    assert_eq!(asked.first(), Some(&300));
    running.stop();
}

#[test]
fn a_half_that_cannot_be_set_aside_now_is_set_aside_later() {
    let dir = tempdir().unwrap();
    let settings = |size| {
        [
            ("transactionCheckInterval", "100"),
            ("transactionTimeOut", "1"),
            ("transactionCheckMax", "1"),
            ("maxMessageSize", size),
        ]
    };
    let half = ["TRAN_MSG=true", "PGROUP=producers"];
    let heartbeat = br#"{"clientID":"c","producerDataSet":[{"groupName":"producers"}]}"#;
    let aside = "TRANS_CHECK_MAX_TIME_TOPIC";
    let running = Running::start(dir.path(), &settings("1000"));
    let large = [b'x'; 1000];
    Client::connect(running.address()).send("t", &half, &large);
    running.stop();

    // Its place is before the small one's: it was tried when that one is there.
    let running = Running::start(dir.path(), &settings("10"));
    let mut client = Client::connect(running.address());
    client.call(34, &[], heartbeat);
    client.send("t", &half, b"small");
    wait_for(&running, aside, 0, 0);
    assert_eq!(client.bodies(aside, 0), [b"small"]);
    running.stop();

    let running = Running::start(dir.path(), &settings("1000"));
    let mut client = Client::connect(running.address());
    client.call(34, &[], heartbeat);
    wait_for(&running, aside, 0, 1);
    assert_eq!(client.bodies(aside, 0), [b"small".to_vec(), large.to_vec()]);
    running.stop();
}

#[test]
fn a_topic_that_a_crash_forgot_is_made_again_when_its_first_message_is_delivered() {
    let dir = tempdir().unwrap();
    let to = |topic, queue| {
        let real = [("REAL_TOPIC", topic), ("REAL_QID", queue), ("TIMER_OUT_MS", "1")];
        [&real[..], &[("PGROUP", "producers"), ("TRAN_MSG", "true")]].concat()
    };
    let (level, timer, half) = (to("level", "2"), to("timer", "0"), to("half", "5"));
    seed(
        dir.path(),
        &[
            (SCHEDULE, 0, &level, "level"),
            (TIMER, 0, &timer, "timer"),
            (HALF, 0, &half, "half"),
            // Found by its message, with fewer queues than it had.
            ("known", 0, &[], "known"),
            (SCHEDULE, 0, &to("known", "3"), "more"),
        ],
    );
    let running = Running::start(dir.path(), &[]);
    let at = running.store().queue_items(&QueueKey::new(HALF, 0).unwrap(), QueueOffset::ZERO, 1);
    let position = at.unwrap()[0].physical_offset.to_string();
    let end = [
        ("producerGroup", "producers"),
        ("tranStateTableOffset", "0"),
        ("commitLogOffset", &position),
        ("commitOrRollback", "8"),
    ];
    Client::connect(running.address()).call(37, &end, b"");
    for (topic, queue) in [("level", 2), ("timer", 0), ("half", 5), ("known", 3)] {
        wait_for(&running, topic, queue, 0);
        assert_eq!(routed_queues(&running, topic), i64::from(queue) + 1, "{topic}");
    }
    running.stop();
}

#[test]
fn a_topic_that_a_send_makes_has_a_queue_whatever_the_send_asks_for() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    for (topic, queues) in [("t", "0"), ("u", "-5")] {
        let fields = [("b", topic), ("c", "TBW102"), ("d", queues), ("e", "0")];
        let told = client.call(310, &fields, b"x");
        assert_eq!(told.code, 0, "{told:?}");
        assert_eq!(routed_queues(&running, topic), 1);
        assert_eq!(client.next_body(topic, 0), b"x");
    }
    running.stop();
}

#[test]
fn what_waits_on_a_level_that_is_no_more_is_delivered() {
    let dir = tempdir().unwrap();
    let levels = "1s 1s 1h 1d ".to_owned() + &"1s ".repeat(16);
    let running = Running::start(dir.path(), &[("messageDelayLevel", levels.trim())]);
    let mut client = Client::connect(running.address());
    // By RocketMQ's levels 5 s; beyond them as long as the last one that there is.
    client.send("t", &["DELAY=2"], b"second");
    client.send("u", &["DELAY=20"], b"last");
    running.stop();
    let running = Running::start(dir.path(), &[("messageDelayLevel", "1s")]);
    wait_for(&running, "t", 0, 0);
    wait_for(&running, "u", 0, 0);
    running.stop();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("v", &["DELAY=2"], b"goes on");
    assert_eq!(client.next_body("v", 0), b"goes on");
    assert_eq!(client.bodies("t", 0), [b"second"]);
    assert_eq!(client.bodies("u", 0), [b"last"]);
    running.stop();
}

#[test]
fn a_delivered_time_is_remembered_though_what_came_before_it_still_waits() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &["TIMER_DELAY_SEC=3600"], b"much later");
    client.send("t", &["TIMER_DELAY_MS=3000"], b"soon");
    // Both are known to be read before one is delivered.
    let path = dir.path().join("config/steadfastTimer.json");
    poll("the file", || {
        let file: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        (file["read"] == 2).then_some(())
    });
    assert_eq!(client.next_body("t", 0), b"soon");
    running.stop();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &["TIMER_DELAY_MS=1"], b"goes on");
    assert_eq!(client.next_body("t", 1), b"goes on");
    assert_eq!(client.bodies("t", 0), [&b"soon"[..], b"goes on"]);
    running.stop();
}

#[test]
fn what_waits_is_not_removed_with_the_log_that_is_too_old() {
    let dir = tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.store.retention.reserved = Duration::ZERO;
    config.store.retention.delete_hours = (0..24).collect();
    let running = Running::start_with(config);
    let mut client = Client::connect(running.address());
    let segment = [b'x'; 600 << 10];
    for _ in 0..3 {
        client.send("t", &[], &segment);
    }
    client.send("t", &["DELAY=18"], b"level");
    client.send("t", &["TIMER_DELAY_SEC=3600"], b"timer");
    for _ in 0..3 {
        client.send("t", &[], &segment);
    }
    // Housekeeping comes every ten seconds.
    let removed = |atleast: u64| {
        let removed = running.store().removed().segments;
        (removed >= atleast).then_some(())
    };
    poll("retention", || removed(1));
    for (topic, queue) in [(SCHEDULE, 17), (TIMER, 0)] {
        let queue = QueueKey::new(topic, queue).unwrap();
        let (min, end) = running.store().queue_range(&queue).unwrap();
        assert_eq!((min.get(), end.get()), (0, 1), "{queue}");
        let read = running.store().read(&queue, min, steadfast::ReadLimit::records(1));
        assert_eq!(read.unwrap().len(), 1, "{queue}");
    }
    running.stop();
}

#[test]
fn a_stop_amid_deliveries_repeats_none_of_them() {
    let dir = tempdir().unwrap();
    let settings = [("flushDiskType", "SYNC_FLUSH"), ("messageDelayLevel", "1s")];
    let bodies: Vec<_> = (0..300).map(|number| format!("body {number}")).collect();
    let real = [("REAL_TOPIC", "level"), ("REAL_QID", "0"), ("TIMER_OUT_MS", "1")];
    let timed = [("REAL_TOPIC", "timer"), ("REAL_QID", "0"), ("TIMER_OUT_MS", "1")];
    let levels = bodies.iter().map(|body| (SCHEDULE, 0, &real[..], body.as_str()));
    let timers = bodies.iter().map(|body| (TIMER, 0, &timed[..], body.as_str()));
    seed(dir.path(), &levels.chain(timers).collect::<Vec<_>>());
    // What is seeded is due after a second: some restarts meet deliveries, some do not.
    for round in 0..4 {
        let running = Running::start(dir.path(), &settings);
        wait_for(&running, "level", 0, round * 20);
        running.stop();
    }
    let running = Running::start(dir.path(), &settings);
    let mut client = Client::connect(running.address());
    for (topic, property) in [("level", "DELAY=1"), ("timer", "TIMER_DELAY_MS=1")] {
        client.send(topic, &[property], b"end");
        let delivered = poll(topic, || {
            let delivered = client.bodies(topic, 0);
            (delivered.last()? == b"end").then_some(delivered)
        });
        let expected = bodies.iter().map(|body| body.as_bytes()).chain([&b"end"[..]]);
        assert!(delivered.iter().eq(expected), "{topic}: {} bodies", delivered.len());
    }
    running.stop();
}
