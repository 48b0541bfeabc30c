//! Queues of which a file could not be synced, made whole again while the store runs.

use crate::{
    checkpoint::{Checkpoint, snapshot},
    dispatch::{Dispatcher, Targets},
    engine::Engine,
    error::{Error, ErrorKind, Result},
    offset::PhysicalOffset,
};

impl Engine {
    /// Derives again from the log what failed syncs may have taken from the queues' files, so that
    /// the next sync covers all of it. `last` is the checkpoint on disk: what it counts was durable
    /// before anything failed.
    ///
    /// Takes 20 bytes of memory for each message since then.
    pub(crate) fn rederive_unsynced(&self, last: &Checkpoint) -> Result<()> {
        let unsynced = self.queues.unsynced();
        if unsynced.is_empty() {
            return Ok(());
        }
        // Held to the end: no entry is put meanwhile.
        let _dispatcher = self.dispatcher.lock();
        let derived = self.queues.in_memory();
        let mut from = self.log.start();
        if let Some(wanted) = &last.snapshot {
            let states = snapshot::read(&*self.disk, wanted)?.ok_or_else(|| {
                let path = snapshot::path(wanted.sequence);
                Error::new(ErrorKind::Io, format!("{path} is not as it was written"))
            })?;
            // Only the ends: of what lies before nothing has to be looked at.
            states.into_iter().for_each(|state| derived.restore(state.key, state.end, state.end));
            from = from.max(wanted.at);
        }
        let to = PhysicalOffset::new(self.log.marks().dispatched.get());
        let targets = Targets { queues: &derived, index: None, ..self.targets() };
        Dispatcher::new().derive(targets, from, to)?;
        unsynced.iter().try_for_each(|key| self.queues.write_again(key, &derived))
    }
}
