//! A peer's process, and talking with it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::messages::{Place, Put};

/// Longer than any answer takes; a peer that says nothing for so long hangs.
const STUCK: Duration = Duration::from_secs(90);

/// A store that is open in a process of its own. Dropping it is a SIGKILL.
pub(crate) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
    /// What it said at open.
    pub(crate) said: Vec<String>,
    /// Why it did not open.
    pub(crate) refused: Option<String>,
}

/// A peer that died or hung where it should have answered.
#[derive(Clone, Debug)]
pub(crate) struct Silent(pub(crate) String);

impl Process {
    /// Starts `command` and waits until it is open or has refused.
    ///
    /// # Errors
    ///
    /// It cannot be started; it said neither.
    pub(crate) fn start(mut command: Command, errors: &Path) -> Result<Result<Self, Silent>> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(errors)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let orders = child.stdin.take();
        let errors = errors.to_owned();
        let mut process = Self { child, orders, lines, errors, said: Vec::new(), refused: None };
        loop {
            let line = match process.line() {
                Ok(line) => line,
                Err(silent) => return Ok(Err(silent)),
            };
            if let Some(said) = line.strip_prefix("SAID ") {
                process.said.push(said.to_owned());
            } else if let Some(why) = line.strip_prefix("REFUSED ") {
                process.refused = Some(why.to_owned());
                break;
            } else if line == "OPEN" {
                break;
            }
        }
        Ok(Ok(process))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String, Silent> {
        match self.lines.recv_timeout(STUCK) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Silent("hung".to_owned())),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let how = self.child.wait().map_or_else(|e| e.to_string(), |how| how.to_string());
                let errors = fs::read_to_string(&self.errors).unwrap_or_default();
                let first = errors.lines().next().unwrap_or_default();
                Err(Silent(format!("died: {how} {first}")))
            }
        }
    }

    /// Sends an order.
    pub(crate) fn order(&mut self, order: &str) {
        if let Some(orders) = &mut self.orders {
            // A peer that is gone is noticed by its silence.
            let _ = writeln!(orders, "{order}").and_then(|()| orders.flush());
        }
    }

    /// Sends an order and returns its answer, and how it ended if not as it should.
    pub(crate) fn ask(&mut self, order: &str) -> (Vec<String>, Option<Silent>) {
        self.order(order);
        let mut answer = Vec::new();
        loop {
            match self.line() {
                Err(silent) => return (answer, Some(silent)),
                Ok(line) if line == "DONE" => return (answer, None),
                Ok(line) if line.starts_with("FAILED ") => return (answer, Some(Silent(line))),
                Ok(line) => answer.push(line),
            }
        }
    }

    /// Puts messages. What it answered, and how it ended if not as it should.
    ///
    /// # Errors
    ///
    /// An answer that cannot be understood.
    pub(crate) fn put(&mut self, order: &str) -> Result<(Vec<Put>, Option<Silent>)> {
        let (lines, silent) = self.ask(&format!("put {order}"));
        let puts = lines.iter().filter(|line| line.starts_with("PUT "));
        Ok((puts.map(|line| Put::parse(line)).collect::<Result<_>>()?, silent))
    }

    /// Ends it cleanly.
    pub(crate) fn close(mut self) -> Option<Silent> {
        let (_, silent) = self.ask("close");
        // What it still has to do is done when it ended.
        drop(self.child.wait());
        silent
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The messages that were acknowledged and have a place, in the file `path`.
///
/// # Errors
///
/// It cannot be written.
pub(crate) fn write_plan(path: &Path, puts: &[Put]) -> Result<Vec<(Put, Place)>> {
    let plan: Vec<_> = puts.iter().filter(|put| put.acknowledged()).cloned().collect();
    let text: String = plan.iter().map(|put| format!("{put}\n")).collect();
    fs::write(path, text)?;
    Ok(plan.into_iter().filter_map(|put| put.place.map(|place| (put, place))).collect())
}
