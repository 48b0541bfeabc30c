//! `-o key=value`: any option of the engine by its name.

use std::fmt;

use steadfast::{FlushMode, ForcedCleaning, KeyIndexing, OnDamage, Options, RecordChecksum};

use crate::time::{parse_duration, parse_size};

type Set = fn(&mut Options, &str) -> Result<(), String>;

/// Every key, what it takes, and what it sets. In the order of the engine's own list.
const KEYS: &[(&str, &str, Set)] = &[
    ("segment_bytes", "SIZE", |o, v| size(v, &mut o.segment_bytes)),
    ("queue_file_bytes", "SIZE", |o, v| size(v, &mut o.queue_file_bytes)),
    ("index_slots", "NUMBER", |o, v| number(v, &mut o.index_slots)),
    ("index_entries", "NUMBER", |o, v| number(v, &mut o.index_entries)),
    ("key_index", "on|off", |o, v| {
        choice(v, &[("on", KeyIndexing::On), ("off", KeyIndexing::Off)], &mut o.key_index)
    }),
    ("flush", "sync|async", |o, v| {
        choice(v, &[("sync", FlushMode::Sync), ("async", FlushMode::Async)], &mut o.flush)
    }),
    ("sync_flush_timeout", "TIME", |o, v| duration(v, &mut o.sync_flush_timeout)),
    ("flush_interval", "TIME", |o, v| duration(v, &mut o.flush_interval)),
    ("flush_least_bytes", "SIZE", |o, v| size(v, &mut o.flush_least_bytes)),
    ("flush_thorough_interval", "TIME", |o, v| duration(v, &mut o.flush_thorough_interval)),
    ("max_message_bytes", "SIZE", |o, v| size(v, &mut o.max_message_bytes)),
    ("record_checksum", "on|off", |o, v| {
        let all = [("on", RecordChecksum::On), ("off", RecordChecksum::Off)];
        choice(v, &all, &mut o.record_checksum)
    }),
    ("max_unflushed_bytes", "SIZE", |o, v| size(v, &mut o.max_unflushed_bytes)),
    ("append_timeout", "TIME", |o, v| duration(v, &mut o.append_timeout)),
    ("on_damage", "refuse|serve", |o, v| {
        choice(v, &[("refuse", OnDamage::Refuse), ("serve", OnDamage::Serve)], &mut o.on_damage)
    }),
    ("retention.reserved", "TIME", |o, v| duration(v, &mut o.retention.reserved)),
    ("retention.delete_hours", "HOUR[,HOUR]", |o, v| {
        let hours = v.split(',').map(|hour| hour.parse().map_err(|_| "not hours, such as 4,16"));
        o.retention.delete_hours = hours.collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("retention.utc_offset_minutes", "MINUTES", |o, v| {
        number(v, &mut o.retention.utc_offset_minutes)
    }),
    ("retention.clean_ratio", "PERCENT", |o, v| number(v, &mut o.retention.clean_ratio)),
    ("retention.refuse_ratio", "PERCENT", |o, v| number(v, &mut o.retention.refuse_ratio)),
    ("retention.forced", "never|when_full", |o, v| {
        let all = [("never", ForcedCleaning::Never), ("when_full", ForcedCleaning::WhenFull)];
        choice(v, &all, &mut o.retention.forced)
    }),
    ("retention.force_ratio", "PERCENT", |o, v| number(v, &mut o.retention.force_ratio)),
    ("open_queue_files", "NUMBER", |o, v| number(v, &mut o.open_queue_files)),
    ("offsets_interval", "TIME", |o, v| duration(v, &mut o.offsets_interval)),
];

/// One `key=value`, checked.
#[derive(Clone)]
pub(crate) struct OptionValue {
    set: Set,
    value: String,
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

/// `-o`, for the commands that open a store.
#[derive(Debug, clap::Args)]
pub(crate) struct OptionArgs {
    /// Sets an option of the engine; may be given several times, `-o help` lists them.
    ///
    /// TIME is a number with ms, s, m, h or d; SIZE a number of bytes or one with K, M or G. File
    /// sizes of a store that exists are taken from its files.
    #[arg(short = 'o', value_name = "KEY=VALUE", value_parser = parse_one)]
    options: Vec<OptionValue>,
}

impl OptionArgs {
    /// `base` with what was given.
    pub(crate) fn apply(&self, mut base: Options) -> Options {
        for option in &self.options {
            // It was tried when it was parsed, and options do not depend on each other.
            let _ = (option.set)(&mut base, &option.value);
        }
        base
    }
}

fn parse_one(text: &str) -> Result<OptionValue, String> {
    let unknown = |key: &str| {
        let keys: Vec<_> = KEYS.iter().map(|(key, takes, _)| format!("  {key}={takes}")).collect();
        format!("there is no option {key:?}; the options are\n{}", keys.join("\n"))
    };
    let (key, value) = text.split_once('=').ok_or_else(|| unknown(text))?;
    let Some((key, takes, set)) = KEYS.iter().find(|(name, ..)| *name == key) else {
        return Err(unknown(key));
    };
    set(&mut Options::default(), value).map_err(|why| format!("{key} takes {takes}: {why}"))?;
    Ok(OptionValue { set: *set, value: value.to_owned() })
}

fn size<T: TryFrom<u64>>(text: &str, field: &mut T) -> Result<(), String> {
    *field = parse_size(text)?.try_into().map_err(|_| "too large")?;
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str, field: &mut T) -> Result<(), String> {
    *field = text.parse().map_err(|_| format!("not such a number: {text:?}"))?;
    Ok(())
}

fn duration(text: &str, field: &mut std::time::Duration) -> Result<(), String> {
    *field = parse_duration(text)?;
    Ok(())
}

fn choice<T: Copy>(text: &str, all: &[(&str, T)], field: &mut T) -> Result<(), String> {
    let Some((_, value)) = all.iter().find(|(name, _)| *name == text) else {
        return Err(format!("not {text:?}"));
    };
    *field = *value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(texts: &[&str]) -> Options {
        let options = texts.iter().map(|text| parse_one(text).unwrap()).collect();
        OptionArgs { options }.apply(Options::default())
    }

    #[test]
    fn options_are_set_by_name() {
        let options = with(&["segment_bytes=64K", "retention.reserved=72h", "flush=sync"]);
        assert_eq!(options.segment_bytes, 65536);
        assert_eq!(options.retention.reserved.as_secs(), 72 * 3600);
        assert_eq!(options.flush, FlushMode::Sync);
        assert_eq!(with(&["retention.delete_hours=4,16"]).retention.delete_hours, [4, 16]);
        let west = with(&["retention.utc_offset_minutes=-300"]);
        assert_eq!(west.retention.utc_offset_minutes, -300);
    }

    #[test]
    fn an_unknown_option_lists_all_of_them() {
        let text = parse_one("segment=1").unwrap_err();
        assert!(KEYS.iter().all(|(key, ..)| text.contains(key)), "{text}");
        assert!(parse_one("flush").is_err());
        assert!(parse_one("flush=fast").unwrap_err().contains("sync|async"));
        assert!(parse_one("retention.clean_ratio=300").is_err());
    }

    /// A field that is added to the engine's options must be added here.
    #[test]
    fn every_field_of_the_options_has_a_key() {
        let text = format!("{:?}", Options::default());
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut fields = names.filter(|n| n.contains('_') || ["flush", "reserved"].contains(n));
        let missing = fields.find(|n| !KEYS.iter().any(|(k, ..)| k.rsplit('.').next() == Some(n)));
        assert_eq!(missing, None);
    }
}
