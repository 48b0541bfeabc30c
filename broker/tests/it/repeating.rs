//! Sends that a producer's client repeats.

use steadfast::{QueueKey, QueueOffset, ReadLimit};
use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, Reply},
};

const ON: (&str, &str) = ("idempotentSend", "true");

/// Sends with a producer group of its own and properties in their stored form.
fn send(client: &mut Client, group: &str, queue: &str, properties: &str, body: &[u8]) -> Reply {
    let fields = [
        ("a", group),
        ("b", "t"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", queue),
        ("f", "0"),
        ("g", "1"),
        ("h", "0"),
        ("i", properties),
    ];
    let reply = client.call(310, &fields, body);
    assert_eq!(reply.code, 0, "{reply:?}");
    reply
}

/// Queue, offset, and the place in the log: of the message's id what does not name the host.
fn place(reply: &Reply) -> (i64, i64, String) {
    let at = reply.fields["msgId"][16..].to_owned();
    (reply.number("queueId"), reply.number("queueOffset"), at)
}

#[test]
fn the_same_send_is_stored_once_and_answered_with_its_place() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[ON, ("flushDiskType", "SYNC_FLUSH")]);
    let mut client = Client::connect(running.address());
    let first = place(&send(&mut client, "g", "1", "UNIQ_KEY\u{1}A", b"x"));
    // The client tries another queue, by another connection.
    let mut other = Client::connect(running.address());
    assert_eq!(place(&send(&mut other, "g", "2", "UNIQ_KEY\u{1}A", b"x")), first);
    for (group, key, body) in [("g", "B", b"x"), ("g", "A", b"y"), ("h", "A", b"x")] {
        let reply = send(&mut client, group, "1", &format!("UNIQ_KEY\u{1}{key}"), body);
        assert_ne!(place(&reply), first, "{group} {key}");
    }
    // Without a key of its own nothing tells a send from another.
    let (one, two) = (send(&mut client, "g", "3", "", b"x"), send(&mut client, "g", "3", "", b"x"));
    assert_ne!(place(&one), place(&two));
    running.stop();
    // And so it is after a restart.
    let running = Running::start(dir.path(), &[ON]);
    let mut client = Client::connect(running.address());
    assert_eq!(place(&send(&mut client, "g", "0", "UNIQ_KEY\u{1}A", b"x")), first);
    let range = |queue| running.store().queue_range(&QueueKey::new("t", queue).unwrap());
    assert_eq!(range(1).unwrap().1.get(), 4);
    assert_eq!(range(2), None);
    running.stop();
}

#[test]
fn what_waits_is_not_stored_twice_either() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[ON]);
    let mut client = Client::connect(running.address());
    let delayed = "UNIQ_KEY\u{1}A\u{2}DELAY\u{1}18";
    let half = "UNIQ_KEY\u{1}B\u{2}TRAN_MSG\u{1}true\u{2}PGROUP\u{1}g";
    let first = [delayed, half].map(|one| place(&send(&mut client, "g", "1", one, b"x")));
    let again = [delayed, half].map(|one| place(&send(&mut client, "g", "2", one, b"x")));
    assert_eq!(first, again);
    running.stop();
    let running = Running::start(dir.path(), &[ON]);
    let mut client = Client::connect(running.address());
    let later = [delayed, half].map(|one| place(&send(&mut client, "g", "3", one, b"x")));
    assert_eq!(first, later);
    running.stop();
}

#[test]
fn a_batch_is_the_same_if_all_of_it_is() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[ON]);
    let mut client = Client::connect(running.address());
    let one = |key: &str, body: &[u8]| {
        let properties = format!("UNIQ_KEY\u{1}{key}");
        let size = (22 + body.len() + properties.len()) as u32;
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend([0; 12]);
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        bytes.extend((properties.len() as u16).to_be_bytes());
        bytes.extend(properties.as_bytes());
        bytes
    };
    let both = [one("A", b"a"), one("B", b"b")].concat();
    let first = client.send_batch("t", "", &both);
    assert_eq!(first.code, 0, "{first:?}");
    let again = client.send_batch("t", "", &both);
    assert_eq!((again.code, place(&again)), (0, place(&first)));
    let other = client.send_batch("t", "", &[one("B", b"b"), one("C", b"c")].concat());
    assert_ne!(place(&other), place(&first));
    client.until_there("t", 4);
    running.stop();
}

#[test]
fn without_the_setting_each_send_is_stored_as_it_came() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[("idempotentSend", "another")]);
    let mut client = Client::connect(running.address());
    let twice = [0; 2].map(|_| place(&send(&mut client, "g", "0", "UNIQ_KEY\u{1}A", b"x")));
    assert_ne!(twice[0], twice[1]);
    client.until_there("t", 2);
    let queue = QueueKey::new("t", 0).unwrap();
    let batch = running.store().read(&queue, QueueOffset::ZERO, ReadLimit::records(2)).unwrap();
    assert!(batch.iter().all(|record| record.property("PGROUP").is_none()));
    running.stop();
}
