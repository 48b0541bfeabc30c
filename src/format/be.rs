//! Numbers at a place in bytes, the highest byte first.

/// The four bytes at `at`.
///
/// # Panics
///
/// If there are fewer.
#[inline(always)]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

/// The eight bytes at `at`.
///
/// # Panics
///
/// If there are fewer.
#[inline(always)]
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}
