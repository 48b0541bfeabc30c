use super::*;
use crate::{
    format::testing::{Random, Sample},
    message::Message,
    name::QueueKey,
    options::RecordChecksum,
};

#[test]
fn every_field_comes_back() {
    let mut random = Random::seeded();
    for _ in 0..1000 {
        let sample = Sample::random(&mut random);
        let mut bytes = sample.encode(RecordChecksum::Off);
        let size = bytes.len();
        bytes.extend_from_slice(b"behind");
        let view = RecordView::parse(&bytes).unwrap();
        assert_eq!((view.size() as usize, view.bytes()), (size, &bytes[..size]));
        assert_eq!(
            (view.topic(), view.queue_id()),
            (sample.queue.topic(), sample.queue.queue_id())
        );
        assert_eq!((view.flag(), view.sys_flag() & !0x30), (sample.flag, sample.sys_flag & !0x30));
        assert_eq!(view.physical_offset(), sample.at);
        let queue_offset = if view.has_queue_entry() { sample.queue_offset.get() } else { 0 };
        assert_eq!(view.queue_offset().get(), queue_offset);
        assert_eq!((view.born_time(), view.born_host()), sample.born);
        assert_eq!((view.store_time(), view.store_host()), (sample.store_time, sample.store_host));
        assert_eq!(view.reconsume_times(), sample.reconsume_times);
        assert_eq!(view.prepared_transaction() as u64, sample.prepared);
        assert_eq!(
            (view.body(), view.properties_bytes()),
            (&sample.body[..], &sample.properties[..])
        );
        assert!(!view.verify().unwrap().record_crc);
    }
}

#[test]
fn cutting_at_every_byte_is_an_error_and_never_a_panic() {
    let mut random = Random::seeded();
    for _ in 0..20 {
        let mut sample = Sample::random(&mut random);
        sample.body.truncate(200);
        let bytes = sample.encode(RecordChecksum::On);
        for len in 0..bytes.len() {
            let cut = RecordView::parse(&bytes[..len]);
            assert!(matches!(cut, Err(Malformed::Truncated { .. })), "len={len} {cut:?}");
        }
    }
}

#[test]
fn random_changes_never_panic() {
    let mut random = Random::seeded();
    for _ in 0..20_000 {
        let mut sample = Sample::random(&mut random);
        sample.body.truncate(50);
        let mut bytes = sample.encode(RecordChecksum::On);
        for _ in 0..1 + random.below(4) {
            // Lengths are where it hurts: the header, and the bytes behind the body.
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        if let Ok(view) = RecordView::parse(&bytes) {
            let _ = (view.verify(), view.message_id(), view.born_host(), view.store_host());
            let _ = (view.keys().count(), view.properties().count(), format!("{view:?}"));
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let mut random = Random::seeded();
    for _ in 0..10 {
        let mut sample = Sample::random(&mut random);
        sample.body.truncate(150);
        let mut bytes = sample.encode(RecordChecksum::On);
        assert!(RecordView::parse(&bytes).unwrap().verify().unwrap().record_crc);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let checked = RecordView::parse(&bytes).ok().and_then(|view| view.verify().ok());
            // In the property's own name a flip leaves a record without record CRC.
            let found = checked.is_none_or(|checked| !checked.record_crc);
            assert!(found, "bit={bit} {sample:?}");
            let name = bytes.len() - CRC_TAIL..bytes.len() - CRC_TAIL + CRC_TAIL_NAME.len();
            if !name.contains(&(bit / 8)) {
                assert_eq!(checked, None, "bit={bit} {sample:?}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let queue = QueueKey::new("topic", 0).unwrap();
    let sample = Sample { queue, body: b"body".to_vec(), ..Sample::random(&mut Random::seeded()) };
    let sample = Sample { born: (StoreTime::default(), "1.2.3.4:5".parse().unwrap()), ..sample };
    let sample = Sample { store_host: sample.born.1, properties: b"a\x01b\x02".to_vec(), ..sample };
    let good = sample.encode(RecordChecksum::Off);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        RecordView::parse(&changed).unwrap_err()
    };
    let size = good.len() as u64;
    assert_eq!(with(0, &[0xFF; 4]), Malformed::Size(u32::MAX));
    assert_eq!(with(0, &91u32.to_be_bytes()), Malformed::Size(91));
    let longer = Malformed::Truncated { size: size + 1, have: size };
    assert_eq!(with(0, &(size as u32 + 1).to_be_bytes()), longer);
    assert_eq!(with(4, &[0; 4]), Malformed::Magic(0));
    assert_eq!(with(84, &[0xFF; 4]), Malformed::BodyLength(-1));
    assert_eq!(with(84, &1000u32.to_be_bytes()), Malformed::BodyLength(1000));
    assert_eq!(with(92, &[0]), Malformed::TopicLength(0));
    assert_eq!(with(92, &[200]), Malformed::TopicLength(200));
    assert_eq!(with(93, &[0xFF]), Malformed::TopicText);
    assert_eq!(with(98, &[0xFF, 0xFF]), Malformed::PropertiesLength { stored: -1, room: 4 });
    assert_eq!(with(98, &[0, 3]), Malformed::PropertiesLength { stored: 3, room: 4 });
    assert!(longer.to_string().contains(&format!("have={size}")));
}

#[test]
fn well_known_properties_are_found() {
    let queue = QueueKey::new("topic", 0).unwrap();
    let mut sample = Sample::random(&mut Random::seeded());
    sample.properties = Message::new(&queue, b"")
        .key(" k1  k2 ")
        .tag("old")
        .property("UNIQ_KEY", "u")
        .tag("new")
        .properties
        .into_owned();
    sample.properties.extend_from_slice(b"raw\x01\xFF\xFE");
    let bytes = sample.encode(RecordChecksum::On);
    let view = RecordView::parse(&bytes).unwrap();
    assert_eq!(view.keys().collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!((view.tag(), view.unique_key()), (Some("new"), Some("u")));
    assert_eq!((view.property("raw"), view.property_bytes("raw")), (None, Some(&b"\xFF\xFE"[..])));
    assert_eq!(view.property_bytes("__CRC32#").map(<[u8]>::len), Some(10));
}

#[test]
fn message_ids_are_host_and_offset() {
    let mut sample = Sample::random(&mut Random::seeded());
    sample.at = PhysicalOffset::new(0x105);
    sample.store_host = "10.0.0.1:10911".parse().unwrap();
    let bytes = sample.encode(RecordChecksum::On);
    let id = RecordView::parse(&bytes).unwrap().message_id();
    assert_eq!(id, "0A00000100002A9F0000000000000105");
    sample.store_host = "[fe80::1]:10911".parse().unwrap();
    let bytes = sample.encode(RecordChecksum::On);
    let id = RecordView::parse(&bytes).unwrap().message_id();
    assert_eq!(id, "FE80000000000000000000000000000100002A9F0000000000000105");
}
