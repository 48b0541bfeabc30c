//! Java's hash of a string, which queue entries and the key index store.

/// `String.hashCode()`: over UTF-16 units, wrapping.
#[inline]
pub fn java_hash(text: &str) -> i32 {
    hash_from(0, text)
}

/// The hash of a text that begins with one whose hash is `hash`, and goes on with `text`.
#[inline]
pub(crate) fn hash_from(hash: i32, text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(hash, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    }
    text.encode_utf16().fold(hash, |h, unit| h.wrapping_mul(31).wrapping_add(unit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("TagA"), 2_598_919);
        assert_eq!(java_hash("Aa"), java_hash("BB"));
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        // One unit beyond ASCII, then a surrogate pair: U+D83D, U+DE00.
        assert_eq!(java_hash("é"), 0xE9);
        assert_eq!(java_hash("😀"), 0xD83D * 31 + 0xDE00);
    }

    #[test]
    fn texts_can_be_hashed_in_parts() {
        for (a, b) in [("topic", "#key"), ("é", "a"), ("", "x")] {
            assert_eq!(hash_from(java_hash(a), b), java_hash(&format!("{a}{b}")));
        }
    }
}
