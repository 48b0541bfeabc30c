//! All that a simulated disk is, and what happens around every call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    faults::{CallCounts, CallKind, Fault, FaultPlan},
    inode::Inode,
    names::{Ino, Names, Node},
    page::PAGE,
    rng::Rng,
};
use crate::{clock::Clock, disk::AppendPath, offset::StoreTime};

const TRACED_CALLS: usize = 256;

/// One call that a disk was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// Its number in the disk's life, from 1.
    pub number: u64,
    /// What it was.
    pub kind: CallKind,
    /// About which path, "" for the disk as a whole.
    pub path: Arc<str>,
    /// From which offset on, where that makes sense.
    pub at: u64,
    /// How many bytes.
    pub len: u64,
    /// How it failed; `None` for success.
    pub error: Option<io::ErrorKind>,
}

impl fmt::Display for TracedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, kind, path, at, len, error } = self;
        write!(f, "#{number} {kind:?} {path} at={at} len={len}")?;
        error.map_or(Ok(()), |error| write!(f, " failed: {error:?}"))
    }
}

pub(super) struct State {
    pub(super) inodes: BTreeMap<Ino, Inode>,
    pub(super) names: Names,
    next_ino: Ino,
    /// Files that were mapped for writing.
    stored_to: Vec<Ino>,
    pub(super) locks: BTreeSet<Arc<str>>,
    pub(super) rng: Rng,
    pub(super) faults: FaultPlan,
    pub(super) counts: CallCounts,
    pub(super) trace: VecDeque<TracedCall>,
    pub(super) capacity_blocks: Option<u64>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) append_path: AppendPath,
    /// New files keep what their pages held since the last sync.
    pub(super) remembers: bool,
    pub(super) halted: bool,
    pub(super) halted_image: Option<Box<State>>,
}

