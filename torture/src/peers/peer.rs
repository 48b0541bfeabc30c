//! The stores that are compared, and how each is started.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};

use super::process::{Process, Silent};

/// What ours is called in the tables.
pub(crate) const OURS: &str = "Steadfast";

/// One of the stores.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    java: Option<Java>,
}

#[derive(Clone, Debug)]
struct Java {
    class_path: String,
    /// `key=value`, for the driver.
    spec: String,
    scratch: PathBuf,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening {
    /// Acknowledged without waiting for the disk.
    pub(crate) without_sync: bool,
    /// Ours: serve what is sound.
    pub(crate) serve: bool,
    /// Timestamps half a second apart from so many messages ago on: a short run looks long.
    pub(crate) fill: Option<u64>,
    /// What is written about the store lies beside the directory above its own.
    pub(crate) beside: bool,
}

/// Has all log lines in a file, as a broker's configuration does.
const LOGBACK: &str = r#"<configuration>
  <appender name="F" class="ch.qos.logback.core.FileAppender">
    <file>${store.log}</file>
    <encoder><pattern>%level %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="F"/></root>
</configuration>
"#;

impl Peer {
    pub(crate) fn ours() -> Self {
        Self { name: OURS.to_owned(), java: None }
    }

    /// The Java store of that version, by the driver built in `driver`.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub(crate) fn java(
        driver: &Path,
        version: &str,
        more: Option<&str>,
        scratch: &Path,
    ) -> Result<Self> {
        let lib = driver.join(format!("lib-{version}"));
        ensure!(lib.exists(), "no {}: run tests/interop/run.sh build", lib.display());
        let class_path = format!("{}/store-java-1.jar:{}/*", driver.display(), lib.display());
        let scratch = scratch.join("java");
        fs::create_dir_all(scratch.join("tmp"))?;
        fs::write(scratch.join("logback.xml"), LOGBACK)?;
        let mut spec = "cl=1048576,cq=4000,slots=500,index=1000".to_owned();
        for more in more.into_iter().flat_map(|more| more.split(',')) {
            spec = format!("{spec},{more}");
        }
        let java = Java { class_path, spec, scratch };
        Ok(Self { name: format!("Java {version}"), java: Some(java) })
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.java.is_none()
    }

    /// One word.
    pub(crate) fn short(&self) -> String {
        self.name.to_lowercase().replace([' ', '.'], "-")
    }

    /// Opens the store in `dir` in a process of its own; its log, if it writes one, is `dir.log`.
    ///
    /// # Errors
    ///
    /// No process could be started.
    pub(crate) fn open(&self, dir: &Path, opening: Opening) -> Result<Result<Process, Silent>> {
        let errors = beside(dir, opening).with_extension("err");
        Process::start(self.command(dir, opening)?, &errors)
    }

    pub(crate) fn command(&self, dir: &Path, opening: Opening) -> Result<Command> {
        let mode = if opening.without_sync { "async" } else { "sync" };
        let Some(java) = &self.java else {
            let mut command = Command::new(env::current_exe()?);
            command.arg("peer").arg(dir).args(["--mode", mode]);
            if opening.serve {
                command.arg("--serve");
            }
            return Ok(command);
        };
        let log = log_of(beside(dir, opening));
        // The log is appended to.
        drop(fs::remove_file(&log));
        let clock = match opening.fill {
            None => "clock=real".to_owned(),
            Some(messages) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
                format!("clock=fake,t0={}", now - messages * 500)
            }
        };
        let mut command = Command::new("java");
        let scratch = java.scratch.display();
        command
            .args(["-cp", &java.class_path, "-Xmx512m", "-XX:TieredStopAtLevel=1"])
            .args(["-XX:-UsePerfData", "-Xlog:disable", "-Xlog:all=warning:stderr"])
            .arg(format!("-Duser.home={scratch}"))
            .arg(format!("-Djava.io.tmpdir={scratch}/tmp"))
            .arg(format!("-XX:ErrorFile={scratch}/hs_err_%p.log"))
            .arg(format!("-Drmq.logback.configurationFile={scratch}/logback.xml"))
            .arg(format!("-Dstore.log={}", log.display()))
            .args(["interop.StoreTool", "faults"])
            .arg(dir)
            .arg(format!("{},flush={mode},{clock}", java.spec));
        Ok(command)
    }

    /// What the store said when it opened `dir`: recovery's findings, or log lines that warn.
    /// Numbers and paths are left out, so that those of two openings can be compared.
    pub(crate) fn said(&self, dir: &Path, process: &Process) -> Result<BTreeSet<String>> {
        if self.is_ours() {
            return Ok(process.said.iter().map(|said| without_numbers(said)).collect());
        }
        let log = fs::read(log_of(dir)).context("the Java store wrote no log")?;
        let log = String::from_utf8_lossy(&log).into_owned();
        let warning = |line: &&str| line.starts_with("WARN ") || line.starts_with("ERROR ");
        Ok(log.lines().filter(warning).map(without_numbers).collect())
    }
}

fn beside(dir: &Path, opening: Opening) -> &Path {
    if opening.beside { dir.parent().unwrap_or(dir) } else { dir }
}

fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

/// Words with a digit or a slash become `#`.
fn without_numbers(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if word.contains(|c: char| c.is_ascii_digit() || c == '/') { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
