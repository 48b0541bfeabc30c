//! The topics of a broker and what may be done with them, in `config/topics.json`.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    files, names,
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
const QUEUES_MOST: i32 = 65_536;

/// All topics of one broker.
#[derive(Debug)]
pub(crate) struct Topics {
    path: PathBuf,
    table: RwLock<HashMap<String, TopicConfig>>,
    version: Mutex<DataVersion>,
    changed: AtomicBool,
    /// Held while the file is written: by housekeeping, and by whoever is answered after that.
    saving: Mutex<()>,
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
        let table: TopicTable = files::load_json(&path, way_out)?;
        let version = table.data_version;
        let topics = Self {
            path,
            table: RwLock::new(table.topic_config_table.into_iter().collect()),
            version: Mutex::new(version),
            changed: AtomicBool::new(false),
            saving: Mutex::new(()),
        };
        let fixed = OWN.map(|(name, queues)| TopicConfig::new(name, queues, perm::READ_WRITE));
        for topic in own.iter().chain(&fixed) {
            topics.add_missing(topic.clone());
        }
        Ok(topics)
    }

    /// The topic with that name.
    pub(crate) fn get(&self, name: &str) -> Option<TopicConfig> {
        self.table.read().get(name).cloned()
    }

    /// What may be done with a topic, and its numbers of read and write queues.
    pub(crate) fn shape(&self, name: &str) -> Option<(i32, i32, i32)> {
        let table = self.table.read();
        table.get(name).map(|t| (t.perm, t.read_queue_nums, t.write_queue_nums))
    }

    /// Makes a topic because somebody sends to it. Returns it and whether it is new; `None` if
    /// there is nothing it may be made like.
    pub(crate) fn create_by_send(
        &self,
        name: &str,
        creating: Creating<'_>,
    ) -> Option<(TopicConfig, bool)> {
        let mut table = self.table.write();
        if let Some(found) = table.get(name) {
            return Some((found.clone(), false));
        }
        let like = table.get(creating.like).filter(|like| like.perm & perm::INHERIT != 0)?;
        let queues = creating.queues.min(like.write_queue_nums).max(1);
        let mut made = TopicConfig::new(name, queues, like.perm & !perm::INHERIT);
        made.topic_sys_flag = like.topic_sys_flag;
        table.insert(name.to_owned(), made.clone());
        drop(table);
        self.count_change();
        Some((made, true))
    }

    /// Takes a topic in unless there is one with its name. Returns whether it did.
    pub(crate) fn add_missing(&self, topic: TopicConfig) -> bool {
        let mut table = self.table.write();
        if table.contains_key(&topic.topic_name) {
            return false;
        }
        table.insert(topic.topic_name.clone(), topic);
        drop(table);
        self.count_change();
        true
    }

    /// Sees to it that there is such a topic with at least so many queues to read. Gives it if that
    /// changed it.
    pub(crate) fn widen(&self, name: &str, queues: i32) -> Option<TopicConfig> {
        let queues = queues.min(QUEUES_MOST);
        if self.shape(name).is_some_and(|(_, read, _)| read >= queues) {
            return None;
        }
        let mut table = self.table.write();
        let topic = table
            .entry(name.to_owned())
            .or_insert_with(|| TopicConfig::new(name, queues, perm::READ_WRITE));
        // Not those to write: somebody may have taken queues away, to be emptied.
        topic.read_queue_nums = topic.read_queue_nums.max(queues);
        let changed = topic.clone();
        drop(table);
        self.count_change();
        Some(changed)
    }

    /// Takes a topic in, in the place of one with its name.
    pub(crate) fn put(&self, topic: TopicConfig) {
        self.table.write().insert(topic.topic_name.clone(), topic);
        self.count_change();
    }

    fn count_change(&self) {
        let mut version = self.version.lock();
        version.counter += 1;
        version.timestamp = crate::now_millis();
        self.changed.store(true, Ordering::Release);
    }

    /// All of them, as a name server is told.
    pub(crate) fn snapshot(&self) -> TopicTable {
        let data_version = self.version.lock().clone();
        let table = self.table.read();
        let topics = table.iter().map(|(name, topic)| (name.clone(), topic.clone())).collect();
        TopicTable { data_version, topic_config_table: topics }
    }

    /// Writes the file if anything changed since.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written; the next call tries again.
    pub(crate) fn save(&self) -> io::Result<()> {
        let _saving = self.saving.lock();
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let json = serde_json::to_vec_pretty(&self.snapshot())?;
        files::replace(&self.path, &json)
            .inspect_err(|_| self.changed.store(true, Ordering::Release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_in_the_file_whoever_saves_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let topics = Topics::open(dir.path(), &[]).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let topics = &topics;
                scope.spawn(move || {
                    for number in 0..10 {
                        let name = format!("t{thread}-{number}");
                        topics.put(TopicConfig::new(&*name, 1, perm::READ_WRITE));
                        topics.save().unwrap();
                        let file: TopicTable = files::load_json(&topics.path, "").unwrap();
                        assert!(file.topic_config_table.contains_key(&name), "{name}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_topic_is_only_ever_widened_and_only_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let topics = Topics::open(dir.path(), &[]).unwrap();
        assert_eq!(topics.widen("t", 3).unwrap().write_queue_nums, 3);
        assert_eq!(topics.widen("t", 2), None);
        assert_eq!(topics.widen("t", 5).unwrap().write_queue_nums, 3);
        assert_eq!(topics.shape("t"), Some((perm::READ_WRITE, 5, 3)));
        assert_eq!(topics.widen("t", i32::MAX).unwrap().read_queue_nums, QUEUES_MOST);
    }
}
