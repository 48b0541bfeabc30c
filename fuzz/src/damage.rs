//! Changes the files of a store as a fuzzer's bytes say, and mends checksums, so that what is
//! behind them is reached, too.

use steadfast::internals::format::{crc::crc32, view::RecordView};

use super::{
    Input,
    known::{Image, base_of},
};

/// Names that mean something to a store.
const NAMES: [&str; 20] = [
    "abort",
    "checkpoint",
    "lock",
    "commitlog/00000000000000000000",
    "commitlog/00000000000000008192",
    "commitlog/00000000000000016384",
    "commitlog/00000000000000409600",
    "commitlog/09223372036854767616",
    "consumequeue/t/0/00000000000000000000",
    "consumequeue/t/0/00000000000000000400",
    "consumequeue/t/2147483647/00000000000000000000",
    "consumequeue/u/1/00000000000000000800",
    "consumequeue/v/3/09223372036854775600",
    "config/consumerOffset.json",
    "config/consumerOffset.json.bak",
    "index/20231114221320000",
    "index/29231114221320999",
    "steadfast/checkpoint",
    "steadfast/frames/00000000000000008192",
    "steadfast/queues-00000000000000000003",
];

pub(super) fn is_name_of_file(path: &str) -> bool {
    NAMES.contains(&path)
}

/// Numbers at which sizes, counts and offsets go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    19,
    0x7f,
    0xffff,
    1 << 31,
    (1 << 31) - 1,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Which files may be changed.
pub(super) type Chosen = fn(&str) -> bool;

/// Changes one to three of the files that `chosen` takes.
pub(super) fn change(image: &mut Image, input: &mut Input<'_>, chosen: Chosen) {
    for _ in 0..=input.below(3) {
        let paths: Vec<_> = image.keys().filter(|path| chosen(path)).cloned().collect();
        if paths.is_empty() {
            return;
        }
        let path = &paths[usize::from(input.byte()) % paths.len()];
        for _ in 0..=input.below(4) {
            change_names(image, input, &paths, path, chosen);
            if let Some(bytes) = image.get_mut(path) {
                change_bytes(bytes, input);
            }
            if input.is_empty() {
                return;
            }
        }
    }
}

/// What happens to a file as a whole.
fn change_names(
    image: &mut Image,
    input: &mut Input<'_>,
    paths: &[String],
    path: &str,
    chosen: Chosen,
) {
    let kind = input.below(24);
    let names: Vec<_> = NAMES.iter().filter(|name| chosen(name)).collect();
    match kind {
        0 => drop(image.remove(path)),
        1 | 2 if !names.is_empty() => {
            let name = *names[usize::from(input.byte()) % names.len()];
            let bytes = if kind == 1 { image.remove(path) } else { image.get(path).cloned() };
            image.extend(bytes.map(|bytes| (name.to_owned(), bytes)));
        }
        3 => {
            let other = &paths[usize::from(input.byte()) % paths.len()];
            if let (Some(one), Some(two)) = (image.get(path).cloned(), image.get(other).cloned()) {
                image.extend([(path.to_owned(), two), (other.clone(), one)]);
            }
        }
        4 => {
            let other = &paths[usize::from(input.byte()) % paths.len()];
            if let Some(bytes) = image.get(other).cloned() {
                image.insert(path.to_owned(), bytes);
            }
        }
        // A directory where a file should be.
        5 => {
            if let Some(bytes) = image.remove(path) {
                image.insert(format!("{path}/00000000000000000000"), bytes);
            }
        }
        _ => {}
    }
}

/// A position in `bytes`: anywhere, or on the grid on which small records lie.
fn position(bytes: &[u8], input: &mut Input<'_>) -> usize {
    let grid = [1, 1, 4, 20, 32, 512][usize::from(input.below(6))];
    usize::from(input.short()) * grid % bytes.len().max(1)
}

