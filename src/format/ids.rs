//! Message ids.

use crate::offset::PhysicalOffset;

/// The offset message id of the record at `at`, whose store host (address and four-byte port) is
/// `host`: 32 or 56 upper-case hexadecimal digits.
pub(crate) fn message_id(host: &[u8], at: PhysicalOffset) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut id = String::with_capacity(2 * (host.len() + 8));
    for &byte in host.iter().chain(&at.get().to_be_bytes()) {
        id.push(DIGITS[usize::from(byte >> 4)].into());
        id.push(DIGITS[usize::from(byte & 15)].into());
    }
    id
}
