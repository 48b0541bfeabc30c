//! How far each consumer group came in each queue: `config/consumerOffset.json`.

use std::collections::BTreeMap;

use crate::{
    disk::{self, Disk, FilePath, failed},
    error::{Error, ErrorKind, Result},
    format::offsets_json::{self, DataVersion, OFFSETS_MAX_BYTES, OffsetTable},
    name::{Group, QueueKey},
    offset::{QueueOffset, StoreTime},
    sync::Mutex,
};

#[cfg(test)]
mod tests;

/// The directory of the file.
pub(crate) const CONFIG_DIR: &str = "config";
/// The file.
pub(crate) const FILE: &str = "config/consumerOffset.json";
/// What the file held before the last save.
pub(crate) const BACKUP: &str = "config/consumerOffset.json.bak";
const TEMP: &str = "steadfast/offsets.tmp";
/// Between topic and group in the file.
const SEPARATOR: char = '@';

type Queues = BTreeMap<QueueKey, QueueOffset>;

/// The next offset to consume, for each group and queue.
#[derive(Debug, Default)]
pub(crate) struct ConsumerOffsets {
    state: Mutex<State>,
    /// One save at a time: they share a temporary file.
    saver: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<Group, Queues>,
    /// What the file holds that we cannot name, written back as it was.
    foreign: BTreeMap<String, BTreeMap<i32, i64>>,
    version: DataVersion,
    /// Counts changes, and what of them is saved.
    generation: u64,
    saved: u64,
}

/// A committed offset that was past the end of its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clamped {
    /// The group.
    pub(crate) group: String,
    /// The queue, as `topic/id`.
    pub(crate) queue: String,
    /// What was committed.
    pub(crate) saved: i64,
    /// What holds now: the queue's end.
    pub(crate) now: QueueOffset,
}

/// All offsets as they were at one moment, to be saved.
#[derive(Clone, Debug)]
pub(crate) struct ToSave {
    table: OffsetTable,
    generation: u64,
}

