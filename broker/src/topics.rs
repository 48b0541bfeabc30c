//! The topics of a broker and what may be done with them, in `config/topics.json`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use steadfast::{PhysicalOffset, QueueOffset, Store};

use crate::{
    files::{self, Saver},
    limits::{QUEUES_MOST, TOPICS_MOST},
    names,
    namesrv::data::{DataVersion, TopicConfig, TopicTable, perm},
};

/// The topics that each broker has, by name and number of queues.
const OWN: [(&str, i32); 5] = [
    ("SELF_TEST_TOPIC", 1),
    ("OFFSET_MOVED_EVENT", 1),
    ("BenchmarkTest", 1024),
    (names::HALF, 1),
    (names::HALF_DONE, 1),
];

/// No topic has more queues.
const QUEUES_OF_ONE_MOST: i32 = 65_536;

/// All topics of one broker.
#[derive(Debug)]
pub(crate) struct Topics {
    table: RwLock<Table>,
    version: Mutex<DataVersion>,
    file: Saver,
}

/// All topics by name, and how many queues they have together.
#[derive(Debug, Default)]
struct Table {
    topics: HashMap<String, TopicConfig>,
    queues: usize,
    /// Topics that were deleted while they had messages, and how far the log had got.
    deleted: BTreeMap<String, u64>,
}

/// The file: RocketMQ's, and one member that it passes by.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OnDisk {
    #[serde(flatten)]
    topics: TopicTable,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    steadfast_deleted: BTreeMap<String, u64>,
}

fn queues_of(topic: &TopicConfig) -> usize {
    topic.read_queue_nums.max(topic.write_queue_nums).max(0) as usize
}

impl Table {
    fn of(topics: impl IntoIterator<Item = (String, TopicConfig)>) -> Self {
        let topics: HashMap<_, _> = topics.into_iter().collect();
        let queues = topics.values().map(queues_of).sum();
        Self { topics, queues, deleted: BTreeMap::new() }
    }

    /// Why there is no room for a topic that a client wants, if so. What is there already, and
    /// what the broker needs for itself, is never refused.
    fn check_room(&self, new: Option<&TopicConfig>) -> Result<(), String> {
        let old = new.and_then(|new| self.topics.get(&new.topic_name));
        if old.is_none() && self.topics.len() >= TOPICS_MOST {
            return Err(format!("there are {} topics, at most {TOPICS_MOST}", self.topics.len()));
        }
        let others = self.queues.saturating_sub(old.map_or(0, queues_of));
        let queues = others.saturating_add(new.map_or(1, queues_of));
        if queues > QUEUES_MOST && queues > self.queues {
            let why = format!("all topics would have {queues} queues, at most {QUEUES_MOST}");
            return Err(why);
        }
        Ok(())
    }

    fn sorted(&self) -> BTreeMap<String, TopicConfig> {
        self.topics.iter().map(|(name, topic)| (name.clone(), topic.clone())).collect()
    }

    fn insert(&mut self, topic: TopicConfig) {
        let more = queues_of(&topic);
        self.deleted.remove(&topic.topic_name);
        let old = self.topics.insert(topic.topic_name.clone(), topic);
        let less = old.as_ref().map_or(0, queues_of);
        self.queues = self.queues.saturating_add(more).saturating_sub(less);
    }
}

/// What a broker makes topics from that do not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creating<'a> {
    /// The topic to be like.
    pub(crate) like: &'a str,
    /// How many queues the sender would like.
    pub(crate) queues: i32,
}

