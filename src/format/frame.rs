//! What lies at a position of a segment: a sound record, the blank at its end, nothing yet, or
//! something that should not be there.

use std::fmt;

use super::{
    layout::*,
    view::{ChecksumMismatch, Malformed, RecordView},
};
use crate::offset::PhysicalOffset;

/// Whether a record must carry a checksum of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumRule {
    /// It is checked if there is one: records of RocketMQ usually have none.
    WhenPresent,
    /// A record without one is bad. For ranges known to have them, so that no flipped bit can
    /// switch the check off.
    Required,
}

/// What [`classify`] found.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// A sound record.
    Record(RecordView<'a>),
    /// The blank record that reaches to the segment's end.
    Blank {
        /// Bytes to the segment's end.
        size: u32,
    },
    /// Zeros where the next record would begin.
    Empty,
    /// None of these.
    Bad(Flaw),
}

/// Why the bytes at a position are no sound record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The fields contradict each other.
    Malformed(Malformed),
    /// It says that it belongs elsewhere: left over from before, or copied.
    Elsewhere {
        /// Where it says it is.
        says: PhysicalOffset,
    },
    /// It reaches into the last 8 bytes of the segment, or beyond.
    Room {
        /// The record's size.
        size: u32,
        /// Bytes to the segment's end.
        room: u64,
    },
    /// A blank record that does not end with the segment.
    Blank {
        /// Its size.
        size: u32,
        /// Bytes to the segment's end.
        room: u64,
    },
    /// A checksum is wrong.
    Checksum(ChecksumMismatch),
    /// There is no checksum of the whole record, but [`ChecksumRule::Required`] asks for one.
    Unprotected,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Elsewhere { says } => write!(f, "the record says that it is at offset={says}"),
            Self::Room { size, room } => {
                write!(f, "the record leaves no room for a blank one size={size} room={room}")
            }
            Self::Blank { size, room } => {
                write!(f, "the blank record does not end with the segment size={size} room={room}")
            }
            Self::Checksum(mismatch) => mismatch.fmt(f),
            Self::Unprotected => f.write_str("the record does not end in its checksum"),
        }
    }
}

/// What lies at `at`, where `bytes` begin and `segment_room` bytes are left in the segment.
///
/// `bytes` may be shorter than the room when the rest cannot be read; a record that reaches
/// beyond them is [`Malformed::Truncated`]. Whether something bad is a torn tail or damage is for
/// the caller to find out by looking behind it.
#[inline]
pub fn classify(
    bytes: &[u8],
    at: PhysicalOffset,
    segment_room: u64,
    rule: ChecksumRule,
) -> Frame<'_> {
    let view = match RecordView::parse(bytes) {
        Ok(view) => view,
        Err(malformed) => return no_record(bytes, segment_room, malformed),
    };
    match placed(&view, at, segment_room).and_then(|()| sound(&view, rule)) {
        Ok(()) => Frame::Record(view),
        Err(flaw) => Frame::Bad(flaw),
    }
}

/// Whether a blank record begins with `head`, whatever size it says.
#[inline]
pub(crate) fn is_blank(head: &[u8]) -> bool {
    head.get(MAGIC..MAGIC + 4).is_some_and(|magic| magic == MAGIC_BLANK.to_be_bytes())
}

/// Whether a record belongs where it is: cheap, no checksum.
#[inline]
pub(crate) fn placed(
    view: &RecordView<'_>,
    at: PhysicalOffset,
    segment_room: u64,
) -> Result<(), Flaw> {
    if view.physical_offset() != at {
        return Err(Flaw::Elsewhere { says: view.physical_offset() });
    }
    if u64::from(view.size()) + u64::from(BLANK_BYTES) > segment_room {
        return Err(Flaw::Room { size: view.size(), room: segment_room });
    }
    Ok(())
}

/// Whether a record's checksums are right.
#[inline]
pub(crate) fn sound(view: &RecordView<'_>, rule: ChecksumRule) -> Result<(), Flaw> {
    let checked = view.verify().map_err(Flaw::Checksum)?;
    if rule == ChecksumRule::Required && !checked.record_crc {
        return Err(Flaw::Unprotected);
    }
    Ok(())
}

