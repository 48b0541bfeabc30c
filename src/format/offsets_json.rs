//! `config/consumerOffset.json`: how far each consumer group came in each queue.

use std::{collections::BTreeMap, fmt::Write as _};

pub use super::json::JsonError;
use super::json::{Reader, write_string};

/// Larger files are refused: no cluster has one, and it would have to be held in memory.
pub const OFFSETS_MAX_BYTES: usize = 1 << 30;

/// How often a table was changed, as RocketMQ counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataVersion {
    /// Number of changes.
    pub counter: i64,
    /// A controller's epoch.
    pub state_version: i64,
    /// When it was last changed, in milliseconds.
    pub timestamp: i64,
}

/// The content of `consumerOffset.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetTable {
    /// Its version.
    pub data_version: DataVersion,
    /// For `topic@group`, the next offset to consume of each queue.
    pub offsets: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Reads a table. Integer keys may be quoted or not; unknown fields are skipped, `null` is as if
/// absent, the last of equal keys wins.
///
/// # Errors
///
/// What is broken and where, if the text is not JSON, deeper nested than any such file, larger
/// than [`OFFSETS_MAX_BYTES`], or an offset is not an integer.
pub fn parse(bytes: &[u8]) -> Result<OffsetTable, JsonError> {
    let mut reader = Reader::of(bytes);
    if bytes.len() > OFFSETS_MAX_BYTES {
        return reader.error("larger than any offset table");
    }
    let mut table = OffsetTable::default();
    reader.object(|reader, field| match field {
        "dataVersion" => {
            let version = &mut table.data_version;
            reader.object(|reader, field| {
                let value = match field {
                    "counter" => &mut version.counter,
                    "stateVersion" => &mut version.state_version,
                    "timestamp" => &mut version.timestamp,
                    _ => return reader.skip(),
                };
                *value = reader.integer()?;
                Ok(())
            })
        }
        "offsetTable" => reader.object(|reader, key| {
            let mut queues = BTreeMap::new();
            reader.object(|reader, queue| {
                let Ok(queue) = queue.parse::<i32>() else {
                    return reader.error("a queue id of at most 32 bits must be before this");
                };
                queues.insert(queue, reader.integer()?);
                Ok(())
            })?;
            table.offsets.insert(key.to_owned(), queues);
            Ok(())
        }),
        _ => reader.skip(),
    })?;
    reader.end()?;
    Ok(table)
}

/// The text of a table, with unquoted integer keys as RocketMQ writes them.
pub fn write(table: &OffsetTable) -> Vec<u8> {
    let DataVersion { counter, state_version, timestamp } = table.data_version;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{{\n\t\"dataVersion\":{{\"counter\":{counter},\"stateVersion\":{state_version},\
         \"timestamp\":{timestamp}}},\n\t\"offsetTable\":{{"
    );
    for (i, (key, queues)) in table.offsets.iter().enumerate() {
        out.push_str(if i == 0 { "\n\t\t" } else { ",\n\t\t" });
        write_string(&mut out, key);
        out.push_str(":{");
        for (i, (queue, offset)) in queues.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{queue}:{offset}");
        }
        out.push('}');
    }
    out.push_str(if table.offsets.is_empty() { "}\n}" } else { "\n\t}\n}" });
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::Random;

    fn offsets(table: &OffsetTable) -> Vec<(&str, i32, i64)> {
        let entries = table.offsets.iter();
        entries.flat_map(|(k, q)| q.iter().map(move |(&q, &o)| (k.as_str(), q, o))).collect()
    }

    #[test]
    fn both_forms_of_keys_are_read() {
        let java = br#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1700000000000},
            "offsetTable":{"TopicA@groupA":{0:12,1:7},"%RETRY%groupA@groupA":{0:1}}}"#;
        let table = parse(java).unwrap();
        let expected =
            [("%RETRY%groupA@groupA", 0, 1), ("TopicA@groupA", 0, 12), ("TopicA@groupA", 1, 7)];
        assert_eq!(offsets(&table), expected);
        let version = DataVersion { counter: 1, state_version: 0, timestamp: 1_700_000_000_000 };
        assert_eq!(table.data_version, version);
        let quoted = br#" { "x" : [ {} , [], "a\"]", -1.5e3, true, {"y":null,7:[1]}],
            "offsetTable" : { "TopicA@groupA" : { "0" : 12 , "1" : 7 },
            "\u0025RETRY%group\u0041@groupA":{"0":9,"0":1}}, "dataVersion":
            {"timestamp":1700000000000,"counter":1,"z":{}} } "#;
        assert_eq!(parse(quoted).unwrap(), table);
        assert_eq!(parse(b"{}").unwrap(), OffsetTable::default());
        assert_eq!(parse(br#"{"offsetTable":null}"#).unwrap(), OffsetTable::default());
    }

    #[test]
    fn tables_round_trip() {
        let mut random = Random::seeded();
        for _ in 0..200 {
            let mut table = OffsetTable::default();
            table.data_version.counter = random.next() as i64;
            for _ in 0..random.below(5) {
                let key =
                    random.text(8) + ["", "\"", "\\", "\u{1}", "\n😀"][random.below(5) as usize];
                let queues = table.offsets.entry(key).or_default();
                for _ in 0..random.below(4) {
                    queues.insert(random.next() as i32, random.next() as i64);
                }
            }
            let text = write(&table);
            assert_eq!(parse(&text).unwrap(), table, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn integer_keys_are_written_unquoted() {
        let mut table = OffsetTable::default();
        table.offsets.insert("t@g".into(), BTreeMap::from([(0, 5), (1, 6)]));
        let text = String::from_utf8(write(&table)).unwrap();
        assert!(text.contains("\"t@g\":{0:5,1:6}"), "{text}");
    }

    #[test]
    fn broken_input_is_an_error_with_its_place() {
        let good = br#"{"offsetTable":{"a@b":{0:1}},"x":[1,{"y":"\ud83d\ude00"}]}"#;
        parse(good).unwrap();
        for len in 0..good.len() {
            assert!(parse(&good[..len]).is_err(), "{len}");
        }
        for (text, at) in [
            ("", 0),
            ("{} x", 3),
            ("{\"offsetTable\":{\"a\":{0:1.5}}}", 23),
            ("{\"offsetTable\":{\"a\":{0:9223372036854775808}}}", 23),
            ("{\"offsetTable\":{\"a\":{4294967296:1}}}", 32),
            ("{\"offsetTable\":{\"a\":{x:1}}}", 21),
            ("{\"offsetTable\":[]}", 15),
            ("{\"a\":nul}", 5),
            ("{\"a\":\"\\ud83d\"}", 12),
            ("{\"a\":\"\\x\"}", 6),
            ("{\"a\":\"\u{0}\"}", 6),
            ("{\"a\":1,}", 7),
            ("{\"a\":[1,]}", 8),
        ] {
            assert_eq!(parse(text.as_bytes()).map_err(|e| e.at), Err(at), "{text}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()).unwrap_err().what, "nested too deep");
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut random = Random::seeded();
        let good = br#"{"offsetTable":{"a@b":{0:1,"2":3}},"x":[1,{"y":"\ud83d\ude00\n"}]}"#;
        for _ in 0..50_000 {
            let mut bytes = good.to_vec();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                let pool = b"{}[]\":,\\u09-. \x00\xFF";
                bytes[at] = pool[random.below(pool.len() as u64) as usize];
            }
            let _ = parse(&bytes);
        }
    }
}