impl Topics {
    /// The topics of the store in `data`, and those that each broker has.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(data: &Path, own: &[TopicConfig]) -> io::Result<Self> {
        let path = data.join("config/topics.json");
        let way_out = ", or remove it: topics with messages are found again";
        let on_disk: OnDisk = files::load_json(&path, way_out)?;
        let version = on_disk.topics.data_version;
        let mut table = Table::of(on_disk.topics.topic_config_table);
        table.deleted = on_disk.steadfast_deleted;
        let topics = Self {
            table: RwLock::new(table),
            version: Mutex::new(version),
            file: Saver::new(path),
        };
        let fixed = OWN.map(|(name, queues)| TopicConfig::new(name, queues, perm::READ_WRITE));
        for topic in own.iter().chain(&fixed) {
            topics.add_missing(topic.clone());
        }
        Ok(topics)
    }

    /// The topic with that name.
    pub(crate) fn get(&self, name: &str) -> Option<TopicConfig> {
        self.table.read().topics.get(name).cloned()
    }

    /// What may be done with a topic, and its numbers of read and write queues.
    pub(crate) fn shape(&self, name: &str) -> Option<(i32, i32, i32)> {
        let table = self.table.read();
        table.topics.get(name).map(|t| (t.perm, t.read_queue_nums, t.write_queue_nums))
    }

    /// Why a client cannot bring in one more, if so.
    pub(crate) fn check_room(&self) -> Result<(), String> {
        self.table.read().check_room(None)
    }

    /// Whether others may be made like it.
    pub(crate) fn inherits(&self, name: &str) -> bool {
        let table = self.table.read();
        table.topics.get(name).is_some_and(|topic| topic.perm & perm::INHERIT != 0)
    }

    /// Makes a topic because somebody sends to it. Returns it and whether it is new; `None` if
    /// there is nothing it may be made like.
    ///
    /// # Errors
    ///
    /// Why there cannot be one more.
    pub(crate) fn create_by_send(
        &self,
        name: &str,
        creating: Creating<'_>,
    ) -> Result<Option<(TopicConfig, bool)>, String> {
        let mut table = self.table.write();
        if let Some(found) = table.topics.get(name) {
            return Ok(Some((found.clone(), false)));
        }
        let like = table.topics.get(creating.like);
        let Some(like) = like.filter(|like| like.perm & perm::INHERIT != 0) else {
            return Ok(None);
        };
        let queues = creating.queues.min(like.write_queue_nums).max(1);
        let mut made = TopicConfig::new(name, queues, like.perm & !perm::INHERIT);
        made.topic_sys_flag = like.topic_sys_flag;
        table.check_room(Some(&made))?;
        table.insert(made.clone());
        drop(table);
        self.count_change();
        Ok(Some((made, true)))
    }

    /// Takes a topic in unless there is one with its name. Returns whether it did.
    pub(crate) fn add_missing(&self, topic: TopicConfig) -> bool {
        let mut table = self.table.write();
        if table.topics.contains_key(&topic.topic_name) {
            return false;
        }
        table.insert(topic);
        drop(table);
        self.count_change();
        true
    }

    /// Sees to it that there is such a topic with at least so many queues to read. Gives it if that
    /// changed it.
    pub(crate) fn widen(&self, name: &str, queues: i32) -> Option<TopicConfig> {
        let queues = queues.min(QUEUES_OF_ONE_MOST);
        if self.shape(name).is_some_and(|(_, read, _)| read >= queues) {
            return None;
        }
        let mut table = self.table.write();
        let known = table.topics.get(name).cloned();
        let mut topic = known.unwrap_or_else(|| TopicConfig::new(name, queues, perm::READ_WRITE));
        // Not those to write: somebody may have taken queues away, to be emptied.
        topic.read_queue_nums = topic.read_queue_nums.max(queues);
        table.insert(topic.clone());
        drop(table);
        self.count_change();
        Some(topic)
    }

    /// Takes a topic in, in the place of one with its name.
    ///
    /// # Errors
    ///
    /// Why there is no room for it.
    pub(crate) fn put(&self, topic: TopicConfig) -> Result<(), String> {
        let mut table = self.table.write();
        table.check_room(Some(&topic))?;
        table.insert(topic);
        drop(table);
        self.count_change();
        Ok(())
    }

    /// Whether each broker has a topic of that name, whatever its settings.
    pub(crate) fn is_fixed(name: &str) -> bool {
        OWN.iter().any(|(own, _)| *own == name)
    }

    /// Takes a topic out. `mark` says how far the log had got, if the topic has messages: those
    /// before it do not bring it back at the next start. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// There is no room for one more mark.
    pub(crate) fn delete(&self, name: &str, mark: Option<PhysicalOffset>) -> io::Result<bool> {
        let mut table = self.table.write();
        if mark.is_some() && table.deleted.len() >= TOPICS_MOST {
            let why = format!("{TOPICS_MOST} deleted topics still have messages, that is all");
            return Err(io::Error::other(why));
        }
        let Some(old) = table.topics.remove(name) else { return Ok(false) };
        table.queues = table.queues.saturating_sub(queues_of(&old));
        if let Some(mark) = mark {
            // In one piece with the topic's end: what is saved has both or neither.
            table.deleted.insert(name.to_owned(), mark.get());
        }
        drop(table);
        self.count_change();
        Ok(true)
    }

    /// Whether the messages of a topic that nothing else tells of say that there is one: not if it
    /// was deleted after the last of them.
    pub(crate) fn is_found(&self, name: &str, store: &Store) -> bool {
        let Some(mark) = self.table.read().deleted.get(name).copied() else { return true };
        let queues = store.queues();
        queues.iter().filter(|queue| queue.topic() == name).any(|queue| {
            let last = store.queue_range(queue).and_then(|(min, end)| {
                let last = (end > min).then(|| QueueOffset::new(end.get() - 1))?;
                store.queue_items(queue, last, 1).ok()?.pop()
            });
            last.is_some_and(|last| last.physical_offset.get() >= mark)
        })
    }

    fn count_change(&self) {
        let mut version = self.version.lock();
        version.counter += 1;
        version.timestamp = crate::now_millis();
        self.file.set_changed();
    }

    /// All of them, as a name server is told.
    pub(crate) fn snapshot(&self) -> TopicTable {
        let data_version = self.version.lock().clone();
        TopicTable { data_version, topic_config_table: self.table.read().sorted() }
    }

    /// Writes the file if anything changed since.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written; the next call tries again.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.file.save(|| {
            let data_version = self.version.lock().clone();
            // Topics and marks as they are at one time.
            let table = self.table.read();
            let topics = TopicTable { data_version, topic_config_table: table.sorted() };
            let steadfast_deleted = table.deleted.clone();
            drop(table);
            serde_json::to_vec_pretty(&OnDisk { topics, steadfast_deleted })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_bring_in_so_many_topics_and_queues_and_the_broker_has_its_own() {
        let named = |name: String, queues| TopicConfig::new(name, queues, perm::READ_WRITE);
        let all = (0..TOPICS_MOST).map(|n| (n.to_string(), named(n.to_string(), 1)));
        let full = Table::of(all);
        assert!(full.check_room(None).unwrap_err().contains("at most 150000"));
        assert!(full.check_room(Some(&named("new".into(), 1))).is_err());
        assert_eq!(full.check_room(Some(&named("7".into(), 9))), Ok(()));
        let mut table = Table::default();
        table.insert(named("large".into(), QUEUES_MOST as i32));
        assert!(table.check_room(None).unwrap_err().contains("at most 262144"));
        // What is there may get smaller, also where there is too much.
        table.insert(named("own".into(), 9));
        assert_eq!(table.check_room(Some(&named("large".into(), 5))), Ok(()));
        table.insert(named("large".into(), 5));
        assert_eq!((table.queues, table.check_room(None)), (14, Ok(())));
    }

    #[test]
    fn saves_at_the_same_time_leave_a_whole_file_with_everything() {
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let topics = Topics::open(dir.path(), &[]).unwrap();
            let add = &|thread: i32| {
                for n in 0..20 {
                    let name = format!("t{thread}-{n}");
                    let topic = TopicConfig::new(name.clone(), 1, perm::READ_WRITE);
                    assert!(topics.add_missing(topic));
                    topics.save().unwrap();
                    // It is durable when the call returns, whoever wrote it.
                    let again = Topics::open(dir.path(), &[]).unwrap();
                    assert!(again.get(&name).is_some(), "{name} was not written");
                }
            };
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || add(thread));
                }
            });
        }
    }

    #[test]
    fn a_topic_is_only_ever_widened_and_only_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let topics = Topics::open(dir.path(), &[]).unwrap();
        assert_eq!(topics.widen("t", 3).unwrap().write_queue_nums, 3);
        assert_eq!(topics.widen("t", 2), None);
        assert_eq!(topics.widen("t", 5).unwrap().write_queue_nums, 3);
        assert_eq!(topics.shape("t"), Some((perm::READ_WRITE, 5, 3)));
        assert_eq!(topics.widen("t", i32::MAX).unwrap().read_queue_nums, QUEUES_OF_ONE_MOST);
    }
}
