//! A running writer, seen from the process that hurts it.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use steadfast::disk::sim::Rng;

use crate::{promised::Promised, writer::Mode};

/// Longer than anything here takes; a writer that says nothing for so long hangs.
const STUCK: Duration = Duration::from_secs(60);

/// A writer, and what it says.
pub(crate) struct Writing {
    child: Child,
    lines: Receiver<String>,
    open: bool,
    mode: Mode,
}

/// How a writer is started.
pub(crate) struct Start<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) mode: Mode,
    pub(crate) seed: u64,
    pub(crate) round: u64,
    /// Further arguments of the writer.
    pub(crate) more: &'a [&'a str],
    /// What it is run under, such as a tracer with its arguments; may be empty.
    pub(crate) under: &'a [String],
}

impl Writing {
    /// Starts a process that writes.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub(crate) fn start(start: &Start<'_>) -> Result<Self> {
        let me = env::current_exe()?;
        let mut command = match start.under {
            [] => Command::new(me),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(me);
                command
            }
        };
        let mode = if start.mode == Mode::Sync { "sync" } else { "async" };
        command
            .arg("writer")
            .arg(start.dir)
            .args(["--mode", mode])
            .args(["--seed", &start.seed.to_string()])
            .args(["--round", &start.round.to_string()])
            .args(start.more);
        Self::spawn(&mut command, start.mode)
    }

    /// Starts what says a writer's lines on its standard output.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub(crate) fn spawn(command: &mut Command, mode: Mode) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the writer does not start")?;
        let out = child.stdout.take().context("the writer has no output")?;
        let mut out = BufReader::new(out);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut off by the kill, and says nothing.
            while out.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                let _ = sender.send(line.trim_end().to_owned());
                line.clear();
            }
        });
        Ok(Self { child, lines, open: false, mode })
    }

    /// Takes what it says for a random while, at least until it has opened the store; now and then
    /// it is left alone already while it opens.
    ///
    /// # Errors
    ///
    /// It says what it may not say, ends, or hangs.
    pub(crate) fn watch(&mut self, rng: &mut Rng, promised: &mut Promised) -> Result<()> {
        let mut left = rng.below(900);
        let mut pause = Duration::from_micros(rng.below(40_000));
        // Some die while they open.
        let early = rng.chance(1, 5);
        loop {
            let wait = if early || self.open && left == 0 { pause } else { STUCK };
            match self.lines.recv_timeout(wait) {
                Ok(line) => {
                    self.take(&line, promised)?;
                    left = left.saturating_sub(1);
                    pause = pause.saturating_sub(Duration::from_micros(100));
                }
                Err(RecvTimeoutError::Timeout) if wait == pause => return Ok(()),
                Err(e) => bail!("the writer went away or hangs: {e}"),
            }
            if (early || left == 0) && pause.is_zero() {
                return Ok(());
            }
        }
    }

    /// Waits for its first word, which is that it opens the store.
    ///
    /// # Errors
    ///
    /// It says something else, ends, or hangs.
    pub(crate) fn began(&mut self, within: Duration) -> Result<()> {
        match self.lines.recv_timeout(within) {
            Ok(line) => ensure!(line == "opening", "not a writer's first word: {line}"),
            Err(e) => bail!("the writer does not begin: {e}"),
        }
        Ok(())
    }

    /// Takes what it says for a while.
    ///
    /// # Errors
    ///
    /// It says what it may not say, or ends.
    pub(crate) fn watch_for(&mut self, time: Duration, promised: &mut Promised) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line, promised)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return self.refused_to_open(promised),
            }
        }
    }

    /// Takes what it says until `done`. `false` if it could not open the store, and said so.
    ///
    /// # Errors
    ///
    /// It says what it may not say, ends, or hangs.
    pub(crate) fn watch_until(
        &mut self,
        promised: &mut Promised,
        done: impl Fn(&Promised) -> bool,
    ) -> Result<bool> {
        let until = Instant::now() + STUCK;
        while !done(promised) {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line, promised)?,
                Err(RecvTimeoutError::Timeout) => bail!("what was waited for never came"),
                Err(RecvTimeoutError::Disconnected) => {
                    self.refused_to_open(promised)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn refused_to_open(&mut self, promised: &Promised) -> Result<()> {
        let status = self.child.wait()?;
        let refused = promised.errors_expected && !self.open && status.code() == Some(1);
        ensure!(refused, "the writer went away: {status}");
        Ok(())
    }

    /// Takes what it said up to now.
    ///
    /// # Errors
    ///
    /// It said what it may not say.
    pub(crate) fn take_said(&mut self, promised: &mut Promised) -> Result<()> {
        while let Ok(line) = self.lines.try_recv() {
            self.take(&line, promised)?;
        }
        Ok(())
    }

    /// Kills it, and takes all that it said.
    ///
    /// # Errors
    ///
    /// It said what it may not say.
    pub(crate) fn kill(mut self, promised: &mut Promised) -> Result<()> {
        self.child.kill()?;
        self.finish(promised).map(drop)
    }

    /// Waits for its end, and takes all that it said.
    ///
    /// # Errors
    ///
    /// It said what it may not say.
    pub(crate) fn finish(mut self, promised: &mut Promised) -> Result<ExitStatus> {
        // Ends when the last one who could write to the pipe is gone.
        loop {
            match self.lines.recv_timeout(STUCK) {
                Ok(line) => self.take(&line, promised)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(RecvTimeoutError::Timeout) => bail!("the writer hangs"),
            }
        }
    }

    fn take(&mut self, line: &str, promised: &mut Promised) -> Result<()> {
        match line {
            "opening" => Ok(()),
            "open" => {
                self.open = true;
                Ok(())
            }
            line => promised.take(line, self.mode),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // After an error nobody may go on writing beside the next trial.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
