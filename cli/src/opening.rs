//! Opening a store the way every command does: serving what is sound, saying what was found.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use steadfast::{OnDamage, Options, Store, StoreBuilder};

use crate::{exit::Failure, options::OptionArgs, time::utc_offset_minutes};

/// The store that a command works on.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The store's directory.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    options: OptionArgs,
}

impl StoreArgs {
    /// The options the command opens it with.
    pub(crate) fn options(&self) -> Options {
        options(&self.options)
    }

    /// Lets `work` look at the whole store and show how far it is.
    pub(crate) fn work<T>(
        &self,
        work: impl FnOnce(Progress) -> steadfast::Result<T>,
    ) -> Result<T, Failure> {
        with_progress(&self.dir, work)
    }

    /// `failure` with the store's directory.
    pub(crate) fn named(&self, failure: Failure) -> Failure {
        named(&self.dir, failure)
    }
}

/// The options a command opens with: what was given, damage does not keep the rest away, and hours
/// are local time.
pub(crate) fn options(args: &OptionArgs) -> Options {
    let mut options = Options::default().on_damage(OnDamage::Serve);
    options.retention.utc_offset_minutes = utc_offset_minutes();
    args.apply(options)
}

/// Opens the store in `dir` for reading and writing, making it if there is none.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Store, Failure> {
    finish(dir, options, "", StoreBuilder::open)
}

/// Opens the store in `dir` for reading, beside whoever writes to it.
pub(crate) fn open_read_only(dir: &Path, options: Options) -> Result<Store, Failure> {
    finish(dir, options, READ_ONLY, StoreBuilder::open_read_only)
}

/// What the report says was done was done in memory.
const READ_ONLY: &str = " (opened read-only: nothing was changed on disk)";

fn finish(
    dir: &Path,
    options: Options,
    how: &str,
    open: impl FnOnce(StoreBuilder) -> steadfast::Result<Store>,
) -> Result<Store, Failure> {
    let store = with_progress(dir, |progress| {
        let builder = Store::builder(dir)
            .options(options)
            .on_progress(move |what, at, total| progress.show(what, at, total));
        open(builder)
    })?;
    let report = store.recovery();
    if !report.findings.is_empty() {
        eprintln!("steadfast: {}{how}: {report}", dir.display());
    }
    Ok(store)
}

/// Does something that may take long before the store in `dir` can be used.
fn with_progress<T>(
    dir: &Path,
    work: impl FnOnce(Progress) -> steadfast::Result<T>,
) -> Result<T, Failure> {
    let progress = Progress::new();
    let done = work(progress.clone());
    progress.clear();
    done.map_err(|error| named(dir, Failure::opening(&error)))
}

/// The failure with the directory it happened in.
fn named(dir: &Path, failure: Failure) -> Failure {
    let name = |text| format!("{}: {text}", dir.display());
    match failure {
        Failure::OutputClosed => Failure::OutputClosed,
        Failure::Refused(text) => Failure::Refused(name(text)),
        Failure::Usage(text) => Failure::Usage(name(text)),
        Failure::Blocked(text) => Failure::Blocked(name(text)),
    }
}

/// A bar on stderr for work of more than a second, only on a terminal.
#[derive(Clone)]
pub(crate) struct Progress(std::sync::Arc<Inner>);

struct Inner {
    started: Instant,
    template: &'static str,
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    /// Counts bytes.
    pub(crate) fn new() -> Self {
        Self::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
    }

    /// Shows what the template says.
    pub(crate) fn with_template(template: &'static str) -> Self {
        let shown = std::io::stderr().is_terminal();
        Self(Inner { started: Instant::now(), template, shown, bar: Mutex::default() }.into())
    }

    /// `what` is going on and is at `at` of `total`.
    pub(crate) fn show(&self, what: &str, at: u64, total: u64) {
        if !self.0.shown || self.0.started.elapsed() < Duration::from_secs(1) {
            return;
        }
        let Ok(mut bar) = self.0.bar.lock() else { return };
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(self.0.template);
            let bar = ProgressBar::new(total);
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        bar.set_length(total);
        bar.set_message(what.to_owned());
        bar.set_position(at);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Ok(mut bar) = self.0.bar.lock()
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}
