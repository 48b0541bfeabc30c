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

/// All that a power failure can make of one page.
pub(super) struct Outcomes {
    pub(super) old: Stored,
    /// What it held since, as far as that may have been written.
    pub(super) newer: Vec<Stored>,
    /// The block is marked as written after all of it is: no mix with the old bytes.
    pub(super) new_at_once: bool,
}

impl Outcomes {
    pub(super) fn draw(&self, choice: Choice, rng: &mut Rng) -> Stored {
        match (choice, &self.newer[..]) {
            (Choice::Old, _) | (_, []) => self.old.clone(),
            (Choice::New, [new]) => new.clone(),
            (Choice::New, newer) if rng.chance(3, 4) => rng.pick(newer).clone(),
            (Choice::New, newer) => mix(&newer.iter().collect::<Vec<_>>(), rng),
            (Choice::Torn, _) => mix(&self.sources(), rng),
        }
    }

    /// What the sectors of one result may come from; a result may also be `old` as a whole.
    fn sources(&self) -> Vec<&Stored> {
        let old = (!self.new_at_once || self.newer.is_empty()).then_some(&self.old);
        old.into_iter().chain(&self.newer).collect()
    }

    /// Whether [`draw`](Self::draw) can make a page that begins with `found`. If not: the first
    /// byte that fits nothing, and what could be there.
    pub(super) fn explain(&self, found: &[u8]) -> Result<(), (usize, Vec<u8>)> {
        if bytes(&self.old).starts_with(found) {
            return Ok(());
        }
        let sources = self.sources();
        for (n, sector) in found.chunks(SECTOR).enumerate() {
            let at = n * SECTOR;
            let fits = |source: &&Stored| {
                let source = &bytes(source)[at..];
                sector.iter().zip(source).take_while(|(found, byte)| found == byte).count()
            };
            let longest = sources.iter().map(fits).max().unwrap_or(0);
            if longest < sector.len() {
                let at = at + longest;
                return Err((at, sources.iter().map(|source| bytes(source)[at]).collect()));
            }
        }
        Ok(())
    }
}

/// Each sector from any of `sources`.
fn mix(sources: &[&Stored], rng: &mut Rng) -> Stored {
    let mut mixed = ZEROS;
    for (n, sector) in mixed.chunks_mut(SECTOR).enumerate() {
        let source = bytes(sources[rng.below(sources.len() as u64) as usize]);
        sector.copy_from_slice(&source[n * SECTOR..][..SECTOR]);
    }
    stored(mixed)
}
