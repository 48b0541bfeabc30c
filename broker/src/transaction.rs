//! Transactions: a half message waits until its producer says what becomes of it, and is asked.
//!
//! Two queues tell everything: the halves, and which of them are done. What is pending is read
//! from both, from where the group [`POSITIONS`] is in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use steadfast::{Group, PhysicalOffset, QueueOffset, Record, RecordView, StoreTime};
use tracing::{debug, error, warn};

use crate::{
    back::again,
    broker::Core,
    deliver::{self, real},
    follow::{self, PAUSE, Then, arrived, queue_of},
    names,
    namesrv::data::{TopicConfig, perm},
    properties,
    protocol::{BadField, Request, request},
    put::{Outgoing, offset_id},
};

/// The group by whose offsets RocketMQ remembers which halves are done.
const POSITIONS: &str = "CID_RMQ_SYS_TRANS";
/// The tag of a mark that a half is done.
const DONE_TAG: &str = "d";
/// Property of a half: so many seconds pass before its producer is asked.
const IMMUNITY: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// The bits of the system flags that tell the kind of a transactional message.
const KIND_BITS: i32 = 0xC;
const COMMIT: i32 = 0x8;
const ROLLBACK: i32 = 0xC;
/// So many halves are read at once, and at most so many are asked about in one round.
const AT_ONCE: usize = 256;

/// A half whose end is not known.
#[derive(Clone, Debug)]
struct Pending {
    at: PhysicalOffset,
    /// Its producer is not asked before.
    ask_from: i64,
    /// The group of its producer.
    group: Box<str>,
    checks: u32,
    /// Before it the queue of what is done tells nothing about this half.
    done_from: QueueOffset,
    /// It is being ended: pending until that is stored, but nobody is asked nor ends it again.
    ending: bool,
}

impl Pending {
    fn of(core: &Core, half: &RecordView<'_>, done_from: QueueOffset) -> Self {
        let immunity = half.property(IMMUNITY).and_then(|text| text.parse::<i64>().ok());
        let immunity = immunity.map_or(0, |seconds| seconds.saturating_mul(1000));
        let wait = immunity.max(core.config.transaction_timeout.as_millis() as i64);
        Self {
            at: half.physical_offset(),
            ask_from: half.store_time().as_millis().saturating_add(wait),
            group: half.property(properties::PRODUCER_GROUP).unwrap_or_default().into(),
            checks: 0,
            done_from,
            ending: false,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<QueueOffset, Pending>,
    /// How far both queues were read.
    halves_read: QueueOffset,
    done_read: QueueOffset,
    /// Where the next round goes on, so that each half has its turn.
    ask_next: QueueOffset,
}

/// The halves of one broker.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    state: Mutex<State>,
    turn: AtomicUsize,
}

/// Lets a message wait for the end of its transaction.
pub(crate) fn make_half(message: &mut Outgoing) {
    message.divert(names::HALF, 0);
    message.sys_flag &= !KIND_BITS;
}

impl Transactions {
    /// Goes on where the store's offsets say.
    pub(crate) fn open(core_store: &steadfast::Store) -> Self {
        let position = |topic: &str| {
            let group = Group::new(POSITIONS).ok()?;
            core_store.consumers().committed(&group, &queue_of(topic))
        };
        let state = State {
            halves_read: position(names::HALF).unwrap_or_default(),
            done_read: position(names::HALF_DONE).unwrap_or_default(),
            ..State::default()
        };
        Self { state: Mutex::new(state), turn: AtomicUsize::new(0) }
    }
}

/// A producer says what becomes of a half. It wants no answer.
pub(crate) fn end(core: &Arc<Core>, request: &Request) -> Result<(), BadField> {
    let fields = request.fields();
    let kind: i32 = fields.parse("commitOrRollback")?;
    if kind != COMMIT && kind != ROLLBACK {
        // It does not know yet, and is asked again.
        return Ok(());
    }
    let at: i64 = fields.parse("commitLogOffset")?;
    let number: i64 = fields.parse("tranStateTableOffset")?;
    let (Ok(at), Ok(number)) = (u64::try_from(at), u64::try_from(number)) else { return Ok(()) };
    let (at, number) = (PhysicalOffset::new(at), QueueOffset::new(number));
    let half = match core.store.record_at(at) {
        Ok(half) => half,
        Err(error) => {
            warn!(%error, %at, "no half message is there to be ended");
            return Ok(());
        }
    };
    let view = half.view();
    let group = fields.need("producerGroup")?;
    let right = view.topic() == names::HALF
        && view.queue_offset() == number
        && view.property(properties::PRODUCER_GROUP) == Some(group);
    if !right {
        warn!(%at, %number, group, "what is to be ended is no half message of that group");
        return Ok(());
    }
    if core.transactions.take(number) {
        finish(core, &half, kind == COMMIT);
    } else {
        debug!(%number, "a transaction was ended before");
    }
    Ok(())
}

impl Transactions {
    /// Takes a half that is to be ended; `false` if somebody did so before.
    fn take(&self, number: QueueOffset) -> bool {
        let mut state = self.state.lock();
        if number >= state.halves_read {
            // It is not known yet; when it is, its mark follows.
            return true;
        }
        let pending = state.pending.get_mut(&number).filter(|pending| !pending.ending);
        pending.map(|pending| pending.ending = true).is_some()
    }

