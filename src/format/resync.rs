//! Finding the next sound record behind damage.

use super::{
    crc::{self, Shift},
    frame::{self, ChecksumRule},
    layout::*,
    view::RecordView,
};
use crate::offset::PhysicalOffset;

/// The next position in `bytes`, at or behind `from`, where a sound record begins: one whose
/// fields agree, that says it is there, fits its segment and has the right checksums.
///
/// `bytes` begin at `base` and end with the segment. A body can hold what looks like a record,
/// so in bytes that a hostile producer chose the answer may lie inside of a damaged record.
///
/// The time is proportional to the length whatever the bytes are: long stretches without magic
/// are only scanned, and when many candidates overlap their checksums are taken from a table.
pub fn find_next_record(
    bytes: &[u8],
    from: usize,
    base: PhysicalOffset,
    rule: ChecksumRule,
) -> Option<usize> {
    let mut checksums = Checksums::new(bytes);
    let mut search = from.checked_add(MAGIC)?;
    while let Some(magic) = find_magic(bytes, search) {
        let at = magic - MAGIC;
        search = magic + 1;
        let rest = &bytes[at..];
        let Some(place) = base.get().checked_add(at as u64) else { break };
        // Eight bytes that are nearly never right by chance: before anything that costs more.
        let says = rest.get(PHYSICAL_OFFSET..PHYSICAL_OFFSET + 8);
        if says != Some(&place.to_be_bytes()) {
            continue;
        }
        let Ok(view) = RecordView::parse(rest) else { continue };
        let place = PhysicalOffset::new(place);
        if frame::placed(&view, place, rest.len() as u64).is_ok()
            && checksums.sound(&view, at, rule)
        {
            return Some(at);
        }
    }
    None
}

/// The next position at or behind `from` of a V1 or V2 magic.
fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    const BLOCK: usize = 64;
    let [a, b, c, _] = MAGIC_V1.to_be_bytes();
    let is_magic = |at: usize| {
        bytes.get(at..at + 4).is_some_and(|word| {
            let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
            word == MAGIC_V1 || word == MAGIC_V2
        })
    };
    let mut at = from;
    while let Some(window) = bytes.get(at..at + BLOCK + 2) {
        // No early exit in here, so that the compiler compares many bytes at a time.
        let mut hits = 0;
        for i in 0..BLOCK {
            hits |= u8::from(window[i] == a)
                & u8::from(window[i + 1] == b)
                & u8::from(window[i + 2] == c);
        }
        if hits != 0
            && let Some(found) = (at..at + BLOCK).find(|&at| is_magic(at))
        {
            return Some(found);
        }
        at += BLOCK;
    }
    (at..bytes.len().saturating_sub(3)).find(|&at| is_magic(at))
}

/// Checks checksums of overlapping candidates without reading the same bytes over and over.
struct Checksums<'a> {
    bytes: &'a [u8],
    /// Bytes that may still be read the simple way.
    budget: usize,
    /// The CRC of all bytes before each block, once the budget is used up.
    prefixes: Vec<u32>,
}

/// Bytes of a block: a candidate costs reading a few of them at most.
const BLOCK: usize = 512;

