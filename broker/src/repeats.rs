//! Sends that a producer's client repeats because it got no answer: they are answered with the
//! first one's place instead of being stored twice.
//!
//! What is the same send is told by topic, producer group, the message's own unique key, which the
//! client gives it once, and the checksum of its body. The broker's own appends are not asked
//! about: a delivery that is repeated, a retry, the end of a transaction. What was sent shortly
//! before a restart is read from the log again; the group is stored with each message for that.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use steadfast::{
    ErrorKind, Placement, QueueKey, ReadLimit, RecordView, Result, Store, StoreTime, Ticket,
};
use tracing::warn;

use crate::{config::Idempotent, names, properties};

/// So many messages are read at once.
const AT_ONCE: usize = 256;
/// RocketMQ's checksum of a body has 31 bits.
const CRC_BITS: u32 = 0x7fff_ffff;

/// What tells a send from others. Two of 128 random bits are never the same by chance, and nobody
/// outside knows the hashes' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SendKey(u128);

/// Where a send went.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// The queue that its client was told.
    queue_id: i32,
    placement: Placement,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<SendKey, Sent>,
    /// By the time they were stored.
    order: VecDeque<(StoreTime, SendKey)>,
}

/// The sends of the last minutes.
#[derive(Debug)]
pub(crate) struct Repeats {
    covered: Idempotent,
    window: Duration,
    most: usize,
    hashes: [RandomState; 2],
    state: Mutex<State>,
}

impl Repeats {
    /// Remembers what was sent within `window`, at most `most` messages.
    pub(crate) fn new(covered: Idempotent, window: Duration, most: usize) -> Self {
        let hashes = [RandomState::new(), RandomState::new()];
        Self { covered, window, most, hashes, state: Mutex::default() }
    }

    /// Whether sends to a topic are asked about.
    pub(crate) fn covers(&self, topic: &str) -> bool {
        // A consumer sends the same message there each time that it fails.
        let is_retry = || names::group_of_retry_topic(topic).is_some();
        match &self.covered {
            Idempotent::No => false,
            Idempotent::All => !is_retry(),
            Idempotent::Topics(topics) => topics.contains(topic) && !is_retry(),
        }
    }

    /// The key of a send to a topic that is covered.
    pub(crate) fn key(&self, topic: &str, group: &str, unique_key: &str, body: &[u8]) -> SendKey {
        self.hashed(topic, group, unique_key, crc32fast::hash(body) & CRC_BITS)
    }

    fn hashed(&self, topic: &str, group: &str, unique_key: &str, crc: u32) -> SendKey {
        let what = (topic, group, unique_key, crc);
        let [high, low] = [0, 1].map(|n| u128::from(self.hashes[n].hash_one(what)));
        SendKey(high << 64 | low)
    }

    /// Appends by `append` what has these keys, for the queue `queue_id`, unless all of it is
    /// known: then the ticket of `again` tells how that is doing. Gives the queue that it is in.
    ///
    /// # Errors
    ///
    /// Those of `append`; nothing is remembered then.
    pub(crate) fn append(
        &self,
        keys: &[SendKey],
        queue_id: i32,
        append: impl FnOnce() -> Result<Ticket>,
        again: impl FnOnce(&[Placement]) -> Option<Ticket>,
    ) -> Result<(i32, Ticket)> {
        // Held over the append, which waits for nobody: the first and its repetition may come at
        // once, by two connections.
        let mut state = self.state.lock();
        let known: Option<Vec<_>> = keys.iter().map(|key| state.known.get(key).copied()).collect();
        if let Some(known) = known
            && let Some(first) = known.first()
        {
            let placements: Vec<_> = known.iter().map(|sent| sent.placement).collect();
            if let Some(ticket) = again(&placements) {
                return Ok((first.queue_id, ticket));
            }
        }
        let ticket = append()?;
        for (key, placement) in keys.iter().zip(ticket.placements()) {
            state.insert(*key, Sent { queue_id, placement: *placement });
        }
        state.forget(ticket.placement().store_time, self.window, self.most);
        Ok((queue_id, ticket))
    }

