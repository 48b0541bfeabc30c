//! Reading a properties file, and keys given one by one.

use std::{fmt, fs, path::Path};

use super::{BrokerConfig, keys};

/// A setting that cannot be, and where it was made.
#[derive(Clone, Debug)]
pub struct ConfigError {
    place: String,
    why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for ConfigError {}

/// No file of settings is longer.
const MOST: u64 = 1 << 20;

impl BrokerConfig {
    /// Takes in RocketMQ's `broker.conf`. Gives the keys that mean nothing here.
    ///
    /// # Errors
    ///
    /// The file that cannot be read; or the first key with a value it cannot have, with its line
    /// and what is allowed.
    pub fn read_file(&mut self, path: &Path) -> Result<Vec<String>, ConfigError> {
        let place = path.display().to_string();
        let error = |why: String| ConfigError { place: place.clone(), why };
        let length = fs::metadata(path).map_err(|e| error(e.to_string()))?.len();
        if length > MOST {
            return Err(error(format!("{length} bytes are too many for a file of settings")));
        }
        let bytes = fs::read(path).map_err(|e| error(e.to_string()))?;
        self.read_properties(&place, &bytes)
    }

    fn read_properties(&mut self, place: &str, bytes: &[u8]) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for line in java_properties::PropertiesIter::new(bytes) {
            let line = line.map_err(|e| {
                let at = e.line_number().map(|n| format!("{place}:{n}"));
                ConfigError { place: at.unwrap_or_else(|| place.into()), why: e.to_string() }
            })?;
            let place = format!("{place}:{}", line.line_number());
            let java_properties::LineContent::KVPair(key, value) = line.consume_content() else {
                continue;
            };
            if !self.set_at(&place, key.trim(), value.trim())? {
                unknown.push(key);
            }
        }
        Ok(unknown)
    }

    /// Sets one key, as in a file. Returns whether it means anything here.
    ///
    /// # Errors
    ///
    /// What is allowed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        self.set_at("-o", key, value)
    }

    /// Whether what was set goes together: the parts of a store are all in its directory.
    ///
    /// # Errors
    ///
    /// The key that names another place, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let whole = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.canonicalize().unwrap_or(path)
        };
        for place in &self.places {
            let here = self.data.join(place.name);
            if whole(&place.said) != whole(&here) {
                let why = format!(
                    "the store has that part in its directory; move it to {} or set \
                     storePathRootDir to where it is",
                    here.display()
                );
                let said = place.said.display();
                return Err(ConfigError { place: format!("{}={said}", place.key), why });
            }
        }
        Ok(())
    }

    fn set_at(&mut self, place: &str, key: &str, value: &str) -> Result<bool, ConfigError> {
        keys::set(self, key, value).map_err(|allowed| ConfigError {
            place: place.to_owned(),
            why: format!("{key} cannot be {value:?}; {allowed}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast::FlushMode;

    use super::*;
    use crate::config::Role;

    const USUAL: &str = "\
# a broker
brokerClusterName = DefaultCluster
brokerName=broker-b
brokerId=0
deleteWhen=04
fileReservedTime=48
brokerRole=SYNC_MASTER
flushDiskType=SYNC_FLUSH
namesrvAddr=127.0.0.1:9876;127.0.0.1:9877
listenPort=20911
messageDelayLevel=1s 2m 1h
autoCreateTopicEnable=false
somethingElse=1
";

    #[test]
    fn the_usual_file_is_taken_in_and_unknown_keys_are_named() {
        let mut config = BrokerConfig::default();
        let unknown = config.read_properties("broker.conf", USUAL.as_bytes()).unwrap();
        assert_eq!(unknown, ["somethingElse"]);
        assert_eq!((config.name.as_str(), config.role), ("broker-b", Role::SyncMaster));
        assert_eq!(config.store.flush, FlushMode::Sync);
        assert_eq!(config.store.retention.reserved, Duration::from_secs(48 * 3600));
        assert_eq!(config.name_servers, ["127.0.0.1:9876", "127.0.0.1:9877"]);
        assert_eq!(config.listen.port(), 20_911);
        assert_eq!(config.delay_levels, [1, 120, 3600].map(Duration::from_secs));
        assert!(!config.auto_create_topics);
    }

    #[test]
    fn a_part_of_the_store_in_another_place_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().display();
        let read = |text: &str| {
            let mut config = BrokerConfig::default();
            config.read_properties("broker.conf", text.as_bytes()).unwrap();
            config.check()
        };
        let usual = format!("storePathCommitLog={root}/commitlog\nstorePathRootDir={root}\n");
        read(&usual).unwrap();
        let error = read(&format!("{usual}storePathConsumeQueue=/elsewhere\n")).unwrap_err();
        assert!(error.to_string().starts_with("storePathConsumeQueue=/elsewhere: "), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_what_is_allowed() {
        for (key, value) in [
            ("flushDiskType", "SYNC"),
            ("brokerRole", "SLAVE"),
            ("listenPort", "70000"),
            ("autoCreateTopicEnable", "maybe"),
            ("messageDelayLevel", "1s 5q"),
            ("fileReservedTime", "-1"),
            ("mapedFileSizeCommitLog", "100"),
            ("brokerName", ""),
            ("aclEnable", "true"),
            ("enableDLegerCommitLog", "true"),
            ("storeType", "defaultRocksDB"),
        ] {
            let text = format!("# first\n{key}={value}\n");
            let mut config = BrokerConfig::default();
            let error = config.read_properties("broker.conf", text.as_bytes()).unwrap_err();
            let told = error.to_string();
            let start = format!("broker.conf:2: {key} cannot be {value:?}; ");
            assert!(told.starts_with(&start) && told.len() > start.len() + 5, "{told}");
        }
    }
}