fn change_bytes(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    match input.below(12) {
        0 => {
            let len = usize::from(input.short());
            *bytes = input.take(len).to_vec();
        }
        1 | 2 => {
            let at = position(bytes, input);
            let len = usize::from(input.byte());
            let new = input.take(len);
            let end = bytes.len().min(at + new.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        3 => {
            let at = position(bytes, input);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << input.below(8);
            }
        }
        4 | 5 => {
            let at = position(bytes, input);
            let kind = usize::from(input.below(NUMBERS.len() as u8 + 4));
            let near = u64::from(input.byte());
            let number = match NUMBERS.get(kind) {
                Some(number) => number.wrapping_add(near).wrapping_sub(128),
                None => near << (8 * (kind - NUMBERS.len())),
            };
            let len = [2, 4, 8, 8][usize::from(input.below(4))];
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&number.to_be_bytes()[8 - len..][..end - at]);
        }
        6 => bytes.truncate(usize::from(input.short())),
        7 => bytes.resize(bytes.len() + usize::from(input.short()), input.byte()),
        8 => {
            let from = position(bytes, input);
            let end = bytes.len().min(from + usize::from(input.short()));
            bytes[from..end].fill(0);
        }
        9 => {
            let from = position(bytes, input);
            let end = bytes.len().min(from + usize::from(input.short()));
            let to = position(bytes, input).min(bytes.len() - (end - from));
            bytes.copy_within(from..end, to);
        }
        _ => {}
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

const SLOT: usize = 512;
const FRAME: usize = 32;
const SNAPSHOT_FLAG: u8 = 4;
const BYTES_CRC_FLAG: u32 = 2;

/// Gives the files that our own store keeps the checksums that their bytes should have.
pub(super) fn mend_own(image: &mut Image, bytes_too: bool) {
    let frames: Vec<_> =
        image.keys().filter(|path| path.starts_with("steadfast/frames/")).cloned().collect();
    for path in frames {
        let mut bytes = image.remove(&path).unwrap_or_default();
        for frame in bytes.as_chunks_mut::<FRAME>().0 {
            if frame.iter().any(|byte| *byte != 0) {
                mend_frame(frame, image, bytes_too);
            }
        }
        image.insert(path, bytes);
    }
    let mut checkpoint = image.remove("steadfast/checkpoint").unwrap_or_default();
    for at in [0, 4096] {
        if let Some(slot) = checkpoint.get_mut(at..at + SLOT)
            && slot.iter().any(|byte| *byte != 0)
        {
            mend_slot(slot, image);
        }
    }
    image.insert("steadfast/checkpoint".into(), checkpoint);
}

fn mend_frame(frame: &mut [u8; FRAME], image: &Image, bytes_too: bool) {
    frame[12] = 1;
    let (start, len) = (be64(frame, 0), be32(frame, 8) as usize);
    if bytes_too && be32(frame, 12) & BYTES_CRC_FLAG != 0 {
        for (path, bytes) in image {
            let Some(at) = base_of(path).and_then(|base| start.checked_sub(base)) else { continue };
            let Ok(at) = usize::try_from(at) else { continue };
            if let Some(range) = at.checked_add(len).and_then(|end| bytes.get(at..end)) {
                frame[16..20].copy_from_slice(&crc32(range).to_be_bytes());
            }
        }
    }
    let crc = crc32(&frame[..FRAME - 4]);
    frame[FRAME - 4..].copy_from_slice(&crc.to_be_bytes());
}

fn mend_slot(slot: &mut [u8], image: &Image) {
    slot[..6].copy_from_slice(b"SFCP\x00\x01");
    if slot[7] & SNAPSHOT_FLAG != 0 {
        let path = format!("steadfast/queues-{:020}", be64(slot, 32));
        if let Some(bytes) = image.get(&path) {
            slot[48..56].copy_from_slice(&(bytes.len() as u64).to_be_bytes());
            slot[56..60].copy_from_slice(&crc32(bytes).to_be_bytes());
        }
    }
    let crc = crc32(&slot[..SLOT - 4]);
    slot[SLOT - 4..].copy_from_slice(&crc.to_be_bytes());
}

/// Gives records whose bytes differ from those in `before` right checksums, where they still are
/// records.
pub(super) fn mend_records(image: &mut Image, starts: impl Iterator<Item = u64>) {
    for start in starts {
        let mut segments =
            image.iter_mut().filter_map(|(path, bytes)| Some((base_of(path)?, bytes)));
        let segment = segments.find(|(base, bytes)| {
            start.checked_sub(*base).is_some_and(|at| at < bytes.len() as u64)
        });
        if let Some((base, bytes)) = segment {
            mend_record(&mut bytes[(start - base) as usize..]);
        }
    }
}

const CRC_NAME: &[u8] = b"__CRC32#\x01";
const BODY_CRC: usize = 8;
const MASK: u32 = 0x7fff_ffff;

fn mend_record(bytes: &mut [u8]) {
    let Ok(view) = RecordView::parse(bytes) else { return };
    let (size, body) = (view.size() as usize, crc32(view.body()) & MASK);
    bytes[BODY_CRC..BODY_CRC + 4].copy_from_slice(&body.to_be_bytes());
    let tail = size - 20;
    if bytes[tail..].starts_with(CRC_NAME) {
        let mut crc = crc32(&bytes[..tail]) & MASK;
        // Lowest digit first.
        for digit in &mut bytes[tail + CRC_NAME.len()..size - 1] {
            *digit = b'0' + (crc % 10) as u8;
            crc /= 10;
        }
    }
}

/// Whether whatever has a right checksum in our own files was there before.
pub(super) fn is_honest(before: &Image, after: &Image) -> bool {
    let slots = |image: &Image| -> Vec<Vec<u8>> {
        let bytes = image.get("steadfast/checkpoint").map_or(&[][..], Vec::as_slice);
        let slots = [0, 4096].into_iter().filter_map(|at| bytes.get(at..at + SLOT));
        slots.filter(|slot| ends_in_crc(slot)).map(<[u8]>::to_vec).collect()
    };
    let frames = |image: &Image| -> Vec<(String, [u8; FRAME])> {
        let files = image.iter().filter(|(path, _)| path.starts_with("steadfast/frames/"));
        let frames = files.flat_map(|(path, bytes)| {
            bytes.as_chunks::<FRAME>().0.iter().map(move |frame| (path.clone(), *frame))
        });
        frames.filter(|(_, frame)| ends_in_crc(frame)).collect()
    };
    let (old_slots, old_frames) = (slots(before), frames(before));
    slots(after).iter().all(|slot| old_slots.contains(slot))
        && frames(after).iter().all(|frame| old_frames.contains(frame))
}

fn ends_in_crc(bytes: &[u8]) -> bool {
    let end = bytes.len() - 4;
    be32(bytes, end) == crc32(&bytes[..end])
}
