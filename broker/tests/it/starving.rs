//! One client takes as much as it can, and others still get what is theirs.

use tempfile::tempdir;

use crate::{
    Running,
    client::{Client, batch, bodies},
};

/// The fields of a pull of queue 0 from `from` on, which waits.
fn pull<'a>(topic: &'a str, from: &'a str, expression: &'a str) -> [(&'a str, &'a str); 8] {
    [
        ("consumerGroup", "consumers"),
        ("topic", topic),
        ("queueId", "0"),
        ("queueOffset", from),
        ("maxMsgNums", "32"),
        ("sysFlag", "6"),
        ("suspendTimeoutMillis", "30000"),
        ("subscription", expression),
    ]
}

#[test]
fn a_filter_that_nothing_passes_looks_at_so_many_messages_in_one_pull() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    for _ in 0..7 {
        assert_eq!(client.send_batch("t", "TAGS\u{1}a\u{2}", &batch(3000)).code, 0);
    }
    client.send("t", &["TAGS=b"], b"the one");
    client.until_there("t", 21_001);
    let first = client.call(11, &pull("t", "0", "b"), b"");
    assert_eq!((first.code, first.number("nextBeginOffset")), (20, 16_000));
    let second = client.call(11, &pull("t", "16000", "b"), b"");
    assert_eq!((second.code, bodies(&second.body)), (0, vec![b"the one".to_vec()]));
    let tags: Vec<_> = (0..2000).map(|n| n.to_string()).collect();
    assert_eq!(client.call(11, &pull("t", "0", &tags.join("||")), b"").code, 23);
    running.stop();
}

#[test]
fn one_connection_waits_with_so_many_pulls_and_one_more_is_answered_at_once() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    client.send("t", &[], b"one");
    assert_eq!(client.next_body("t", 0), b"one");
    for _ in 0..4096 {
        client.start(11, &pull("t", "1", "*"), b"").unwrap();
    }
    let more = client.start(11, &pull("t", "1", "*"), b"").unwrap();
    let (opaque, reply) = client.next_reply().unwrap();
    assert_eq!((opaque, reply.code), (more, 19));
    // Others may wait, and what comes is for all.
    let mut other = Client::connect(running.address());
    let waiting = other.start(11, &pull("t", "1", "*"), b"").unwrap();
    Client::connect(running.address()).send("t", &[], b"two");
    assert_eq!(bodies(&other.finish(waiting).unwrap().body), [b"two"]);
    for _ in 0..4096 {
        assert_eq!(bodies(&client.next_reply().unwrap().1.body), [b"two"]);
    }
    running.stop();
}

#[test]
fn an_answer_holds_a_quarter_of_a_mebibyte_or_one_message() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    for size in [100 << 10, 100 << 10, 100 << 10, 500 << 10] {
        client.send("t", &[], &vec![b'x'; size]);
    }
    client.until_there("t", 4);
    assert_eq!(bodies(&client.pull("t", "*", 0, 0).body).len(), 2);
    assert_eq!(bodies(&client.pull("t", "*", 3, 0).body).len(), 1);
    running.stop();
}

#[test]
fn who_asks_for_very_much_before_it_reads_gets_all_of_it() {
    let dir = tempdir().unwrap();
    let running = Running::start(dir.path(), &[]);
    let mut client = Client::connect(running.address());
    let large = vec![b'x'; 900 << 10];
    client.send("t", &[], &large);
    assert_eq!(client.next_body("t", 0), large);
    let asked: Vec<_> =
        (0..100).map(|_| client.start(11, &pull("t", "0", "*"), b"").unwrap()).collect();
    for _ in 0..100 {
        client.start(11, &pull("t", "1", "*"), b"").unwrap();
    }
    // It comes while the answers to the first ones are still unread, and is for a hundred pulls.
    Client::connect(running.address()).send("t", &[], &large);
    Client::connect(running.address()).until_there("t", 2);
    for opaque in asked {
        let (answered, reply) = client.next_reply().unwrap();
        assert_eq!((answered, reply.code), (opaque, 0));
    }
    for _ in 0..100 {
        let (_, reply) = client.next_reply().unwrap();
        assert_eq!(reply.number("nextBeginOffset"), 2);
    }
    running.stop();
}
