//! Acknowledged means durable: SYNC_FLUSH, and what each outcome of an append says.

use std::error::Error;

use steadfast::{ErrorKind, FlushMode, Message, Options, PutStatus, QueueKey, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::default().flush(FlushMode::Sync);
    let store = Store::builder(dir.path()).options(options).open()?;
    let queue = QueueKey::new("payments", 0)?;

    // One message, and the answer about it.
    match store.append(&Message::new(&queue, b"pay 10 to Ada")).and_then(|ticket| ticket.wait()) {
        Ok(receipt) if receipt.status == PutStatus::PutOk => println!("on the disk: {receipt:?}"),
        // The record has its place and may be delivered. Sending it again makes it two.
        Ok(receipt) => println!("outcome unknown: {}", receipt.status.name()),
        // Nothing was appended: the same call may work a little later.
        Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Full) => {
            println!("not now: {error}");
        }
        // A write or sync of the log failed: close, mend the disk, open again.
        Err(error) if error.kind() == ErrorKind::Faulted => println!("the log failed: {error}"),
        Err(error) => return Err(error.into()),
    }

    // Many in flight share syncs: append first, wait afterwards.
    let mut tickets = Vec::new();
    for number in 0..100 {
        let body = format!("pay {number}");
        tickets.push(store.append(&Message::new(&queue, body.as_bytes()))?);
    }
    for ticket in tickets {
        let receipt = ticket.wait()?;
        assert_eq!(receipt.status, PutStatus::PutOk);
    }
    let progress = store.progress();
    assert_eq!(progress.durable, progress.written);
    println!("100 more on the disk, up to {}", progress.durable);
    store.close()?;
    Ok(())
}
