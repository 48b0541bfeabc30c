//! The consumer groups' positions, as an embedder sees them.

use crate::{
    engine::Engine,
    error::{Error, ErrorKind, Result},
    name::{Group, QueueKey},
    offset::QueueOffset,
    read::unknown,
};

/// The positions of consumer groups. Made by [`Store::consumers`](crate::Store::consumers).
#[derive(Clone, Copy, Debug)]
pub struct Consumers<'a> {
    pub(crate) engine: &'a Engine,
}

impl Consumers<'_> {
    /// Says that `group` consumed `queue` up to, not including, `next`. Saved every few seconds
    /// and at close, never past the durable log.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue,
    /// [`OutOfRange`](ErrorKind::OutOfRange) if `next` is past its end.
    pub fn commit(&self, group: &Group, queue: &QueueKey, next: QueueOffset) -> Result<()> {
        self.engine.writable()?;
        let found = self.engine.queues.get(queue).ok_or_else(|| unknown(queue))?;
        let end = found.end();
        if next > end {
            return Err(Error::new(
                ErrorKind::OutOfRange { start: found.min().get(), end: end.get() },
                format!("not in the queue group={group} queue={queue} next={next} end={end}"),
            ));
        }
        self.engine.consumers.commit(group, queue, next);
        Ok(())
    }

    /// The next offset `group` consumes of `queue`, `None` if it never committed one.
    pub fn committed(&self, group: &Group, queue: &QueueKey) -> Option<QueueOffset> {
        self.engine.consumers.get(group, queue)
    }

    /// All groups that ever committed a position, sorted.
    pub fn groups(&self) -> Vec<Group> {
        self.engine.consumers.groups()
    }

    /// The positions of `group`, by queue.
    pub fn of_group(&self, group: &Group) -> Vec<(QueueKey, QueueOffset)> {
        self.engine.consumers.of_group(group)
    }

    /// All positions in queues of `topic`.
    pub fn of_topic(&self, topic: &str) -> Vec<(Group, QueueKey, QueueOffset)> {
        self.engine.consumers.of_topic(topic)
    }

    /// Forgets `group`. Returns how many positions it had.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn remove_group(&self, group: &Group) -> Result<usize> {
        self.engine.writable()?;
        Ok(self.engine.consumers.remove_group(group))
    }

    /// Forgets all positions in queues of `topic`. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](ErrorKind::ReadOnly).
    pub fn remove_topic(&self, topic: &str) -> Result<usize> {
        self.engine.writable()?;
        Ok(self.engine.consumers.remove_topic(topic))
    }

    /// Saves the positions now.
    ///
    /// # Errors
    ///
    /// The log's failure, or an I/O error; the positions stay in memory and are tried again.
    pub fn save(&self) -> Result<()> {
        self.engine.save_offsets()
    }
}
