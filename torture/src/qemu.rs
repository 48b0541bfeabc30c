//! Power cuts of a whole machine: a guest under qemu with a store on its disk is killed, and its
//! disk forgets what the guest's kernel did not flush.
//!
//! The disk is a qcow2 overlay on the image of a file system. Where a block of 4 KiB that was
//! written lies, qemu keeps in its memory until the guest flushes the disk: killed before, it has
//! lost each such block that was written for the first time since the last flush. One that was
//! flushed and written again is new at once. So the cut takes the guest's page cache and a random
//! part of the disk's write cache, and no host's sync is needed for that (`cache=unsafe`).
//!
//! The guest says what was promised on a virtio console, whose driver returns only when the host
//! has the line.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use steadfast::disk::sim::Rng;
use tempfile::TempDir;

use crate::{
    check::check,
    mounted::{Kind, Mounted, run},
    promised::{Hit, Promised},
    trial::Trial,
    writer::Mode,
    writing::Writing,
};

/// A directory with `boot/vmlinuz-*` and `lib/modules`, such as an unpacked kernel package; without
/// it, the machine's own.
const KERNEL: &str = "TORTURE_KERNEL";
/// Nothing here asks for hardware's help, which is often there in name only, as in a machine that
/// is itself a guest. Beside other work a boot takes long.
const BOOT: Duration = Duration::from_secs(180);
/// In the order in which they need each other. What the kernel has built in is left out.
const MODULES: [&str; 14] = [
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "libcrc32c",
    "crc32c_generic",
    "crc32c-intel",
    "crc16",
    "mbcache",
    "jbd2",
    "ext4",
];
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in $($b cat /modules/order); do $b insmod /modules/$m; done
$b mount -t ext4 /dev/vda /disk || $b poweroff -f
$b stty -F /dev/hvc0 raw -echo
/torture writer \"$@\" >/dev/hvc0
$b sync
$b poweroff -f
";

/// What a guest boots from.
struct Guest {
    home: TempDir,
    kernel: PathBuf,
}

pub(crate) struct Qemu {
    most: u64,
    guest: Option<Guest>,
    disk: Option<Mounted>,
    promised: Promised,
    round: u64,
    booting: Duration,
    lost: u64,
}

impl Qemu {
    /// With no more than so many cycles.
    pub(crate) fn at_most(most: u64) -> Self {
        Self {
            most,
            guest: None,
            disk: None,
            promised: Promised::default(),
            round: 0,
            booting: Duration::ZERO,
            lost: 0,
        }
    }
}

impl Trial for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn missing(&self) -> Option<String> {
        let tried = Guest::new().and_then(|_| Mounted::new(Kind::Ext4));
        tried.err().map(|e| format!("{e:#}"))
    }

    fn cycles(&self) -> Option<u64> {
        Some(self.most)
    }

    fn cycle(&mut self, rng: &mut Rng) -> Result<()> {
        let guest = match &mut self.guest {
            Some(guest) => guest,
            none => none.insert(Guest::new()?),
        };
        let disk = Mounted::once(&mut self.disk, Kind::Ext4)?;
        disk.unmount()?;
        let mode = *rng.pick(&[Mode::Sync, Mode::Async]);
        let round = self.round;
        self.round += 1;
        let promised = &mut self.promised;
        let begun = Instant::now();
        let mut writing = guest.boot(&disk.image(), mode, rng.bits(), round)?;
        writing.began(BOOT).with_context(|| guest.last_words())?;
        self.booting += begun.elapsed();
        writing.watch(rng, promised).with_context(|| guest.last_words())?;
        writing.kill(promised)?;
        guest.keep_what_reached_the_disk()?;
        disk.mount().context("after the power cut")?;
        let before = promised.at.len();
        check(&disk.root().join("store"), mode, Hit::Machine, promised, rng)
            .with_context(|| format!("{mode:?}, round {round}"))?;
        self.lost += (before - promised.at.len()) as u64;
        Ok(())
    }

    fn counted(&self) -> String {
        let booting = self.booting.as_secs_f64() / self.round.max(1) as f64;
        let (acknowledged, lost) = (self.promised.acknowledged, self.lost);
        format!("{acknowledged} acknowledged, {lost} not durable and lost, {booting:.1} s a boot")
    }
}

