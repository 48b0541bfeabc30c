//! What is looked at after every open.

use std::collections::BTreeMap;

use steadfast::{
    Finding, FlushMode, Group, KeyIndexing, LogItem, PhysicalOffset, QueueOffset, ReadLimit,
    Record, Store, StoreTime, disk::sim::Rng,
};

use super::model::{Committed, Draft, Model, Put};

pub(crate) const GROUPS: [&str; 2] = ["billing", "shipping"];

/// Checks a store that was just opened, and takes in what a crash left open.
pub(crate) fn opened(store: &Store, model: &mut Model, rng: &mut Rng, index_whole: bool) {
    log(store, model);
    queues(store, model, rng);
    if index_whole {
        index(store, model, rng);
    }
    times(store, model, rng);
    offsets(store, model);
    model.poisoned = None;
}

/// Nothing may be said to be damaged or strange. `foreign`: the store's own files were taken away.
pub(crate) fn findings(store: &Store, foreign: bool) {
    for finding in &store.recovery().findings {
        let bad = match finding {
            Finding::Damage { .. } | Finding::OffsetClamped { .. } => true,
            // Nothing was ever written, or it was by us.
            Finding::ForeignWriter { .. } => {
                !foreign && store.recovery().log_end > PhysicalOffset::ZERO
            }
            Finding::Note { text } => text.contains("placeholders"),
            _ => false,
        };
        assert!(!bad, "without damage: {finding}\n{}", store.recovery());
    }
}

fn log(store: &Store, model: &mut Model) {
    let progress = store.progress();
    let (start, end) = (progress.start.get(), progress.written.get());
    assert_eq!(progress.dispatched, progress.written);
    let durable = progress.durable.get();
    match store.options().flush {
        FlushMode::Sync => assert_eq!(durable, end, "served before it was synced"),
        FlushMode::Async => assert!(durable <= end && end - durable == store.recovery().to_sync),
    }
    assert!(
        model.start <= start && start <= model.start_may.max(model.start),
        "the log begins at {start}, expected {}..={}",
        model.start,
        model.start_may
    );
    let retired = model.puts.partition_point(|put| put.at < start);
    let mut kept = retired;
    let mut at = progress.start;
    while let Some((item, next)) = store.item_at(at).unwrap() {
        match item {
            LogItem::Record(record) => {
                if kept == model.puts.len() {
                    adopt(&record, model);
                }
                let put = &model.puts[kept];
                put.check(&record.view(), &model.queues[put.draft.queue]);
                kept += 1;
            }
            LogItem::Blank { .. } => assert_eq!(next.get() % model.segment_bytes, 0, "blank {at}"),
            other => panic!("not a record: {other:?}\n{}", store.recovery()),
        }
        at = next;
    }
    assert_eq!(at.get(), end, "the log is walked to its end");
    for put in &model.puts[kept..] {
        assert!(
            put.end() > model.safe_process,
            "lost: message {} at {}..{} of {}, the log must reach {} and ends at {end}\n{}",
            put.draft.id,
            put.at,
            put.end(),
            model.queues[put.draft.queue],
            model.safe_process,
            store.recovery()
        );
    }
    model.truncate(kept);
    model.start = start;
    model.start_may = start;
    // What was durable once stays so, also where nothing that survived tells of it.
    model.safe_power = model.safe_power.min(end).max(durable);
    model.safe_process = end;
}

/// An append that failed left this record; which one?
fn adopt(record: &Record, model: &mut Model) {
    let view = record.view();
    let is = |draft: &Draft| {
        draft.body == view.body() && model.queues[draft.queue].is_topic_and_id(&view)
    };
    let found = model
        .maybe
        .iter()
        .enumerate()
        .find_map(|(n, drafts)| Some((n, drafts.iter().position(is)?)));
    let Some((batch, number)) = found else {
        panic!("a record that was never put at {}: {record:?}", view.physical_offset());
    };
    // What comes before it in its batch must have come before it in the log.
    assert_eq!(number, 0, "a batch survives from its beginning on");
    let draft = model.maybe[batch].remove(0);
    model.maybe.drain(..batch);
    model.push(Put {
        draft,
        at: view.physical_offset().get(),
        size: u64::from(view.size()),
        offset: view.queue_offset().get(),
        time: view.store_time().as_millis(),
    });
}

