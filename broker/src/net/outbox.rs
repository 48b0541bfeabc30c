//! What is on its way to a peer.

use std::pin::pin;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// With so much waiting to be written nothing more is read: who does not take replies gets to ask
/// nothing.
pub(super) const UNWRITTEN_MOST: usize = 4 << 20;
/// A peer that leaves so much unread gets no more: its connection is closed. What is answered to
/// requests ends far below it.
const UNREAD_MOST: usize = 64 << 20;

/// Bytes to be written to one connection. Any thread puts them in, the connection's task takes
/// them out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// Wakes one of those who wait for room; each wakes the next.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    closed: bool,
    /// Requests whose answer is still to come.
    unanswered: usize,
}

impl Outbox {
    /// Lets `write` append a frame. Does nothing once the connection is closed, and closes it if
    /// the peer has left too much unread.
    pub(super) fn put(&self, write: impl FnOnce(&mut BytesMut)) {
        self.put_in(&mut self.waiting.lock(), write);
    }

    /// A request was taken in that is to be answered.
    pub(super) fn expect(&self) {
        self.waiting.lock().unanswered += 1;
    }

    /// Its answer, as [`put`](Self::put).
    pub(super) fn answer(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut waiting = self.waiting.lock();
        // At once, for who looks whether all is answered and written.
        waiting.unanswered = waiting.unanswered.saturating_sub(1);
        self.put_in(&mut waiting, write);
    }

    fn put_in(&self, waiting: &mut Waiting, write: impl FnOnce(&mut BytesMut)) {
        if waiting.closed {
            return;
        }
        if waiting.bytes.len() >= UNREAD_MOST {
            (waiting.bytes, waiting.closed) = (BytesMut::new(), true);
        } else {
            write(&mut waiting.bytes);
        }
        self.filled.notify_one();
    }

    /// Takes everything out, `None` once it is closed.
    pub(super) fn take(&self) -> Option<BytesMut> {
        let mut waiting = self.waiting.lock();
        let taken = (!waiting.closed).then(|| waiting.bytes.split());
        drop(waiting);
        self.emptied.notify_one();
        taken
    }

    /// Returns when something may be put in; `false` once it is closed.
    pub(super) async fn room(&self) -> bool {
        loop {
            let mut emptied = pin!(self.emptied.notified());
            emptied.as_mut().enable();
            let (full, closed) = {
                let waiting = self.waiting.lock();
                (waiting.bytes.len() > UNWRITTEN_MOST, waiting.closed)
            };
            if !full || closed {
                // The next one looks for itself, after what we do now.
                self.emptied.notify_one();
                return !closed;
            }
            emptied.await;
        }
    }

    /// Whether nothing is to be written, now or later.
    pub(super) fn is_done(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.closed || waiting.bytes.is_empty() && waiting.unanswered == 0
    }

    /// Bytes waiting.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().bytes.len()
    }

    /// Nothing goes out any more.
    pub(super) fn close(&self) {
        {
            let mut waiting = self.waiting.lock();
            (waiting.bytes, waiting.closed) = (BytesMut::new(), true);
        }
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// Waits until something was put in, or it was closed.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
