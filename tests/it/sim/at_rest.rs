//! A branch of a schedule: what it left on the disk is damaged at rest, under a budget of one hit,
//! and must be told, served around and built upon. The schedule itself goes on without.

use std::sync::Arc;

use steadfast::{
    ErrorKind, Finding, FlushMode, Message, OnDamage, PhysicalOffset, QueueOffset, ReadLimit, Step,
    Store,
    disk::sim::{Rng, SimDisk},
};

use super::{
    check,
    counts::TableRow,
    driver::World,
    model::{Model, Put},
    scripted::files,
};

/// Where a record's body begins, with hosts of four bytes.
const BODY_AT: usize = 88;

struct Branch<'a> {
    world: &'a World,
    disk: SimDisk,
    model: Model,
    rng: Rng,
    /// The store's own files are gone: the log counts as another program's.
    foreign: bool,
    /// The messages that the damage touched, by number.
    hit: Vec<usize>,
    rows: Vec<TableRow>,
    closed: bool,
    /// The damage also reached bytes behind the log's end.
    behind_end: bool,
}

impl World {
    /// Damages a copy of `image` and sees how it is taken. Only where nothing else is amiss and
    /// each record has a checksum of all of it.
    pub(crate) fn damage_at_rest(&mut self, image: &SimDisk) {
        let (model, rng) = (self.model.clone(), self.rng.split());
        let foreign = self.rng.chance(1, 3);
        let disk = image.crash_process();
        let mut branch = Branch {
            world: self,
            disk,
            model,
            rng,
            foreign,
            hit: Vec::new(),
            rows: Vec::new(),
            closed: false,
            behind_end: false,
        };
        let damaged = branch.settle() && branch.damage();
        if damaged {
            branch.run();
        }
        let rows = branch.rows;
        rows.into_iter().for_each(|row| self.counts.row(row));
        if damaged {
            self.counts.one("damaged");
        }
    }
}

