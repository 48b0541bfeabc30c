//! Names that were checked once and are valid ever after: topics, queues, consumer groups.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::error::{Error, Result};

/// Longest topic in bytes: it names a directory, and file systems allow 255.
pub const TOPIC_MAX_BYTES: usize = 255;

/// One queue of one topic: where messages are put and read, in order.
///
/// Cheap to clone; comparing and hashing use a hash computed once.
#[derive(Clone)]
pub struct QueueKey {
    topic: Arc<str>,
    queue_id: i32,
    hash: u64,
}

impl QueueKey {
    /// Queue number `queue_id` of `topic`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the topic is empty, longer than
    /// [`TOPIC_MAX_BYTES`], is `.` or `..`, or holds `/` or a control character; or if `queue_id`
    /// is negative.
    pub fn new(topic: &str, queue_id: i32) -> Result<Self> {
        check_topic(topic)?;
        if queue_id < 0 {
            return Err(Error::invalid(format!(
                "a queue id is never negative queue_id={queue_id}"
            )));
        }
        Ok(Self { topic: topic.into(), queue_id, hash: Self::hash_of(topic, queue_id) })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The queue's number in its topic.
    pub fn queue_id(&self) -> i32 {
        self.queue_id
    }

    /// The hash that tables of queues use; the same in every run, so that simulations replay.
    pub(crate) fn hash_of(topic: &str, queue_id: i32) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(topic.as_bytes());
        hasher.write_i32(queue_id);
        hasher.finish()
    }

    /// This key's [`hash_of`](Self::hash_of).
    pub(crate) fn hash_value(&self) -> u64 {
        self.hash
    }

    /// Whether this is the key of that topic and number.
    pub(crate) fn is(&self, topic: &str, queue_id: i32) -> bool {
        self.queue_id == queue_id && *self.topic == *topic
    }
}

/// Whether `topic` can name a queue, and so a directory.
pub(crate) fn check_topic(topic: &str) -> Result<()> {
    let problem = if topic.is_empty() {
        "is empty"
    } else if topic.len() > TOPIC_MAX_BYTES {
        "is longer than 255 bytes"
    } else if topic == "." || topic == ".." {
        "is a directory's own name"
    } else if topic.chars().any(|c| c == '/' || c.is_control()) {
        "holds a slash or a control character"
    } else {
        return Ok(());
    };
    let shown: String = topic.chars().take(80).collect();
    Err(Error::invalid(format!("the topic {problem} topic={shown:?}")))
}

impl PartialEq for QueueKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.is(&other.topic, other.queue_id)
    }
}

impl Eq for QueueKey {}

impl Hash for QueueKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for QueueKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueueKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&*self.topic, self.queue_id).cmp(&(&*other.topic, other.queue_id))
    }
}

impl fmt::Debug for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.topic, self.queue_id)
    }
}

impl fmt::Display for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.queue_id)
    }
}

/// A consumer group: whoever shares one position in each queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Arc<str>);

impl Group {
    /// The group called `name`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is empty, longer than 255
    /// bytes, or holds `@` (which separates topic and group on disk) or a control character.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > 255 || name.chars().any(|c| c == '@' || c.is_control()) {
            let shown: String = name.chars().take(80).collect();
            return Err(Error::invalid(format!(
                "a group is 1 to 255 bytes without @ and control characters group={shown:?}"
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
