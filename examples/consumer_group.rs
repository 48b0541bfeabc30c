//! A consumer group that dies between receiving and committing gets the message again.

use std::{collections::BTreeSet, error::Error, path::Path, time::Duration};

use steadfast::{Group, Message, QueueKey, QueueOffset, ReadLimit, Store};

/// Handles up to `limit` messages, then stops without having committed the last one, as a
/// process does that is killed.
fn consume(path: &Path, limit: usize, done: &mut BTreeSet<String>) -> steadfast::Result<usize> {
    let store = Store::builder(path).open()?;
    let (group, queue) = (Group::new("billing")?, QueueKey::new("orders", 0)?);
    let mut next = store.consumers().committed(&group, &queue).unwrap_or(QueueOffset::ZERO);
    println!("billing goes on at {next}");
    let mut handled = 0;
    loop {
        let batch = store.read(&queue, next, ReadLimit::records(1))?;
        let Some(record) = batch.iter().next() else { break };
        let key = record.keys().next().unwrap_or_default();
        // At least once, not exactly once: the key tells a repeated message from a new one.
        if done.insert(key.to_owned()) {
            println!("handled {key}");
        } else {
            println!("{key} came again and was left out");
        }
        handled += 1;
        if handled == limit {
            break;
        }
        // Only now: what is committed is never delivered to this group again.
        next = batch.next_offset();
        store.consumers().commit(&group, &queue, next)?;
    }
    store.close()?;
    Ok(handled)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::builder(dir.path()).open()?;
    let queue = QueueKey::new("orders", 0)?;
    for number in 0..6 {
        let key = format!("order-{number}");
        store.append(&Message::new(&queue, b"one coffee").key(&key))?.wait()?;
    }
    assert!(store.wait_for(&queue, QueueOffset::new(5), Duration::from_secs(10))?);
    store.close()?;

    let mut done = BTreeSet::new();
    let first = consume(dir.path(), 3, &mut done)?;
    let second = consume(dir.path(), usize::MAX, &mut done)?;
    // Six messages, one of them delivered twice.
    assert_eq!((first + second, done.len()), (7, 6));
    Ok(())
}