    /// Reads again what was sent within the window before `now`.
    pub(crate) fn learn(&self, store: &Store, now: StoreTime) {
        if self.covered == Idempotent::No {
            return;
        }
        let window = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let since = StoreTime::from_millis(now.as_millis().saturating_sub(window));
        let mut found = Vec::new();
        for queue in store.queues() {
            let waits = [names::SCHEDULE, names::TIMER, names::HALF].contains(&queue.topic());
            if waits || self.covers(queue.topic()) {
                self.learn_queue(store, &queue, since, &mut found);
            }
        }
        self.keep_newest(&mut found);
        let mut state = self.state.lock();
        for (key, sent) in found {
            state.insert(key, sent);
        }
    }

    fn learn_queue(
        &self,
        store: &Store,
        queue: &QueueKey,
        since: StoreTime,
        found: &mut Vec<(SendKey, Sent)>,
    ) {
        let Ok(mut next) = store.offset_by_time(queue, since) else { return };
        loop {
            let batch = match store.read(queue, next, ReadLimit::records(AT_ONCE)) {
                Ok(batch) => batch,
                Err(error) if matches!(error.kind(), ErrorKind::Damaged { .. }) => {
                    next = next.next();
                    continue;
                }
                Err(error) => {
                    warn!(%error, %queue, "what was sent here before may be stored twice");
                    return;
                }
            };
            if batch.is_empty() {
                return;
            }
            found.extend(batch.iter().filter_map(|record| self.of_record(&record)));
            if found.len() > 2 * self.most {
                self.keep_newest(found);
            }
            next = batch.next_offset();
        }
    }

    fn keep_newest(&self, found: &mut Vec<(SendKey, Sent)>) {
        found.sort_unstable_by_key(|(_, sent)| sent.placement.physical_offset);
        found.drain(..found.len().saturating_sub(self.most));
    }

    fn of_record(&self, record: &RecordView<'_>) -> Option<(SendKey, Sent)> {
        let group = record.property(properties::PRODUCER_GROUP)?;
        let topic = record.property(properties::REAL_TOPIC).unwrap_or(record.topic());
        if !self.covers(topic) {
            return None;
        }
        let real = match record.topic() {
            names::SCHEDULE | names::TIMER => record.property(properties::REAL_QUEUE),
            _ => None,
        };
        let queue_id = real.and_then(|id| id.parse().ok()).unwrap_or(record.queue_id());
        let placement = Placement {
            queue_offset: record.queue_offset(),
            physical_offset: record.physical_offset(),
            size: record.size(),
            store_time: record.store_time(),
        };
        let key = self.hashed(topic, group, record.unique_key()?, record.body_crc() & CRC_BITS);
        Some((key, Sent { queue_id, placement }))
    }
}

impl State {
    fn insert(&mut self, key: SendKey, sent: Sent) {
        self.known.insert(key, sent);
        self.order.push_back((sent.placement.store_time, key));
    }

    fn forget(&mut self, now: StoreTime, window: Duration, most: usize) {
        let is_old = |time: &StoreTime| {
            let age = now.as_millis().saturating_sub(time.as_millis());
            u128::try_from(age).is_ok_and(|age| age > window.as_millis())
        };
        while let Some((time, key)) = self.order.front()
            && (self.order.len() > most || is_old(time))
        {
            // It may have been sent again after a batch of which not all was known.
            if self.known.get(key).is_some_and(|sent| sent.placement.store_time == *time) {
                self.known.remove(key);
            }
            self.order.pop_front();
        }
    }
}

/// What `idempotentSend` says.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn covered(text: &str) -> std::result::Result<Idempotent, String> {
    match text {
        "false" => Ok(Idempotent::No),
        "true" => Ok(Idempotent::All),
        topics => {
            let topics = topics.split([',', ';']).map(str::trim).filter(|name| !name.is_empty());
            let topics: BTreeSet<String> = topics.map(str::to_owned).collect();
            let wrong = topics.iter().find_map(|topic| names::check_topic(topic).err());
            match wrong {
                Some(why) => Err(format!("allowed are true, false and names of topics: {why}")),
                None if topics.is_empty() => Err("allowed are true, false and topics".into()),
                None => Ok(Idempotent::Topics(topics)),
            }
        }
    }
}
