//! Delayed messages: each level has a queue in which they wait, and leave in order.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steadfast::{QueueKey, QueueOffset, Store, StoreTime};
use tracing::warn;

use crate::{
    BrokerConfig,
    broker::Core,
    config::default_levels,
    deliver::{deliver, real, settle},
    files,
    follow::{self, PAUSE, Then},
    names,
    namesrv::data::DataVersion,
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
    levels: BTreeMap<usize, Duration>,
    delivered: Mutex<BTreeMap<usize, u64>>,
    saved: Mutex<BTreeMap<usize, u64>>,
}

impl Progress {
    /// As the `store` in the configured directory tells.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(config: &BrokerConfig, store: &Store) -> io::Result<Self> {
        let path = config.data.join("config/delayOffset.json");
        let way_out = ": without it every delayed message that is still stored \
                       is delivered once more";
        let table: Table = files::load_json(&path, way_out)?;
        let saved: BTreeMap<_, _> = table
            .offset_table
            .iter()
            .filter_map(|(level, offset)| level.parse().ok().map(|level: usize| (level, *offset)))
            .collect();
        let levels = levels(&config.delay_levels, store);
        let mut delivered = saved.clone();
        for (level, delay) in &levels {
            let queue = queue_of_level(*level).map_err(io::Error::other)?;
            let (_, end) = store.queue_range(&queue).unwrap_or_default();
            // What the file says of another store's queue must not skip what is in this one.
            let next = delivered.entry(*level).or_insert(0);
            *next = end.get().min(*next);
            if *level > config.delay_levels.len() && *next < end.get() {
                warn!(level, ?delay, "messages wait on a level that is no more");
            }
        }
        Ok(Self { path, levels, saved: Mutex::new(saved), delivered: Mutex::new(delivered) })
    }

    /// The levels, and how long their messages wait.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.levels.iter().map(|(level, delay)| (*level, *delay))
    }

    /// The queues of all levels, and the first message of each that is not delivered.
    pub(crate) fn waiting(&self) -> Vec<(QueueKey, QueueOffset)> {
        let queue = |level| queue_of_level(level).ok().map(|queue| (queue, self.of(level)));
        self.levels.keys().filter_map(|level| queue(*level)).collect()
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

/// The levels, from 1 on, and how long their messages wait. Also those that the settings no longer
/// have but that messages were sent to: as long as RocketMQ's level of that number, or as the last
/// one that there is.
fn levels(configured: &[Duration], store: &Store) -> BTreeMap<usize, Duration> {
    let usual = default_levels();
    let known = configured.iter().copied().enumerate();
    let mut levels: BTreeMap<_, _> = known.map(|(index, delay)| (index + 1, delay)).collect();
    for queue in store.queues().iter().filter(|queue| queue.topic() == names::SCHEDULE) {
        let index = queue.queue_id() as usize;
        if let Some(delay) = usual.get(index).or(configured.last()) {
            levels.entry(index + 1).or_insert(*delay);
        }
    }
    levels
}

fn queue_of_level(level: usize) -> steadfast::Result<QueueKey> {
    QueueKey::new(names::SCHEDULE, level as i32 - 1)
}

/// One level's queue.
struct Level {
    queue: QueueKey,
    delay: Duration,
    /// The messages before that offset were there `delay` before that moment, whatever the clock
    /// says that was set back since.
    held: Option<(QueueOffset, Instant)>,
}

/// Delivers the messages of one level (from 1 on) when they are due, until it is told to stop.
pub(crate) async fn run(core: Arc<Core>, level: usize, delay: Duration) {
    let Ok(queue) = queue_of_level(level) else { return };
    let mut next = core.delays.of(level);
    let mut level_queue = Level { queue, delay, held: None };
    loop {
        let (reached, then) = deliver_some(&core, &mut level_queue, next).await;
        if reached != next {
            next = reached;
            core.delays.set(level, next);
        }
        if !follow::wait(&core, &level_queue.queue, then).await {
            return;
        }
    }
}

/// Delivers what is due from `next` on. Returns how far that got, and what is to be done then.
async fn deliver_some(
    core: &Arc<Core>,
    level: &mut Level,
    next: QueueOffset,
) -> (QueueOffset, Then) {
    let (min, end) = core.store.queue_range(&level.queue).unwrap_or_default();
    let mut next = next.max(min);
    if next >= end {
        return (next, Then::Arrival(next, Duration::from_secs(3600)));
    }
    let Some((records, later)) = follow::read(core, &level.queue, next, AT_ONCE) else {
        return (next, Then::Pause(PAUSE));
    };
    if records.is_empty() {
        // Damaged places.
        return (later, Then::GoOn);
    }
    let mut then = Then::GoOn;
    let mut appended = Vec::new();
    for record in &records {
        let record = record.view();
        let offset = record.queue_offset();
        let wait = level.wait(offset, record.store_time(), end);
        if !wait.is_zero() {
            then = Then::Pause(wait);
            break;
        }
        match deliver(core, &real(&record), &level.queue, offset) {
            Ok(ticket) => appended.push((offset, ticket)),
            Err(error) => {
                warn!(%error, queue = %level.queue, %offset, "not delivered now; trying again");
                then = Then::Pause(PAUSE);
                break;
            }
        }
    }
    if let Err(error) = settle(appended, |offset: QueueOffset| next = offset.next()).await {
        warn!(%error, queue = %level.queue, offset = %next, "not stored; trying again");
        then = Then::Pause(PAUSE);
    }
    (next, then)
}

impl Level {
    /// How long the message at `offset` has to wait still, of a queue that ends at `end`.
    fn wait(&mut self, offset: QueueOffset, stored: StoreTime, end: QueueOffset) -> Duration {
        let waited = crate::now_millis().saturating_sub(stored.as_millis());
        if let Ok(waited) = u64::try_from(waited) {
            return self.delay.saturating_sub(Duration::from_millis(waited));
        }
        // It was stored in the future: the clock was set back, and must not hold it for ever.
        let now = Instant::now();
        if self.held.is_none_or(|(before, _)| offset >= before) {
            self.held = Some((end, now + self.delay));
        }
        self.held.map_or(self.delay, |(_, due)| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_holds_no_message_longer_than_its_level() {
        let queue = QueueKey::new(names::SCHEDULE, 0).unwrap();
        let delay = Duration::from_secs(3600);
        let mut level = Level { queue, delay, held: None };
        let at = QueueOffset::new;
        let ago = |millis| StoreTime::from_millis(crate::now_millis() - millis);
        assert_eq!(level.wait(at(0), ago(3_600_000), at(9)), Duration::ZERO);
        assert!(level.wait(at(0), ago(1_000_000), at(9)) <= Duration::from_secs(2600));
        // Ten hours ahead: an hour from now, all that are there.
        let ahead = ago(-36_000_000);
        assert!(level.wait(at(3), ahead, at(5)) <= delay);
        assert_eq!(level.held.map(|(before, _)| before), Some(at(5)));
        level.held = Some((at(5), Instant::now()));
        for offset in [3, 4] {
            assert_eq!(level.wait(at(offset), ahead, at(9)), Duration::ZERO);
        }
        assert!(level.wait(at(5), ahead, at(9)) > Duration::ZERO);
    }
}
