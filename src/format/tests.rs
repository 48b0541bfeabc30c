//! The stores that RocketMQ itself wrote, read and written again byte for byte.

use std::{collections::BTreeMap, io::Read, net::SocketAddr, path::Path};

use serde_json::Value;

use super::{
    entry::{DelayLevels, ENTRY_BYTES, QueueEntry},
    frame::{ChecksumRule, Flaw, Frame, classify},
    index::{INDEX_HEADER_BYTES, IndexEntry, IndexGeometry, IndexHeader, decode_slot, key_hash},
    java::JavaCheckpoint,
    layout::CRC_TAIL,
    record::{RecordLimits, RecordPlan},
    resync::find_next_record,
    view::RecordView,
};
use crate::{
    message::Message,
    name::QueueKey,
    offset::{PhysicalOffset, StoreTime},
    options::RecordChecksum,
};

const SEGMENT: u64 = 65536;
const INDEX: IndexGeometry = IndexGeometry { slots: 1000, entries: 4000 };
const LIMITS: RecordLimits = RecordLimits { max_message_bytes: 32768, segment_bytes: SEGMENT };

struct Golden {
    files: BTreeMap<String, Vec<u8>>,
    lines: Vec<Value>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
        let packed = std::fs::File::open(folder.join(format!("{name}.tar.gz"))).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path.strip_prefix(&format!("{name}/")).unwrap().to_owned(), bytes);
        }
        let text = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { files, lines }
    }

    fn of(&self, kinds: &'static [&'static str]) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(|line| kinds.contains(&line["type"].as_str().unwrap()))
    }

    fn store(&self, field: &str) -> u64 {
        self.of(&["store"]).next().unwrap()[field].as_u64().unwrap()
    }

    /// The bytes from `at` to the end of their segment.
    fn log(&self, at: u64) -> Option<&[u8]> {
        let path = format!("commitlog/{:020}", at / SEGMENT * SEGMENT);
        self.files.get(&path).map(|bytes| &bytes[(at % SEGMENT) as usize..])
    }

    fn frame(&self, at: u64) -> Option<Frame<'_>> {
        let bytes = self.log(at)?;
        let room = bytes.len() as u64;
        Some(classify(bytes, PhysicalOffset::new(at), room, ChecksumRule::WhenPresent))
    }

    fn record(&self, at: u64) -> RecordView<'_> {
        match self.frame(at) {
            Some(Frame::Record(view)) => view,
            other => panic!("no record at {at}: {other:?}"),
        }
    }
}

const NAMES: [&str; 6] =
    ["clean-mixed", "clean-crc", "clean-fit", "halt-mixed", "halt-torn", "expired-preblank"];

fn host(text: &Value) -> SocketAddr {
    let (address, port) = text.as_str().unwrap().split_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    match address.len() {
        8 => (u32::from_str_radix(address, 16).unwrap().to_be_bytes(), port).into(),
        _ => (u128::from_str_radix(address, 16).unwrap().to_be_bytes(), port).into(),
    }
}

fn same_record(view: &RecordView<'_>, line: &Value) {
    let same =
        |name: &str, value: i64| assert_eq!(line[name].as_i64(), Some(value), "{name} {line}");
    assert_eq!(line["magic"], format!("{:x}", view.magic()));
    assert_eq!(line["topic"], view.topic());
    assert_eq!(line["msgId"], view.message_id());
    same("queueId", view.queue_id().into());
    same("queueOffset", view.queue_offset().get() as i64);
    same("physOffset", view.physical_offset().get() as i64);
    same("size", view.size().into());
    same("flag", view.flag().into());
    same("sysFlag", view.sys_flag().into());
    same("bodyCRC", view.body_crc().into());
    same("bodyLen", view.body().len() as i64);
    same("bornTs", view.born_time().as_millis());
    same("storeTs", view.store_time().as_millis());
    same("reconsumeTimes", view.reconsume_times().into());
    same("preparedTxOffset", view.prepared_transaction());
    assert_eq!(host(&line["bornHost"]), view.born_host(), "{line}");
    assert_eq!(host(&line["storeHost"]), view.store_host(), "{line}");
    let expected = line["props"].as_object().unwrap();
    let mut found = BTreeMap::new();
    for (name, value) in view.properties() {
        found.insert(str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap());
    }
    assert_eq!(found.len(), expected.len(), "{line}");
    for (name, value) in found {
        match value.encode_utf16().count() {
            len @ 2001.. => assert!(expected[name].to_string().contains(&len.to_string())),
            _ => assert_eq!(expected[name], value, "{name} {line}"),
        }
        assert_eq!(view.property(name), Some(value));
    }
}

