//! The messages: everything in one follows from its name, so whoever reads it can tell whether it
//! is right.

use steadfast::{Group, QueueKey, Result, disk::sim::Rng};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const QUEUES: i32 = 5;

/// One of the [`QUEUES`] queues.
pub(crate) fn queue(id: i32) -> Result<QueueKey> {
    QueueKey::new(TOPIC, id)
}

/// The consumer group of writing thread `thread`.
pub(crate) fn group(thread: u64) -> Result<Group> {
    Group::new(&format!("readers-{thread}"))
}

/// The body of the message `name`, which it begins with.
pub(crate) fn body(name: &str) -> Vec<u8> {
    let mut rng = Rng::new(name.bytes().fold(7, |h, b| (h ^ u64::from(b)).wrapping_mul(0x1_0001)));
    let mut body = name.as_bytes().to_vec();
    body.push(b' ');
    let filler = *rng.pick(&[0, 30, 200, 900, 3000]) + rng.below(60) as usize;
    let at = body.len();
    body.resize(at + filler, 0);
    rng.fill(&mut body[at..]);
    body
}

/// The name that `body` begins with, if all of it is that message.
pub(crate) fn name_of(bytes: &[u8]) -> Option<String> {
    let name = bytes.split(|b| *b == b' ').next()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    (bytes == body(&name)).then_some(name)
}
