//! Bytes in, values or errors out.

use steadfast::{
    PhysicalOffset, RecordView,
    internals::format::{
        batch::BatchParts,
        entry::{DelayLevels, QueueEntry},
        frame::{ChecksumRule, Frame, classify},
        offsets_json as json,
        resync::find_next_record,
    },
};

const RULES: [ChecksumRule; 2] = [ChecksumRule::WhenPresent, ChecksumRule::Required];

/// A record out of any bytes: each field can be asked for, whatever it holds.
pub fn decode_record(bytes: &[u8]) {
    let Ok(view) = RecordView::parse(bytes) else { return };
    assert!(view.size() as usize <= bytes.len() && view.bytes().len() == view.size() as usize);
    assert!(view.body().len() + view.topic().len() < view.bytes().len());
    let text = [view.tag(), view.unique_key(), view.property("KEYS")];
    assert!(text.iter().flatten().all(|text| text.len() < bytes.len()));
    assert!(view.keys().all(|key| !key.is_empty()));
    assert!(view.properties().get("__CRC32#").is_none_or(|crc| crc.len() < bytes.len()));
    let _ = (view.born_host(), view.store_host(), view.message_id(), view.transaction_state());
    let _ = (view.has_queue_entry(), view.record_crc(), view.prepared_transaction());
    let entry = QueueEntry::of(&view, &DelayLevels::default());
    if let Some(again) = QueueEntry::decode(&entry.encode()) {
        assert_eq!(again, entry);
    }
    for rule in RULES {
        let frame = classify(bytes, view.physical_offset(), u64::from(u32::MAX), rule);
        // What is taken for a record has right checksums.
        assert!(!matches!(frame, Frame::Record(_)) || view.verify().is_ok());
    }
}

/// Any bytes as a segment: walking it ends, and what resynchronising finds is a record.
pub fn classify_segment(bytes: &[u8]) {
    let (base, bytes) = bytes.split_at(bytes.len().min(2));
    let base = u64::from(base.first().copied().unwrap_or(0)) << 12;
    for rule in RULES {
        let mut at = 0;
        while at < bytes.len() {
            let (rest, offset) = (&bytes[at..], PhysicalOffset::new(base + at as u64));
            let step = match classify(rest, offset, rest.len() as u64, rule) {
                Frame::Record(view) => view.size() as usize,
                Frame::Blank { size } => {
                    assert_eq!(size as usize, rest.len(), "a blank ends with the segment");
                    size as usize
                }
                Frame::Empty | Frame::Bad(_) => match find_next_record(rest, 1, offset, rule) {
                    None => break,
                    Some(found) => {
                        let (rest, offset) = (&rest[found..], offset + found as u64);
                        let frame = classify(rest, offset, rest.len() as u64, rule);
                        // It may be too near to the end for its place, but it is whole and sound.
                        if !matches!(frame, Frame::Record(_)) {
                            RecordView::parse(rest).unwrap().verify().unwrap();
                        }
                        found
                    }
                },
            };
            assert!(step > 0, "the walk stands still at {at}");
            at += step;
        }
    }
}

/// Any text as `consumerOffset.json`: what is understood is written and understood again.
pub fn offsets_json(bytes: &[u8]) {
    let Ok(table) = json::parse(bytes) else { return };
    assert_eq!(json::parse(&json::write(&table)).unwrap(), table);
}

/// Any bytes as a client's batch: parts lie in it, and an error ends it.
pub fn batch_body(bytes: &[u8]) {
    let mut parts = BatchParts::of(bytes);
    let mut total = 0;
    while let Some(part) = parts.next() {
        match part {
            Ok(part) => total += 22 + part.body.len() + part.properties.len(),
            Err(broken) => {
                assert!(broken.at <= bytes.len() && parts.next().is_none());
                return;
            }
        }
    }
    assert_eq!(total, bytes.len(), "parts are the whole of a sound batch");
}
