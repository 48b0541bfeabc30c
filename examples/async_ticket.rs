//! Tickets are futures. They need no runtime: here is an executor in twenty lines.

use std::{
    error::Error,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use steadfast::{FlushMode, Message, Options, PutStatus, QueueKey, QueueOffset, ReadLimit, Store};

/// Wakes the thread that runs the future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

async fn produce_and_consume(store: &Store, queue: &QueueKey) -> steadfast::Result<()> {
    // All in flight before the first is awaited: they share the disk's syncs.
    let tickets: Vec<_> = (0..64)
        .map(|number| store.append(&Message::new(queue, format!("event {number}").as_bytes())))
        .collect::<Result<_, _>>()?;
    for ticket in tickets {
        let receipt = ticket.await?;
        assert_eq!(receipt.status, PutStatus::PutOk);
    }
    // Ready once the queue holds message number 63.
    store.arrival(queue, QueueOffset::new(63))?.await?;
    let batch = store.read(queue, QueueOffset::ZERO, ReadLimit::records(64))?;
    println!("{} messages were durable before they were read", batch.len());
    assert_eq!(batch.len(), 64);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::default().flush(FlushMode::Sync);
    let store = Store::builder(dir.path()).options(options).open()?;
    let queue = QueueKey::new("events", 0)?;
    block_on(produce_and_consume(&store, &queue))?;

    // Without a future: a callback, which runs on the thread that settles the ticket.
    let (sender, receiver) = std::sync::mpsc::channel();
    let ticket = store.append(&Message::new(&queue, b"the last one"))?;
    ticket.on_settled(move |result| {
        // Nobody listening any more is no reason to panic on the flusher's thread.
        let _ = sender.send(result.map(|receipt| receipt.status));
    });
    println!("called back with {}", receiver.recv()??.name());
    store.close()?;
    Ok(())
}
