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

#[inline]
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&b| b == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_last_duplicate_wins() {
        let properties = Properties::of(b"k\x01one\x02kk\x01x\x02k\x01two\x02k\x01\x02");
        assert_eq!(properties.get("k"), Some(&b"two"[..]));
        assert_eq!(properties.get("none"), None);
    }
}
