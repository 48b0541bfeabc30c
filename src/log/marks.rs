//! The watermarks of one store, and the latch that the first failure of the log closes.

use crate::{
    disk::AppendPath,
    error::{Error, ErrorKind},
    options::FlushMode,
    watermark::Watermark,
};

/// How far the log got, in each respect. All are exclusive ends in bytes of the log:
/// `durable <= written <= appended` and `dispatched <= visible`.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Records below have their place and their bytes, if only in the staging buffer.
    pub(crate) appended: Watermark,
    /// Moved only on the write path; where records are stored in place, `appended` says it.
    write_called: Watermark,
    /// Synced, with everything needed to find it again.
    pub(crate) durable: Watermark,
    /// Queues and index hold what is below.
    pub(crate) dispatched: Watermark,
    append_path: AppendPath,
    flush: FlushMode,
}

impl Marks {
    /// All marks at `end`, but for `durable`: as after recovery.
    pub(crate) fn new(end: u64, durable: u64, append_path: AppendPath, flush: FlushMode) -> Self {
        debug_assert!(durable == end || durable < end && flush == FlushMode::Async);
        Self {
            appended: Watermark::new(end),
            write_called: Watermark::new(end),
            durable: Watermark::new(durable),
            dispatched: Watermark::new(end),
            append_path,
            flush,
        }
    }

    /// In the operating system's hands: survives the death of this process.
    pub(crate) fn written(&self) -> &Watermark {
        match self.append_path {
            AppendPath::Store => &self.appended,
            AppendPath::Write => &self.write_called,
        }
    }

    /// What may be dispatched, read and replicated: as safe as an acknowledgement promises.
    pub(crate) fn visible(&self) -> &Watermark {
        match self.flush {
            FlushMode::Async => self.written(),
            FlushMode::Sync => &self.durable,
        }
    }

    /// Bytes that have their place and are not durable.
    pub(crate) fn unsynced(&self) -> u64 {
        // Durable first: meanwhile it may pass what `appended` was, but never what it will be.
        let durable = self.durable.get();
        self.appended.get() - durable
    }

    /// Latches the first failure of writing or syncing the log: nothing becomes durable any more,
    /// and everybody who waits is told why. Reads go on.
    pub(crate) fn fail(&self, stage: &str, cause: &Error) {
        self.durable.close(Error::with_source(
            ErrorKind::Faulted,
            format!(
                "the log failed while {stage}, so nothing more is acknowledged; \
                 close the store, mend the disk and open it again: {cause}"
            ),
            cause.clone(),
        ));
    }

    /// Ends all waiting because the store closes.
    pub(crate) fn close(&self) {
        let closed = || Error::new(ErrorKind::Closed, "the store was closed");
        self.durable.close(closed());
        self.dispatched.close(closed());
        for mark in [&self.appended, &self.write_called] {
            mark.close(closed());
        }
    }
}
