//! A record's properties: `name 1 value 2`, repeated. Read by RocketMQ's rules.

use crate::message::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR};

/// Iterates over names and values. A part without a separator, with an empty name or an empty
/// value is passed over, as RocketMQ does; the last end mark may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    rest: &'a [u8],
}

impl<'a> Properties<'a> {
    /// The properties encoded in `bytes`.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The value of the last property called `name`.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = position(self.rest, PROPERTY_SEPARATOR).unwrap_or(self.rest.len());
            let (part, behind) = self.rest.split_at(end);
            self.rest = behind.get(1..).unwrap_or(&[]);
            let Some(at) = position(part, NAME_VALUE_SEPARATOR) else { continue };
            let (name, value) = (&part[..at], &part[at + 1..]);
            if !name.is_empty() && !value.is_empty() {
                return Some((name, value));
            }
        }
        None
    }
}

/// Where `wanted` is first, eight bytes at a time: each record is looked through by it.
#[inline]
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        // A byte that is `wanted` becomes 0, and the lowest byte that is 0 borrows first.
        let zero = u64::from_le_bytes(*word) ^ (ONES * u64::from(wanted));
        let found = zero.wrapping_sub(ONES) & !zero & (ONES << 7);
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&b| b == wanted)?;
    Some(words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::Random;

    fn parsed(bytes: &[u8]) -> Vec<(&str, &str)> {
        let text = |b| str::from_utf8(b).unwrap();
        Properties::of(bytes).map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn parts_that_are_no_property_are_passed_over() {
        let bytes = b"a\x01b\x02\x02x\x02\x01v\x02n\x01\x02no\x02c\x01d\x01e";
        assert_eq!(parsed(bytes), [("a", "b"), ("c", "d\u{1}e")]);
        assert_eq!(parsed(b""), []);
        assert_eq!(parsed(b"\x02\x01"), []);
    }

    #[test]
    fn a_byte_is_found_where_it_is_first() {
        let mut random = Random::seeded();
        for _ in 0..20_000 {
            let len = random.below(40) as usize;
            let mut bytes = random.bytes(len);
            bytes.iter_mut().for_each(|b| *b %= 4);
            let wanted = random.below(4) as u8;
            let first = bytes.iter().position(|b| *b == wanted);
            assert_eq!(position(&bytes, wanted), first, "{wanted} in {bytes:?}");
        }
        assert_eq!(position(&[0x80, 0xff, 0x81, 1], 1), Some(3));
    }

    #[test]
    fn the_last_duplicate_wins() {
        let properties = Properties::of(b"k\x01one\x02kk\x01x\x02k\x01two\x02k\x01\x02");
        assert_eq!(properties.get("k"), Some(&b"two"[..]));
        assert_eq!(properties.get("none"), None);
    }
}
