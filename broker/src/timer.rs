//! Messages for any time within three days. They wait in a queue of their own; what is pending is
//! in memory, and read from that queue again after a restart.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steadfast::{Error, ErrorKind, QueueKey, QueueOffset, ReadLimit, Store, Ticket};
use tracing::{error, warn};

use crate::{
    broker::Core,
    deliver::{deliver, real, settle},
    files,
    follow::{self, PAUSE, Then, queue_of},
    names, properties,
    put::Outgoing,
    timercheck::{self, Check},
};

const DELIVER_AT: &str = "TIMER_DELIVER_MS";
const DELAY_MILLIS: &str = "TIMER_DELAY_MS";
const DELAY_SECONDS: &str = "TIMER_DELAY_SEC";
/// When a waiting message is due.
const DUE: &str = "TIMER_OUT_MS";
/// No message waits longer. As in RocketMQ.
const LONGEST: i64 = 3 * 86_400_000;
const FILE: &str = "config/steadfastTimer.json";
/// So many are read or delivered at once.
const AT_ONCE: usize = 256;
/// How often the clock is looked at: it may be set.
const LOOK: Duration = Duration::from_secs(1);

/// Lets a message wait, if it is for a later time.
///
/// # Errors
///
/// Why it cannot be for that time.
pub(crate) fn set(message: &mut Outgoing) -> Result<(), String> {
    let now = crate::now_millis();
    let said = |name: &str| properties::get(&message.properties, name).map(str::to_owned);
    let (name, text, due) = if let Some(text) = said(DELAY_SECONDS) {
        let due = text.parse::<i64>().ok().and_then(|n| n.checked_mul(1000)?.checked_add(now));
        (DELAY_SECONDS, text, due)
    } else if let Some(text) = said(DELAY_MILLIS) {
        let due = text.parse::<i64>().ok().and_then(|n| n.checked_add(now));
        (DELAY_MILLIS, text, due)
    } else if let Some(text) = said(DELIVER_AT) {
        let due = text.parse::<i64>().ok();
        (DELIVER_AT, text, due)
    } else {
        return Ok(());
    };
    let Some(due) = due.filter(|due| due.saturating_sub(now) <= LONGEST) else {
        return Err(format!("{name} is {text}; a message can wait for at most {LONGEST} ms"));
    };
    if due > now {
        properties::set(&mut message.properties, DUE, &due.to_string());
        message.divert(names::TIMER, 0);
    }
    Ok(())
}

/// How far delivering got, as it is kept in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reached {
    /// Of the messages before `read` those due until then are delivered.
    until: i64,
    /// The queue was read up to here.
    read: u64,
    /// Before it nothing is pending.
    from: u64,
}

#[derive(Debug, Default)]
struct State {
    /// When each is due, and where it is.
    pending: BTreeSet<(i64, u64)>,
    read: u64,
}

impl State {
    /// What may be remembered. All that was read and is not pending is delivered, whatever the
    /// clock says: so it is the first that is pending that tells until when.
    fn reached(&self) -> Reached {
        let until = self.pending.first().map_or(0, |(due, _)| due.saturating_sub(1));
        let from = self.pending.iter().map(|(_, at)| *at).min().unwrap_or(self.read);
        Reached { until, read: self.read, from }
    }

    /// Takes in what was read, up to `next`, but for what was delivered `before`.
    fn take_in(&mut self, before: &Reached, found: &[(i64, u64)], next: u64) {
        let delivered = |due: i64, at: u64| at < before.read && due <= before.until;
        self.pending.extend(found.iter().filter(|(due, at)| !delivered(*due, *at)));
        self.read = next;
    }
}

/// What is in the file: also what RocketMQ's own was last given, to see whether it ran since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Saved {
    #[serde(flatten)]
    reached: Reached,
    check_time: i64,
}

impl Saved {
    /// How far delivering got when a file says this, and RocketMQ's own that.
    fn with(self, check: Option<Check>) -> Reached {
        let ours = Check { time: self.check_time, queue: self.reached.from };
        match check {
            Some(theirs) if theirs != ours => Reached {
                until: theirs.time.saturating_sub(1),
                read: theirs.queue,
                from: self.reached.from.min(theirs.queue),
            },
            _ => self.reached,
        }
    }
}

