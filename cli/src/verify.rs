//! `steadfast verify`: is everything as it was written?

use std::io::Write;

use serde::Serialize;
use steadfast::{PhysicalOffset, Severity, VerifyFinding};

use crate::{
    exit::{Failure, Outcome},
    opening::StoreArgs,
    output,
};

/// Checks a store and changes nothing
///
/// Reads every record of the log and verifies its checksums, compares queues and index with the
/// log and the log with them, and looks at checkpoints and consumer offsets. May run beside a
/// writer. One line is printed for each finding.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// One JSON object a line: kind, severity, file, offset, len, detail.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "\
Severities:
  note           the next open mends it without loss: a tail that was never known to be durable,
                 queues or index that lag or are missing, what a crash left; the exit status is 0
  inconsistency  files contradict each other; `steadfast repair` rebuilds what is derived
  damage         bytes of the log are not what was written; restore them from a copy, or see
                 `steadfast repair --plan`

Examples:
  steadfast verify data
  steadfast verify data --json | jq -c 'select(.severity != \"note\")'";

#[derive(Serialize)]
struct Line<'a> {
    kind: &'a str,
    severity: &'a str,
    file: &'a str,
    offset: u64,
    len: u64,
    detail: &'a str,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let mut out = output::stdout();
    let mut printed = Ok(());
    let mut worst: Option<VerifyFinding> = None;
    let mut tell = |finding: &VerifyFinding| {
        if worst.as_ref().is_none_or(|w| w.severity < finding.severity) {
            worst = Some(finding.clone());
        }
        if printed.is_ok() {
            printed = print(args, &mut out, finding);
        }
    };
    let store = &args.store;
    let verified = store.work(|progress| {
        let mut show = |at: PhysicalOffset, end: PhysicalOffset| {
            progress.show("checking", at.get(), end.get());
        };
        steadfast::verify(&store.dir, &store.options(), &mut tell, &mut show)
    });
    printed?;
    let summary = verified?;
    let dir = store.dir.display();
    eprintln!(
        "steadfast: {dir}: {} records in {}..{}, {} entries of {} queues and {} of the index \
         compared{}: {} damages, {} inconsistencies, {} notes",
        summary.records,
        summary.log_start,
        summary.log_end,
        summary.queue_entries,
        summary.queues,
        summary.index_entries,
        if summary.live { " beside a writer" } else { "" },
        summary.damages,
        summary.inconsistencies,
        summary.notes
    );
    if let Some(worst) = worst.filter(|w| w.severity != Severity::Note) {
        // What to do about damage its detail says already.
        let advice = match worst.severity {
            Severity::Inconsistency => "; `steadfast repair` makes anew what is derived",
            _ => "",
        };
        eprintln!("steadfast: {dir}: {worst}{advice}");
    }
    Ok(Outcome::found(!summary.is_sound()))
}

fn print(args: &Args, out: &mut output::Output, finding: &VerifyFinding) -> Result<(), Failure> {
    if args.json {
        let line = Line {
            kind: finding.kind,
            severity: finding.severity.name(),
            file: &finding.file,
            offset: finding.offset,
            len: finding.len,
            detail: &finding.detail,
        };
        output::line(out, &line)?;
    } else {
        writeln!(out, "{finding}")?;
    }
    // Checking goes on for long; who watches sees it now.
    out.flush()?;
    Ok(())
}