impl Guest {
    /// Builds the initial file system: busybox, this program with its libraries, modules.
    fn new() -> Result<Self> {
        for program in ["qemu-system-x86_64", "qemu-img", "busybox", "cpio", "ldd"] {
            let path = env::var_os("PATH").unwrap_or_default();
            let there = env::split_paths(&path).any(|dir| dir.join(program).exists());
            ensure!(there, "{program} is not installed");
        }
        let from = PathBuf::from(env::var_os(KERNEL).unwrap_or_else(|| "/".into()));
        let boot = from.join("boot").display().to_string();
        let (kernel, version) = kernel(&from)
            .with_context(|| format!("no kernel in {boot}; {KERNEL} may name another place"))?;
        let home = tempfile::Builder::new().prefix("steadfast-qemu-").tempdir()?;
        let root = home.path().join("root");
        for dir in ["bin", "dev", "proc", "disk", "modules"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let busybox = output(Command::new("sh").args(["-c", "command -v busybox"]))?;
        fs::copy(busybox.trim(), root.join("bin/busybox"))?;
        copy_modules(&from.join("lib/modules").join(version), &root.join("modules"))?;
        copy_program(&root)?;
        fs::write(root.join("init"), INIT)?;
        fs::set_permissions(root.join("init"), PermissionsExt::from_mode(0o755))?;
        let pack = "find . | cpio -o -H newc --quiet > ../initrd";
        run(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
        fs::remove_dir_all(root)?;
        Ok(Self { home, kernel })
    }

    fn overlay(&self) -> PathBuf {
        self.home.path().join("disk.qcow2")
    }

    fn console(&self) -> PathBuf {
        self.home.path().join("console")
    }

    fn boot(&self, image: &Path, mode: Mode, seed: u64, round: u64) -> Result<Writing> {
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-o", "cluster_size=4k", "-b"])
            .args([image, &self.overlay()]))?;
        let says = if mode == Mode::Sync { "sync" } else { "async" };
        let append = format!(
            "console=ttyS0 quiet panic=-1 -- \
             /disk/store --mode {says} --seed {seed} --round {round}"
        );
        let drive =
            format!("file={},if=virtio,format=qcow2,cache=unsafe", self.overlay().display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "accel=tcg", "-cpu", "max", "-m", "512", "-smp", "2"])
            .args(["-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(self.home.path().join("initrd"))
            .args(["-append", &append, "-drive", &drive])
            .args(["-serial", &format!("file:{}", self.console().display())])
            .args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=said,signal=off"])
            .args(["-device", "virtconsole,chardev=said"])
            .stderr(File::create(self.console().with_extension("qemu"))?);
        Writing::spawn(&mut command, mode)
    }

    /// What the guest's kernel and its init said last.
    fn last_words(&self) -> String {
        let mut said = fs::read(self.console()).unwrap_or_default();
        said.extend(fs::read(self.console().with_extension("qemu")).unwrap_or_default());
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Puts into the image what the killed machine's disk holds.
    fn keep_what_reached_the_disk(&self) -> Result<()> {
        run(Command::new("qemu-img").args(["commit", "-q", "-t", "unsafe"]).arg(self.overlay()))?;
        Ok(fs::remove_file(self.overlay())?)
    }
}

/// The newest kernel by name that has modules, and its version.
fn kernel(from: &Path) -> Option<(PathBuf, String)> {
    let entries = fs::read_dir(from.join("boot")).ok()?;
    let named = entries.flatten().filter_map(|entry| {
        let version = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        Some((entry.path(), version))
    });
    named.filter(|(_, version)| from.join("lib/modules").join(version).is_dir()).max()
}

fn copy_modules(from: &Path, to: &Path) -> Result<()> {
    let built_in = fs::read_to_string(from.join("modules.builtin")).unwrap_or_default();
    let mut order = String::new();
    for name in MODULES {
        let file = format!("{name}.ko");
        let path = output(Command::new("find").arg(from).args(["-name", &file]))?;
        match path.lines().next() {
            Some(path) => {
                fs::copy(path, to.join(&file))?;
                order += &format!("{file}\n");
            }
            // Only makes checksums faster.
            None if name == "crc32c-intel" => {}
            None => ensure!(
                built_in.lines().any(|line| line.ends_with(&format!("/{file}"))),
                "the kernel has no {name}, or has it compressed"
            ),
        }
    }
    Ok(fs::write(to.join("order"), order)?)
}

/// This program, and each library that it loads at the same path.
fn copy_program(root: &Path) -> Result<()> {
    let me = env::current_exe()?;
    fs::copy(&me, root.join("torture"))?;
    for word in output(Command::new("ldd").arg(&me))?.split_whitespace() {
        if let Some(inside) = word.strip_prefix('/') {
            let to = root.join(inside);
            fs::create_dir_all(to.parent().context("a library at no place")?)?;
            fs::copy(word, to)?;
        }
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output()?;
    ensure!(done.status.success(), "{command:?} fails");
    Ok(String::from_utf8(done.stdout)?)
}
