//! Running trials: their seeds, their share of the time, progress, and the summary.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use steadfast::disk::sim::Rng;

use crate::{
    at_rest::AtRest, calls::Calls, full::Full, fuse::Fuse, kills::Kills, mounted::Kind,
    power_cut::PowerCut, qemu::Qemu, states::States, stress::Stress,
};

/// One way of hurting a store, over and over.
pub(crate) trait Trial {
    /// One word or two, in `kebab-case`.
    fn name(&self) -> &'static str;

    /// Whether this machine can do it: `Some` says what is missing.
    fn missing(&self) -> Option<String> {
        None
    }

    /// How many cycles there are, where it is not any number.
    fn cycles(&self) -> Option<u64> {
        None
    }

    /// Writes, hurts, opens again and checks, once. All chance comes from `rng`.
    fn cycle(&mut self, rng: &mut Rng) -> Result<()>;

    /// What was counted so far, for the summary.
    fn counted(&self) -> String;
}

/// Every trial, in the order in which `torture all` runs them.
pub(crate) fn all() -> Vec<Box<dyn Trial>> {
    vec![
        Box::new(Kills::default()),
        Box::new(Stress::default()),
        Box::new(AtRest::default()),
        Box::new(PowerCut::on(Kind::Ext4)),
        Box::new(PowerCut::on(Kind::Xfs)),
        Box::new(States::on(Kind::Ext4)),
        Box::new(States::on(Kind::Xfs)),
        Box::new(Fuse::default()),
        Box::new(Calls::default()),
        Box::new(Full::on(Kind::Tmpfs)),
        Box::new(Full::on(Kind::Ext4)),
        Box::new(Full::on(Kind::Xfs)),
        Box::new(Full::on(Kind::Btrfs)),
        Box::new(Full::on(Kind::Overlay)),
        Box::new(Qemu::at_most(2)),
    ]
}

/// How long to go on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Budget {
    /// Cycles of each trial; without it, and without --minutes, 20
    #[arg(long)]
    pub(crate) cycles: Option<u64>,
    /// Minutes for all trials together; with --cycles, whichever is over first
    #[arg(long)]
    pub(crate) minutes: Option<f64>,
    /// Where the first cycle's chance comes from; each further cycle has the next number
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

const CYCLES: u64 = 20;
/// Columns of a trial's name.
const NAME: usize = 14;

struct Line {
    name: &'static str,
    cycles: u64,
    took: Duration,
    told: String,
}

/// Runs `trials` one after the other and prints a line for each.
///
/// # Errors
///
/// The first promise that was not kept.
pub(crate) fn run(trials: &mut [Box<dyn Trial>], budget: &Budget) -> Result<()> {
    let seed = budget.seed.unwrap_or_else(|| RandomState::new().hash_one("torture") >> 16);
    println!("seed {seed}");
    let begun = Instant::now();
    let whole = budget.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let mut lines = Vec::new();
    let count = trials.len();
    for (n, trial) in trials.iter_mut().enumerate() {
        if let Some(why) = trial.missing() {
            println!("{:<NAME$} SKIP: {why}", trial.name());
            continue;
        }
        let left = whole.map(|whole| whole.saturating_sub(begun.elapsed()));
        // What one trial leaves over, the later ones share.
        let share = left.map(|left| left / (count - n) as u32);
        lines.push(run_one(&mut **trial, budget, share, seed)?);
    }
    println!("\n{:<NAME$} {:>9} {:>8} {:>9}", "trial", "cycles", "seconds", "cycles/s");
    for Line { name, cycles, took, told } in &lines {
        let seconds = took.as_secs_f64();
        let rate = *cycles as f64 / seconds.max(0.001);
        println!("{name:<NAME$} {cycles:>9} {seconds:>8.1} {rate:>9.1}  {told}");
    }
    Ok(())
}

fn run_one(
    trial: &mut dyn Trial,
    budget: &Budget,
    share: Option<Duration>,
    seed: u64,
) -> Result<Line> {
    let name = trial.name();
    let unbounded = if share.is_some() { u64::MAX } else { CYCLES };
    let most = budget.cycles.unwrap_or(unbounded).min(trial.cycles().unwrap_or(u64::MAX));
    let bar = ProgressBar::new(if most == u64::MAX { 0 } else { most });
    bar.set_style(ProgressStyle::with_template("{prefix} {elapsed_precise} {pos} {wide_msg}")?);
    bar.set_prefix(format!("{name:<NAME$}"));
    let begun = Instant::now();
    let mut cycle = 0;
    while cycle < most && share.is_none_or(|share| begun.elapsed() < share) {
        let chance = seed + cycle;
        trial.cycle(&mut Rng::new(chance)).with_context(|| {
            format!("{name}, cycle {cycle}: again with `torture {name} --seed {chance}`")
        })?;
        cycle += 1;
        bar.set_position(cycle);
        bar.set_message(trial.counted());
    }
    bar.finish_and_clear();
    let told = trial.counted();
    let took = begun.elapsed();
    println!("{name:<NAME$} {cycle} cycles in {:.1} s: {told}", took.as_secs_f64());
    Ok(Line { name, cycles: cycle, took, told })
}