impl State {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::default(),
            next_ino: 1,
            stored_to: Vec::new(),
            locks: BTreeSet::new(),
            rng,
            faults: FaultPlan::none(),
            counts: CallCounts::default(),
            trace: VecDeque::new(),
            capacity_blocks: None,
            clock: None,
            append_path: AppendPath::Store,
            remembers: false,
            halted: false,
            halted_image: None,
        }
    }

    /// An empty disk with the settings of this one.
    fn successor(&self, rng: Rng) -> Self {
        Self {
            next_ino: self.next_ino,
            capacity_blocks: self.capacity_blocks,
            clock: self.clock.clone(),
            append_path: self.append_path,
            remembers: self.remembers,
            ..Self::new(rng)
        }
    }

    /// This disk without its process.
    pub(super) fn fork(&self) -> Self {
        let mut fork = self.successor(self.rng.clone().split());
        fork.names = self.names.clone();
        fork.stored_to.clone_from(&self.stored_to);
        // Files without a name go with the process that held them open.
        let named: BTreeSet<Ino> = self.names.files().collect();
        let kept = self.inodes.iter().filter(|(ino, _)| named.contains(ino));
        fork.inodes = kept.map(|(ino, inode)| (*ino, inode.fork())).collect();
        fork
    }

    pub(super) fn after_power_failure(&self, rng: &mut Rng) -> Self {
        let mut after = self.successor(rng.split());
        after.names = self.names.after_power_failure(rng);
        for (path, node) in after.names.live() {
            if let Node::File(ino) = node {
                let found = self.inodes[ino].after_power_failure(path, rng);
                after.inodes.insert(*ino, found);
            }
        }
        after
    }

    pub(super) fn now(&self) -> StoreTime {
        self.clock.as_ref().map_or(StoreTime::from_millis(0), |clock| clock.now())
    }

    /// The file with this name, for tests.
    pub(super) fn named(&self, path: &str) -> &Inode {
        match self.names.live().get(path) {
            Some(Node::File(ino)) => &self.inodes[ino],
            found => panic!("no such file path={path} found={found:?}"),
        }
    }

    pub(super) fn new_inode(&mut self, path: &Arc<str>, len: u64) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        let mut inode = Inode::new(path, len, self.now(), &mut self.rng);
        inode.remembers = self.remembers;
        self.inodes.insert(ino, inode);
        ino
    }

    /// Frees the files that no name and no process leads to.
    pub(super) fn collect(&mut self) {
        let named: BTreeSet<Ino> = self.names.files().collect();
        self.inodes.retain(|ino, inode| named.contains(ino) || inode.is_open());
        let inodes = &self.inodes;
        self.stored_to.retain(|ino| inodes.contains_key(ino));
    }

    /// Blocks in use: of files with a name, and of those that are open or mapped without one.
    fn used_blocks(&self) -> u64 {
        let live = self.names.live().values();
        let named: BTreeSet<Node> = live.copied().collect();
        let counts =
            |(ino, inode): &(&Ino, &Inode)| named.contains(&Node::File(**ino)) || inode.is_open();
        self.inodes.iter().filter(counts).map(|(_, inode)| inode.blocks()).sum()
    }

    /// Blocks that can still be allocated.
    pub(super) fn room(&self) -> u64 {
        let capacity = self.capacity_blocks;
        capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_blocks()))
    }

    /// Total and free bytes.
    pub(super) fn usage(&self) -> (u64, u64) {
        let total = self.capacity_blocks.unwrap_or((1 << 40) / PAGE);
        (total * PAGE, total.saturating_sub(self.used_blocks()) * PAGE)
    }

    pub(super) fn watch_stores(&mut self, ino: Ino) {
        if !self.stored_to.contains(&ino) {
            self.stored_to.push(ino);
        }
    }

    pub(super) fn check_stores(&self, thorough: bool) {
        for ino in &self.stored_to {
            if let Some(inode) = self.inodes.get(ino) {
                check_stores_of(inode, thorough);
            }
        }
    }

    /// Stores are noticed late: what is there now may have been written at any time since.
    pub(super) fn remember_stores(&mut self) {
        for ino in self.stored_to.iter().filter(|_| self.remembers) {
            if let Some(inode) = self.inodes.get_mut(ino) {
                inode.remember_stores();
            }
        }
    }

    /// What comes before every call: counting, the end of the machine, a look for bad stores, and
    /// the choice of a fault.
    fn begin(&mut self, kind: CallKind, path: &Arc<str>, at: u64, len: u64) -> Option<Fault> {
        let number = self.counts.total() + 1;
        self.check_stores(false);
        self.remember_stores();
        if self.faults.halts_at(number) {
            self.halted_image = Some(Box::new(self.fork()));
            self.halted = true;
        }
        self.counts.add(kind);
        if self.trace.len() == TRACED_CALLS {
            self.trace.pop_front();
        }
        let path_kept = Arc::clone(path);
        self.trace.push_back(TracedCall { number, kind, path: path_kept, at, len, error: None });
        self.faults.draw(kind, path, &mut self.rng)
    }
}

/// Panics if the file was stored to where it has no block.
pub(super) fn check_stores_of(inode: &Inode, thorough: bool) {
    if let Some(at) = inode.store_without_block(thorough) {
        panic!("store to unallocated block path={} at={at} = SIGBUS", inode.path);
    }
}

/// What a call is about: kind, path, offset, bytes.
pub(super) struct About<'a>(
    pub(super) CallKind,
    pub(super) &'a Arc<str>,
    pub(super) u64,
    pub(super) u64,
);

/// Runs one call. `body` gets those faults that do more than fail.
pub(super) fn call<T>(
    state: &Mutex<State>,
    About(kind, path, at, len): About<'_>,
    body: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
) -> io::Result<T> {
    let state = &mut *state.lock();
    let fault = state.begin(kind, path, at, len);
    let syncs = matches!(kind, CallKind::SyncData | CallKind::SyncAll);
    let writes = matches!(
        kind,
        CallKind::Write | CallKind::DirtyAgain | CallKind::Allocate | CallKind::WriteZeros
    );
    let result = match fault {
        _ if state.halted => Err(Fault::Io.error()),
        Some(fault) if syncs || writes => body(state, Some(fault)),
        Some(Fault::Short) if kind == CallKind::Read => Err(io::ErrorKind::UnexpectedEof.into()),
        None | Some(Fault::Lost) => body(state, None),
        Some(fault) => Err(fault.error()),
    };
    if let (Err(e), Some(last)) = (&result, state.trace.back_mut()) {
        last.error = Some(e.kind());
    }
    result
}