/// The same record, made from a message again.
fn encoded_again(view: &RecordView<'_>) -> Vec<u8> {
    let (checksum, properties) = match view.record_crc() {
        None => (RecordChecksum::Off, view.properties_bytes()),
        Some(_) => {
            let bytes = view.properties_bytes();
            (RecordChecksum::On, &bytes[..bytes.len() - CRC_TAIL])
        }
    };
    let queue = QueueKey::new(view.topic(), view.queue_id()).unwrap();
    let message = Message::new(&queue, view.body())
        .encoded_properties(properties)
        .flag(view.flag())
        .sys_flag(view.sys_flag())
        .born(view.born_time(), view.born_host())
        .reconsume_times(view.reconsume_times())
        .prepared_transaction(PhysicalOffset::new(view.prepared_transaction() as u64));
    let now = StoreTime::default();
    let plan = RecordPlan::new(&message, &LIMITS, checksum, now, view.store_host()).unwrap();
    assert_eq!(plan.takes_queue_offset(), view.has_queue_entry());
    let mut out = vec![0; plan.size() as usize];
    plan.encode(&mut out, view.queue_offset(), view.physical_offset(), view.store_time());
    out
}

#[test]
fn every_record_is_read_and_written_as_rocketmq_does() {
    for name in NAMES {
        let golden = Golden::open(name);
        let mut at = golden.store("minPhyOffset");
        let mut checksums = 0;
        for line in golden.of(&["record", "blank"]) {
            assert_eq!(line["physOffset"], at, "{name}");
            let size = match golden.frame(at).unwrap() {
                Frame::Record(view) => {
                    assert_eq!(line["type"], "record");
                    same_record(&view, line);
                    assert!(encoded_again(&view) == view.bytes(), "{name} {line}");
                    checksums += usize::from(view.verify().unwrap().record_crc);
                    view.size()
                }
                Frame::Blank { size } => {
                    assert_eq!((&line["type"], &line["size"]), (&"blank".into(), &size.into()));
                    size
                }
                other => panic!("{name} {at} {other:?}"),
            };
            at += u64::from(size);
        }
        assert_eq!(at, golden.store("maxPhyOffset"), "{name}");
        let records = golden.of(&["record"]).count();
        assert_eq!(checksums, if name == "clean-crc" { records } else { 0 }, "{name}");
        match golden.frame(at) {
            Some(Frame::Bad(Flaw::Checksum(_) | Flaw::Malformed(_))) if name == "halt-torn" => {}
            Some(Frame::Empty) | None if name != "halt-torn" => {}
            other => panic!("{name} {at} {other:?}"),
        }
    }
}

#[test]
fn queue_entries_are_those_of_their_records() {
    let levels = DelayLevels::default();
    for name in NAMES {
        let golden = Golden::open(name);
        let bytes = golden
            .files
            .iter()
            .find(|(path, _)| path.starts_with("consumequeue/") && !path.ends_with('/'))
            .unwrap()
            .1
            .len() as u64;
        for line in golden.of(&["msg"]) {
            let offset = line["cqOffset"].as_u64().unwrap() * ENTRY_BYTES as u64;
            let (topic, queue) = (line["topic"].as_str().unwrap(), &line["queueId"]);
            let path = format!("consumequeue/{topic}/{queue}/{:020}", offset / bytes * bytes);
            let file = &golden.files[&path][(offset % bytes) as usize..];
            let entry = QueueEntry::decode(file.first_chunk().unwrap()).unwrap();
            assert_eq!(line["physOffset"], entry.physical_offset.get(), "{line}");
            assert_eq!(line["cqSize"], entry.size, "{line}");
            assert_eq!(line["tagsCode"], entry.tags_code, "{line}");
            assert_eq!(entry.encode(), file[..ENTRY_BYTES]);
            let view = golden.record(entry.physical_offset.get());
            assert_eq!(QueueEntry::of(&view, &levels), entry, "{line}");
            assert_eq!(line["queueOffset"], view.queue_offset().get());
            assert!(view.has_queue_entry());
        }
    }
}

