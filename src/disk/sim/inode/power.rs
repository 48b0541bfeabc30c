//! A file after a power failure: one of the results, and whether something is one of them. Both
//! ask the same functions for what is possible.

use std::{collections::BTreeSet, sync::Arc};

use super::{Inode, Length, PageState};
use crate::disk::{
    memory::HeapBlock,
    sim::{
        page::{Fate, Folio, Outcomes, PAGE, bytes, cut_at, stored},
        rng::Rng,
    },
};

impl Inode {
    /// What can become of a page when the disk has the length of number `epoch`. What was written
    /// later may be there, too; what was cut off later is not cut off.
    fn outcomes(&self, page: u64, epoch: usize) -> Outcomes {
        let Some(state) = self.pages.get(page as usize) else {
            return Outcomes { old: None, newer: Vec::new(), new_at_once: false };
        };
        let kept = |bytes, since| cut_at(bytes, page, self.cut_since(since, epoch));
        let mut newer: Vec<_> = state.versions.iter().map(|v| kept(&v.bytes, v.since)).collect();
        if self.is_dirty(page) {
            let live = stored(self.live(page));
            if newer.last() != Some(&live) {
                newer.push(live);
            }
        }
        let new_at_once = self.unwritten && !state.converted;
        Outcomes { old: kept(&state.durable, state.since), newer, new_at_once }
    }

    /// What is sure to be there after a power failure, if the name is.
    pub(in crate::disk::sim) fn durable_bytes(&self) -> Vec<u8> {
        let mut all = vec![0; self.lens[0].len as usize];
        for (part, state) in all.chunks_mut(PAGE as usize).zip(&self.pages) {
            part.copy_from_slice(&bytes(&state.durable)[..part.len()]);
        }
        all
    }

    /// The file as the next machine finds it. `path` is the name it has there.
    pub(in crate::disk::sim) fn after_power_failure(&self, path: &Arc<str>, rng: &mut Rng) -> Self {
        let any = rng.below(self.lens.len() as u64) as usize;
        let epoch = *rng.pick(&[0, self.lens.len() - 1, any]);
        let len = self.lens[epoch].len;
        let fate = Fate::draw(rng);
        let keeps_blocks = rng.chance(1, 2);
        let mut after = Self {
            block: Arc::new(HeapBlock::new(len.next_multiple_of(PAGE))),
            len,
            lens: vec![Length::at(len)],
            pages: Vec::with_capacity(self.pages.len()),
            unwritten: self.unwritten,
            stored_to: false,
            writeback_failed: false,
            path: Arc::clone(path),
            modified: self.modified,
            handles: Arc::new(()),
            remembers: self.remembers,
        };
        let mut folio = Folio::default();
        let pages = self.pages.iter().take(len.div_ceil(PAGE) as usize);
        for (page, state) in pages.enumerate() {
            let page = page as u64;
            let outcomes = self.outcomes(page, epoch);
            let found = if outcomes.newer.is_empty() {
                outcomes.old
            } else {
                let choice = fate.of(page, outcomes.new_at_once, &mut folio, rng);
                outcomes.draw(choice, rng)
            };
            let found = cut_at(&found, page, len);
            let allocated =
                state.allocated_durably || found.is_some() || (state.allocated && keeps_blocks);
            if let Some(found) = &found {
                after.block.copy_in(page * PAGE, &**found);
            }
            after.pages.push(PageState {
                allocated,
                allocated_durably: allocated,
                converted: state.converted || found.is_some(),
                durable: found,
                ..PageState::default()
            });
        }
        after
    }

    /// Whether [`after_power_failure`](Self::after_power_failure) can make a file with these bytes,
    /// or why not.
    pub(in crate::disk::sim) fn could_become(&self, found: &[u8]) -> Result<(), String> {
        let len = found.len() as u64;
        let lens = || self.lens.iter().map(|length| length.len);
        let mut why = Err(format!("len={len} possible={:?}", lens().collect::<BTreeSet<_>>()));
        for (epoch, _) in lens().enumerate().filter(|(_, possible)| *possible == len) {
            let fits = |(page, bytes): (u64, &[u8])| {
                let outcomes = self.outcomes(page, epoch);
                outcomes.explain(bytes).map_err(|(at, possible)| {
                    let found = bytes[at];
                    let at = page * PAGE + at as u64;
                    format!("at={at} found={found:#04x} possible={possible:02x?} len={len}")
                })
            };
            why = (0..).zip(found.chunks(PAGE as usize)).try_for_each(fits);
            if why.is_ok() {
                break;
            }
        }
        why
    }
}
