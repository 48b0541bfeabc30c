//! Production: what is answered to a send, and that it is there then.

use tempfile::tempdir;

use crate::{Running, client::Client};

#[test]
fn a_sent_message_is_found_by_its_offset_its_id_and_its_key() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("flushDiskType", "SYNC_FLUSH")]);
    let mut client = Client::connect(running.address());
    for n in 0..3 {
        let body = format!("body {n}");
        let reply = client.send("t", &["UNIQ_KEY=u1", "KEYS=k1 k2"], body.as_bytes());
        assert_eq!(reply.number("queueOffset"), n);
        assert_eq!(reply.fields["transactionId"], "u1");
        let position = u64::from_str_radix(&reply.fields["msgId"][16..], 16).unwrap().to_string();
        let viewed = client.call(33, &[("offset", &position)], b"");
        assert_eq!(crate::client::bodies(&viewed.body), [body.as_bytes()]);
    }
    // Queues and keys follow the log a moment later.
    assert_eq!(client.next_body("t", 2), b"body 2");
    assert_eq!(client.bodies("t", 0), [b"body 0", b"body 1", b"body 2"]);
    for key in ["k1", "k2", "u1"] {
        let fields = [("topic", "t"), ("key", key), ("maxNum", "10")];
        let found = (0..200).any(|_| {
            let found = client.call(12, &fields, b"");
            let all = crate::client::bodies(&found.body).len() == 3;
            if !all {
                client.pull("SELF_TEST_TOPIC", "*", 0, 50);
            }
            all
        });
        assert!(found, "{key}");
    }
    running.stop();
}

#[test]
fn what_cannot_be_sent_is_refused_with_rocketmqs_codes() {
    let dir = tempdir().unwrap();
    let settings = [("autoCreateTopicEnable", "false"), ("maxMessageSize", "1000")];
    let running = Running::start(dir.path(), &settings);
    let mut client = Client::connect(running.address());
    let mut code = |topic: &str, body: &[u8]| client.try_send(topic, &[], body).unwrap().code;
    assert_eq!(code("unknown", b"x"), 17);
    assert_eq!(code("a b", b"x"), 29);
    assert_eq!(code("SCHEDULE_TOPIC_XXXX", b"x"), 16);
    assert_eq!(code("SELF_TEST_TOPIC", &[0; 1001]), 13);
    assert_eq!(code("SELF_TEST_TOPIC", &[0; 1000]), 0);
    let unknown = client.call(29_999, &[], b"");
    assert_eq!((unknown.code, unknown.remark.trim()), (3, "request type 29999 not supported"));
    running.stop();
}

#[test]
fn a_flush_that_is_late_and_a_slave_that_is_not_there_are_told() {
    for (settings, code) in [
        ([("flushDiskType", "SYNC_FLUSH"), ("syncFlushTimeout", "0")], 10),
        ([("flushDiskType", "SYNC_FLUSH"), ("brokerRole", "SYNC_MASTER")], 11),
    ] {
        let dir = tempdir().unwrap();
        let running = Running::start(dir.path(), &settings);
        let mut client = Client::connect(running.address());
        // The disk may be faster than no time at all, when nobody looks meanwhile.
        let told = (0..100).find_map(|number| {
            let reply = client.try_send("t", &[], b"kept").unwrap();
            assert_eq!(reply.number("queueOffset"), number);
            (reply.code != 0).then_some(reply.code)
        });
        assert_eq!(told, Some(code));
        assert_eq!(client.next_body("t", 0), b"kept");
        running.stop();
    }
}

#[test]
fn the_name_server_knows_a_topic_as_soon_as_a_send_made_it() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut names = Client::connect(running.names());
    assert_eq!(names.call(105, &[("topic", "t")], b"").code, 17);
    Client::connect(running.address()).send("t", &[], b"x");
    let route = names.call(105, &[("topic", "t")], b"");
    let route: serde_json::Value = serde_json::from_slice(&route.body).unwrap();
    assert_eq!(route["queueDatas"][0]["writeQueueNums"], 1);
    assert_eq!(route["brokerDatas"][0]["brokerAddrs"]["0"], running.address().to_string());
    running.stop();
}
