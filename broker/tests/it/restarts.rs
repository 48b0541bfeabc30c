//! What is under way when a broker stops is not lost.

use tempfile::tempdir;

use crate::{Running, client::Client};

#[test]
fn what_waits_for_its_time_is_delivered_once_also_across_restarts() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("flushDiskType", "SYNC_FLUSH")]);
    let mut client = Client::connect(running.address());
    client.send("t", &["DELAY=1"], b"level at once");
    client.send("u", &["TIMER_DELAY_MS=300"], b"timer at once");
    client.send("t", &["DELAY=2"], b"level later");
    client.send("u", &["TIMER_DELAY_MS=4000"], b"timer later");
    assert_eq!(client.next_body("t", 0), b"level at once");
    assert_eq!(client.next_body("u", 0), b"timer at once");
    running.stop();

    let running = Running::start(dir.path(), &[("flushDiskType", "SYNC_FLUSH")]);
    let mut client = Client::connect(running.address());
    assert_eq!(client.next_body("u", 1), b"timer later");
    assert_eq!(client.next_body("t", 1), b"level later");
    running.stop();

    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("w", &["TIMER_DELAY_MS=1"], b"goes on");
    assert_eq!(client.next_body("w", 0), b"goes on");
    for (topic, name) in [("t", "level"), ("u", "timer")] {
        let expected = [format!("{name} at once"), format!("{name} later")];
        assert_eq!(client.bodies(topic, 0), expected.map(String::into_bytes));
    }
    running.stop();
}

#[test]
fn a_half_message_waits_across_a_restart_for_its_commit_and_is_asked_about() {
    let dir = tempdir().unwrap();
    let settings = [("transactionCheckInterval", "200"), ("transactionTimeOut", "1")];
    let running = Running::start(dir.path(), &settings);
    let mut client = Client::connect(running.address());
    let half = ["TRAN_MSG=true", "PGROUP=producers", "UNIQ_KEY=u"];
    let committed = client.send("t", &half, b"yes");
    let rolled_back = client.send("t", &half, b"no");
    running.stop();

    let running = Running::start(dir.path(), &settings);
    let mut client = Client::connect(running.address());
    let heartbeat = br#"{"clientID":"c","producerDataSet":[{"groupName":"producers"}]}"#;
    client.call(34, &[], heartbeat);
    while client.pushed.len() < 2 {
        client.pull("SELF_TEST_TOPIC", "*", 0, 100);
    }
    let mut asked: Vec<_> = client
        .pushed
        .iter()
        .map(|(code, fields, body)| {
            assert_eq!(*code, 39);
            // The topic that the producer knows.
            assert!(body.windows(2).any(|part| part == [1, b't']));
            fields["tranStateTableOffset"].parse::<i64>().unwrap()
        })
        .collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [0, 1]);
    for (half, end) in [(&committed, "8"), (&rolled_back, "12"), (&committed, "8")] {
        let position = u64::from_str_radix(&half.fields["msgId"][16..], 16).unwrap().to_string();
        let fields = [
            ("producerGroup", "producers"),
            ("tranStateTableOffset", &half.fields["queueOffset"]),
            ("commitLogOffset", &position),
            ("commitOrRollback", end),
        ];
        client.call(37, &fields, b"");
    }
    assert_eq!(client.next_body("t", 0), b"yes");
    assert_eq!(client.bodies("t", 0), [b"yes"]);
    running.stop();
}

#[test]
fn topics_and_groups_and_offsets_are_there_after_a_restart_also_without_their_files() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    for body in [b"one", b"two"] {
        client.send("t", &[], body);
    }
    // What is not in the queue yet cannot be committed.
    assert_eq!(client.next_body("t", 1), b"two");
    let offset = [("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "1")];
    assert_eq!(client.call(15, &offset, b"").code, 0);
    running.stop();
    std::fs::remove_file(dir.path().join("config/topics.json")).unwrap();

    let running = Running::start(dir.path(), &[("autoCreateTopicEnable", "false")]);
    let mut client = Client::connect(running.address());
    assert_eq!(client.call(14, &offset[..3], b"").number("offset"), 1);
    assert_eq!(client.bodies("t", 0), [b"one", b"two"]);
    running.stop();
}
