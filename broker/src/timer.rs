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
use steadfast::{ErrorKind, QueueKey, QueueOffset, ReadLimit};
use tracing::{error, warn};

use crate::{
    broker::Core,
    delay::real,
    files,
    follow::{self, PAUSE, arrived, queue_of},
    names, properties,
    put::Outgoing,
};

const DELIVER_AT: &str = "TIMER_DELIVER_MS";
const DELAY_MILLIS: &str = "TIMER_DELAY_MS";
const DELAY_SECONDS: &str = "TIMER_DELAY_SEC";
/// When a waiting message is due.
const DUE: &str = "TIMER_OUT_MS";
/// No message waits longer. As in RocketMQ.
const LONGEST: i64 = 3 * 86_400_000;
/// So many are read or delivered at once.
const AT_ONCE: usize = 256;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reached {
    /// Of the messages before `read` those due until then are delivered.
    until: i64,
    /// The queue was read up to here.
    read: u64,
    /// Before it nothing is pending.
    from: u64,
}

#[derive(Debug)]
struct State {
    /// When each is due, and where it is.
    pending: BTreeSet<(i64, u64)>,
    read: u64,
    until: i64,
}

/// The messages of one broker that wait for their time.
#[derive(Debug)]
pub(crate) struct Timers {
    path: PathBuf,
    /// What the file said when we started.
    before: Reached,
    state: Mutex<State>,
    saved: Mutex<Reached>,
}

impl Timers {
    /// As the store in `data` tells.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("config/steadfastTimer.json");
        let way_out = ": without it all messages with a time that are still \
                       stored are delivered once more";
        let before: Reached = files::load_json(&path, way_out)?;
        let state = State { pending: BTreeSet::new(), read: before.from, until: before.until };
        Ok(Self { path, saved: Mutex::new(before.clone()), before, state: Mutex::new(state) })
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
            let from = state.pending.iter().map(|(_, at)| *at).min().unwrap_or(state.read);
            Reached { until: state.until, read: state.read, from }
        };
        let mut saved = self.saved.lock();
        if (saved.read, saved.from) == (reached.read, reached.from) {
            return Ok(());
        }
        // First what was delivered, then that it was: a crash in between delivers it again.
        core.store.flush().map_err(io::Error::other)?;
        files::replace(&self.path, &serde_json::to_vec_pretty(&reached)?)?;
        *saved = reached;
        Ok(())
    }
}

/// Reads what is to wait and delivers what is due, until it is told to stop.
pub(crate) async fn run(core: Arc<Core>) {
    let queue = queue_of(names::TIMER);
    loop {
        let (read, first) = {
            let state = core.timers.state.lock();
            (QueueOffset::new(state.read), state.pending.first().map(|(due, _)| *due))
        };
        let now = crate::now_millis();
        if first.is_some_and(|due| due <= now) {
            let stopped = tokio::select! {
                delivered = deliver(&core, &queue, now) => {
                    if !delivered {
                        tokio::time::sleep(PAUSE).await;
                    }
                    false
                }
                () = core.stop.stopped() => true,
            };
            if stopped {
                return;
            }
            continue;
        }
        let wait = first.map_or(Duration::from_secs(3600), |due| {
            Duration::from_millis((due - now).max(0) as u64)
        });
        tokio::select! {
            () = arrived(&core, &queue, read) => read_some(&core, &queue, read),
            () = tokio::time::sleep(wait) => {}
            () = core.stop.stopped() => return,
        }
    }
}

fn read_some(core: &Core, queue: &QueueKey, from: QueueOffset) {
    let Some((records, next)) = follow::read(core, queue, from, AT_ONCE) else { return };
    let due = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let found = records.iter().map(|record| {
        let record = record.view();
        (due(record.property(DUE)), record.queue_offset().get())
    });
    let before = &core.timers.before;
    let delivered = |due: i64, at: u64| at < before.read && due <= before.until;
    let mut state = core.timers.state.lock();
    state.pending.extend(found.filter(|(due, at)| !delivered(*due, *at)));
    state.read = next.get();
}

/// Delivers some of what is due by `now`. Returns whether that went well.
async fn deliver(core: &Arc<Core>, queue: &QueueKey, now: i64) -> bool {
    let due: Vec<_> = {
        let state = core.timers.state.lock();
        state.pending.iter().take_while(|(due, _)| *due <= now).take(AT_ONCE).copied().collect()
    };
    let mut tickets = Vec::new();
    for (time, at) in &due {
        let read = core.store.read(queue, QueueOffset::new(*at), ReadLimit::records(1));
        let appended = match &read {
            Ok(batch) => batch.iter().next().map(|record| {
                let mut message = real(&record);
                message.properties = properties::without(&message.properties, &[DUE]);
                message.append(core)
            }),
            Err(e) if e.kind() == ErrorKind::Io => return false,
            Err(e) => {
                error!(error = %e, offset = at, "a message with a time cannot be read");
                None
            }
        };
        match appended.transpose() {
            Ok(ticket) => tickets.push((*time, *at, ticket)),
            Err(error) => {
                warn!(%error, "a message cannot be delivered at its time; trying again");
                break;
            }
        }
    }
    let all = tickets.len() == due.len();
    for (time, at, ticket) in tickets {
        if let Some(ticket) = ticket
            && let Err(error) = ticket.await
        {
            warn!(%error, "a message was not stored at its time; trying again");
            return false;
        }
        core.timers.state.lock().pending.remove(&(time, at));
    }
    let mut state = core.timers.state.lock();
    if all && state.pending.first().is_none_or(|(due, _)| *due > now) {
        state.until = state.until.max(now);
    }
    all
}