impl Branch<'_> {
    fn open(&self, on_damage: OnDamage) -> steadfast::Result<Store> {
        let options = self.world.setup.options.clone().flush(FlushMode::Sync);
        Store::builder_on(Arc::new(self.disk.clone()))
            .options(options.on_damage(on_damage))
            .clock(self.world.clock.clone())
            .open_stepped()
    }

    /// Opens the copy as it is, so that it is known what is there, and all of it is durable.
    fn settle(&mut self) -> bool {
        self.disk.set_capacity(1 << 40);
        let store = self.open(OnDamage::Refuse).unwrap();
        check::opened(&store, &mut self.model, &mut self.rng, false);
        store.step(Step::Checkpoint).unwrap();
        if self.rng.chance(1, 2) {
            self.closed = true;
            store.close().unwrap();
            self.disk = self.disk.crash_process();
        } else {
            let image = self.disk.crash_process();
            store.abandon();
            self.disk = image;
        }
        self.model.puts.last().is_some_and(|put| put.at >= self.model.start)
    }

    fn path(&self, at: u64) -> String {
        format!("commitlog/{:020}", at - at % self.model.segment_bytes)
    }

    /// One hit on the log. Answers whether any message was touched.
    fn damage(&mut self) -> bool {
        let first = self.model.puts.partition_point(|put| put.at < self.model.start);
        let last = self.model.puts.len() - 1;
        let number = match self.rng.chance(1, 3) {
            true => last,
            false => self.rng.within(first as u64..last as u64 + 1) as usize,
        };
        let put = self.model.puts[number].clone();
        let (path, size) = (self.path(put.at), self.model.segment_bytes);
        let before = self.disk.read_file(&path);
        let (base, inside) = (put.at - put.at % size, put.at % size);
        match self.rng.below(5) {
            0 => {
                let (at, bit) = (inside + self.rng.below(put.size), self.rng.below(8) as u8);
                self.disk.flip_bit(&path, at, bit);
            }
            1 => self.disk.zero_range(&path, inside, put.size),
            2 => {
                let from = inside - inside % 512;
                let len = (512 << self.rng.below(6)).min(size - from);
                self.disk.zero_range(&path, from, len);
            }
            3 => {
                let pages = size / 4096;
                let from = self.rng.below(pages) * 4096;
                self.disk.misdirect(&path, from, inside - inside % 4096);
            }
            _ => {
                let mut bytes = vec![0; 1 + self.rng.below(put.size.min(600)) as usize];
                self.rng.fill(&mut bytes);
                self.disk.overwrite(&path, inside, &bytes);
            }
        }
        if self.foreign {
            for path in self.disk.paths() {
                if path.starts_with("steadfast/") {
                    self.disk.remove_file(&path);
                }
            }
        }
        let after = self.disk.read_file(&path);
        let touched = |put: &Put| {
            let in_file = put.at >= base && put.end() <= base + size;
            let range = || (put.at - base) as usize..(put.end() - base) as usize;
            in_file && before[range()] != after[range()]
        };
        let puts = self.model.puts.iter().enumerate().skip(first);
        self.hit = puts.filter(|(_, put)| touched(put)).map(|(n, _)| n).collect();
        let end = (self.model.end() - base).min(size) as usize;
        self.behind_end = before[end..] != after[end..];
        // Where nothing says that each record has a checksum of all of it, damage to that checksum
        // switches it off, and only the body has one of its own (`docs/recovery.md`).
        let unprotected = |number: &usize| {
            let put = &self.model.puts[*number];
            let (from, to) = ((put.at - base) as usize, (put.end() - base) as usize);
            let body_end = from + BODY_AT + put.draft.body.len();
            before[from..body_end] == after[from..body_end]
                && before[to - 30..to] != after[to - 30..to]
        };
        !self.hit.is_empty()
            && !((self.foreign || self.world.adopted) && self.hit.iter().any(unprotected))
    }

    fn what(&self) -> String {
        let puts = self.hit.iter().map(|n| &self.model.puts[*n]);
        let hit: Vec<_> = puts.map(|put| (put.at, put.end())).collect();
        format!(
            "damage at rest: hit={hit:?} foreign={} closed={} behind_end={} log={}..{}",
            self.foreign,
            self.closed,
            self.behind_end,
            self.model.start,
            self.model.end()
        )
    }

    fn run(&mut self) {
        let last = self.model.puts.len() - 1;
        // Behind another program's last sound record there is its torn tail: cut.
        let tail = (0..=last).rev().take_while(|n| self.hit.contains(n)).count();
        let refused = !self.foreign || self.hit.len() > tail;
        let first = &self.model.puts[self.hit[0]];
        if refused {
            let before = files(&self.disk);
            let error = self.open(OnDamage::Refuse).map(drop).expect_err(&self.what());
            let ErrorKind::Damaged { at, .. } = error.kind() else { panic!("{error:?}") };
            // Damage that looks like a cut by another program is named from the log's sound end on.
            let cut = self.closed && self.behind_end && at.get() > first.at;
            assert!(at.get() == first.at || cut, "{error} {}", self.what());
            assert!(files(&self.disk) == before, "refusing changed something");
        }
        let log: Vec<u8> = self.disk.read_file(&self.path(first.at))
            [(first.at % self.model.segment_bytes) as usize..]
            .to_vec();
        let store = match self.open(OnDamage::Serve) {
            // Bytes behind a clean end look like another program's, and the damage like its cut.
            Err(error) if self.closed && self.behind_end => {
                assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error:?}");
                return;
            }
            opened => opened.unwrap(),
        };
        self.count(&store, &log);
        self.check(&store);
        let queues = &self.world.setup.queues;
        let mut new = Vec::new();
        for (n, queue) in queues.iter().enumerate() {
            let ticket = store.append(&Message::new(queue, b"behind the damage")).unwrap();
            let place = *ticket.placement();
            let end = self.model.queue_end(n);
            let given = place.queue_offset.get();
            assert!(self.foreign || given >= end, "{queue} {given} was given already, {end}");
            new.push(place);
        }
        store.step(Step::Flush).unwrap();
        store.step(Step::Dispatch).unwrap();
        let image = self.disk.crash_process();
        store.abandon();
        self.disk = image;
        let store = self.open(OnDamage::Serve).unwrap();
        self.check(&store);
        for place in new {
            let record = store.record_at(place.physical_offset).unwrap();
            assert!(record.body() == b"behind the damage");
        }
        store.abandon();
    }

    /// For every message the right bytes, or an error that names the range; nothing else is lost.
    fn check(&self, store: &Store) {
        let first = self.model.puts.partition_point(|put| put.at < self.model.start);
        for (number, put) in self.model.puts.iter().enumerate().skip(first) {
            let key = &self.model.queues[put.draft.queue];
            let place = store.record_at(PhysicalOffset::new(put.at));
            let batch = store.read(key, QueueOffset::new(put.offset), ReadLimit::records(1));
            if !self.hit.contains(&number) {
                put.check(&place.unwrap().view(), key);
                put.check(&batch.unwrap().iter().next().unwrap(), key);
                continue;
            }
            // What took the place of a torn tail is something new.
            if let Ok(record) = place {
                assert!(
                    self.foreign && record.body() == b"behind the damage",
                    "{put:?} {}",
                    self.what()
                );
            }
            match batch {
                Err(error) if self.foreign => drop(error),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error} {put:?}");
                }
                Ok(batch) => {
                    assert!(self.foreign, "the end of the queue instead of an error: {put:?}");
                    assert!(batch.iter().all(|view| view.body() == b"behind the damage"));
                }
            }
        }
    }

    fn count(&mut self, store: &Store, log: &[u8]) {
        for finding in &store.recovery().findings {
            let row = match finding {
                Finding::Damage { row: 'D', end, .. } => {
                    if self.model.puts.last().is_some_and(|put| put.at >= end.get()) {
                        TableRow::BelowRecords
                    } else if log.iter().any(|byte| *byte != 0) {
                        TableRow::BelowBytes
                    } else {
                        TableRow::BelowZeros
                    }
                }
                Finding::Damage { row: 'F', .. } => TableRow::ForeignRecords,
                Finding::Cut { row: 'E', .. } => TableRow::ForeignBytes,
                _ => continue,
            };
            self.rows.push(row);
        }
    }
}
