//! What operators ask.

use std::fs;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, Reply},
};

fn text(reply: &Reply) -> &str {
    assert_eq!(reply.code, 0, "{reply:?}");
    std::str::from_utf8(&reply.body).unwrap()
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_str(text(reply)).unwrap()
}

/// What is said of a queue of topic `t` in a map by queues.
fn of_queue(reply: &Reply, topic: &str, queue_id: u32) -> Value {
    let name = format!(r#"{{"brokerName":"broker-a","queueId":{queue_id},"topic":"{topic}"}}:"#);
    let (_, value) = text(reply).split_once(&name).unwrap();
    serde_json::Deserializer::from_str(value).into_iter().next().unwrap().unwrap()
}

fn is_there(client: &mut Client, topic: &str) -> bool {
    client.call(351, &[("topic", topic)], b"").code == 0
}

fn commit(client: &mut Client, group: &str, topic: &str, next: &str) {
    let fields =
        [("consumerGroup", group), ("topic", topic), ("queueId", "0"), ("commitOffset", next)];
    assert_eq!(client.call(15, &fields, b"").code, 0);
}

fn committed(client: &mut Client, group: &str, topic: &str) -> Option<i64> {
    let fields = [("consumerGroup", group), ("topic", topic), ("queueId", "0")];
    let reply = client.call(14, &fields, b"");
    (reply.code == 0).then(|| reply.number("offset"))
}

/// Says that a consumer of group `g` and a producer of group `p` are there.
fn heartbeat(client: &mut Client, id: &str) {
    let body = json!({
        "clientID": id,
        "producerDataSet": [{"groupName": "p"}],
        "consumerDataSet": [{
            "groupName": "g", "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
            "subscriptionDataSet": [{"topic": "t", "subString": "a || b", "subVersion": 7}],
        }],
    });
    assert_eq!(client.call(34, &[], body.to_string().as_bytes()).code, 0);
}

#[test]
fn a_deleted_topic_stays_away_until_somebody_sends_to_it_also_across_a_crash() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let mut names = Client::connect(running.names());
    for body in [b"0", b"1"] {
        client.send("t", &[], body);
    }
    client.until_there("t", 2);
    for topic in ["TBW102", "SCHEDULE_TOPIC_XXXX", "DefaultCluster", "BenchmarkTest"] {
        let reply = client.call(215, &[("topic", topic)], b"");
        assert!(reply.code == 29 && reply.remark.contains("own"), "{topic}: {reply:?}");
    }
    for _ in 0..2 {
        assert_eq!(client.call(215, &[("topic", "t")], b"").code, 0);
    }
    assert_eq!(names.call(105, &[("topic", "t")], b"").code, 17);
    assert_eq!(client.pull("t", "*", 0, 0).code, 17);
    // As a crash leaves it that came right after the answer.
    let file = dir.path().join("config/topics.json");
    let at_once = fs::read(&file).unwrap();
    running.stop();
    fs::write(&file, &at_once).unwrap();

    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    assert!(!is_there(&mut client, "t"), "its old messages brought it back");
    client.send("t", &[], b"2");
    assert_eq!(client.next_body("t", 2), b"2");
    running.stop();
    // As if it had not been written down that there is a topic again.
    fs::write(&file, &at_once).unwrap();

    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    assert!(is_there(&mut client, "t"), "a message that was acknowledged cannot be consumed");
    assert_eq!(client.bodies("t", 2), [b"2"]);
    running.stop();
}

#[test]
fn topics_and_their_queues_are_told() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &["TAGS=a"], b"one");
    client.until_there("t", 1);
    let all = json_of(&client.call(21, &[], b""));
    assert_eq!(all["topicConfigTable"]["t"]["perm"], 6);
    let own = json_of(&client.call(305, &[], b""))["topicList"].to_string();
    assert!(own.contains("TBW102") && !own.contains("\"t\""), "{own}");
    let queues = client.call(202, &[("topic", "t")], b"");
    let queue = of_queue(&queues, "t", 0);
    assert_eq!((queue["maxOffset"].as_u64(), queue["minOffset"].as_u64()), (Some(1), Some(0)));
    assert!(queue["lastUpdateTimestamp"].as_i64().unwrap() > 0);
    assert_eq!(client.call(202, &[("topic", "unknown")], b"").code, 17);
    let fields = [("topic", "t"), ("queueId", "0"), ("index", "0"), ("count", "9")];
    let entries = json_of(&client.call(321, &fields, b""));
    assert_eq!(entries["maxQueueIndex"], 1);
    assert_eq!(entries["queueData"][0]["tagsCode"], 97);
    assert_eq!(entries["queueData"].as_array().unwrap().len(), 1);
    let none = [("topic", "t"), ("queueId", "77"), ("index", "0")];
    assert_eq!(client.call(321, &none, b"").code, 29);
    running.stop();
}

