//! What is on its way to a peer.

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A peer that leaves so much unread gets no more: its connection is closed.
const UNREAD_MOST: usize = 64 << 20;

/// Bytes to be written to one connection. Any thread puts them in, the connection's task takes
/// them out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    closed: bool,
}

impl Outbox {
    /// Lets `write` append a frame. Does nothing once the connection is closed, and closes it if
    /// the peer has left too much unread.
    pub(super) fn put(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        if waiting.bytes.len() >= UNREAD_MOST {
            *waiting = Waiting { bytes: BytesMut::new(), closed: true };
        } else {
            write(&mut waiting.bytes);
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Takes everything out, `None` once it is closed.
    pub(super) fn take(&self) -> Option<BytesMut> {
        let mut waiting = self.waiting.lock();
        (!waiting.closed).then(|| waiting.bytes.split())
    }

    /// Bytes waiting.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().bytes.len()
    }

    /// Nothing goes out any more.
    pub(super) fn close(&self) {
        *self.waiting.lock() = Waiting { bytes: BytesMut::new(), closed: true };
        self.filled.notify_one();
    }

    /// Waits until something was put in, or it was closed.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
