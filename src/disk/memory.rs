//! Bytes of a segment.

/// Bytes of a segment.
#[derive(Debug)]
pub struct Memory;