#[test]
fn fillers_are_entries_before_the_first_live_one() {
    let golden = Golden::open("expired-preblank");
    let mut fillers = 0;
    for (path, bytes) in &golden.files {
        if path.starts_with("consumequeue/") {
            for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
                fillers += usize::from(QueueEntry::decode(entry).is_some_and(|e| e.is_filler()));
            }
        }
    }
    assert!(fillers > 0);
}

/// The offsets of a key's messages, newest first, as the index file has them.
fn look_up(file: &[u8], topic: &str, key: &str) -> Vec<u64> {
    let header = IndexHeader::decode(file[..INDEX_HEADER_BYTES].try_into().unwrap());
    let hash = key_hash(topic, key);
    let slot = INDEX.slot_at(INDEX.slot_of(hash)) as usize;
    let mut number = decode_slot(*file[slot..].first_chunk().unwrap());
    let mut found = Vec::new();
    while INDEX.has_entry(number, header.entry_count) && found.len() < 64 {
        let at = INDEX.entry_at(number) as usize;
        let bytes = file[at..].first_chunk().unwrap();
        let entry = IndexEntry::decode(bytes);
        assert_eq!(entry.encode(), *bytes);
        if entry.hash == hash {
            found.push(entry.physical_offset.get());
        }
        assert!(entry.previous < number);
        number = entry.previous;
    }
    found
}

#[test]
fn keys_are_found_in_rocketmqs_index() {
    for name in NAMES {
        let golden = Golden::open(name);
        let (_, file) = golden.files.iter().find(|(path, _)| path.starts_with("index/2")).unwrap();
        assert_eq!(file.len() as u64, INDEX.file_bytes());
        let header = IndexHeader::decode(file[..INDEX_HEADER_BYTES].try_into().unwrap());
        assert_eq!(header.encode(), file[..INDEX_HEADER_BYTES]);
        let end = golden.store("maxPhyOffset");
        for line in golden.of(&["query"]) {
            let text = |field: &str| line[field].as_str().unwrap();
            let mut found = look_up(file, text("topic"), text("key"));
            // The entries of the torn record are still there.
            found.retain(|&at| at < end);
            found.sort_unstable();
            let expected: Vec<u64> = line["physOffsets"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_u64().unwrap())
                .collect();
            assert_eq!(found, expected, "{name} {line}");
            for at in found {
                let view = golden.record(at);
                let seconds = IndexEntry::seconds_between(header.begin_time, view.store_time());
                assert!(seconds <= IndexEntry::seconds_between(header.begin_time, header.end_time));
            }
        }
    }
}

#[test]
fn the_checkpoint_does_not_run_ahead_of_the_log() {
    for name in NAMES {
        let golden = Golden::open(name);
        let bytes = &golden.files["checkpoint"];
        let checkpoint = JavaCheckpoint::decode(bytes).unwrap();
        assert!(checkpoint.encode() == bytes[..], "{name}");
        let last = golden.of(&["record"]).filter_map(|line| line["storeTs"].as_i64()).max();
        // The torn record, 7 ms later, has a queue entry.
        let last = last.unwrap() + if name == "halt-torn" { 7 } else { 0 };
        assert!(checkpoint.queue_time.as_millis() <= last, "{name} {checkpoint:?} {last}");
    }
}

#[test]
fn the_next_record_is_found_from_anywhere() {
    let golden = Golden::open("clean-crc");
    let bytes = golden.log(0).unwrap();
    let mut starts: Vec<usize> = Vec::new();
    for line in golden.of(&["record"]) {
        starts.extend(line["physOffset"].as_u64().filter(|&at| at < SEGMENT).map(|at| at as usize));
    }
    for from in (0..bytes.len()).step_by(97).chain(starts.iter().copied()) {
        let next = starts.iter().copied().find(|&start| start >= from);
        let found = find_next_record(bytes, from, PhysicalOffset::ZERO, ChecksumRule::Required);
        assert_eq!(found, next, "from={from}");
    }
}
