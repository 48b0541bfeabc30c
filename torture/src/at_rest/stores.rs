//! The stores that are damaged, as they were before.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use steadfast::{Options, QueueOffset, RecordChecksum, Store};
use tempfile::TempDir;

use crate::{
    damage::Anatomy,
    message::{QUEUES, body, group, queue},
    writer::{Mode, options},
};

/// Who wrote a store, and how it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    SyncClosed,
    SyncKilled,
    AsyncClosed,
    AsyncKilled,
    /// Without a checksum of each whole record.
    BareClosed,
    BareKilled,
    /// Written by RocketMQ; the name of the archive.
    Java(&'static str),
}

impl Origin {
    pub(crate) const ALL: &[Self] = &[
        Self::SyncClosed,
        Self::SyncKilled,
        Self::AsyncClosed,
        Self::AsyncKilled,
        Self::BareClosed,
        Self::BareKilled,
        Self::Java("clean-mixed"),
        Self::Java("clean-crc"),
        Self::Java("clean-fit"),
        Self::Java("expired-preblank"),
        Self::Java("halt-mixed"),
        Self::Java("halt-torn"),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SyncClosed => "sync-closed",
            Self::SyncKilled => "sync-killed",
            Self::AsyncClosed => "async-closed",
            Self::AsyncKilled => "async-killed",
            Self::BareClosed => "bare-closed",
            Self::BareKilled => "bare-killed",
            Self::Java(name) => name,
        }
    }

    pub(crate) fn is_java(self) -> bool {
        matches!(self, Self::Java(_))
    }

    pub(crate) fn is_killed(self) -> bool {
        match self {
            Self::SyncKilled | Self::AsyncKilled | Self::BareKilled => true,
            Self::Java(name) => name.starts_with("halt"),
            _ => false,
        }
    }

    /// Whether it is known of each record that it has a checksum of all of it.
    pub(crate) fn is_protected(self) -> bool {
        !self.is_java() && !matches!(self, Self::BareClosed | Self::BareKilled)
    }

    pub(crate) fn options(self) -> Options {
        let mode = match self {
            Self::AsyncClosed | Self::AsyncKilled => Mode::Async,
            _ => Mode::Sync,
        };
        let mut options = options(mode);
        match self {
            Self::BareClosed | Self::BareKilled => options.record_checksum = RecordChecksum::Off,
            Self::Java(_) => (options.index_slots, options.index_entries) = (1000, 4000),
            _ => {}
        }
        options
    }
}

/// A store that nobody hurt yet.
pub(crate) struct Pristine {
    pub(crate) origin: Origin,
    pub(crate) anatomy: Anatomy,
    /// What `verify` says of it.
    pub(crate) said: BTreeSet<String>,
    _home: TempDir,
}

impl Pristine {
    pub(crate) fn of(origin: Origin) -> Result<Self> {
        let home = TempDir::new()?;
        let dir = match origin {
            Origin::Java(name) => unpack(name, home.path())?,
            _ => write(origin, home.path())?,
        };
        let mut said = BTreeSet::new();
        let mut tell = |finding: &steadfast::VerifyFinding| {
            said.insert(finding.to_string());
        };
        let summary = steadfast::verify(&dir, &origin.options(), &mut tell, &mut |_, _| {})?;
        anyhow::ensure!(summary.is_sound(), "{origin:?} is not sound: {said:?}");
        let anatomy = Anatomy::of(&dir)?;
        anyhow::ensure!(anatomy.records.len() > 100, "{origin:?} has too few records");
        Ok(Self { origin, anatomy, said, _home: home })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.anatomy.dir
    }
}

fn unpack(name: &str, into: &Path) -> Result<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    let archive = data.join(format!("{name}.tar.gz"));
    let archive = File::open(&archive).with_context(|| format!("no {}", archive.display()))?;
    tar::Archive::new(GzDecoder::new(archive)).unpack(into)?;
    Ok(into.join(name))
}

/// Several files of each kind, closed once in between.
fn write(origin: Origin, home: &Path) -> Result<PathBuf> {
    let dir = home.join("store");
    for round in 0..2 {
        let store = Store::builder(&dir).options(origin.options()).open()?;
        put(&store, round)?;
        if origin.is_killed() && round == 1 {
            store.abandon();
        } else {
            store.close()?;
        }
    }
    Ok(dir)
}

fn put(store: &Store, round: i32) -> Result<()> {
    const MESSAGES: i32 = 450;
    for n in 0..MESSAGES {
        let (name, queue) = (format!("r{round}-t0-s{n}"), queue(n % QUEUES)?);
        let body = body(&name);
        let message = steadfast::Message::new(&queue, &body).tag("tag").key(&name);
        let ticket = store.append(&message)?;
        // Groups of several sizes; all are acknowledged in the end.
        if n % 7 == 0 || n + QUEUES >= MESSAGES {
            let at = ticket.wait()?.placement.queue_offset;
            store.wait_for(&queue, at, std::time::Duration::from_secs(60))?;
            if n % 98 == 0 {
                let next = QueueOffset::new(at.get() / 2);
                store.consumers().commit(&group(0)?, &queue, next)?;
                store.consumers().save()?;
            }
        }
    }
    Ok(())
}
