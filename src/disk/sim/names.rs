//! The directory tree: as processes see it, as the disk has it, and what is on its way.

use std::{collections::BTreeMap, sync::Arc};

use super::rng::Rng;

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
    Rename { to: Arc<str>, ino: Ino },
    MakeDir { path: Arc<str> },
    RemoveDir { path: Arc<str> },
}

impl Change {
    /// The directory whose sync makes it durable. A rename is one transaction, durable with
    /// the directory it moves the file into.
    fn directory(&self) -> &str {
        match self {
            Self::Link { path, .. }
            | Self::Unlink { path, .. }
            | Self::Rename { to: path, .. }
            | Self::MakeDir { path }
            | Self::RemoveDir { path } => parent(path),
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
            Self::Rename { to, ino } => {
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
        self.change(Change::Rename { to: Arc::clone(to), ino });
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
                waiting.retain(|earlier| earlier.ino() != Some(ino));
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
        let mut kept = Tree::new();
        for (path, node) in tree {
            let above = parent(&path);
            if above.is_empty() || kept.get(above) == Some(&Node::Directory) {
                kept.insert(path, node);
            }
        }
        Self { live: kept.clone(), durable: kept, pending: Vec::new() }
    }
}
