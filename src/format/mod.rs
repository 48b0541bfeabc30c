//! Record, queue entry and index bytes: pure functions, no I/O, no clock.

// The store keeps batches as it gets them; only tools look inside.
#[cfg(any(test, feature = "internals"))]
pub mod batch;
pub(crate) mod be;
pub mod crc;
pub mod entry;
pub(crate) mod file_name;
pub mod frame;
pub mod hash;
mod ids;
pub mod index;
pub mod java;
mod json;
pub mod layout;
pub mod offsets_json;
pub mod properties;
pub mod record;
pub mod resync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod view;