trait Names {
    fn is_topic_and_id(&self, view: &steadfast::RecordView<'_>) -> bool;
}

impl Names for steadfast::QueueKey {
    fn is_topic_and_id(&self, view: &steadfast::RecordView<'_>) -> bool {
        self.topic() == view.topic() && self.queue_id() == view.queue_id()
    }
}

fn queues(store: &Store, model: &Model, rng: &mut Rng) {
    let known: Vec<_> =
        store.queues().into_iter().filter(|key| !model.queues.contains(key)).collect();
    assert!(known.is_empty(), "queues that nobody made: {known:?}");
    for (n, key) in model.queues.iter().enumerate() {
        let (min, end) = (model.queue_min(n, model.start), model.queue_end(n));
        let Some(range) = store.queue_range(key) else {
            assert_eq!(end, 0, "queue {key} is gone");
            continue;
        };
        assert_eq!((range.0.get(), range.1.get()), (min, end), "range of {key}");
        let mut next = QueueOffset::new(min);
        while next.get() < end {
            let limit = ReadLimit::records(rng.within(1..40) as usize).bytes(rng.within(1..9000));
            let batch = store.read(key, next, limit).unwrap();
            assert!(!batch.is_empty(), "nothing at {next} of {key}, which ends at {end}");
            for (at, view) in (next.get()..).zip(batch.iter()) {
                model.at_offset(n, at).check(&view, key);
            }
            next = batch.next_offset();
        }
        let items = store.queue_items(key, QueueOffset::new(min), usize::MAX >> 1).unwrap();
        assert_eq!(items.len() as u64, end - min, "entries of {key}");
        for item in items {
            let put = model.at_offset(n, item.offset.get());
            let found = (item.physical_offset.get(), u64::from(item.size));
            assert_eq!(found, (put.at, put.size), "entry {} of {key}", item.offset);
        }
    }
}

fn index(store: &Store, model: &Model, rng: &mut Rng) {
    if store.options().key_index == KeyIndexing::Off {
        return;
    }
    let mut by_key: BTreeMap<(&str, &str), Vec<&Put>> = BTreeMap::new();
    for put in model.puts.iter().filter(|put| put.at >= model.start) {
        if let Some(key) = &put.draft.key {
            let topic = model.queues[put.draft.queue].topic();
            by_key.entry((topic, key)).or_default().push(put);
        }
    }
    let (skip, of) = (rng.below(4), 1 + by_key.len() as u64 / 16);
    for (number, ((topic, key), puts)) in by_key.into_iter().enumerate() {
        if (number as u64 + skip).is_multiple_of(of) {
            by_one_key(store, model, (topic, key), &puts);
        }
    }
}

fn by_one_key(store: &Store, model: &Model, (topic, key): (&str, &str), puts: &[&Put]) {
    let (begin, end) = (StoreTime::from_millis(0), StoreTime::from_millis(i64::MAX));
    let found = store.query(topic, key, begin, end, 1000).unwrap();
    let found: Vec<_> = found.iter().map(|r| r.view().physical_offset().get()).collect();
    let expected: Vec<_> = puts.iter().rev().map(|put| put.at).collect();
    assert_eq!(found, expected, "query {topic} {key} start={}", model.start);
}

fn times(store: &Store, model: &Model, rng: &mut Rng) {
    for (n, key) in model.queues.iter().enumerate() {
        let min = model.queue_min(n, model.start);
        let times: Vec<i64> =
            model.by_queue[n][min as usize..].iter().map(|put| model.puts[*put].time).collect();
        if times.is_empty() || !times.is_sorted() {
            continue;
        }
        let time = *rng.pick(&times) + rng.below(3) as i64 - 1;
        let found = store.offset_by_time(key, StoreTime::from_millis(time)).unwrap();
        let expected = min + times.partition_point(|t| *t < time) as u64;
        assert_eq!(found.get(), expected, "{key} at time {time} in {times:?}");
    }
}

fn offsets(store: &Store, model: &mut Model) {
    for (g, group) in GROUPS.iter().enumerate() {
        let group = Group::new(group).unwrap();
        for (q, queue) in model.queues.iter().enumerate() {
            let found = store.consumers().committed(&group, queue).map(QueueOffset::get);
            let known = model
                .committed
                .entry((g, q))
                .or_insert_with(|| Committed { values: vec![None], saved: 0 });
            let allowed = &known.values[known.saved..];
            assert!(
                allowed.contains(&found),
                "{group} in {queue} is at {found:?}, expected one of {allowed:?}"
            );
            let end = model.by_queue[q].len() as u64;
            assert!(found.unwrap_or(0) <= end, "{group} is past the end of {queue}");
            *known = Committed { values: vec![found], saved: 0 };
        }
    }
}
