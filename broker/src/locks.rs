//! Which member of a group may consume a queue in order.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

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

/// All locks of one broker.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Mutex<HashMap<String, HashMap<MessageQueue, Held>>>,
}

impl Locks {
    /// Locks what is free, or the client's own already. Returns what it has now.
    pub(crate) fn lock(&self, body: LockBody, now: Instant) -> Vec<MessageQueue> {
        let mut held = self.held.lock();
        let of_group = held.entry(body.consumer_group).or_default();
        of_group.retain(|_, lock| now.saturating_duration_since(lock.since) < LOCKED);
        let client = body.client_id;
        let mut locked = Vec::new();
        for queue in body.mq_set {
            let free = of_group.get(&queue).is_none_or(|lock| lock.client == client);
            if free {
                of_group.insert(queue.clone(), Held { client: client.clone(), since: now });
                locked.push(queue);
            }
        }
        locked
    }

    /// Frees what the client has of these.
    pub(crate) fn unlock(&self, body: &LockBody) {
        let mut held = self.held.lock();
        let Some(of_group) = held.get_mut(&body.consumer_group) else { return };
        for queue in &body.mq_set {
            if of_group.get(queue).is_some_and(|lock| lock.client == body.client_id) {
                of_group.remove(queue);
            }
        }
        if of_group.is_empty() {
            held.remove(&body.consumer_group);
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
        assert_eq!(locks.lock(body("a"), start).len(), 1);
        assert_eq!(locks.lock(body("b"), start).len(), 0);
        locks.unlock(&body("b"));
        assert_eq!(locks.lock(body("b"), start + LOCKED / 2).len(), 0);
        assert_eq!(locks.lock(body("a"), start + LOCKED / 2).len(), 1);
        assert_eq!(locks.lock(body("b"), start + LOCKED).len(), 0);
        assert_eq!(locks.lock(body("b"), start + LOCKED * 2).len(), 1);
        locks.unlock(&body("b"));
        assert_eq!(locks.lock(body("a"), start + LOCKED * 2).len(), 1);
    }
}
