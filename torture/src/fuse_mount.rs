//! The disk of [`crate::fuse_disk`], seen from the trial that hurts it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use steadfast::disk::sim::Rng;
use tempfile::TempDir;

const STUCK: Duration = Duration::from_secs(20);

/// A mounted disk whose process can be killed.
pub(crate) struct FuseMount {
    home: TempDir,
    served: Option<Served>,
}

struct Served {
    process: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

/// A file of which something could not be written back or synced.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) path: String,
    /// How often.
    pub(crate) count: u64,
    /// How often it was synced after that.
    pub(crate) syncs: u64,
}

impl FuseMount {
    /// Mounts an empty disk.
    ///
    /// # Errors
    ///
    /// What this machine or user cannot do.
    pub(crate) fn new(rng: &mut Rng) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("steadfast-fuse-").tempdir()?;
        fs::create_dir(home.path().join("backing"))?;
        fs::create_dir(home.path().join("mounted"))?;
        let mut this = Self { home, served: None };
        this.serve(rng)?;
        Ok(this)
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    fn serve(&mut self, rng: &mut Rng) -> Result<()> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("fuse-disk").arg(self.home.path().join("backing")).arg(self.root());
        command.args(["--seed", &rng.bits().to_string()]);
        command.args(["--leak", &rng.pick(&[0, 2, 8]).to_string()]);
        if rng.chance(1, 2) {
            command.arg("--names-at-once");
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = process.stdin.take().context("the disk takes no orders")?;
        let out = process.stdout.take().context("the disk says nothing")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let served = self.served.insert(Served { process, orders, lines });
        match served.lines.recv_timeout(STUCK) {
            Ok(line) if line == "MOUNTED" => Ok(()),
            said => bail!("the disk in user space cannot be mounted: {said:?}"),
        }
    }

    fn order(&mut self, line: &str) -> Result<&mut Served> {
        let served = self.served.as_mut().context("not mounted")?;
        served.orders.write_all(format!("{line}\n").as_bytes())?;
        Ok(served)
    }

    /// From now on writing back, or the sync, fails so many times in files with `within` in their
    /// path.
    ///
    /// # Errors
    ///
    /// The disk is gone.
    pub(crate) fn fail(&mut self, what: &str, count: u64, within: &str) -> Result<()> {
        self.order(&format!("fail {what} {count} {within}")).map(drop)
    }

    /// Nothing fails any more.
    ///
    /// # Errors
    ///
    /// The disk is gone.
    pub(crate) fn mend(&mut self) -> Result<()> {
        self.order("well").map(drop)
    }

    /// What failed since it was whole.
    ///
    /// # Errors
    ///
    /// The disk is gone or hangs.
    pub(crate) fn failed(&mut self) -> Result<Vec<Failed>> {
        let served = self.order("tell")?;
        let mut failed = Vec::new();
        loop {
            let line = served.lines.recv_timeout(STUCK).context("the disk does not answer")?;
            let parts: Vec<_> = line.split(' ').collect();
            match parts[..] {
                ["FAILED", path, count, syncs] => failed.push(Failed {
                    path: path.to_owned(),
                    count: count.parse()?,
                    syncs: syncs.parse()?,
                }),
                _ => return Ok(failed),
            }
        }
    }

    /// The power fails; what was not synced is gone.
    pub(crate) fn cut(&mut self) {
        if let Some(mut served) = self.served.take() {
            let _ = served.process.kill();
            let _ = served.process.wait();
            let _ =
                Command::new("umount").arg("-l").arg(self.root()).stderr(Stdio::null()).status();
        }
    }

    /// The power is back.
    ///
    /// # Errors
    ///
    /// It cannot be mounted again.
    pub(crate) fn restart(&mut self, rng: &mut Rng) -> Result<()> {
        self.cut();
        self.serve(rng)
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        self.cut();
    }
}
