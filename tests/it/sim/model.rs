//! What the store must hold, as a client can know it: nothing here looks into the engine.

use std::{collections::BTreeMap, time::Duration};

use steadfast::{Placement, QueueKey, RecordView};

/// A message before it has its place.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: u64,
    pub(crate) queue: usize,
    pub(crate) body: Vec<u8>,
    pub(crate) tag: Option<&'static str>,
    pub(crate) key: Option<String>,
    pub(crate) wait: bool,
}

/// A message with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) draft: Draft,
    pub(crate) at: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) time: i64,
}

impl Put {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.size
    }

    /// Fails unless `view` is this message at this place, byte for byte.
    pub(crate) fn check(&self, view: &RecordView<'_>, queue: &QueueKey) {
        let Draft { id, body, tag, key, .. } = &self.draft;
        let place =
            (view.physical_offset().get(), u64::from(view.size()), view.queue_offset().get());
        assert_eq!(place, (self.at, self.size, self.offset), "place of message {id}");
        assert_eq!((view.topic(), view.queue_id()), (queue.topic(), queue.queue_id()), "id={id}");
        assert!(view.body() == body, "body of message {id} at {}", self.at);
        assert_eq!(view.tag(), *tag, "tag of message {id}");
        let keys: Vec<&str> = view.keys().collect();
        assert_eq!(keys, key.as_deref().map_or(vec![], |k| vec![k]), "keys of message {id}");
        assert_eq!(view.store_time().as_millis(), self.time, "time of message {id}");
    }
}

/// What a group committed in a queue since it was known what is on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed {
    /// The first is what was there; `None` for nothing.
    pub(crate) values: Vec<Option<u64>>,
    /// This one or a later one is on the disk.
    pub(crate) saved: usize,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) queues: Vec<QueueKey>,
    /// In log order, with those that retention took.
    pub(crate) puts: Vec<Put>,
    /// Of each queue, places in `puts` by queue offset.
    pub(crate) by_queue: Vec<Vec<usize>>,
    /// Appends that failed and may be in the log all the same, in order.
    pub(crate) maybe: Vec<Vec<Draft>>,
    /// The log must hold everything below after a power failure.
    pub(crate) safe_power: u64,
    /// And below this after the death of the process.
    pub(crate) safe_process: u64,
    /// Where the log begins.
    pub(crate) start: u64,
    /// Where it may begin after a crash, as segments were being removed.
    pub(crate) start_may: u64,
    pub(crate) committed: BTreeMap<(usize, usize), Committed>,
    /// A sync or write of the log failed in this session: durable was then that.
    pub(crate) poisoned: Option<u64>,
    pub(crate) segment_bytes: u64,
}

impl Model {
    pub(crate) fn new(queues: Vec<QueueKey>, segment_bytes: u64) -> Self {
        Self {
            by_queue: vec![Vec::new(); queues.len()],
            queues,
            puts: Vec::new(),
            maybe: Vec::new(),
            safe_power: 0,
            safe_process: 0,
            start: 0,
            start_may: 0,
            committed: BTreeMap::new(),
            poisoned: None,
            segment_bytes,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.puts.last().map_or(self.start, Put::end)
    }

    /// Of `queue`, how many messages were ever put.
    pub(crate) fn queue_end(&self, queue: usize) -> u64 {
        self.by_queue[queue].len() as u64
    }

    /// The first offset of `queue` whose message is in the log from `start` on.
    pub(crate) fn queue_min(&self, queue: usize, start: u64) -> u64 {
        self.by_queue[queue].partition_point(|put| self.puts[*put].at < start) as u64
    }

    pub(crate) fn at_offset(&self, queue: usize, offset: u64) -> &Put {
        &self.puts[self.by_queue[queue][offset as usize]]
    }

    /// Takes in what an append placed.
    pub(crate) fn put(&mut self, drafts: Vec<Draft>, places: &[Placement]) {
        assert_eq!(drafts.len(), places.len());
        let total: u64 = places.iter().map(|p| u64::from(p.size)).sum();
        let (end, segment) = (self.end(), self.segment_bytes);
        let first = places[0].physical_offset.get();
        let rolled = end.next_multiple_of(segment);
        assert!(first == end || first == rolled, "placed at {first}, the log ended at {end}");
        assert!(first / segment == (first + total + 7) / segment, "no room for a blank record");
        for (draft, place) in drafts.into_iter().zip(places) {
            let at = place.physical_offset.get();
            if at != first {
                assert_eq!(at, self.end(), "a batch is contiguous");
            }
            self.push(Put {
                at,
                size: u64::from(place.size),
                offset: place.queue_offset.get(),
                time: place.store_time.as_millis(),
                draft,
            });
        }
        // Whatever failed before this had no place, or the log would have failed.
        self.maybe.clear();
    }

    pub(crate) fn push(&mut self, put: Put) {
        let queue = put.draft.queue;
        assert_eq!(
            put.offset,
            self.queue_end(queue),
            "queue offsets are dense, id={}",
            put.draft.id
        );
        self.by_queue[queue].push(self.puts.len());
        self.puts.push(put);
    }

    /// Forgets what was lost: everything from number `kept` on.
    pub(crate) fn truncate(&mut self, kept: usize) {
        self.puts.truncate(kept);
        for list in &mut self.by_queue {
            list.truncate(list.partition_point(|put| *put < kept));
        }
        self.maybe.clear();
    }

    /// Everything below `end` was said to be durable.
    pub(crate) fn durable(&mut self, end: u64) {
        self.safe_power = self.safe_power.max(end);
        self.safe_process = self.safe_process.max(end);
    }

    /// Where the log, which is visible up to `visible`, may begin when everything that expired at
    /// `now` is gone.
    pub(crate) fn expired_to(&self, now: i64, reserved: Duration, visible: u64) -> u64 {
        let reserved = reserved.as_millis() as i64;
        let mut start = self.start;
        loop {
            let end = start - start % self.segment_bytes + self.segment_bytes;
            let from = self.puts.partition_point(|put| put.at < start);
            let to = self.puts.partition_point(|put| put.at < end);
            // The clock steps back, so the first record of the segment and of the next one decide.
            let is_young = |put: &Put| put.time > now.saturating_sub(reserved);
            let ends =
                [self.puts[from..to].first(), self.puts.get(to).filter(|p| p.end() <= visible)];
            let young = ends.into_iter().flatten().any(is_young);
            // The last segment stays.
            if young || end > visible {
                return start;
            }
            start = end;
        }
    }
}
