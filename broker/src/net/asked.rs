//! What we asked a peer, until it answers.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::protocol::Request;

/// Questions to one peer that may be open.
const OPEN_MOST: usize = 64;

/// Our open questions to one peer, by their number.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<HashMap<i32, oneshot::Sender<Request>>>);

impl Asked {
    /// Opens one. `None` if there are too many.
    pub(super) fn open(&self, opaque: i32) -> Option<oneshot::Receiver<Request>> {
        let mut open = self.0.lock();
        // Those that nobody waits for any more were given up.
        open.retain(|_, asker| !asker.is_closed());
        if open.len() >= OPEN_MOST {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        open.insert(opaque, asker);
        Some(answer)
    }

    /// Takes an answer in. What nobody asked for is dropped.
    pub(super) fn answered(&self, answer: Request) {
        if let Some(asker) = self.0.lock().remove(&answer.header.opaque) {
            // Who gave up meanwhile does not need it.
            let _gave_up = asker.send(answer);
        }
    }

    /// No answer comes any more.
    pub(super) fn close(&self) {
        self.0.lock().clear();
    }
}