    /// It was not ended after all.
    fn put_back(&self, number: QueueOffset, pending: Pending) {
        self.state.lock().pending.entry(number).or_insert(pending).ending = false;
    }

    /// It was ended, and its mark is in the log.
    fn ended(&self, number: QueueOffset) {
        self.state.lock().pending.remove(&number);
    }
}

type Failed = Box<dyn FnOnce(&Core, steadfast::Error) + Send>;

/// What is done if the end of a half is not stored.
fn put_back(core: &Core, half: &RecordView<'_>) -> Failed {
    let number = half.queue_offset();
    let pending = Pending::of(core, half, core.transactions.state.lock().done_read);
    Box::new(move |core: &Core, error: steadfast::Error| {
        warn!(%error, %number, "the end of a transaction was not stored; it goes on");
        core.transactions.put_back(number, pending);
    })
}

/// Stores what became of a half: its message if it is committed, and then that it is done. In
/// this order a crash in between makes the message come twice, never not at all.
fn finish(core: &Arc<Core>, half: &Record, commits: bool) {
    let view = half.view();
    let number = view.queue_offset();
    let failed = put_back(core, &view);
    if !commits {
        mark_done(core, number, failed);
        return;
    }
    match deliver::append(core, &committed(&view), &queue_of(names::HALF)) {
        Err(error) => failed(core, error),
        Ok(ticket) => {
            let core = core.clone();
            ticket.on_settled(move |settled| match settled {
                Ok(_) => mark_done(&core, number, failed),
                Err(error) => failed(&core, error),
            });
        }
    }
}

/// The message of a half, for where it was sent to.
fn committed(half: &RecordView<'_>) -> Outgoing {
    let mut message = real(half);
    let gone = [
        properties::TRANSACTION_PREPARED,
        properties::REAL_TOPIC,
        properties::REAL_QUEUE,
        properties::TRANSACTION_CHECKS,
    ];
    message.properties = properties::without(&message.properties, &gone);
    message.sys_flag = message.sys_flag & !KIND_BITS | COMMIT;
    message.prepared_at = Some(half.physical_offset());
    message
}

fn mark_done(core: &Core, number: QueueOffset, failed: Failed) {
    let mut properties = String::new();
    properties::add(&mut properties, "TAGS", DONE_TAG);
    let mark = Outgoing {
        topic: names::HALF_DONE.to_owned(),
        queue_id: 0,
        body: number.get().to_string().into(),
        properties,
        flag: 0,
        sys_flag: 0,
        born: (StoreTime::from_millis(crate::now_millis()), core.address),
        reconsume_times: 0,
        prepared_at: None,
    };
    // Nobody waits for the mark: lost, the producer is asked once more.
    match mark.append(core) {
        Err(error) => failed(core, error),
        Ok(_ticket) => core.transactions.ended(number),
    }
}

/// Reads both queues and asks producers, until it is told to stop.
pub(crate) async fn run(core: Arc<Core>) {
    let mut round = tokio::time::interval(core.config.transaction_check_interval);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (half_queue, done_queue) = (queue_of(names::HALF), queue_of(names::HALF_DONE));
    loop {
        let (halves, done) = {
            let state = core.transactions.state.lock();
            (state.halves_read, state.done_read)
        };
        let well = tokio::select! {
            () = arrived(&core, &half_queue, halves) => read_halves(&core),
            () = arrived(&core, &done_queue, done) => read_done(&core),
            _ = round.tick() => {
                ask(&core);
                remember(&core);
                true
            }
            () = core.stop.stopped() => break,
        };
        if !well && !follow::wait(&core, &half_queue, Then::Pause(PAUSE)).await {
            break;
        }
    }
    remember(&core);
}

/// Reads some halves. Returns whether that went well.
fn read_halves(core: &Core) -> bool {
    let from = core.transactions.state.lock().halves_read;
    let queue = queue_of(names::HALF);
    let Some((records, next)) = follow::read(core, &queue, from, AT_ONCE) else { return false };
    let mut state = core.transactions.state.lock();
    let done_from = state.done_read;
    for record in &records {
        let half = record.view();
        state.pending.insert(half.queue_offset(), Pending::of(core, &half, done_from));
    }
    state.halves_read = next;
    true
}

/// Reads what is done. Returns whether that went well.
fn read_done(core: &Core) -> bool {
    let from = core.transactions.state.lock().done_read;
    let queue = queue_of(names::HALF_DONE);
    let Some((records, next)) = follow::read(core, &queue, from, AT_ONCE) else { return false };
    // A half comes before its mark in the log, so it is in its queue; it has to be known before
    // the mark is, or it would be pending for ever.
    loop {
        let read = core.transactions.state.lock().halves_read;
        if !read_halves(core) {
            return false;
        }
        if core.transactions.state.lock().halves_read == read {
            break;
        }
    }
    let mut state = core.transactions.state.lock();
    for record in &records {
        // Java marks several with one record.
        let numbers = std::str::from_utf8(record.body()).unwrap_or_default().split(',');
        for number in numbers.filter_map(|number| number.trim().parse().ok()) {
            state.pending.remove(&QueueOffset::new(number));
        }
    }
    state.done_read = next;
    true
}

/// Asks the producers of halves that wait for too long.
fn ask(core: &Arc<Core>) {
    let now = crate::now_millis();
    let due = {
        let mut state = core.transactions.state.lock();
        // What is done may not have been read yet.
        let behind = |topic: &str, read: QueueOffset| {
            core.store.queue_range(&queue_of(topic)).is_some_and(|(_, end)| read < end)
        };
        if behind(names::HALF_DONE, state.done_read) {
            return;
        }
        let is_here = |group: &str| core.clients.a_producer(group, 0).is_some();
        state.next_round(now, core.config.transaction_checks_most, is_here)
    };
    for (number, pending) in due {
        ask_about(core, number, &pending);
    }
}

impl State {
    /// The halves that something is done about now: those that were asked about too often, and
    /// those of producers that are there. Not all at once, but each has its turn.
    fn next_round(
        &mut self,
        now: i64,
        most: u32,
        is_here: impl Fn(&str) -> bool,
    ) -> Vec<(QueueOffset, Pending)> {
        let mut here = HashMap::new();
        let start = self.ask_next;
        let all = self.pending.range(start..).chain(self.pending.range(..start));
        let due = all.filter(|(_, pending)| {
            let mut is_here =
                || *here.entry(&*pending.group).or_insert_with(|| is_here(&pending.group));
            !pending.ending && pending.ask_from <= now && (pending.checks >= most || is_here())
        });
        let due: Vec<_> = due.take(AT_ONCE).map(|(number, p)| (*number, p.clone())).collect();
        self.ask_next = due.last().map_or(start, |(number, _)| number.next());
        due
    }
}

fn ask_about(core: &Arc<Core>, number: QueueOffset, pending: &Pending) {
    let half = match core.store.record_at(pending.at) {
        Ok(half) => half,
        Err(error) if follow::is_lost(&error) => {
            error!(%error, %number, "a half message cannot be read, its transaction is given up");
            core.transactions.ended(number);
            return;
        }
        Err(error) => {
            warn!(%error, %number, "a half message cannot be read now; trying again");
            return;
        }
    };
    if pending.checks >= core.config.transaction_checks_most {
        give_up(core, &half);
        return;
    }
    let view = half.view();
    let turn = core.transactions.turn.fetch_add(1, Ordering::Relaxed);
    // With nobody to ask it is not counted: producers may come back.
    let Some(producer) = core.clients.a_producer(&pending.group, turn) else { return };
    if let Some(pending) = core.transactions.state.lock().pending.get_mut(&number) {
        pending.checks += 1;
    }
    let id = view.unique_key().unwrap_or_default().to_owned();
    let fields = [
        ("tranStateTableOffset", number.to_string().into()),
        ("commitLogOffset", pending.at.to_string().into()),
        ("msgId", id.clone().into()),
        ("transactionId", id.into()),
        ("offsetMsgId", offset_id(view.store_host(), pending.at).into()),
        ("topic", names::HALF.into()),
        ("bname", core.config.name.clone().into()),
    ];
    match with_real_topic(&view) {
        Some(body) => producer.push(request::CHECK_TRANSACTION_STATE, &fields, &body),
        None => warn!(%number, "a half message does not say where it was sent to"),
    }
}

/// The record with the topic that the producer knows, and its queue. Only to be read: checksums
/// of the whole record are not those of these bytes any more.
fn with_real_topic(half: &RecordView<'_>) -> Option<Vec<u8>> {
    let topic = half.property(properties::REAL_TOPIC)?;
    let queue_id: i32 = half.property(properties::REAL_QUEUE)?.parse().ok()?;
    let encoded = String::from_utf8_lossy(half.properties_bytes());
    let properties = properties::without(&encoded, &[]);
    let bytes = half.bytes();
    // Size, magic, checksum, then the queue; topic and properties are the last two parts.
    let topic_at = bytes.len() - half.properties_bytes().len() - 2 - half.topic().len() - 1;
    let mut copy = Vec::with_capacity(bytes.len() + topic.len());
    copy.extend_from_slice(bytes.get(..topic_at)?);
    copy.push(u8::try_from(topic.len()).ok()?);
    copy.extend_from_slice(topic.as_bytes());
    copy.extend_from_slice(&u16::try_from(properties.len()).ok()?.to_be_bytes());
    copy.extend_from_slice(properties.as_bytes());
    let size = (copy.len() as u32).to_be_bytes();
    copy[..4].copy_from_slice(&size);
    copy[12..16].copy_from_slice(&queue_id.to_be_bytes());
    Some(copy)
}

/// Nobody could say what becomes of it: it is set aside, where people can look at it.
fn give_up(core: &Core, half: &Record) {
    let view = half.view();
    let number = view.queue_offset();
    if !core.transactions.take(number) {
        return;
    }
    core.make_topic(TopicConfig::new(names::CHECKED_TOO_OFTEN, 1, perm::READ_WRITE));
    let mut message = again(&view);
    message.topic = names::CHECKED_TOO_OFTEN.to_owned();
    message.queue_id = 0;
    let failed = put_back(core, &view);
    match message.append(core) {
        Ok(_ticket) => {
            error!(%number, "a transaction was asked about too often; its message is in {}",
                names::CHECKED_TOO_OFTEN);
            mark_done(core, number, failed);
        }
        Err(error) => failed(core, error),
    }
}

/// Commits how far both queues need not be read again.
fn remember(core: &Core) {
    let (halves, done) = {
        let state = core.transactions.state.lock();
        match state.pending.first_key_value() {
            None => (state.halves_read, state.done_read),
            Some((number, pending)) => (*number, pending.done_from),
        }
    };
    for (topic, next) in [(names::HALF, halves), (names::HALF_DONE, done)] {
        crate::pull::commit(core, POSITIONS, &queue_of(topic), next.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(group: &str, checks: u32) -> Pending {
        let (at, done_from) = (PhysicalOffset::ZERO, QueueOffset::ZERO);
        Pending { at, ask_from: 10, group: group.into(), checks, done_from, ending: false }
    }

    #[test]
    fn each_half_that_can_be_asked_about_has_its_turn() {
        let mut state = State::default();
        for number in 0..2000 {
            let group = if number % 2 == 0 { "gone" } else { "here" };
            let checks = if number == 1000 { 15 } else { 0 };
            state.pending.insert(QueueOffset::new(number), pending(group, checks));
        }
        assert!(state.next_round(9, 15, |_| true).is_empty());
        let mut asked = Vec::new();
        for _ in 0..4 {
            let round = state.next_round(10, 15, |group| group == "here");
            assert_eq!(round.len(), AT_ONCE);
            asked.extend(round.into_iter().map(|(number, _)| number.get()));
        }
        asked.sort_unstable();
        asked.dedup();
        let expected = (0..2000).filter(|number| number % 2 == 1 || *number == 1000);
        assert_eq!(asked, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_half_that_is_being_ended_is_pending_until_that_is_stored() {
        let transactions = Transactions::default();
        let number = QueueOffset::ZERO;
        {
            let mut state = transactions.state.lock();
            state.pending.insert(number, pending("g", 3));
            state.halves_read = number.next();
        }
        assert!(transactions.take(number) && !transactions.take(number));
        // So where reading goes on after a crash is not past it; but nobody is asked.
        assert_eq!(transactions.state.lock().pending.len(), 1);
        assert!(transactions.state.lock().next_round(10, 15, |_| true).is_empty());
        transactions.put_back(number, pending("g", 0));
        assert_eq!(transactions.state.lock().next_round(10, 15, |_| true)[0].1.checks, 3);
        assert!(transactions.take(number));
        transactions.ended(number);
        assert!(!transactions.take(number) && transactions.state.lock().pending.is_empty());
    }
}