/// The messages of one broker that wait for their time.
#[derive(Debug)]
pub(crate) struct Timers {
    data: PathBuf,
    /// What was known when we started.
    before: Reached,
    state: Mutex<State>,
    saved: Mutex<Reached>,
}

impl Timers {
    /// As the `store` in `data` tells.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(data: &Path, store: &Store) -> io::Result<Self> {
        let way_out = ": without it all messages with a time that are still \
                       stored are delivered once more";
        let saved: Saved = files::load_json(&data.join(FILE), way_out)?;
        let mut before = saved.with(timercheck::read(data)?);
        // What the file says of another store's queue must not skip what is in this one.
        let (_, end) = store.queue_range(&queue_of(names::TIMER)).unwrap_or_default();
        before.read = before.read.min(end.get());
        before.from = before.from.min(before.read);
        if before != saved.reached {
            write(data, before)?;
        }
        let state = State { read: before.from, ..State::default() };
        let data = data.to_owned();
        Ok(Self { data, saved: Mutex::new(before), before, state: Mutex::new(state) })
    }

    /// The queue, and the first message in it that is not delivered.
    pub(crate) fn waiting(&self) -> (QueueKey, QueueOffset) {
        (queue_of(names::TIMER), QueueOffset::new(self.state.lock().reached().from))
    }

    /// Makes durable how far it got, if that is further than before.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written, or why the store cannot be flushed.
    pub(crate) fn save(&self, core: &Core) -> io::Result<()> {
        let reached = {
            let state = self.state.lock();
            if state.read < self.before.read {
                // What was pending before is still being read.
                return Ok(());
            }
            state.reached()
        };
        let mut saved = self.saved.lock();
        if *saved == reached {
            return Ok(());
        }
        // First what was delivered, then that it was: a crash in between delivers it again.
        core.store.flush().map_err(io::Error::other)?;
        write(&self.data, reached)?;
        *saved = reached;
        Ok(())
    }
}

/// Says in both files how far delivering got. Ours comes first: if a crash leaves only that, the
/// other one is taken for RocketMQ's, and is one that was true before.
fn write(data: &Path, reached: Reached) -> io::Result<()> {
    // What is due is delivered by RocketMQ as soon as it meets it in the queue.
    let check_time = crate::now_millis() / 1000 * 1000;
    let saved = Saved { reached, check_time };
    files::replace(&data.join(FILE), &serde_json::to_vec_pretty(&saved)?)?;
    timercheck::write(data, Check { time: check_time, queue: reached.from })
}

/// Reads what is to wait and delivers what is due, until it is told to stop.
pub(crate) async fn run(core: Arc<Core>) {
    let queue = queue_of(names::TIMER);
    loop {
        let then = step(&core, &queue).await;
        if !follow::wait(&core, &queue, then).await {
            return;
        }
    }
}

async fn step(core: &Arc<Core>, queue: &QueueKey) -> Then {
    let (read, first) = {
        let state = core.timers.state.lock();
        (state.read, state.pending.first().map(|(due, _)| *due))
    };
    // Until all that was read before is known again, how far delivering gets cannot be saved.
    let behind = read < core.timers.before.read;
    if behind && read_some(core, queue) {
        return Then::GoOn;
    }
    let now = crate::now_millis();
    if first.is_some_and(|due| due <= now) {
        return if deliver_due(core, queue, now).await { Then::GoOn } else { Then::Pause(PAUSE) };
    }
    let (_, end) = core.store.queue_range(queue).unwrap_or_default();
    if read < end.get() {
        let well = !behind && read_some(core, queue);
        return if well { Then::GoOn } else { Then::Pause(PAUSE) };
    }
    let wait = first.map_or(LOOK, |due| Duration::from_millis((due - now) as u64).min(LOOK));
    Then::Arrival(QueueOffset::new(read), wait)
}

/// Reads some of what is to wait. Returns whether that went well.
fn read_some(core: &Core, queue: &QueueKey) -> bool {
    let from = QueueOffset::new(core.timers.state.lock().read);
    let Some((records, next)) = follow::read(core, queue, from, AT_ONCE) else { return false };
    let due = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0_i64).max(0);
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            let record = record.view();
            (due(record.property(DUE)), record.queue_offset().get())
        })
        .collect();
    core.timers.state.lock().take_in(&core.timers.before, &found, next.get());
    true
}

