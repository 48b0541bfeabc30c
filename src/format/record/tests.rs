use super::*;
use crate::format::{
    testing::{LIMITS, Random, Sample},
    view::RecordView,
};

const HOST: &str = "10.0.0.1:10911";

fn plan<'a>(message: &'a Message<'a>, checksum: RecordChecksum) -> Result<RecordPlan<'a>> {
    RecordPlan::new(message, &LIMITS, checksum, StoreTime::default(), HOST.parse().unwrap())
}

fn encoded(message: &Message<'_>, checksum: RecordChecksum) -> Vec<u8> {
    let plan = plan(message, checksum).unwrap();
    let mut out = vec![0; plan.size() as usize];
    plan.encode(&mut out, QueueOffset::new(7), PhysicalOffset::new(1000), StoreTime::default());
    out
}

/// The record by the sheet, field after field, checksums over finished bytes.
fn by_the_sheet(sample: &Sample, checksum: RecordChecksum) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    let host = |host: SocketAddr| {
        let mut bytes = match host.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend_from_slice(&i32::from(host.port()).to_be_bytes());
        bytes
    };
    let topic = sample.queue.topic();
    let mut sys_flag = sample.sys_flag & !0x30;
    sys_flag |= if sample.born.1.is_ipv6() { 0x10 } else { 0 };
    sys_flag |= if sample.store_host.is_ipv6() { 0x20 } else { 0 };
    let queued = matches!(sys_flag & 0xC, 0 | 8);
    let mut properties = sample.properties.clone();
    if checksum == RecordChecksum::On {
        if properties.last().is_some_and(|&b| b != 2) {
            properties.push(2);
        }
        properties.extend_from_slice(b"__CRC32#\x01..........\x02");
    }
    put(&[0; 4]);
    put(&if topic.len() > 127 { 0xDAA320ABu32 } else { 0xDAA320A7 }.to_be_bytes());
    put(&(crc32fast::hash(&sample.body) & 0x7FFF_FFFF).to_be_bytes());
    put(&sample.queue.queue_id().to_be_bytes());
    put(&sample.flag.to_be_bytes());
    put(&if queued { sample.queue_offset.get() } else { 0 }.to_be_bytes());
    put(&sample.at.get().to_be_bytes());
    put(&sys_flag.to_be_bytes());
    put(&sample.born.0.as_millis().to_be_bytes());
    put(&host(sample.born.1));
    put(&sample.store_time.as_millis().to_be_bytes());
    put(&host(sample.store_host));
    put(&sample.reconsume_times.to_be_bytes());
    put(&sample.prepared.to_be_bytes());
    put(&(sample.body.len() as u32).to_be_bytes());
    put(&sample.body);
    let len = (topic.len() as u16).to_be_bytes();
    put(if topic.len() > 127 { &len } else { &len[1..] });
    put(topic.as_bytes());
    put(&(properties.len() as u16).to_be_bytes());
    put(&properties);
    let size = out.len();
    out[..4].copy_from_slice(&(size as u32).to_be_bytes());
    if checksum == RecordChecksum::On {
        let value = crc32fast::hash(&out[..size - 20]) & 0x7FFF_FFFF;
        let digits: String = format!("{value:010}").chars().rev().collect();
        out[size - 11..size - 1].copy_from_slice(digits.as_bytes());
    }
    out
}

#[test]
fn records_are_as_the_sheet_says() {
    let mut random = Random::seeded();
    for _ in 0..2000 {
        let sample = Sample::random(&mut random);
        for checksum in [RecordChecksum::On, RecordChecksum::Off] {
            let record = sample.encode(checksum);
            assert!(record == by_the_sheet(&sample, checksum), "{sample:?}");
        }
    }
}

#[test]
fn checksum_digits_are_reversed_and_padded() {
    for value in [0, 1, 9, 10, 123, 1_000_000_000, 2_147_483_647, 1_987_654_321] {
        let digits: String = format!("{value:010}").chars().rev().collect();
        assert_eq!(crc_tail(value), format!("__CRC32#\u{1}{digits}\u{2}").as_bytes());
    }
    assert_eq!(&crc_tail(123)[9..19], b"3210000000");
}

#[test]
fn a_limit_is_named_with_its_value() {
    let queue = QueueKey::new("t", 0).unwrap();
    let body = vec![0; 5000];
    let message = Message::new(&queue, &body);
    let refused = |max_message_bytes, segment_bytes| {
        let limits = RecordLimits { max_message_bytes, segment_bytes };
        let host = HOST.parse().unwrap();
        let result =
            RecordPlan::new(&message, &limits, RecordChecksum::Off, StoreTime::default(), host);
        let error = result.err()?;
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        Some(error.to_string())
    };
    let size = u64::from(plan(&message, RecordChecksum::Off).unwrap().size());
    assert_eq!(refused(5000, size + 8), None);
    let text = refused(4999, size + 8).unwrap();
    assert!(text.contains("bytes=5000") && text.contains("limit=4999"), "{text}");
    let text = refused(5000, size + 7).unwrap();
    assert!(text.contains(&format!("bytes={size}")) && text.contains("segment_bytes"), "{text}");
    assert!(refused(5000, 3).is_some());
}

