//! Record, queue entry and index bytes: pure functions, no I/O, no clock.

pub mod crc;
#[cfg(test)]
mod testing;
