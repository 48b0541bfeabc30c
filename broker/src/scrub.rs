//! Reading the whole log in the background, slowly: bytes that rot where nobody reads are found
//! while a copy of them may still be somewhere.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use steadfast::{ErrorKind, LogItem, PhysicalOffset};
use tracing::{error, info, warn};

use crate::broker::Core;

/// Bytes that are looked at before a pause.
const AT_ONCE: u64 = 256 << 10;
/// So many damaged places are told; more are only counted.
const TOLD_MOST: usize = 1000;

/// What reading the log in the background found since the broker started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// How often the end of the log was reached.
    pub passes: u64,
    /// Where damage begins, as positions in the log; not more than a thousand places.
    pub damaged: BTreeSet<u64>,
}

/// What is found, and by whom it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Scrub(Mutex<Scrubbed>);

impl Scrub {
    pub(crate) fn found(&self) -> Scrubbed {
        self.0.lock().clone()
    }

    fn damage(&self, at: PhysicalOffset, size: u64, reason: &str) {
        let mut found = self.0.lock();
        if found.damaged.len() < TOLD_MOST && found.damaged.insert(at.get()) {
            error!(
                %at, bytes = size, reason,
                "the log is damaged; restore the file from a copy, or see `steadfast verify`"
            );
        }
    }
}

/// Reads the log from end to end at `scrubRate`, again and again, until it is told to stop.
pub(crate) async fn run(core: Arc<Core>) {
    let rate = core.config.scrub_rate;
    if rate == 0 {
        return;
    }
    let mut at = core.store.progress().start;
    loop {
        let reading = core.clone();
        let read = tokio::task::spawn_blocking(move || read_some(&reading, at)).await;
        let pause = match read {
            Ok(Some((next, bytes))) => {
                at = next;
                core.scrub.0.lock().bytes += bytes;
                Duration::from_secs_f64(bytes as f64 / rate as f64)
            }
            Ok(None) => {
                let mut found = core.scrub.0.lock();
                found.passes += 1;
                let (bytes, damaged) = (found.bytes, found.damaged.len());
                drop(found);
                info!(bytes, damaged, "the log was read to its end");
                at = core.store.progress().start;
                core.config.scrub_interval
            }
            Err(error) => {
                warn!(%error, "reading the log in the background ended");
                return;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.stop.stopped() => return,
        }
    }
}

/// Looks at some of the log from `at` on. Gives where to go on and how many bytes that were, `None`
/// at the end.
fn read_some(core: &Core, at: PhysicalOffset) -> Option<(PhysicalOffset, u64)> {
    let mut next = at;
    while next.saturating_since(at) < AT_ONCE {
        next = match core.store.item_at(next) {
            Ok(Some((item, behind))) => {
                if let LogItem::Damage { at, size, reason } = item {
                    core.scrub.damage(at, size, &reason);
                }
                behind
            }
            Ok(None) if next > at => break,
            Ok(None) => return None,
            Err(error) => {
                let start = core.store.progress().start;
                if next < start {
                    // Retention went past it.
                    return Some((start, next.saturating_since(at)));
                }
                if let ErrorKind::Damaged { at, len } = error.kind() {
                    core.scrub.damage(at, len, &error.to_string());
                }
                warn!(%error, at = %next, "the log cannot be read on from here");
                return None;
            }
        };
    }
    Some((next, next.saturating_since(at)))
}
