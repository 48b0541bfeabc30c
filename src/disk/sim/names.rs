//! The directory tree: as processes see it, as the disk has it, and what is on its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{possible::Found, rng::Rng};

/// Identifies a file through all its names.
pub(super) type Ino = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Directory,
    File(Ino),
}

/// Paths with `/` between the parts; the root is not among them. Sorted, so that a directory
/// comes before what is in it.
pub(super) type Tree = BTreeMap<Arc<str>, Node>;

/// A change of names that no sync of its directory covers yet.
#[derive(Clone, Debug)]
enum Change {
    Link { path: Arc<str>, ino: Ino },
    Unlink { path: Arc<str>, ino: Ino },
    Rename { to: Arc<str>, ino: Ino, replaced: Option<Ino> },
    MakeDir { path: Arc<str> },
    RemoveDir { path: Arc<str> },
}

impl Change {
    /// The directory whose sync makes it durable. A rename is one transaction, durable with
    /// the directory it moves the file into.
    fn directory(&self) -> &str {
        parent(self.path())
    }

    /// The name it is about.
    fn path(&self) -> &str {
        match self {
            Self::Link { path, .. }
            | Self::Unlink { path, .. }
            | Self::Rename { to: path, .. }
            | Self::MakeDir { path }
            | Self::RemoveDir { path } => path,
        }
    }

    fn ino(&self) -> Option<Ino> {
        match *self {
            Self::Link { ino, .. } | Self::Unlink { ino, .. } | Self::Rename { ino, .. } => {
                Some(ino)
            }
            Self::MakeDir { .. } | Self::RemoveDir { .. } => None,
        }
    }

    /// What it still does when its file has another name by now: the one it replaced is gone.
    fn without_file(self) -> Option<Self> {
        match self {
            Self::Rename { to, replaced: Some(ino), .. } => Some(Self::Unlink { path: to, ino }),
            _ => None,
        }
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Link { path, ino } => {
                tree.insert(Arc::clone(path), Node::File(*ino));
            }
            Self::Unlink { path, ino } => {
                if tree.get(path) == Some(&Node::File(*ino)) {
                    tree.remove(path);
                }
            }
            Self::Rename { to, ino, .. } => {
                // Atomic: whatever name it had, also one from before an earlier rename, is gone.
                tree.retain(|_, node| *node != Node::File(*ino));
                tree.insert(Arc::clone(to), Node::File(*ino));
            }
            Self::MakeDir { path } => {
                tree.insert(Arc::clone(path), Node::Directory);
            }
            Self::RemoveDir { path } => {
                tree.remove(path);
            }
        }
    }
}

/// The directory a path is in; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: Tree,
    durable: Tree,
    pending: Vec<Change>,
}

impl Names {
    /// What processes see.
    pub(super) fn live(&self) -> &Tree {
        &self.live
    }

    /// What every power failure leaves.
    pub(super) fn durable(&self) -> &Tree {
        &self.durable
    }

    pub(super) fn has_directory(&self, path: &str) -> bool {
        path.is_empty() || self.live.get(path) == Some(&Node::Directory)
    }

