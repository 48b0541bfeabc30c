//! Names of files that are called by the position at which they begin: 20 decimal digits.

/// The position in `name`; `None` if that is not how such files are named. Nothing begins behind
/// what Java counts to (63 bits), and below that no arithmetic on positions overflows.
pub(crate) fn position(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    let position = digits.then(|| name.parse().ok())?;
    position.filter(|position| *position <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_digits_of_63_bits_are_a_position() {
        for at in [0, 1, 1 << 30, i64::MAX as u64] {
            assert_eq!(position(&format!("{at:020}")), Some(at));
        }
        let past = format!("{:020}", i64::MAX as u64 + 1);
        for name in [&past, "99999999999999999999", "0", "+0000000000000000000", "notes", ""] {
            assert_eq!(position(name), None, "{name}");
        }
        assert_eq!(position("000000000000000000000"), None);
    }
}
