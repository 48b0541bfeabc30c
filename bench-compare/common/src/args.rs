//! The command line: a command, then `key=value` words.

use std::{collections::BTreeMap, path::PathBuf};

use crate::Failure;

/// The words behind the command.
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Parses `key=value` words.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut map = BTreeMap::new();
        for word in words {
            let (key, value) =
                word.split_once('=').ok_or_else(|| format!("not key=value: {word}"))?;
            map.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(map))
    }

    /// The text of `key`, or `default`.
    pub fn text(&self, key: &str, default: &str) -> String {
        self.0.get(key).map_or_else(|| default.to_owned(), Clone::clone)
    }

    /// The number of `key`, or `default`.
    pub fn number(&self, key: &str, default: u64) -> Result<u64, Failure> {
        match self.0.get(key) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("not a number: {key}={text}").into()),
        }
    }

    /// The directory of the store: `dir=`.
    pub fn dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.0.get("dir").ok_or("dir= is missing")?;
        Ok(PathBuf::from(dir))
    }
}