#[cold]
fn no_record(bytes: &[u8], room: u64, malformed: Malformed) -> Frame<'_> {
    let head = &bytes[..bytes.len().min(8)];
    if head.iter().all(|&b| b == 0) {
        return Frame::Empty;
    }
    let blank = MAGIC_BLANK.to_be_bytes();
    if let &[s0, s1, s2, s3, ref magic @ ..] = head
        && *magic == blank
    {
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        return if u64::from(size) == room {
            Frame::Blank { size }
        } else {
            Frame::Bad(Flaw::Blank { size, room })
        };
    }
    Frame::Bad(Flaw::Malformed(malformed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{
            record::encode_blank,
            testing::{Random, Sample},
        },
        options::RecordChecksum,
    };

    fn flaw(bytes: &[u8], at: PhysicalOffset, room: u64, rule: ChecksumRule) -> Option<Flaw> {
        match classify(bytes, at, room, rule) {
            Frame::Record(_) => None,
            Frame::Bad(flaw) => Some(flaw),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_is_sound_only_where_it_belongs() {
        let sample = Sample::random(&mut Random::seeded());
        let bytes = sample.encode(RecordChecksum::On);
        let (at, size) = (sample.at, bytes.len() as u64);
        let rule = ChecksumRule::Required;
        assert_eq!(flaw(&bytes, at, size + 8, rule), None);
        let room = Flaw::Room { size: size as u32, room: size + 7 };
        assert_eq!(flaw(&bytes, at, size + 7, rule), Some(room));
        assert_eq!(flaw(&bytes, at + 1, size + 8, rule), Some(Flaw::Elsewhere { says: at }));
    }

    #[test]
    fn a_record_without_checksum_is_bad_only_where_one_is_required() {
        let sample = Sample::random(&mut Random::seeded());
        let bytes = sample.encode(RecordChecksum::Off);
        let room = bytes.len() as u64 + 8;
        assert_eq!(flaw(&bytes, sample.at, room, ChecksumRule::WhenPresent), None);
        let required = flaw(&bytes, sample.at, room, ChecksumRule::Required);
        assert_eq!(required, Some(Flaw::Unprotected));
    }

    #[test]
    fn where_a_checksum_is_required_every_flipped_bit_is_bad() {
        let mut random = Random::seeded();
        for _ in 0..10 {
            let mut sample = Sample::random(&mut random);
            sample.body.truncate(150);
            let mut bytes = sample.encode(RecordChecksum::On);
            let room = 1 << 20;
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let frame = classify(&bytes, sample.at, room, ChecksumRule::Required);
                assert!(matches!(frame, Frame::Bad(_)), "bit={bit} {sample:?}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn cutting_anywhere_is_bad_or_empty() {
        let sample = Sample::random(&mut Random::seeded());
        let bytes = sample.encode(RecordChecksum::On);
        for len in 0..bytes.len() {
            let frame = classify(&bytes[..len], sample.at, 1 << 20, ChecksumRule::WhenPresent);
            match frame {
                Frame::Bad(_) => {}
                // A small record's size begins with zeros.
                Frame::Empty => assert!(len < 4, "len={len}"),
                other => panic!("len={len} {other:?}"),
            }
        }
    }

    #[test]
    fn a_blank_reaches_exactly_the_end_of_the_segment() {
        let mut bytes = [0; 20];
        encode_blank(bytes.first_chunk_mut().unwrap(), 20);
        let at = PhysicalOffset::new(44);
        let found = |room| classify(&bytes, at, room, ChecksumRule::Required);
        assert!(matches!(found(20), Frame::Blank { size: 20 }));
        assert!(matches!(found(21), Frame::Bad(Flaw::Blank { size: 20, room: 21 })));
        assert!(matches!(found(19), Frame::Bad(Flaw::Blank { .. })));
    }

    #[test]
    fn zeros_are_empty() {
        let at = PhysicalOffset::ZERO;
        let mut bytes = [0; 100];
        bytes[8] = 1;
        let rule = ChecksumRule::WhenPresent;
        assert!(matches!(classify(&bytes, at, 100, rule), Frame::Empty));
        assert!(matches!(classify(&bytes[..5], at, 5, rule), Frame::Empty));
        assert!(matches!(classify(&[], at, 0, rule), Frame::Empty));
        assert!(matches!(classify(&bytes[1..], at, 99, rule), Frame::Bad(_)));
        assert!(matches!(classify(&[0, 1], at, 2, rule), Frame::Bad(_)));
    }
}
