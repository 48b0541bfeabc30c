//! Records that stand where damaged ones were: any store can walk past them, and they are in no
//! queue and no index.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    error::{Error, Result},
    format::{
        layout::{BLANK_BYTES, CRC_TAIL, FLAG_TRANSACTION, RECORD_MIN_BYTES, TransactionState},
        record::{RecordLimits, RecordPlan, encode_blank},
        view::RecordView,
    },
    message::Message,
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    options::RecordChecksum,
};

/// The topic of placeholders.
pub(crate) const TOPIC: &str = "STEADFAST_PLACEHOLDER";
/// Their topic where there is no room for the long one.
pub(crate) const SHORT_TOPIC: &str = "_";
/// The smallest placeholder there can be.
pub(crate) const LEAST: u64 = RECORD_MIN_BYTES as u64;
/// With the long topic and a checksum, without a body.
const USUAL: u64 = LEAST - 1 + (TOPIC.len() + CRC_TAIL) as u64;
/// The largest one that is made. More take several.
const MOST: u64 = 32 << 20;

/// Whether the record is one that a repair put over damage.
pub(crate) fn is_placeholder(view: &RecordView<'_>) -> bool {
    view.transaction_state() == TransactionState::Rollback
        && (view.topic() == TOPIC || view.topic() == SHORT_TOPIC)
        && view.body().iter().all(|&b| b == 0)
}

/// How long the first of the placeholders that fill `room` bytes is; `None` if `room` is too
/// small for any.
pub(crate) fn first_len(room: u64) -> Option<u64> {
    match room {
        0..LEAST => None,
        // What is left must have room for another one.
        _ if room > MOST + LEAST => Some(MOST),
        _ if room > MOST => Some(room - LEAST),
        _ => Some(room),
    }
}

/// The bytes of a placeholder of `len` bytes at `at`.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is none of that length.
pub(crate) fn encode(at: PhysicalOffset, len: u64, now: StoreTime) -> Result<Vec<u8>> {
    let least = |topic: &str, tail: usize| LEAST - 1 + (topic.len() + tail) as u64;
    let (topic, checksum, overhead) = if len >= least(TOPIC, CRC_TAIL) {
        (TOPIC, RecordChecksum::On, least(TOPIC, CRC_TAIL))
    } else if len >= least(SHORT_TOPIC, CRC_TAIL) {
        (SHORT_TOPIC, RecordChecksum::On, least(SHORT_TOPIC, CRC_TAIL))
    } else {
        (SHORT_TOPIC, RecordChecksum::Off, LEAST)
    };
    let Some(body) = len.checked_sub(overhead) else {
        return Err(Error::invalid(format!("no record is that short len={len}")));
    };
    let queue = QueueKey::new(topic, 0)?;
    let body = vec![0; body as usize];
    // Rolled back: kept in the log, put into no queue and no index.
    let message = Message::new(&queue, &body).sys_flag(FLAG_TRANSACTION);
    let limits = RecordLimits { max_message_bytes: 1 << 30, segment_bytes: 1 << 31 };
    let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plan = RecordPlan::new(&message, &limits, checksum, now, host)?;
    let mut bytes = vec![0; plan.size() as usize];
    plan.encode(&mut bytes, QueueOffset::ZERO, at, now);
    Ok(bytes)
}

/// What goes over the last `room` bytes of a segment, from `at` on: a small placeholder, which says
/// that records are lost there, and the head of a blank record for all the rest.
///
/// # Errors
///
/// None in practice.
pub(crate) fn encode_to_segment_end(
    at: PhysicalOffset,
    room: u64,
    now: StoreTime,
) -> Result<Vec<u8>> {
    let blank_least = u64::from(BLANK_BYTES);
    let mut bytes = match room.saturating_sub(blank_least) {
        // No record ever fitted here.
        0..LEAST => Vec::new(),
        len => encode(at, len.min(USUAL), now)?,
    };
    let mut blank = [0; BLANK_BYTES as usize];
    encode_blank(&mut blank, (room - bytes.len() as u64) as u32);
    bytes.extend_from_slice(&blank);
    bytes.truncate(room as usize);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::{ChecksumRule, Frame, classify};

    #[test]
    fn there_is_a_sound_placeholder_of_every_length_from_92_bytes_on() {
        let (at, now) = (PhysicalOffset::new(4096), StoreTime::from_millis(7));
        for len in LEAST..400 {
            let bytes = encode(at, len, now).unwrap();
            assert_eq!(bytes.len() as u64, len);
            match classify(&bytes, at, len + 8, ChecksumRule::WhenPresent) {
                Frame::Record(view) => {
                    assert!(is_placeholder(&view) && !view.has_queue_entry(), "{len}");
                    assert_eq!(view.record_crc().is_some(), len >= 112, "{len}");
                }
                other => panic!("{len}: {other:?}"),
            }
        }
        assert!(encode(at, LEAST - 1, now).is_err());
    }

    #[test]
    fn any_room_that_is_large_enough_is_filled_exactly() {
        for room in [LEAST, MOST, MOST + 1, MOST + LEAST, MOST + LEAST + 1, 3 * MOST + 5] {
            let mut left = room;
            while left > 0 {
                let len = first_len(left).unwrap();
                assert!((LEAST..=MOST).contains(&len), "{room} {left}");
                left -= len;
            }
        }
        assert_eq!(first_len(LEAST - 1), None);
    }

    #[test]
    fn a_segments_end_is_filled_by_a_placeholder_and_a_blank() {
        let (at, now) = (PhysicalOffset::new(4096), StoreTime::from_millis(7));
        let rule = ChecksumRule::WhenPresent;
        for room in 8..400 {
            let bytes = encode_to_segment_end(at, room, now).unwrap();
            let mut behind = 0;
            if let Frame::Record(view) = classify(&bytes, at, room, rule) {
                assert!(is_placeholder(&view), "{room}");
                behind = view.size() as usize;
            }
            assert_eq!(behind > 0, room >= LEAST + 8, "{room}");
            let rest = room - behind as u64;
            let blank = classify(&bytes[behind..], at + behind as u64, rest, rule);
            assert!(matches!(blank, Frame::Blank { size } if u64::from(size) == rest), "{room}");
        }
    }
}
