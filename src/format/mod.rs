//! Record, queue entry and index bytes: pure functions, no I/O, no clock.

pub mod crc;
pub mod frame;
mod ids;
pub mod layout;
pub mod properties;
pub mod record;
pub mod resync;
#[cfg(test)]
mod testing;
pub mod view;
