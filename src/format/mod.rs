//! Record, queue entry and index bytes: pure functions, no I/O, no clock.

pub mod crc;
mod ids;
pub mod layout;
pub mod properties;
pub mod record;
#[cfg(test)]
mod testing;
pub mod view;