#[test]
fn groups_are_made_told_and_deleted_and_that_lasts() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"one");
    client.until_there("t", 1);
    let group = br#"{"groupName":"g","retryMaxTimes":3,"somethingElse":{"a":1}}"#;
    assert_eq!(client.call(200, &[], group).code, 0);
    let file = dir.path().join("config/subscriptionGroup.json");
    assert!(fs::read_to_string(&file).unwrap().contains("\"retryMaxTimes\": 3"));
    let told = json_of(&client.call(352, &[("group", "g")], b""));
    assert_eq!((&told["retryMaxTimes"], &told["somethingElse"]["a"]), (&json!(3), &json!(1)));
    let all = json_of(&client.call(201, &[], b""));
    assert_eq!(all["subscriptionGroupTable"]["g"]["retryMaxTimes"], 3);
    for bad in [
        r#"{"groupName":"a/b"}"#.to_owned(),
        r#"{"groupName":"g","retryQueueNums":1000000}"#.to_owned(),
        format!(r#"{{"groupName":"g","much":"{}"}}"#, "x".repeat(3000)),
    ] {
        assert_eq!(client.call(200, &[], bad.as_bytes()).code, 29, "{bad}");
    }
    commit(&mut client, "g", "t", "1");
    assert_eq!(client.call(207, &[("groupName", "g")], b"").code, 0);
    assert_eq!(client.call(352, &[("group", "g")], b"").code, 26);
    assert_eq!(committed(&mut client, "g", "t"), Some(1), "nobody wanted its offsets deleted");
    let fields = [("groupName", "g"), ("cleanOffset", "true")];
    assert_eq!(client.call(207, &fields, b"").code, 0);
    // A group without offsets begins a whole queue.
    assert_eq!(committed(&mut client, "g", "t"), Some(0));
    assert!(!fs::read_to_string(&file).unwrap().contains("\"g\""));
    running.stop();
}