/// Delivers some of what is due by `now`. Returns whether that went well.
async fn deliver_due(core: &Arc<Core>, queue: &QueueKey, now: i64) -> bool {
    let due: Vec<_> = {
        let state = core.timers.state.lock();
        state.pending.iter().take_while(|(due, _)| *due <= now).take(AT_ONCE).copied().collect()
    };
    let all = due.len();
    let mut appended = Vec::with_capacity(all);
    for (time, at) in due {
        match deliver_one(core, queue, QueueOffset::new(at)) {
            Ok(ticket) => appended.push(((time, at), ticket)),
            Err(error) => {
                warn!(%error, offset = at, "not delivered at its time; trying again");
                break;
            }
        }
    }
    let well = appended.len() == all;
    let delivered = |one| {
        core.timers.state.lock().pending.remove(&one);
    };
    if let Err(error) = settle(appended, delivered).await {
        warn!(%error, "a message was not stored at its time; trying again");
        return false;
    }
    well
}

/// Appends the message that waits at `offset`. `None` if it can never be delivered.
fn deliver_one(
    core: &Core,
    queue: &QueueKey,
    offset: QueueOffset,
) -> steadfast::Result<Option<Ticket>> {
    let batch = match core.store.read(queue, offset, ReadLimit::records(1)) {
        Ok(batch) => batch,
        Err(error) if follow::is_lost(&error) => {
            error!(%error, %offset, "a message with a time cannot be read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let Some(record) = batch.iter().next() else {
        return Err(Error::new(ErrorKind::Busy, "the message is not readable yet"));
    };
    let mut message = real(&record);
    message.properties = properties::without(&message.properties, &[DUE]);
    deliver(core, &message, queue, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is delivered again after a crash, of messages that wait until these times.
    fn pending_after(reached: &Reached, all: &[(i64, u64)]) -> Vec<u64> {
        let mut state = State { read: reached.from, ..State::default() };
        let found: Vec<_> = all.iter().filter(|(_, at)| *at >= reached.from).copied().collect();
        state.take_in(reached, &found, all.len() as u64);
        let mut pending: Vec<_> = state.pending.iter().map(|(_, at)| *at).collect();
        pending.sort_unstable();
        pending
    }

    #[test]
    fn what_is_saved_at_any_moment_skips_nothing_that_is_pending() {
        let all = [(50, 0), (10, 1), (30, 2), (30, 3), (20, 4), (0, 5), (0, 6)];
        // Each set of them may be pending, for clocks step back and messages are read late.
        for read in 0..=all.len() {
            for set in 0..1_u32 << read {
                let is_pending = |at: &u64| set >> at & 1 == 1;
                let pending = all[..read].iter().filter(|(_, at)| is_pending(at)).copied();
                let state = State { pending: pending.collect(), read: read as u64 };
                let reached = state.reached();
                let after = pending_after(&reached, &all);
                let needed = (0..all.len() as u64).filter(|at| is_pending(at) || *at >= state.read);
                for at in needed {
                    assert!(after.contains(&at), "{at} is lost: {state:?} {reached:?}");
                }
            }
        }
    }

    #[test]
    fn where_the_other_broker_ran_since_its_note_counts() {
        let reached = Reached { until: 49, read: 10, from: 4 };
        let saved = Saved { reached, check_time: 7000 };
        assert_eq!(saved.with(None), reached);
        assert_eq!(saved.with(Some(Check { time: 7000, queue: 4 })), reached);
        let theirs = Check { time: 9000, queue: 30 };
        assert_eq!(saved.with(Some(theirs)), Reached { until: 8999, read: 30, from: 4 });
        let first = Saved::default().with(Some(theirs));
        assert_eq!(first, Reached { until: 8999, read: 30, from: 0 });
    }

    #[test]
    fn what_was_delivered_before_its_time_order_broke_is_not_repeated() {
        let all = [(50, 0), (10, 1), (30, 2), (20, 3)];
        let state = State { pending: [(50, 0)].into(), read: 4 };
        let reached = state.reached();
        assert_eq!(reached, Reached { until: 49, read: 4, from: 0 });
        assert_eq!(pending_after(&reached, &all), [0]);
    }
}
