//! Delayed messages: each level has a queue in which they wait, and leave in order.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steadfast::{QueueKey, QueueOffset, RecordView};
use tracing::warn;

use crate::{
    back::again,
    broker::Core,
    files,
    follow::{self, PAUSE, arrived},
    names,
    namesrv::data::DataVersion,
    properties,
    put::Outgoing,
};

/// So many leave at once.
const AT_ONCE: usize = 64;

/// `config/delayOffset.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Table {
    data_version: DataVersion,
    offset_table: BTreeMap<String, u64>,
}

/// How far each level's queue was delivered.
#[derive(Debug)]
pub(crate) struct Progress {
    path: PathBuf,
    delivered: Mutex<BTreeMap<usize, u64>>,
    saved: Mutex<BTreeMap<usize, u64>>,
}

impl Progress {
    /// As the store in `data` tells.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("config/delayOffset.json");
        let way_out = ": without it every delayed message that is still stored \
                       is delivered once more";
        let table: Table = files::load_json(&path, way_out)?;
        let levels = table
            .offset_table
            .iter()
            .filter_map(|(level, offset)| level.parse().ok().map(|level: usize| (level, *offset)));
        let delivered: BTreeMap<_, _> = levels.collect();
        Ok(Self { path, saved: Mutex::new(delivered.clone()), delivered: Mutex::new(delivered) })
    }

    fn of(&self, level: usize) -> QueueOffset {
        QueueOffset::new(self.delivered.lock().get(&level).copied().unwrap_or(0))
    }

    fn set(&self, level: usize, next: QueueOffset) {
        self.delivered.lock().insert(level, next.get());
    }

    /// Makes durable how far it got, if that is further than before.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written, or why the store cannot be flushed.
    pub(crate) fn save(&self, core: &Core) -> io::Result<()> {
        let delivered = self.delivered.lock().clone();
        if *self.saved.lock() == delivered {
            return Ok(());
        }
        // First what was delivered, then that it was: a crash in between delivers it again.
        core.store.flush().map_err(io::Error::other)?;
        let table = Table {
            data_version: DataVersion { timestamp: crate::now_millis(), ..DataVersion::default() },
            offset_table: delivered.iter().map(|(level, at)| (level.to_string(), *at)).collect(),
        };
        files::replace(&self.path, &serde_json::to_vec_pretty(&table)?)?;
        *self.saved.lock() = delivered;
        Ok(())
    }
}

/// Delivers the messages of one level (from 1 on) when they are due, until it is told to stop.
pub(crate) async fn deliver(core: Arc<Core>, level: usize, delay: Duration) {
    let Ok(queue) = QueueKey::new(names::SCHEDULE, level as i32 - 1) else { return };
    let mut next = core.delays.of(level);
    loop {
        let stopped = tokio::select! {
            step = deliver_some(&core, &queue, delay, next) => {
                if step > next {
                    next = step;
                    core.delays.set(level, next);
                }
                false
            }
            () = core.stop.stopped() => true,
        };
        if stopped {
            return;
        }
    }
}

/// Delivers what is due from `next` on, or waits for it. Returns where to go on.
async fn deliver_some(
    core: &Arc<Core>,
    queue: &QueueKey,
    delay: Duration,
    next: QueueOffset,
) -> QueueOffset {
    let (min, end) = core.store.queue_range(queue).unwrap_or_default();
    let next = next.max(min);
    if next >= end {
        let next = next.min(end);
        arrived(core, queue, next).await;
        return next;
    }
    let Some((records, later)) = follow::read(core, queue, next, AT_ONCE) else {
        tokio::time::sleep(PAUSE).await;
        return next;
    };
    if records.is_empty() {
        // Damaged places.
        return later.max(next.next());
    }
    let now = crate::now_millis();
    let mut tickets = Vec::new();
    let mut delivered = next;
    for record in &records {
        let record = record.view();
        let due = record.store_time().as_millis().saturating_add(delay.as_millis() as i64);
        if due > now && tickets.is_empty() {
            // A clock that was set back must not hold messages for ever.
            let wait = Duration::from_millis((due - now) as u64).min(delay);
            tokio::time::sleep(wait).await;
            return next;
        }
        if due > now {
            break;
        }
        match real(&record).append(core) {
            Ok(ticket) => tickets.push(ticket),
            Err(e) => {
                warn!(error = %e, %queue, "a delayed message cannot be delivered; trying again");
                break;
            }
        }
        delivered = record.queue_offset().next();
    }
    if tickets.is_empty() {
        tokio::time::sleep(PAUSE).await;
        return next;
    }
    for ticket in tickets {
        if let Err(e) = ticket.await {
            warn!(error = %e, %queue, "a delayed message was not stored; trying again");
            tokio::time::sleep(PAUSE).await;
            return next;
        }
    }
    delivered
}

/// The message as it was sent, for where it was sent to.
pub(crate) fn real(record: &RecordView<'_>) -> Outgoing {
    let mut message = again(record);
    message.properties = properties::without(&message.properties, &[properties::DELAY]);
    if let Some(topic) = record.property(properties::REAL_TOPIC) {
        message.topic = topic.to_owned();
    }
    message.queue_id = record
        .property(properties::REAL_QUEUE)
        .and_then(|id| id.parse().ok())
        .filter(|id: &i32| *id >= 0)
        .unwrap_or(0);
    message
}
