//! What a client does to an open store, and what it may see.

use std::time::Duration;

use steadfast::{
    Clock, ErrorKind, FlushMode, Group, Message, PhysicalOffset, QueueOffset, ReadLimit, Step,
    StoreTime,
};

use super::{check::GROUPS, driver::World, model::Draft};

const TAGS: [&str; 3] = ["A", "B", "a-longer-tag"];

impl World {
    /// Does one thing, drawn.
    pub(crate) fn op(&mut self) {
        let weights = self.setup.swarm.weights;
        let mut drawn = self.rng.below(weights.iter().sum());
        let past = |weight: &&u64| {
            let is_past = drawn >= **weight;
            drawn = drawn.wrapping_sub(if is_past { **weight } else { 0 });
            is_past
        };
        match weights.iter().take_while(past).count() {
            0 => self.append(),
            1 => self.append_batch(),
            2 => self.step(Step::Flush),
            3 => self.step(Step::Dispatch),
            4 => self.step(Step::Prepare),
            5 => self.step(Step::Keep),
            6 => self.step(Step::Checkpoint),
            7 => self.retain(),
            8 => self.step(Step::SaveOffsets),
            9 => self.commit(),
            10 => self.read(),
            11 => self.writeback(),
            12 => self.move_clock(),
            _ => self.resize(),
        }
    }

    fn draft(&mut self) -> Draft {
        let id = self.next_id;
        self.next_id += 1;
        let rng = &mut self.rng;
        let mut body = vec![0; rng.below(self.setup.largest_body + 1) as usize];
        if rng.chance(1, 10) {
            body.clear();
        }
        rng.fill(&mut body);
        // Bodies are unlike each other as far as they have room for it.
        for (to, from) in body.iter_mut().zip(id.to_le_bytes()) {
            *to = from;
        }
        Draft {
            id,
            queue: rng.below(self.setup.queues.len() as u64) as usize,
            body,
            tag: rng.chance(1, 2).then(|| *rng.pick(&TAGS)),
            key: rng.chance(1, 2).then(|| format!("k{}", rng.below(12))),
            wait: !rng.chance(1, 8),
        }
    }

    fn append(&mut self) {
        let drafts = vec![self.draft()];
        self.put(drafts);
    }

    fn append_batch(&mut self) {
        let drafts = (0..self.rng.within(1..6)).map(|_| self.draft()).collect();
        self.put(drafts);
    }