#[test]
fn where_groups_are_is_told_and_set_and_their_consumers_hear_of_it() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let mut consumer = Client::connect(running.address());
    for body in [b"0", b"1", b"2"] {
        client.send("t", &["TAGS=a"], body);
    }
    client.until_there("t", 3);
    heartbeat(&mut consumer, "c");
    commit(&mut consumer, "g", "t", "2");
    for topic in ["", "t"] {
        let told = client.call(208, &[("consumerGroup", "g"), ("topic", topic)], b"");
        let queue = of_queue(&told, "t", 0);
        let offsets = (queue["brokerOffset"].as_u64(), queue["consumerOffset"].as_u64());
        assert_eq!(offsets, (Some(3), Some(2)));
        assert!(queue["lastTimestamp"].as_i64().unwrap() > 0);
    }
    let all = client.call(317, &[("isOrder", "false")], b"");
    assert!(text(&all).contains(r#""totalDiff":1,"#), "{}", text(&all));
    let spans = json_of(&client.call(303, &[("topic", "t"), ("group", "g")], b""));
    assert_eq!(spans["consumeTimeSpanSet"][0]["messageQueue"]["queueId"], 0);

    let clone = [("srcGroup", "g"), ("destGroup", "h"), ("topic", "t")];
    assert_eq!(client.call(314, &clone, b"").code, 0);
    assert_eq!(committed(&mut client, "h", "t"), Some(2));

    let back = [("topic", "t"), ("group", "g"), ("timestamp", "0"), ("isForce", "true")];
    let reply = client.call(222, &back, b"");
    assert_eq!(of_queue(&reply, "t", 0), 0);
    assert_eq!(committed(&mut consumer, "g", "t"), Some(0));
    let told = consumer.pushed.iter().find(|(code, ..)| *code == 220).unwrap();
    assert_eq!((told.1["topic"].as_str(), &told.2), ("t", &reply.body));
    // Without force nobody is moved past what is not consumed; -1 is the end.
    let later = [("topic", "t"), ("group", "g"), ("timestamp", "99999999999999")];
    assert_eq!(of_queue(&client.call(222, &later, b""), "t", 0), 0);
    let end = [("topic", "t"), ("group", "g"), ("timestamp", "-1")];
    assert_eq!(of_queue(&client.call(222, &end, b""), "t", 0), 3);
    let one = [("topic", "t"), ("group", "g"), ("timestamp", "-1"), ("queueId", "0")];
    let one = [&one[..], &[("offset", "1")]].concat();
    assert_eq!(of_queue(&client.call(222, &one, b""), "t", 0), 1);
    for (topic, group, code) in [("unknown", "g", 17), ("t", "unknown", 26)] {
        let fields = [("topic", topic), ("group", group), ("timestamp", "0")];
        assert_eq!(client.call(222, &fields, b"").code, code);
    }
    running.stop();
}

#[test]
fn who_is_connected_is_told() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    assert_eq!(client.call(203, &[("consumerGroup", "g")], b"").code, 206);
    assert_eq!(client.call(204, &[("producerGroup", "p")], b"").code, 1);
    heartbeat(&mut client, "c");
    let told = json_of(&client.call(203, &[("consumerGroup", "g")], b""));
    let member = &told["connectionSet"][0];
    assert_eq!((&member["clientId"], &member["language"]), (&json!("c"), &json!("JAVA")));
    assert_eq!(member["version"], 479);
    assert_eq!(told["consumeFromWhere"], "CONSUME_FROM_FIRST_OFFSET");
    let wanted = &told["subscriptionTable"]["t"];
    assert_eq!((&wanted["subString"], &wanted["subVersion"]), (&json!("a || b"), &json!(7)));
    assert_eq!(wanted["codeSet"], json!([97, 98]));
    let told = json_of(&client.call(204, &[("producerGroup", "p")], b""));
    assert_eq!(told["connectionSet"][0]["clientId"], "c");
    let all = json_of(&client.call(328, &[], b""));
    assert_eq!(all["data"]["p"][0]["clientId"], "c");
    let told = json_of(&client.call(345, &[("group", "g"), ("topic", "t")], b""));
    assert_eq!(told["subscriptionData"]["subString"], "a || b");
    client.send("t", &[], b"one");
    client.until_there("t", 1);
    commit(&mut client, "other", "t", "1");
    let groups = json_of(&client.call(300, &[("topic", "t")], b""));
    assert_eq!(groups["groupList"], json!(["g", "other"]));
    let topics = json_of(&client.call(343, &[("group", "other")], b""));
    assert_eq!(topics["topicList"], json!(["t"]));
    running.stop();
}

#[test]
fn a_consumer_is_asked_and_its_answer_is_handed_on() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let mut consumer = Client::connect(running.address());
    heartbeat(&mut consumer, "c");
    let fields = [("consumerGroup", "g"), ("clientId", "c"), ("jstackEnable", "true")];
    let opaque = client.start(307, &fields, b"").unwrap();
    let (question, code, asked, _) = consumer.next_question();
    consumer.answer(question, b"fine");
    assert_eq!((code, asked["jstackEnable"].as_str()), (307, "true"));
    assert_eq!(client.finish(opaque).unwrap().body, b"fine");

    let id = client.send("t", &[], b"take this").fields["msgId"].clone();
    client.until_there("t", 1);
    let fields = [("consumerGroup", "g"), ("clientId", "c"), ("msgId", id.as_str())];
    let opaque = client.start(309, &fields, b"").unwrap();
    let (question, code, _, message) = consumer.next_question();
    consumer.answer(question, b"taken");
    assert_eq!((code, crate::client::bodies(&message)), (309, vec![b"take this".to_vec()]));
    assert_eq!(client.finish(opaque).unwrap().body, b"taken");

    let unknown = [("consumerGroup", "g"), ("clientId", "x")];
    assert!(client.call(307, &unknown, b"").remark.contains("not online"));
    // Who leaves instead of answering keeps nobody.
    let fields = [("consumerGroup", "g"), ("clientId", "c")];
    let opaque = client.start(307, &fields, b"").unwrap();
    consumer.next_question();
    drop(consumer);
    assert!(client.finish(opaque).unwrap().remark.contains("did not answer"));
    running.stop();
}

