//! The only file that names the engine: when its API changes, this is what changes here.

use std::{path::Path, time::Duration};

use common::{Args, Failure};
use steadfast::{
    FlushMode, Message, Options, PutStatus, QueueKey, QueueOffset, ReadLimit, RecordChecksum,
    Store, Ticket,
};

/// Queues of one topic, as in the Java harness.
const QUEUES_PER_TOPIC: u64 = 1000;

/// A queue, prepared once.
pub(crate) type Queue = QueueKey;

/// An append that may still wait for the disk.
pub(crate) struct Pending(Ticket);

impl Pending {
    /// Waits until the message is acknowledged; anything but `PUT_OK` is an error.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        let receipt = self.0.wait()?;
        if receipt.status != PutStatus::PutOk {
            return Err(format!("put: {}", receipt.status.name()).into());
        }
        Ok(())
    }
}

/// An open store. Shared between threads by reference.
pub(crate) struct Engine(Store);

impl Engine {
    /// Opens the store in `dir` with the options that `args` names: `flush`, `seg`, `cqfile`, `crc`.
    pub(crate) fn open(dir: &Path, args: &Args) -> Result<Self, Failure> {
        let mut options = Options::default();
        options.flush = match args.text("flush", "async").as_str() {
            "async" => FlushMode::Async,
            "sync" => FlushMode::Sync,
            other => return Err(format!("flush is async or sync flush={other}").into()),
        };
        options.segment_bytes = args.number("seg", options.segment_bytes)?;
        options.queue_file_bytes = args.number("cqfile", options.queue_file_bytes)?;
        options.max_unflushed_bytes = args.number("unflushed", options.max_unflushed_bytes)?;
        if args.number("crc", 1)? == 0 {
            options.record_checksum = RecordChecksum::Off;
        }
        // The harness fills whatever disk it is given; Java's limits are set aside too.
        options.retention.refuse_ratio = 100;
        Ok(Self(Store::builder(dir).options(options).open()?))
    }

    /// Appends `body`.
    pub(crate) fn append(&self, queue: &Queue, body: &[u8]) -> Result<Pending, Failure> {
        Ok(Pending(self.0.append(&Message::new(queue, body))?))
    }

    /// Appends `body` and waits until it is acknowledged.
    pub(crate) fn put(&self, queue: &Queue, body: &[u8]) -> Result<(), Failure> {
        self.append(queue, body)?.wait()
    }

    /// Reads up to `limit` messages of `queue` from `from` on, checksums verified, and hands each
    /// body to `visit`. Returns how many there were.
    pub(crate) fn read(
        &self,
        queue: &Queue,
        from: u64,
        limit: usize,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<u64, Failure> {
        let batch = self.0.read(queue, QueueOffset::new(from), ReadLimit::records(limit))?;
        batch.iter().for_each(|record| visit(record.body()));
        Ok(batch.next_offset().get() - from)
    }

    /// Blocks until `queue` has a message at `offset`, for at most `patience`.
    pub(crate) fn wait_for(
        &self,
        queue: &Queue,
        offset: u64,
        patience: Duration,
    ) -> Result<(), Failure> {
        if !self.0.wait_for(queue, QueueOffset::new(offset), patience)? {
            return Err(format!("no message at offset {offset} after {patience:?}").into());
        }
        Ok(())
    }

    /// The offset behind the last message of `queue`.
    pub(crate) fn queue_end(&self, queue: &Queue) -> u64 {
        self.0.queue_range(queue).map_or(0, |(_, end)| end.get())
    }

    /// Bytes of the log whose queue entries are not built yet.
    pub(crate) fn undispatched(&self) -> u64 {
        let progress = self.0.progress();
        progress.written.saturating_since(progress.dispatched)
    }

    /// From where on opening checked the log.
    pub(crate) fn checked_from(&self) -> u64 {
        self.0.recovery().checked_from.get()
    }

    /// Bytes that opening found not known to be durable, and left to the flusher.
    pub(crate) fn to_sync(&self) -> u64 {
        self.0.recovery().to_sync
    }

    /// The end of the log, in bytes.
    pub(crate) fn written(&self) -> u64 {
        self.0.progress().written.get()
    }

    /// Closes in good order.
    pub(crate) fn close(self) -> Result<(), Failure> {
        self.0.close()?;
        Ok(())
    }
}

/// Queue number `index` of the layout that the Java harness uses: `T0`/0, `T0`/1, ...
pub(crate) fn queue(index: u64) -> Result<Queue, Failure> {
    let topic = format!("T{}", index / QUEUES_PER_TOPIC);
    Ok(QueueKey::new(&topic, (index % QUEUES_PER_TOPIC) as i32)?)
}

/// The queue of `topic` that other cases warm up with.
pub(crate) fn queue_of(topic: &str) -> Result<Queue, Failure> {
    Ok(QueueKey::new(topic, 0)?)
}