impl<'a> Checksums<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, budget: bytes.len().saturating_add(1 << 20), prefixes: Vec::new() }
    }

    fn sound(&mut self, view: &RecordView<'_>, at: usize, rule: ChecksumRule) -> bool {
        let size = view.bytes().len();
        if let Some(left) = self.budget.checked_sub(size) {
            self.budget = left;
            return view
                .verify()
                .is_ok_and(|checked| checked.record_crc || rule == ChecksumRule::WhenPresent);
        }
        let body = at + view.header_len();
        let computed = self.crc(body, body + view.body().len());
        if view.body_crc() != computed & CRC_MASK {
            return false;
        }
        match view.record_crc() {
            Some(stored) => {
                let computed = self.crc(at, at + size - CRC_TAIL) & CRC_MASK;
                stored == u64::from(computed)
            }
            None => rule == ChecksumRule::WhenPresent,
        }
    }

    /// The CRC of the bytes in `start..end`.
    fn crc(&mut self, start: usize, end: usize) -> u32 {
        if end - start <= 4 * BLOCK {
            return crc::crc32(&self.bytes[start..end]);
        }
        let before = self.prefix(start);
        // What comes before contributes to the CRC up to the end as if it were a record of its
        // own, and leaves when added once more.
        Shift::by((end - start) as u32).join(before, self.prefix(end))
    }

    /// The CRC of all bytes before `at`.
    fn prefix(&mut self, at: usize) -> u32 {
        if self.prefixes.is_empty() {
            let mut crc = 0;
            self.prefixes = Vec::with_capacity(self.bytes.len() / BLOCK + 1);
            for block in self.bytes.chunks(BLOCK) {
                self.prefixes.push(crc);
                crc = crc::crc32_from(crc, block);
            }
        }
        let block = (at / BLOCK).min(self.prefixes.len() - 1);
        crc::crc32_from(self.prefixes[block], &self.bytes[block * BLOCK..at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::testing::{Random, Sample},
        options::RecordChecksum,
    };

    const BASE: PhysicalOffset = PhysicalOffset::new(1 << 20);

    fn put(segment: &mut [u8], at: usize, mut sample: Sample) -> usize {
        sample.at = BASE + at as u64;
        let record = sample.encode(RecordChecksum::On);
        segment[at..at + record.len()].copy_from_slice(&record);
        record.len()
    }

    #[test]
    fn the_next_sound_record_is_found_behind_anything() {
        let mut random = Random::seeded();
        for round in 0..200 {
            let mut segment = vec![0; 60_000];
            if round % 2 == 0 {
                segment = random.bytes(segment.len());
            }
            let at = random.below(30_000) as usize;
            put(&mut segment, at, Sample::random(&mut random));
            let rule = ChecksumRule::Required;
            assert_eq!(find_next_record(&segment, 0, BASE, rule), Some(at));
            assert_eq!(find_next_record(&segment, at, BASE, rule), Some(at));
            assert_eq!(find_next_record(&segment, at + 1, BASE, rule), None);
            assert_eq!(find_next_record(&segment, 0, BASE + 1, rule), None);
            segment[at + 60] ^= 1;
            assert_eq!(find_next_record(&segment, 0, BASE, rule), None);
        }
    }

    #[test]
    fn a_record_at_the_end_must_leave_room_for_a_blank() {
        let mut random = Random::seeded();
        let mut segment = vec![0; 60_000];
        let size = put(&mut segment, 100, Sample::random(&mut random));
        let rule = ChecksumRule::Required;
        let found = |end: usize| find_next_record(&segment[..end], 0, BASE, rule);
        assert_eq!(found(100 + size + 8), Some(100));
        assert_eq!(found(100 + size + 7), None);
        for end in 0..100 + size {
            assert_eq!(found(end), None);
        }
        assert_eq!(find_next_record(&segment, usize::MAX, BASE, rule), None);
        let top = PhysicalOffset::new(u64::MAX - 50);
        assert_eq!(find_next_record(&segment, 0, top, rule), None);
    }

    /// Headers every 200 bytes, each of which claims all that follows.
    #[test]
    fn many_overlapping_candidates_do_not_hide_the_sound_one() {
        let mut random = Random::seeded();
        let mut segment = random.bytes(400_000);
        let mut header = Sample::random(&mut random);
        header.queue = crate::name::QueueKey::new("topic", 0).unwrap();
        header.born.1 = "1.2.3.4:5".parse().unwrap();
        header.store_host = header.born.1;
        header.properties.clear();
        let len = segment.len();
        for at in (0..200_000).step_by(200) {
            header.at = BASE + at as u64;
            header.body = Vec::new();
            let mut record = header.encode(RecordChecksum::Off);
            record.truncate(88);
            let size = len - at - 8;
            let topic_len = 1 + header.queue.topic().len();
            let body = size - 88 - topic_len - 2;
            record[..4].copy_from_slice(&(size as u32).to_be_bytes());
            record[84..88].copy_from_slice(&(body as u32).to_be_bytes());
            segment[at..at + 88].copy_from_slice(&record);
        }
        let topic = header.queue.topic().as_bytes();
        let at = len - 8 - 2 - topic.len() - 1;
        segment[at] = topic.len() as u8;
        segment[at + 1..at + 1 + topic.len()].copy_from_slice(topic);
        segment[len - 10..len - 8].fill(0);
        let fake = RecordView::parse(&segment).unwrap();
        assert_eq!(fake.size() as usize, len - 8);

        let mut sample = Sample::random(&mut random);
        sample.body = random.bytes(9000);
        put(&mut segment, 250_123, sample);
        for rule in [ChecksumRule::Required, ChecksumRule::WhenPresent] {
            assert_eq!(find_next_record(&segment, 0, BASE, rule), Some(250_123));
        }
        let mut checksums = Checksums { budget: 0, ..Checksums::new(&segment) };
        for _ in 0..200 {
            let start = random.below(len as u64) as usize;
            let end = start + random.below((len - start) as u64 + 1) as usize;
            assert_eq!(checksums.crc(start, end), crc::crc32(&segment[start..end]));
        }
        segment[250_123 + 5000] ^= 4;
        assert_eq!(find_next_record(&segment, 0, BASE, ChecksumRule::WhenPresent), None);
    }
}
