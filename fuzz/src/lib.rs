//! What the fuzz targets do with their bytes. `tests/it/fuzz_replay.rs` does the same with the
//! committed corpus, without a fuzzer.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run open_image -- -max_total_time=60 -print_final_stats=1
//! ```

mod damage;
mod files;
mod formats;
mod image;
mod known;
mod schedule;

pub use files::{any_file, derived_files, own_files};
pub use formats::{batch_body, classify_segment, decode_record, offsets_json};
pub use image::open_image;
pub use schedule::crash_schedule;

/// A target: what it is called, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub const TARGETS: [Target; 9] = [
    ("decode_record", decode_record),
    ("classify_segment", classify_segment),
    ("open_image", open_image),
    ("crash_schedule", crash_schedule),
    ("offsets_json", offsets_json),
    ("batch_body", batch_body),
    ("any_file", any_file),
    ("own_files", own_files),
    ("derived_files", derived_files),
];

/// The fuzzer's bytes, used up from the front. At their end come zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// At most `most` bytes.
    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
