//! The store of a broker, which is closed where somebody may wait for that.

use std::{ops::Deref, sync::Arc, thread};

use parking_lot::Mutex;
use steadfast::Store;

/// A store that a thread of its own closes when this is dropped. The last one to hold it may be a
/// thread of the store's, which calls back when a message is safe: that one cannot wait for its own
/// end. Or it is a runtime's, where nobody must wait for a disk.
#[derive(Debug)]
pub(crate) struct Kept(Option<Store>);

impl Kept {
    pub(crate) fn new(store: Store) -> Self {
        Self(Some(store))
    }

    /// Closes it here.
    ///
    /// # Errors
    ///
    /// As [`Store::close`].
    pub(crate) fn close(mut self) -> steadfast::Result<()> {
        self.0.take().map_or(Ok(()), Store::close)
    }
}

impl Deref for Kept {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0.as_ref().expect("only the end takes it out")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(store) = self.0.take() else { return };
        let store = Arc::new(Mutex::new(Some(store)));
        let closing = store.clone();
        let close = move || drop(closing.lock().take());
        if thread::Builder::new().name("steadfast-close".into()).spawn(close).is_err() {
            // As if we had died here: the next open recovers.
            std::mem::forget(store);
        }
    }
}