#[test]
fn properties_with_the_checksum_stay_below_a_signed_short() {
    let queue = QueueKey::new("t", 0).unwrap();
    let fits = [b"n\x01".to_vec(), vec![b'v'; 32767 - 23], b"\x02".to_vec()].concat();
    let message = Message::new(&queue, b"").encoded_properties(&fits);
    assert!(plan(&message, RecordChecksum::On).is_ok());
    let longer = [b"n\x01v".to_vec(), fits[2..].to_vec()].concat();
    let message = Message::new(&queue, b"").encoded_properties(&longer);
    assert!(plan(&message, RecordChecksum::Off).is_ok());
    let error = plan(&message, RecordChecksum::On).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("32768"), "{error}");
}

#[test]
fn a_message_with_a_wrong_property_is_refused() {
    let queue = QueueKey::new("t", 0).unwrap();
    let message = Message::new(&queue, b"").property("a\u{1}", "b");
    assert_eq!(plan(&message, RecordChecksum::On).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_checksum_that_came_with_the_message_is_replaced() {
    let queue = QueueKey::new("t", 0).unwrap();
    let stale = "__CRC32#\u{1}0123456789\u{2}";
    let expected = Message::new(&queue, b"b").encoded_properties(b"a\x01b\x02c__CRC32#\x01d\x02");
    let expected = encoded(&expected, RecordChecksum::On);
    for given in [
        format!("a\u{1}b\u{2}c__CRC32#\u{1}d\u{2}{stale}"),
        format!("{stale}a\u{1}b\u{2}{stale}c__CRC32#\u{1}d\u{2}"),
        "a\u{1}b\u{2}c__CRC32#\u{1}d\u{2}__CRC32#\u{1}x".to_owned(),
    ] {
        let message = Message::new(&queue, b"b").encoded_properties(given.as_bytes());
        assert!(encoded(&message, RecordChecksum::On) == expected, "{given:?}");
    }
}

#[test]
fn without_checksums_no_message_can_look_damaged() {
    let queue = QueueKey::new("t", 0).unwrap();
    for given in ["a\u{1}b\u{2}__CRC32#\u{1}0123456789\u{2}", "a__CRC32#\u{1}0123456789\u{2}"] {
        let message = Message::new(&queue, b"b").encoded_properties(given.as_bytes());
        let record = encoded(&message, RecordChecksum::Off);
        let view = RecordView::parse(&record).unwrap();
        assert!(!view.verify().unwrap().record_crc);
        let same = crate::format::properties::Properties::of(given.as_bytes());
        assert!(view.properties().eq(same), "{given:?}");
        let record = encoded(&message, RecordChecksum::On);
        assert!(RecordView::parse(&record).unwrap().verify().unwrap().record_crc);
    }

    let inside = b"__CRC32#\x010123456789\x02a\x01b\x02";
    let message = Message::new(&queue, b"b").encoded_properties(inside);
    let record = encoded(&message, RecordChecksum::Off);
    assert_eq!(RecordView::parse(&record).unwrap().properties_bytes(), inside);
}

#[test]
fn topics_of_more_than_127_bytes_make_a_v2_record() {
    for (topic, magic) in [
        ("t".repeat(127), MAGIC_V1),
        ("t".repeat(128), MAGIC_V2),
        ("\u{6D88}".repeat(43), MAGIC_V2),
        ("t".repeat(255), MAGIC_V2),
    ] {
        let queue = QueueKey::new(&topic, 3).unwrap();
        let record = encoded(&Message::new(&queue, b"b"), RecordChecksum::On);
        let view = RecordView::parse(&record).unwrap();
        assert_eq!((view.magic(), view.topic()), (magic, topic.as_str()));
        assert!(view.verify().unwrap().record_crc);
    }
}

#[test]
fn mapped_addresses_are_stored_as_java_does() {
    let queue = QueueKey::new("t", 0).unwrap();
    let host = "[::ffff:10.1.2.3]:99".parse().unwrap();
    let message = Message::new(&queue, b"").born(StoreTime::default(), host).store_host(host);
    let record = encoded(&message, RecordChecksum::On);
    let view = RecordView::parse(&record).unwrap();
    assert_eq!(view.born_host(), "10.1.2.3:99".parse().unwrap());
    assert_eq!(view.store_host(), view.born_host());
}

#[test]
fn a_blank_record_is_size_and_magic() {
    let mut out = [9; 8];
    encode_blank(&mut out, 17586);
    assert_eq!(out, [0, 0, 0x44, 0xB2, 0xCB, 0xD4, 0x31, 0x94]);
}