impl ConsumerOffsets {
    /// The offsets on disk: those of the file, or of its backup if the file is missing, empty or
    /// broken; none without both.
    ///
    /// # Errors
    ///
    /// I/O errors. [`Unsupported`](ErrorKind::Unsupported) if there are files and none can be
    /// read: starting from nothing would deliver everything again, and the next save would
    /// destroy what may still be mended.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Self> {
        let mut broken = Vec::new();
        for path in [FILE, BACKUP].map(FilePath::new) {
            match disk::load(disk, &path, OFFSETS_MAX_BYTES as u64)? {
                None => {}
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => match offsets_json::parse(&bytes) {
                    Ok(table) => return Ok(Self::of(table)),
                    Err(e) => broken.push(format!("{path}: {e}")),
                },
            }
        }
        if broken.is_empty() {
            return Ok(Self::default());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("the consumer offsets cannot be read: {}", broken.join("; ")),
        ))
    }

    fn of(table: OffsetTable) -> Self {
        let mut state = State { version: table.data_version, ..State::default() };
        for (key, queues) in table.offsets {
            for (queue_id, offset) in queues {
                match known(&key, queue_id, offset) {
                    Some((group, queue, offset)) => {
                        state.groups.entry(group).or_default().insert(queue, offset);
                    }
                    None => {
                        state.foreign.entry(key.clone()).or_default().insert(queue_id, offset);
                    }
                }
            }
        }
        Self { state: Mutex::new(state), saver: Mutex::default() }
    }

    /// Sets the next offset that `group` consumes in `queue`, forward or back.
    pub(crate) fn commit(&self, group: &Group, queue: &QueueKey, next: QueueOffset) {
        let mut state = self.state.lock();
        let known = state.groups.get_mut(group).and_then(|queues| queues.get_mut(queue));
        match known {
            Some(offset) if *offset == next => return,
            Some(offset) => *offset = next,
            None => {
                let queues = state.groups.entry(group.clone()).or_default();
                queues.insert(queue.clone(), next);
            }
        }
        state.generation += 1;
    }

    /// The next offset that `group` consumes in `queue`, `None` if it never committed one.
    pub(crate) fn get(&self, group: &Group, queue: &QueueKey) -> Option<QueueOffset> {
        self.state.lock().groups.get(group)?.get(queue).copied()
    }

    /// What `group` consumes, sorted by queue.
    pub(crate) fn of_group(&self, group: &Group) -> Vec<(QueueKey, QueueOffset)> {
        let state = self.state.lock();
        let queues = state.groups.get(group).into_iter().flatten();
        queues.map(|(queue, offset)| (queue.clone(), *offset)).collect()
    }

    /// What any group consumes next in any queue.
    pub(crate) fn all(&self) -> Vec<(QueueKey, QueueOffset)> {
        let state = self.state.lock();
        let queues = state.groups.values().flatten();
        queues.map(|(queue, offset)| (queue.clone(), *offset)).collect()
    }

    /// Who consumes `topic`, sorted by group, then by queue.
    pub(crate) fn of_topic(&self, topic: &str) -> Vec<(Group, QueueKey, QueueOffset)> {
        let state = self.state.lock();
        let mut found = Vec::new();
        for (group, queues) in &state.groups {
            for (queue, offset) in queues.iter().filter(|(queue, _)| queue.topic() == topic) {
                found.push((group.clone(), queue.clone(), *offset));
            }
        }
        found
    }

    /// All groups, sorted.
    pub(crate) fn groups(&self) -> Vec<Group> {
        self.state.lock().groups.keys().cloned().collect()
    }

    /// The lowest offset that any group committed in `queue`.
    pub(crate) fn lowest(&self, queue: &QueueKey) -> Option<QueueOffset> {
        self.state.lock().groups.values().filter_map(|queues| queues.get(queue)).min().copied()
    }

    /// Forgets all offsets of `group`. Gives how many.
    pub(crate) fn remove_group(&self, group: &Group) -> usize {
        let mut state = self.state.lock();
        let removed = state.groups.remove(group).map_or(0, |queues| queues.len());
        state.generation += u64::from(removed > 0);
        removed
    }

    /// Forgets all offsets in `topic`. Gives how many.
    pub(crate) fn remove_topic(&self, topic: &str) -> usize {
        let mut state = self.state.lock();
        let mut removed = 0;
        for queues in state.groups.values_mut() {
            let before = queues.len();
            queues.retain(|queue, _| queue.topic() != topic);
            removed += before - queues.len();
        }
        state.groups.retain(|_, queues| !queues.is_empty());
        state.generation += u64::from(removed > 0);
        removed
    }

    /// Pulls offsets past the end of their queue back to it, as the log lost what they counted.
    /// `end_of` gives a queue's end; queues it does not know are left alone.
    pub(crate) fn clamp(&self, end_of: impl Fn(&QueueKey) -> Option<QueueOffset>) -> Vec<Clamped> {
        let mut state = self.state.lock();
        let mut clamped = Vec::new();
        for (group, queues) in &mut state.groups {
            for (queue, offset) in queues {
                if let Some(end) = end_of(queue).filter(|end| *offset > *end) {
                    clamped.push(Clamped {
                        group: group.to_string(),
                        queue: queue.to_string(),
                        // Came from the file or from a commit; both fit what Java can hold.
                        saved: i64::try_from(offset.get()).unwrap_or(i64::MAX),
                        now: end,
                    });
                    *offset = end;
                }
            }
        }
        state.generation += u64::from(!clamped.is_empty());
        clamped
    }

    /// Whether something changed since the last save.
    #[cfg(test)]
    pub(crate) fn is_dirty(&self) -> bool {
        let state = self.state.lock();
        state.generation != state.saved
    }

    /// What is to be saved, `None` if nothing changed. The caller makes the log durable between
    /// this and [`save`](Self::save), so that no saved offset points past the durable log.
    pub(crate) fn to_save(&self) -> Option<ToSave> {
        let state = self.state.lock();
        if state.generation == state.saved {
            return None;
        }
        let mut table = OffsetTable { data_version: state.version, offsets: state.foreign.clone() };
        for (group, queues) in &state.groups {
            // Queues of a topic lie together: one look-up for each topic.
            let mut run: Option<(&str, &mut BTreeMap<i32, i64>)> = None;
            for (queue, offset) in queues {
                let ids = match run.take() {
                    Some((topic, ids)) if topic == queue.topic() => ids,
                    _ => {
                        let key = format!("{}{SEPARATOR}{group}", queue.topic());
                        table.offsets.entry(key).or_default()
                    }
                };
                ids.insert(queue.queue_id(), i64::try_from(offset.get()).unwrap_or(i64::MAX));
                run = Some((queue.topic(), ids));
            }
        }
        Some(ToSave { table, generation: state.generation })
    }

    /// Replaces the file by what `to_save` says, and the backup by what the file held. A crash at
    /// any point leaves at least one of them whole. Durable when this returns.
    ///
    /// # Errors
    ///
    /// I/O errors; the offsets count as changed still.
    pub(crate) fn save(&self, disk: &dyn Disk, to_save: ToSave, now: StoreTime) -> Result<()> {
        let _saver = self.saver.lock();
        let ToSave { mut table, generation } = to_save;
        // Of the last save: another one may have been in between.
        let (version, saved) = {
            let state = self.state.lock();
            (state.version, state.saved)
        };
        if saved >= generation {
            // What it saved is newer, and told to be there: it must not be taken back.
            return Ok(());
        }
        table.data_version = version;
        table.data_version.counter = table.data_version.counter.wrapping_add(1);
        table.data_version.timestamp = now.as_millis();
        let (file, backup, temp) =
            (FilePath::new(FILE), FilePath::new(BACKUP), FilePath::new(TEMP));
        for dir in [file.parent(), temp.parent()] {
            disk.create_dir(&dir).map_err(failed("make the directory", &dir))?;
        }
        match disk::load(disk, &file, OFFSETS_MAX_BYTES as u64)? {
            // The first save: the directory may be new.
            None => disk.sync_dir(&FilePath::ROOT).map_err(failed("sync", &FilePath::ROOT))?,
            // A file that cannot be read must not replace a backup that can.
            Some(old) if offsets_json::parse(&old).is_err() => {}
            Some(old) => disk::replace(disk, &temp, &backup, &old)?,
        }
        disk::replace(disk, &temp, &file, &offsets_json::write(&table))?;
        let mut state = self.state.lock();
        state.version = table.data_version;
        state.saved = state.saved.max(generation);
        Ok(())
    }
}

/// The topic and the group of an entry's name in the file.
pub(crate) fn split(key: &str) -> Option<(&str, &str)> {
    key.rsplit_once(SEPARATOR)
}

/// An entry of the file as we name things, `None` if we cannot.
fn known(key: &str, queue_id: i32, offset: i64) -> Option<(Group, QueueKey, QueueOffset)> {
    let (topic, group) = split(key)?;
    let queue = QueueKey::new(topic, queue_id).ok()?;
    let offset = u64::try_from(offset).ok()?;
    Some((Group::new(group).ok()?, queue, QueueOffset::new(offset)))
}
