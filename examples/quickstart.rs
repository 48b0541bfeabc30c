//! Put messages, read them back, find one by key, close.

use std::{error::Error, time::Duration};

use steadfast::{Message, QueueKey, QueueOffset, ReadLimit, Store, StoreTime};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::builder(dir.path()).open()?;
    println!("opened: {}", store.recovery());

    let queue = QueueKey::new("orders", 0)?;
    for number in 0..5 {
        let (body, key) = (format!("order number {number}"), format!("k-{number}"));
        let message = Message::new(&queue, body.as_bytes()).tag("new").key(&key);
        let receipt = store.append(&message)?.wait()?;
        println!("{} at {}", receipt.status.name(), receipt.placement.queue_offset);
    }

    // Queues and index follow the log a moment later; waiting for an offset says when.
    let there = store.wait_for(&queue, QueueOffset::new(4), Duration::from_secs(10))?;
    assert!(there, "the last message did not arrive in its queue");

    let mut next = QueueOffset::ZERO;
    loop {
        let batch = store.read(&queue, next, ReadLimit::records(2))?;
        if batch.is_empty() {
            break;
        }
        for record in batch.iter() {
            println!("{}: {}", record.queue_offset(), String::from_utf8_lossy(record.body()));
        }
        next = batch.next_offset();
    }
    assert_eq!(next.get(), 5);

    let (first, last) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    for record in store.query("orders", "k-3", first, last, 8)? {
        println!("k-3 is {:?}", String::from_utf8_lossy(record.body()));
    }
    store.close()?;
    Ok(())
}
