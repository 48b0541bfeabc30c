//! `steadfast repair`: makes anew what is derived, and gives up what is damaged if told so.

use std::io::Write;

use steadfast::{Finding, Loss, Remedy, RepairMode};

use crate::{
    exit::{Failure, Outcome},
    opening::StoreArgs,
    output,
};

/// Rebuilds queues and index, and gives up damaged records where told so
///
/// Needs the store for itself. Nothing is removed without a copy in the directory `quarantine`.
/// May be interrupted and repeated.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only say what would be done.
    #[arg(long)]
    plan: bool,
    /// Put placeholders over damaged records, so that a RocketMQ broker does not cut the log
    /// there. Their bytes are kept in `quarantine`.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "\
If records are damaged, restoring the file from a copy or a replica is better than any repair. Until
they are given up with --accept-loss the exit status is 1; everything else can be read and appended
to meanwhile.

Examples:
  steadfast repair data --plan
  steadfast repair data                  # queues, index and checkpoints anew from the log
  steadfast repair data --accept-loss";

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let mode = match (args.plan, args.accept_loss) {
        (true, _) => RepairMode::Plan,
        (false, true) => RepairMode::AcceptLoss,
        (false, false) => RepairMode::Rebuild,
    };
    let store = &args.store;
    let report = store.work(|progress| {
        let show = move |what: &str, at, total| progress.show(what, at, total);
        steadfast::repair(&store.dir, &store.options(), mode, show)
    })?;
    let mut out = output::stdout();
    for loss in &report.losses {
        writeln!(out, "{}", line(loss, args.accept_loss, args.plan))?;
    }
    // The damage that was told above is found once more by the open that rebuilds.
    for finding in report.findings.iter().filter(|f| !matches!(f, Finding::Damage { .. })) {
        writeln!(out, "{finding}")?;
    }
    let forgets = report.losses.iter().any(|loss| loss.remedy == Remedy::Forget);
    if mode == RepairMode::Plan && (forgets || !report.findings.is_empty()) {
        writeln!(out, "more damage may be found once that is done")?;
    }
    if mode == RepairMode::Plan {
        writeln!(out, "queues, index and checkpoints would be made anew from the log")?;
    }
    out.flush()?;
    let mended = report.is_mended() || (args.plan && report.losses.is_empty());
    if !mended {
        let first = &report.losses[0];
        let advice = match (args.accept_loss, args.plan) {
            (true, false) => "what could not be given up stays as it was",
            _ => {
                "restore the file from a copy, or give these records up with \
                 `steadfast repair --accept-loss`"
            }
        };
        eprintln!(
            "steadfast: {}: damage in the log: {} offset={}: {advice}",
            store.dir.display(),
            first.file,
            first.offset
        );
    }
    Ok(Outcome::found(!mended))
}

fn line(loss: &Loss, accepted: bool, plan: bool) -> String {
    let done = accepted && !plan;
    let what = match (loss.remedy, done) {
        (Remedy::Placeholder, true) => {
            "a placeholder is in its place; its bytes, if any, are in quarantine"
        }
        (Remedy::Placeholder, false) => "would be replaced by a placeholder",
        (Remedy::Forget, true) => "the log is taken as ending here",
        (Remedy::Forget, false) => "the log would be taken as ending here",
        (Remedy::Accept, true) => "its bytes are taken as they are from now on",
        (Remedy::Accept, false) => {
            "its bytes would be taken as they are: which record is wrong cannot be told"
        }
        (Remedy::Leave, _) => "too small or too large for placeholders, it stays as it is",
    };
    format!(
        "damage {} offset={} len={} log_offset={}: {}: {what}",
        loss.file,
        loss.offset,
        loss.end - loss.start,
        loss.start,
        loss.reason
    )
}
