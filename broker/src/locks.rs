//! Which member of a group may consume a queue in order.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::limits::{LOCKS_AT_ONCE_MOST, LOCKS_MOST};

/// A lock that was not renewed for so long is free. As in RocketMQ.
const LOCKED: Duration = Duration::from_secs(60);

/// `MessageQueue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct MessageQueue {
    pub(crate) broker_name: String,
    pub(crate) queue_id: i32,
    pub(crate) topic: String,
}

/// The body of a request to lock or unlock.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LockBody {
    pub(crate) consumer_group: String,
    pub(crate) client_id: String,
    pub(crate) mq_set: Vec<MessageQueue>,
}

/// The body of the answer to a request to lock.
#[derive(Debug, Serialize)]
pub(crate) struct LockedBody {
    #[serde(rename = "lockOKMQSet")]
    pub(crate) locked: Vec<MessageQueue>,
}

#[derive(Debug)]
struct Held {
    client: String,
    since: Instant,
}

impl Held {
    fn is_held(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < LOCKED
    }
}

#[derive(Debug, Default)]
struct Table {
    groups: HashMap<String, HashMap<MessageQueue, Held>>,
    /// Of all groups.
    locks: usize,
}

/// All locks of one broker.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Mutex<Table>,
}

impl Locks {
    /// Locks what is free, or the client's own already. Returns what it has now.
    ///
    /// # Errors
    ///
    /// Why no more can be locked.
    pub(crate) fn lock(&self, body: LockBody, now: Instant) -> Result<Vec<MessageQueue>, String> {
        let wanted = body.mq_set.len();
        if wanted > LOCKS_AT_ONCE_MOST {
            return Err(format!("a lock of {wanted} queues, at most {LOCKS_AT_ONCE_MOST}"));
        }
        let mut held = self.held.lock();
        let held = &mut *held;
        let room = LOCKS_MOST.saturating_sub(held.locks);
        let of_group = held.groups.entry(body.consumer_group).or_default();
        let before = of_group.len();
        of_group.retain(|_, lock| lock.is_held(now));
        let client = body.client_id;
        let mut locked = Vec::new();
        for queue in body.mq_set {
            let known = of_group.get(&queue);
            let free = known.is_none_or(|lock| lock.client == client);
            if free && (known.is_some() || of_group.len() < before + room) {
                of_group.insert(queue.clone(), Held { client: client.clone(), since: now });
                locked.push(queue);
            }
        }
        held.locks = (held.locks + of_group.len()).saturating_sub(before);
        Ok(locked)
    }

    /// Forgets locks that nobody renewed.
    pub(crate) fn expire(&self, now: Instant) {
        let mut held = self.held.lock();
        held.groups.retain(|_, of_group| {
            of_group.retain(|_, lock| lock.is_held(now));
            !of_group.is_empty()
        });
        held.locks = held.groups.values().map(HashMap::len).sum();
    }

    /// Frees what the client has of these.
    pub(crate) fn unlock(&self, body: &LockBody) {
        let mut held = self.held.lock();
        let held = &mut *held;
        let Some(of_group) = held.groups.get_mut(&body.consumer_group) else { return };
        let before = of_group.len();
        for queue in &body.mq_set {
            if of_group.get(queue).is_some_and(|lock| lock.client == body.client_id) {
                of_group.remove(queue);
            }
        }
        held.locks = (held.locks + of_group.len()).saturating_sub(before);
        if of_group.is_empty() {
            held.groups.remove(&body.consumer_group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_one_members_until_it_is_freed_or_forgotten() {
        let locks = Locks::default();
        let queue = MessageQueue { topic: "t".into(), ..MessageQueue::default() };
        let body = |client: &str| LockBody {
            consumer_group: "g".into(),
            client_id: client.into(),
            mq_set: vec![queue.clone()],
        };
        let start = Instant::now();
        assert_eq!(locks.lock(body("a"), start).unwrap().len(), 1);
        assert_eq!(locks.lock(body("b"), start).unwrap().len(), 0);
        locks.unlock(&body("b"));
        assert_eq!(locks.lock(body("b"), start + LOCKED / 2).unwrap().len(), 0);
        assert_eq!(locks.lock(body("a"), start + LOCKED / 2).unwrap().len(), 1);
        assert_eq!(locks.lock(body("b"), start + LOCKED).unwrap().len(), 0);
        assert_eq!(locks.lock(body("b"), start + LOCKED * 2).unwrap().len(), 1);
        locks.unlock(&body("b"));
        assert_eq!(locks.lock(body("a"), start + LOCKED * 2).unwrap().len(), 1);
    }
}
