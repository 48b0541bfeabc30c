//! Pages as the disk has them, and what a power failure does to one.

use std::sync::Arc;

use super::rng::Rng;

/// What the kernel keeps and writes at a time.
pub(super) const PAGE: u64 = 4096;

/// What a device writes whole or not at all.
const SECTOR: usize = 512;

pub(super) type PageBytes = [u8; PAGE as usize];
pub(super) const ZEROS: PageBytes = [0; PAGE as usize];

/// A page as the disk has it, shared between the images of one run. `None` is all zeros.
pub(super) type Stored = Option<Arc<PageBytes>>;

pub(super) fn stored(bytes: PageBytes) -> Stored {
    (bytes != ZEROS).then(|| Arc::new(bytes))
}

pub(super) fn bytes(page: &Stored) -> &PageBytes {
    page.as_deref().unwrap_or(&ZEROS)
}

/// A page with zeros behind the end of the file.
pub(super) fn cut_at(page: &Stored, number: u64, end: u64) -> Stored {
    let kept = end.saturating_sub(number * PAGE);
    match page {
        Some(full) if kept < PAGE => {
            let mut bytes = **full;
            bytes[kept as usize..].fill(0);
            stored(bytes)
        }
        page => page.clone(),
    }
}

/// How a power failure treats the dirty pages of one file.
pub(super) enum Fate {
    /// None was written.
    Lost,
    /// All were.
    Written,
    /// Each page on its own.
    PerPage,
    /// Runs of so many pages at once: folios of 16 to 256 KiB.
    PerFolio(u64),
}

/// What was decided about the folio we are in.
#[derive(Default)]
pub(super) struct Folio {
    number: Option<u64>,
    written: bool,
}

impl Fate {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Lost,
            1 => Self::Written,
            2 => Self::PerFolio(4 << rng.below(5)),
            _ => Self::PerPage,
        }
    }

    pub(super) fn of(
        &self,
        page: u64,
        new_at_once: bool,
        folio: &mut Folio,
        rng: &mut Rng,
    ) -> Choice {
        match self {
            Self::Lost => Choice::Old,
            Self::Written => Choice::New,
            Self::PerFolio(pages) => {
                if folio.number != Some(page / pages) {
                    *folio = Folio { number: Some(page / pages), written: rng.chance(1, 2) };
                }
                if folio.written { Choice::New } else { Choice::Old }
            }
            // The block is marked as written after all of it is.
            Self::PerPage if new_at_once => {
                if rng.chance(1, 4) {
                    Choice::New
                } else {
                    Choice::Old
                }
            }
            Self::PerPage => *rng.pick(&[Choice::Old, Choice::New, Choice::Torn]),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Choice {
    Old,
    New,
    /// Any mix of old and new sectors.
    Torn,
}

impl Choice {
    pub(super) fn mix(self, old: Stored, new: impl FnOnce() -> Stored, rng: &mut Rng) -> Stored {
        match self {
            Self::Old => old,
            Self::New => new(),
            Self::Torn => {
                let new = new();
                let mut mixed = *bytes(&old);
                let which = rng.bits();
                let sectors = mixed.chunks_mut(SECTOR).zip(bytes(&new).chunks(SECTOR));
                for (i, (sector, new)) in sectors.enumerate() {
                    if (which >> i) & 1 == 1 {
                        sector.copy_from_slice(new);
                    }
                }
                stored(mixed)
            }
        }
    }
}