#[test]
fn settings_are_told_and_only_those_that_can_be_are_changed() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("maxMessageSize", "1234")]);
    let mut client = Client::connect(running.address());
    let shown = client.call(26, &[], b"");
    for line in ["maxMessageSize=1234", "brokerPermission=6", "flushDiskType=ASYNC_FLUSH"] {
        assert!(text(&shown).lines().any(|shown| shown == line), "{line}: {}", text(&shown));
    }
    for (bad, told) in [
        ("brokerPermission=4\nlistenPort=1\n", "listenPort cannot be changed"),
        ("brokerPermission=4\nbrokerPermission=9\n", "brokerPermission cannot be \"9\""),
    ] {
        let reply = client.call(25, &[], bad.as_bytes());
        assert!(reply.code == 29 && reply.remark.contains(told), "{reply:?}");
    }
    client.send("t", &[], b"as before");
    client.until_there("t", 1);
    assert_eq!(client.call(25, &[], b"brokerPermission=4\n").code, 0);
    assert!(text(&client.call(26, &[], b"")).contains("brokerPermission=4\n"));
    assert_eq!(client.try_send("t", &[], b"no").unwrap().code, 16);
    assert_eq!(client.call(25, &[], b"brokerPermission=2\n").code, 0);
    assert_eq!(client.pull("t", "*", 0, 0).code, 16);
    assert_eq!(client.call(25, &[], b"brokerPermission=6\n").code, 0);
    assert_eq!(client.bodies("t", 0), [b"as before"]);
    assert_eq!(client.call(25, &[], b"autoCreateSubscriptionGroup=false\n").code, 0);
    let fields =
        [("consumerGroup", "new"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "1")];
    assert_eq!(client.call(15, &fields, b"").code, 26);
    running.stop();
}

#[test]
fn the_broker_tells_how_it_is() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"one");
    assert_eq!(client.next_body("t", 0), b"one");
    let told = json_of(&client.call(28, &[], b""));
    let number = |name: &str| told["table"][name].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(number("putMessageTimesTotal"), 1);
    assert_eq!(number("msgGetTotalTodayNow"), 1);
    assert!(number("commitLogMaxOffset") > 0 && number("earliestMessageTimeStamp") > 0);
    let fields = [("statsName", "TOPIC_PUT_NUMS"), ("statsKey", "t")];
    assert!(client.call(315, &fields, b"").remark.contains("not exist"));
    running.stop();
}

#[test]
fn a_name_server_takes_writing_and_topics_away() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let mut names = Client::connect(running.names());
    client.send("t", &[], b"one");
    let perm = |names: &mut Client| {
        json_of(&names.call(105, &[("topic", "t")], b""))["queueDatas"][0]["perm"].clone()
    };
    let broker = [("brokerName", "broker-a")];
    assert!(names.call(205, &broker, b"").number("wipeTopicCount") > 1);
    assert_eq!(perm(&mut names), 4);
    assert!(names.call(327, &broker, b"").number("addTopicCount") > 1);
    assert_eq!(perm(&mut names), 6);
    let other = [("brokerName", "other")];
    assert_eq!(names.call(205, &other, b"").number("wipeTopicCount"), 0);
    let of = json_of(&names.call(224, &[("cluster", "DefaultCluster")], b"")).to_string();
    assert!(of.contains("\"t\""), "{of}");
    let none = json_of(&names.call(224, &[("cluster", "other")], b""));
    assert_eq!(none["topicList"], json!([]));
    let own = json_of(&names.call(304, &[], b""));
    assert_eq!(own["topicList"], json!(["DefaultCluster", "broker-a"]));
    let fields = [("topic", "t"), ("clusterName", "other")];
    assert_eq!(names.call(216, &fields, b"").code, 0);
    assert_eq!(perm(&mut names), 6);
    assert_eq!(names.call(216, &[("topic", "t")], b"").code, 0);
    assert_eq!(names.call(105, &[("topic", "t")], b"").code, 17);
    assert!(text(&names.call(319, &[], b"")).contains("orderMessageEnable=false"));
    for (code, answer) in [(318, 16), (100, 16), (101, 22), (102, 0), (219, 22)] {
        assert_eq!(names.call(code, &[], b"").code, answer, "{code}");
    }
    running.stop();
}
