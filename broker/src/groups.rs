//! The consumer groups of a broker and what holds for them, in `config/subscriptionGroup.json`.

use std::{collections::BTreeMap, io, path::Path};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    files::{self, Saver},
    limits::GROUPS_MOST,
    namesrv::data::DataVersion,
};

/// How often a message comes back to a group at most, unless the group says otherwise.
const RETRIES_MOST: i32 = 16;

/// `SubscriptionGroupConfig`. What is not used here is kept as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    pub(crate) group_name: String,
    #[serde(default = "yes")]
    pub(crate) consume_enable: bool,
    #[serde(default = "yes")]
    pub(crate) consume_from_min_enable: bool,
    #[serde(default = "yes")]
    pub(crate) consume_broadcast_enable: bool,
    #[serde(default = "sixteen")]
    pub(crate) retry_max_times: i32,
    #[serde(default = "one")]
    pub(crate) retry_queue_nums: i32,
    #[serde(default = "yes")]
    pub(crate) notify_consumer_ids_changed_enable: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn yes() -> bool {
    true
}

fn one() -> i32 {
    1
}

fn sixteen() -> i32 {
    RETRIES_MOST
}

impl Group {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            group_name: name.to_owned(),
            consume_enable: true,
            consume_from_min_enable: true,
            consume_broadcast_enable: true,
            retry_max_times: RETRIES_MOST,
            retry_queue_nums: 1,
            notify_consumer_ids_changed_enable: true,
            rest: Map::new(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Table {
    data_version: DataVersion,
    subscription_group_table: BTreeMap<String, Group>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Table {
    /// Why there is no room for a group of that name, if so.
    fn check_room(&self, name: &str) -> Result<(), String> {
        let groups = &self.subscription_group_table;
        if groups.len() >= GROUPS_MOST && !groups.contains_key(name) {
            let number = groups.len();
            return Err(format!("there are {number} groups already, at most {GROUPS_MOST}"));
        }
        Ok(())
    }
}

/// All groups of one broker.
#[derive(Debug)]
pub(crate) struct Groups {
    table: RwLock<Table>,
    file: Saver,
}

impl Groups {
    /// The groups of the store in `data`.
    ///
    /// # Errors
    ///
    /// The file that cannot be read, and why.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("config/subscriptionGroup.json");
        let way_out = ", or remove it: groups that come are taken in again";
        let table = files::load_json(&path, way_out)?;
        Ok(Self { table: RwLock::new(table), file: Saver::new(path) })
    }

    /// The group with that name.
    pub(crate) fn get(&self, name: &str) -> Option<Group> {
        self.table.read().subscription_group_table.get(name).cloned()
    }

    /// The group with that name; taken in if `create` and it is not there.
    ///
    /// # Errors
    ///
    /// Why no more can be taken in.
    pub(crate) fn get_or_create(&self, name: &str, create: bool) -> Result<Option<Group>, String> {
        if let Some(found) = self.get(name) {
            return Ok(Some(found));
        }
        if !create || name.is_empty() {
            return Ok(None);
        }
        let mut table = self.table.write();
        table.check_room(name)?;
        let groups = &mut table.subscription_group_table;
        let group = groups.entry(name.to_owned()).or_insert_with(|| Group::new(name)).clone();
        self.count_change(&mut table);
        Ok(Some(group))
    }

    /// Takes a group in, in the place of one with its name.
    ///
    /// # Errors
    ///
    /// Why there is no room for it.
    pub(crate) fn put(&self, group: Group) -> Result<(), String> {
        let mut table = self.table.write();
        table.check_room(&group.group_name)?;
        table.subscription_group_table.insert(group.group_name.clone(), group);
        self.count_change(&mut table);
        Ok(())
    }

    /// Takes a group out. Returns whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let mut table = self.table.write();
        let was_there = table.subscription_group_table.remove(name).is_some();
        if was_there {
            self.count_change(&mut table);
        }
        was_there
    }

    fn count_change(&self, table: &mut Table) {
        table.data_version.counter += 1;
        table.data_version.timestamp = crate::now_millis();
        self.file.set_changed();
    }

    /// All of them, as RocketMQ tells of them.
    pub(crate) fn snapshot(&self) -> impl Serialize + use<> {
        self.table.read().clone()
    }

    /// How often a message comes back to that group at most.
    pub(crate) fn retries_most(&self, name: &str) -> i32 {
        let table = self.table.read();
        table.subscription_group_table.get(name).map_or(RETRIES_MOST, |g| g.retry_max_times)
    }

    /// Writes the file if anything changed since.
    ///
    /// # Errors
    ///
    /// The path and why it cannot be written; the next call tries again.
    pub(crate) fn save(&self) -> io::Result<()> {
        // A copy, so that nobody waits for a group while the text is made.
        self.file.save(|| serde_json::to_vec_pretty(&self.table.read().clone()))
    }
}