    pub(crate) fn put(&mut self, drafts: Vec<Draft>) {
        let ids: Vec<u64> = drafts.iter().map(|d| d.id).collect();
        self.tell(|| format!("append {ids:?}"));
        let messages: Vec<Message<'_>> = drafts
            .iter()
            .map(|d| {
                let mut message = Message::new(&self.setup.queues[d.queue], &d.body);
                message = d.tag.map_or(message.clone(), |tag| message.clone().tag(tag));
                message = d.key.as_ref().map_or(message.clone(), |key| message.clone().key(key));
                if d.wait { message } else { message.no_wait() }
            })
            .collect();
        let store = self.store.as_ref().unwrap();
        let result = match &messages[..] {
            [message] => store.append(message),
            messages => store.append_batch(messages),
        };
        drop(messages);
        let bodies: u64 = drafts.iter().map(|d| d.body.len() as u64).sum();
        let waits = self.sync && drafts.iter().any(|d| d.wait);
        match result {
            Ok(ticket) => {
                assert!(self.model.poisoned.is_none(), "accepted after the log failed: {ids:?}");
                let places: Vec<_> = ticket.placements().copied().collect();
                self.tell(|| {
                    format!("  at {} {}", places[0].physical_offset, places[0].queue_offset)
                });
                self.model.put(drafts, &places);
                let end = self.model.end();
                if waits {
                    self.tickets.push((ticket, end));
                } else {
                    let receipt = ticket.wait_timeout(Duration::ZERO).unwrap().unwrap();
                    assert_eq!(receipt.status, steadfast::PutStatus::PutOk);
                    self.acknowledged_in_memory(end);
                }
            }
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                let segment = self.setup.options.segment_bytes;
                let overhead = 400 * drafts.len() as u64;
                assert!(bodies + overhead > segment, "{error} bodies={bodies}");
            }
            Err(error) => {
                self.model.maybe.push(drafts);
                self.expect("append", &Err::<(), _>(error));
            }
        }
    }

    /// Safe from the death of the process; not if the machine died before we heard of it.
    fn acknowledged_in_memory(&mut self, end: u64) {
        if self.disk.is_halted() {
            return;
        }
        self.counts.one("acknowledged");
        self.model.safe_process = self.model.safe_process.max(end);
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.tell(|| format!("{step:?}"));
        if matches!(step, Step::Retain | Step::Keep) {
            let progress = self.store.as_ref().unwrap().progress();
            let visible = if self.sync { progress.durable } else { progress.written }.get();
            let reserved = self.setup.options.retention.reserved;
            let to = self.model.expired_to(self.clock.now().as_millis(), reserved, visible);
            self.model.start_may = self.model.start_may.max(to);
        }
        let result = self.store.as_ref().unwrap().step(step);
        self.expect("step", &result);
        if self.disk.is_halted() {
            return;
        }
        match (step, &result) {
            (Step::SaveOffsets, Ok(())) => self.saved(),
            (Step::Retain, Ok(())) => {
                self.model.start = self.store.as_ref().unwrap().progress().start.get();
                self.model.start_may = self.model.start;
            }
            _ => {}
        }
    }

    fn retain(&mut self) {
        if self.rng.chance(1, 2) {
            let by = Duration::from_secs(4 * 3600);
            self.tell(|| format!("clock on by {by:?}"));
            self.clock.advance(by);
        }
        self.step(Step::Retain);
    }

    fn commit(&mut self) {
        let (g, q) =
            (self.rng.below(2) as usize, self.rng.below(self.setup.queues.len() as u64) as usize);
        let queue = &self.setup.queues[q];
        let store = self.store.as_ref().unwrap();
        let Some((_, end)) = store.queue_range(queue) else { return };
        let next = self.rng.below(end.get() + 1);
        self.tell(|| format!("commit {} {queue} {next}", GROUPS[g]));
        let group = Group::new(GROUPS[g]).unwrap();
        store.consumers().commit(&group, queue, QueueOffset::new(next)).unwrap();
        let past = store.consumers().commit(&group, queue, QueueOffset::new(end.get() + 1));
        assert!(matches!(past.unwrap_err().kind(), ErrorKind::OutOfRange { .. }));
        self.model.committed.get_mut(&(g, q)).unwrap().values.push(Some(next));
    }

    fn read(&mut self) {
        let q = self.rng.below(self.setup.queues.len() as u64) as usize;
        let queue = &self.setup.queues[q];
        let store = self.store.as_ref().unwrap();
        let start = store.progress().start.get();
        if let Some((min, end)) = store.queue_range(queue) {
            let known = self.model.queue_end(q);
            assert!(end.get() <= known, "{queue} ends at {end}, {known} were put");
            let from = self.rng.within(min.get()..end.get() + 2);
            let limit = ReadLimit::records(self.rng.within(1..20) as usize);
            match store.read(queue, QueueOffset::new(from), limit) {
                Ok(batch) => {
                    assert!(!batch.is_empty() || from == end.get(), "empty before the end");
                    for (at, view) in (from..).zip(batch.iter()) {
                        let put = self.model.at_offset(q, at);
                        put.check(&view, queue);
                        if self.sync {
                            // Whoever saw it may have acted on it.
                            let seen = put.end();
                            self.model.safe_power = self.model.safe_power.max(seen);
                            self.model.safe_process = self.model.safe_process.max(seen);
                        }
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::OutOfRange { .. }) => {
                    assert!(from > end.get(), "{e}");
                }
                Err(e) => self.expect("read", &Err::<(), _>(e)),
            }
        }
        if !self.model.puts.is_empty() {
            let put = &self.model.puts[self.rng.below(self.model.puts.len() as u64) as usize];
            let progress = self.store.as_ref().unwrap().progress();
            let visible = if self.sync { progress.durable } else { progress.written };
            let here = put.at >= start && put.end() <= visible.get();
            match self.store.as_ref().unwrap().record_at(PhysicalOffset::new(put.at)) {
                Ok(record) => {
                    assert!(here, "read at {} past {visible} or before {start}", put.at);
                    put.check(&record.view(), &self.model.queues[put.draft.queue]);
                }
                Err(e) => assert!(!here, "{e}"),
            }
        }
    }

    fn writeback(&mut self) {
        if self.faulty && self.rng.chance(1, 4) {
            self.tell(|| "writeback fails".into());
            self.disk.fail_background_writeback(&mut self.rng);
            self.tainted = true;
        } else {
            self.tell(|| "writeback".into());
            self.disk.background_writeback(&mut self.rng);
        }
    }

    fn move_clock(&mut self) {
        if self.rng.chance(1, 3) {
            let now = self.clock.now().as_millis();
            let by = self.rng.below(3 * 3_600_000) as i64;
            self.tell(|| format!("clock back by {by} ms"));
            self.clock.set_wall(StoreTime::from_millis(now - by));
        } else {
            let by = Duration::from_secs(*self.rng.pick(&[1, 6, 60, 3600, 4 * 3600]));
            self.tell(|| format!("clock on by {by:?}"));
            self.clock.advance(by);
        }
    }

    fn resize(&mut self) {
        if let Some(capacity) = self.setup.capacity {
            let capacity = if self.rng.chance(1, 2) { 1 << 40 } else { capacity };
            self.tell(|| format!("capacity {capacity}"));
            self.disk.set_capacity(capacity);
        }
    }

    /// Puts a message into every queue and gets all of them acknowledged.
    pub(crate) fn session_end(&mut self) {
        for queue in 0..self.setup.queues.len() {
            let mut draft = self.draft();
            (draft.queue, draft.wait) = (queue, true);
            draft.body.truncate(3000);
            self.put(vec![draft]);
        }
        let waiting = self.tickets.len();
        assert!(waiting > 0 || self.store.as_ref().unwrap().options().flush == FlushMode::Async);
        self.step(Step::Flush);
        for (ticket, end) in std::mem::take(&mut self.tickets) {
            let receipt = ticket.wait_timeout(Duration::ZERO).unwrap().unwrap();
            assert_eq!(receipt.status, steadfast::PutStatus::PutOk, "end={end}");
        }
        self.model.durable(self.model.end());
    }
}
