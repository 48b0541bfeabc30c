//! `torture`: hurts real stores on real files, over and over, and checks that each keeps what it
//! promised. See `docs/testing.md`.

mod at_rest;
mod calls;
mod check;
mod damage;
mod files;
mod full;
mod fuse;
mod fuse_disk;
mod fuse_mount;
mod fuse_tree;
mod hurt;
mod kills;
mod life;
mod message;
mod mounted;
mod peers;
mod power_cut;
mod promised;
mod qemu;
mod states;
mod stress;
mod traced;
mod trial;
mod writer;
mod writing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mounted::Kind;
use power_cut::PowerCut;
use states::States;
use steadfast::disk::sim::Rng;
use trial::Budget;

/// Hurts real stores on real files, over and over, and checks that each keeps what it promised
///
/// Every trial goes on until its cycles or its minutes are used up, prints what it did, and ends at
/// the first promise that was not kept, with the seed of that cycle. What this machine lacks is
/// told as SKIP.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every trial in turn, sharing the minutes
    All(Budget),
    /// Each system call of a store's life fails in its turn
    Calls(calls::Args),
    /// A small btrfs fills up, has room again, is mounted read-only
    FullBtrfs(Budget),
    /// The same on ext4, which also becomes read-only under a writer
    FullExt4(Budget),
    /// The same on an overlay
    FullOverlay(Budget),
    /// The same on a tmpfs
    FullTmpfs(Budget),
    /// The same on xfs
    FullXfs(Budget),
    /// A disk in user space fails to write back and to sync, and forgets what was not synced
    Fuse(Budget),
    /// The writing process is killed while it opens, writes and rolls
    Kills(Budget),
    /// The power fails under a store on ext4
    PowerCutExt4(Budget),
    /// The power fails under a store on xfs
    PowerCutXfs(Budget),
    /// The power fails under a whole machine in qemu, whose disk has a write cache
    Qemu(Budget),
    /// The power fails on ext4 under random calls: the simulated disk could be in that state, too
    StatesExt4(Budget),
    /// The same on xfs
    StatesXfs(Budget),
    /// Producers, readers, retention and housekeeping on one store, all at once
    Stress(Budget),
    /// The same faults at our store and at RocketMQ's, side by side
    Peers(peers::Args),
    /// Our store, told what to do line by line; started by `peers`
    #[command(hide = true)]
    Peer(peers::PeerArgs),
    /// The disk of `fuse`; started by it
    #[command(hide = true)]
    FuseDisk(fuse_disk::Args),
    /// Files are damaged while nobody has the store open
    Damage(Budget),
    /// Every damage of every store, once; goes on where a promise was not kept
    EveryDamage {
        /// Only those with this in their name
        only: Option<String>,
        /// Where chance comes from
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Damages a store at rest, once and by name; without a name, prints all there are
    Hurt(hurt::Args),
    /// The process that is hurt; started by the trials
    #[command(hide = true)]
    Writer(writer::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::All(budget) => trial::run(&mut trial::all(), &budget),
        Command::Calls(args) => {
            let (calls, budget) = calls::Calls::new(args);
            trial::run(&mut [Box::new(calls)], &budget)
        }
        Command::FullBtrfs(budget) => full(Kind::Btrfs, &budget),
        Command::FullExt4(budget) => full(Kind::Ext4, &budget),
        Command::FullOverlay(budget) => full(Kind::Overlay, &budget),
        Command::FullTmpfs(budget) => full(Kind::Tmpfs, &budget),
        Command::FullXfs(budget) => full(Kind::Xfs, &budget),
        Command::Fuse(budget) => trial::run(&mut [Box::new(fuse::Fuse::default())], &budget),
        Command::FuseDisk(args) => return fuse_disk::run(&args),
        Command::Kills(budget) => trial::run(&mut [Box::new(kills::Kills::default())], &budget),
        Command::PowerCutExt4(budget) => power_cut(Kind::Ext4, &budget),
        Command::PowerCutXfs(budget) => power_cut(Kind::Xfs, &budget),
        Command::Qemu(budget) => {
            trial::run(&mut [Box::new(qemu::Qemu::at_most(u64::MAX))], &budget)
        }
        Command::StatesExt4(budget) => states(Kind::Ext4, &budget),
        Command::StatesXfs(budget) => states(Kind::Xfs, &budget),
        Command::Stress(budget) => trial::run(&mut [Box::new(stress::Stress::default())], &budget),
        Command::Peers(args) => peers::run(&args),
        Command::Peer(args) => return peers::run_peer(&args),
        Command::Damage(budget) => trial::run(&mut [Box::new(at_rest::AtRest::default())], &budget),
        Command::EveryDamage { only, seed } => every_damage(only.as_deref(), seed),
        Command::Hurt(args) => match hurt::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Writer(args) => return writer::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn full(kind: Kind, budget: &Budget) -> anyhow::Result<()> {
    trial::run(&mut [Box::new(full::Full::on(kind))], budget)
}

fn power_cut(kind: Kind, budget: &Budget) -> anyhow::Result<()> {
    trial::run(&mut [Box::new(PowerCut::on(kind))], budget)
}

fn states(kind: Kind, budget: &Budget) -> anyhow::Result<()> {
    trial::run(&mut [Box::new(States::on(kind))], budget)
}

fn every_damage(only: Option<&str>, seed: u64) -> anyhow::Result<()> {
    let broken = at_rest::AtRest::every(&mut Rng::new(seed), only)?;
    anyhow::ensure!(broken == 0, "{broken} promises were not kept");
    Ok(())
}