    /// What is in a directory: names and nodes.
    pub(super) fn children<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = (&'a str, Node)> {
        let start: Arc<str> = if dir.is_empty() { "".into() } else { format!("{dir}/").into() };
        let prefix = Arc::clone(&start);
        self.live
            .range(start..)
            .take_while(move |(path, _)| path.starts_with(&*prefix))
            .filter(move |(path, _)| parent(path) == dir)
            .map(|(path, node)| (path.rsplit('/').next().unwrap_or(path), *node))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn link(&mut self, path: &Arc<str>, ino: Ino) {
        self.change(Change::Link { path: Arc::clone(path), ino });
    }

    pub(super) fn unlink(&mut self, path: &Arc<str>, ino: Ino) {
        self.change(Change::Unlink { path: Arc::clone(path), ino });
    }

    pub(super) fn rename(&mut self, to: &Arc<str>, ino: Ino) {
        let replaced = match self.live.get(to) {
            Some(Node::File(replaced)) => Some(*replaced),
            _ => None,
        };
        self.change(Change::Rename { to: Arc::clone(to), ino, replaced });
    }

    pub(super) fn make_dir(&mut self, path: &Arc<str>) {
        self.change(Change::MakeDir { path: Arc::clone(path) });
    }

    pub(super) fn remove_dir(&mut self, path: &Arc<str>) {
        self.change(Change::RemoveDir { path: Arc::clone(path) });
    }

    /// Makes the changes in `dir` durable, all in order; `None` stands for every directory.
    pub(super) fn sync(&mut self, dir: Option<&str>) {
        let mut waiting: Vec<Change> = Vec::new();
        for change in self.pending.drain(..) {
            if dir.is_some_and(|dir| change.directory() != dir) {
                waiting.push(change);
                continue;
            }
            change.apply(&mut self.durable);
            // What another directory still had to say about this file is overtaken: once a rename
            // out of it is durable, the old name cannot appear any more.
            if let Some(ino) = change.ino() {
                let keep = |earlier: Change| {
                    if earlier.ino() == Some(ino) { earlier.without_file() } else { Some(earlier) }
                };
                waiting = waiting.into_iter().filter_map(keep).collect();
            }
        }
        self.pending = waiting;
    }

    /// Sets a name at once and for good, as damage and test setups do; `None` removes it.
    pub(super) fn force(&mut self, path: &Arc<str>, node: Option<Node>) {
        let old = [self.live.get(path).copied(), self.durable.get(path).copied()];
        for tree in [&mut self.live, &mut self.durable] {
            match node {
                Some(node) => drop(tree.insert(Arc::clone(path), node)),
                None => drop(tree.remove(path)),
            }
        }
        self.pending.retain(|change| match change.ino() {
            Some(ino) => !old.contains(&Some(Node::File(ino))),
            None => match change {
                Change::MakeDir { path: of } | Change::RemoveDir { path: of } => of != path,
                _ => true,
            },
        });
    }

    /// The files that some name leads to: present, durable or on its way. Not sorted, with repeats.
    pub(super) fn files(&self) -> impl Iterator<Item = Ino> {
        let named = self.live.values().chain(self.durable.values()).filter_map(|node| match node {
            Node::File(ino) => Some(*ino),
            Node::Directory => None,
        });
        named.chain(self.pending.iter().filter_map(Change::ino))
    }

    /// The names after a power failure: each pending change happened or not, on its own. What is
    /// in a directory that does not exist is lost with it.
    pub(super) fn after_power_failure(&self, rng: &mut Rng) -> Self {
        // Besides any subset often enough none or all: both are what careless code breaks on.
        let happened = *rng.pick(&[0, 1, 2, 2, 2, 4]);
        let mut tree = self.durable.clone();
        for change in &self.pending {
            if rng.chance(happened, 4) {
                change.apply(&mut tree);
            }
        }
        let kept = reachable(tree);
        Self { live: kept.clone(), durable: kept, pending: Vec::new() }
    }

    /// Whether [`after_power_failure`](Self::after_power_failure) can make just the names in
    /// `found`, of files that `fits` does not refuse; or why not.
    pub(super) fn could_become(
        &self,
        found: &BTreeMap<String, Found>,
        fits: &mut dyn FnMut(&str, Ino) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut trees = BTreeSet::from([self.durable.clone()]);
        let mut asked = BTreeMap::new();
        let mut why = Refusal::Name("there is no such tree".into());
        for n in 0..=self.pending.len() {
            // Settled names at once: otherwise there were a tree for each subset of the changes.
            let later = Later::of(&self.pending[n..]);
            trees.retain(|tree| {
                let mut fits = |path: &str, ino| -> Result<(), String> {
                    let asked = asked.entry((path.to_owned(), ino));
                    asked.or_insert_with(|| fits(path, ino)).clone()
                };
                match later.check(tree, found, &mut fits) {
                    Ok(()) => true,
                    // With all these names there is a tree, so bytes tell more.
                    Err(Refusal::Name(_)) if matches!(why, Refusal::Bytes(_)) => false,
                    Err(refusal) => {
                        why = refusal;
                        false
                    }
                }
            });
            let Some(change) = self.pending.get(n) else { break };
            let without = trees.clone();
            trees.extend(without.into_iter().map(|mut tree| {
                change.apply(&mut tree);
                tree
            }));
        }
        // What is left agrees with all that was found; nothing may have been found elsewhere.
        if trees.iter().any(|tree| reachable(tree.clone()).len() == found.len()) {
            return Ok(());
        }
        let (Refusal::Name(why) | Refusal::Bytes(why)) = why;
        let names: Vec<_> = found.keys().collect();
        Err(format!("{why}; found names: {names:?}; names on their way: {:?}", self.pending))
    }
}

/// The part of a tree that its root leads to.
fn reachable(tree: Tree) -> Tree {
    let mut kept = Tree::new();
    for (path, node) in tree {
        let above = parent(&path);
        if above.is_empty() || kept.get(above) == Some(&Node::Directory) {
            kept.insert(path, node);
        }
    }
    kept
}

/// Why a tree is not what was found.
enum Refusal {
    Name(String),
    Bytes(String),
}

/// What the changes to come are about; all else is settled.
struct Later<'a> {
    paths: BTreeSet<&'a str>,
    moved: BTreeSet<Ino>,
}

impl<'a> Later<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut this = Self { paths: BTreeSet::new(), moved: BTreeSet::new() };
        for change in changes {
            this.paths.insert(change.path());
            if let Change::Rename { ino, .. } = change {
                this.moved.insert(*ino);
            }
        }
        this
    }

    /// Compares what is settled in `tree` with what was found.
    fn check(
        &self,
        tree: &Tree,
        found: &BTreeMap<String, Found>,
        fits: &mut dyn FnMut(&str, Ino) -> Result<(), String>,
    ) -> Result<(), Refusal> {
        for (path, node) in tree {
            let moved = matches!(node, Node::File(ino) if self.moved.contains(ino));
            if moved || self.paths.contains(&**path) {
                continue;
            }
            match (node, found.get(&**path)) {
                (Node::Directory, Some(Found::Directory)) => {}
                (Node::File(ino), Some(Found::File(_))) => {
                    fits(path, *ino).map_err(|why| Refusal::Bytes(format!("{path}: {why}")))?;
                }
                (_, Some(_)) => return Err(Refusal::Name(format!("{path}: is no {node:?}"))),
                (_, None) => {
                    let above = parent(path);
                    if above.is_empty() || found.contains_key(above) {
                        return Err(Refusal::Name(format!("{path}: is missing")));
                    }
                }
            }
        }
        let unknown = |path: &&String| {
            !tree.contains_key(path.as_str()) && !self.paths.contains(path.as_str())
        };
        match found.keys().find(unknown) {
            Some(path) => Err(Refusal::Name(format!("{path}: nothing has this name"))),
            None => Ok(()),
        }
    }
}
