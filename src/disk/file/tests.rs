use std::os::unix::fs::MetadataExt;

use tempfile::TempDir;

use super::*;

fn disk() -> (TempDir, FileDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(&dir.path().join("a/b/store"), Access::Write).unwrap();
    (dir, disk)
}

fn path(text: &str) -> FilePath {
    FilePath::new(text)
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.map(drop).unwrap_err().kind()
}

#[test]
fn opening_for_writing_makes_the_directory_and_for_reading_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("x/y");
    assert_eq!(FileDisk::open(&root, Access::Read).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!root.exists() && !dir.path().join("x").exists());
    FileDisk::open(&root, Access::Write).unwrap();
    FileDisk::open(&root, Access::Write).unwrap();
    assert!(root.is_dir());
    fs::write(root.join("file"), "").unwrap();
    for access in [Access::Read, Access::Write] {
        assert!(FileDisk::open(&root.join("file"), access).is_err());
    }
}

#[test]
fn reading_disk_refuses_every_change() {
    let (dir, writable) = disk();
    writable.create(&path("f"), 10).unwrap();
    let disk = FileDisk::open(&dir.path().join("a/b/store"), Access::Read).unwrap();
    let refused = io::ErrorKind::ReadOnlyFilesystem;
    assert_eq!(kind(disk.create(&path("g"), 1)), refused);
    assert_eq!(kind(disk.open(&path("f"), Access::Write)), refused);
    assert_eq!(kind(disk.lock(&path("lock"))), refused);
    assert_eq!(kind(disk.rename(&path("f"), &path("g"))), refused);
    assert_eq!(kind(disk.remove(&path("f"))), refused);
    assert_eq!(kind(disk.create_dir(&path("d"))), refused);
    assert_eq!(kind(disk.remove_dir(&path("d"))), refused);
    assert_eq!(disk.list(&FilePath::ROOT).unwrap().len(), 1);
    let file = disk.open(&path("f"), Access::Read).unwrap();
    assert!(file.write_all_at(b"x", 0).is_err() && file.set_len(0).is_err());
    assert!(file.map(10, Access::Write).is_err());
}

#[test]
fn a_second_lock_fails_even_in_this_process() {
    let (dir, disk) = disk();
    let held = disk.lock(&path("lock")).unwrap();
    assert_eq!(kind(disk.lock(&path("lock"))), io::ErrorKind::WouldBlock);
    let other = FileDisk::open(&dir.path().join("a/b/store"), Access::Write).unwrap();
    assert_eq!(kind(other.lock(&path("lock"))), io::ErrorKind::WouldBlock);
    // Closing another descriptor of the file does not give it up, as a classic lock would.
    drop(other.open(&path("lock"), Access::Read).unwrap());
    assert_eq!(kind(other.lock(&path("lock"))), io::ErrorKind::WouldBlock);
    assert_eq!(fs::read(dir.path().join("a/b/store/lock")).unwrap(), b"lock");
    drop(held);
    other.lock(&path("lock")).unwrap();
}

#[test]
fn the_lock_keeps_what_the_file_says() {
    let (dir, disk) = disk();
    let file = dir.path().join("a/b/store/lock");
    fs::write(&file, "Java").unwrap();
    drop(disk.lock(&path("lock")).unwrap());
    assert_eq!(fs::read(file).unwrap(), b"Java");
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let (dir, disk) = disk();
    let root = dir.path().join("a/b/store");
    disk.create_dir(&path("directory")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for name in ["directory", "pipe", "socket"] {
        for access in [Access::Read, Access::Write] {
            assert_eq!(kind(disk.open(&path(name), access)), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(kind(disk.lock(&path(name))), io::ErrorKind::InvalidInput, "{name}");
    }
    assert_eq!(kind(disk.open(&path("missing"), Access::Read)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open(&path("no/such"), Access::Write)), io::ErrorKind::NotFound);
}

#[test]
fn files_are_sparse_until_allocated_and_allocating_keeps_contents() {
    let (dir, disk) = disk();
    let file = disk.create(&path("segment"), 1 << 20).unwrap();
    let on_disk = || fs::metadata(dir.path().join("a/b/store/segment")).unwrap();
    assert_eq!((on_disk().len(), on_disk().blocks()), (1 << 20, 0));
    file.write_all_at(b"kept", 300_000).unwrap();
    file.allocate(0, 0).unwrap();
    file.allocate(262_144, 262_144).unwrap();
    assert!(on_disk().blocks() * 512 >= 262_144 && on_disk().blocks() * 512 < 1 << 20);
    assert_eq!(on_disk().len(), 1 << 20);
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 299_999).unwrap();
    assert_eq!(&bytes, b"\0kept\0");
    assert_eq!(kind(file.allocate(1 << 20, 1)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(file.allocate(1, u64::MAX)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(file.write_zeros(1 << 20, 1)), io::ErrorKind::InvalidInput);
}

#[test]
fn allocating_without_fallocate_fills_holes_and_destroys_nothing() {
    let (dir, disk) = disk();
    drop(disk.create(&path("segment"), 100_000).unwrap());
    let full = dir.path().join("a/b/store/segment");
    let file = OpenOptions::new().read(true).write(true).open(&full).unwrap();
    file.write_all_at(&[5; 5000], 40_000).unwrap();
    let before = fs::read(&full).unwrap();
    let file = OpenFile { file, file_system: FileSystem::Other };
    file.fill_holes(1000, 98_000).unwrap();
    assert!(fs::read(&full).unwrap() == before);
    assert!(fs::metadata(&full).unwrap().blocks() * 512 >= 98_000);
}

#[test]
fn zeros_are_written_over_the_range_and_no_further() {
    let (_dir, disk) = disk();
    let file = disk.create(&path("segment"), 3 << 20).unwrap();
    file.write_all_at(&vec![1; 3 << 20], 0).unwrap();
    file.write_zeros(1000, 2 << 20).unwrap();
    let mut bytes = vec![9; 3 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let zeros = 1000..1000 + (2 << 20);
    assert!(bytes.iter().enumerate().all(|(i, &b)| b == u8::from(!zeros.contains(&i))));
    assert_eq!(kind(file.read_exact_at(&mut [0; 2], (3 << 20) - 1)), io::ErrorKind::UnexpectedEof);
}

#[test]
fn lists_are_sorted_and_say_what_is_there() {
    let (dir, disk) = disk();
    disk.create(&path("b"), 7).unwrap();
    disk.create_dir(&path("c")).unwrap();
    disk.create_dir(&path("c")).unwrap();
    std::os::unix::fs::symlink("b", dir.path().join("a/b/store/a")).unwrap();
    let entry = |name: &str, kind, len| DirEntry { name: name.to_owned(), kind, len };
    assert_eq!(
        disk.list(&FilePath::ROOT).unwrap(),
        [
            entry("a", EntryKind::Other, 0),
            entry("b", EntryKind::File, 7),
            entry("c", EntryKind::Directory, 0)
        ]
    );
    assert_eq!(kind(disk.list(&path("d"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create(&path("b"), 1)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_dir(&path("b"))), io::ErrorKind::AlreadyExists);
}

#[test]
fn names_move_and_go() {
    let (_dir, disk) = disk();
    disk.create_dir(&path("d")).unwrap();
    disk.create(&path("d/old"), 1).unwrap().write_all_at(b"1", 0).unwrap();
    disk.create(&path("new"), 1).unwrap().write_all_at(b"2", 0).unwrap();
    disk.rename(&path("d/old"), &path("new")).unwrap();
    for dir in [FilePath::ROOT, path("d")] {
        disk.sync_dir(&dir).unwrap();
    }
    let file = disk.open(&path("new"), Access::Write).unwrap();
    let memory = file.map(1, Access::Read).unwrap();
    file.sync_data().unwrap();
    disk.sync_all().unwrap();
    assert_eq!(file.len().unwrap(), 1);
    assert!(disk.modified(&path("new")).unwrap().as_millis() > 1_500_000_000_000);
    disk.remove(&path("new")).unwrap();
    disk.remove_dir(&path("d")).unwrap();
    assert!(disk.list(&FilePath::ROOT).unwrap().is_empty());
    memory.publish_existing(1);
    assert_eq!(memory.read(0, 1), b"1", "what is mapped stays readable");
    let usage = disk.usage().unwrap();
    assert!(usage.available <= usage.total && usage.total > 0 && usage.used_percent() <= 100);
}

/// Bytes of pages that this thread made dirty which were clean, as the kernel counts them; `None`
/// where it does not.
fn dirtied() -> Option<u64> {
    let counts = fs::read_to_string("/proc/thread-self/io").ok()?;
    let line = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.parse().ok()
}

#[test]
fn clean_pages_become_dirty_again_and_keep_their_bytes() {
    const LEN: usize = 3 << 20;
    let (_dir, disk) = disk();
    let bytes: Vec<u8> = (0..LEN).map(|n| (n / 7) as u8).collect();
    let file = disk.create(&path("f"), LEN as u64 + 1).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    let opened = File::open(disk.full(&path("f"))).unwrap();
    let by_calls = |disk: &FileDisk| {
        let file = OpenOptions::new().read(true).write(true).open(disk.full(&path("f"))).unwrap();
        OpenFile { file, file_system: FileSystem::Other }
    };
    let calls: [Arc<dyn DiskFile>; 2] = [file.clone(), Arc::new(by_calls(&disk))];
    for file in calls {
        file.sync_data().unwrap();
        let before = dirtied();
        // From within the first page into the last but one.
        file.dirty_again(5000, LEN as u64 - 10_000).unwrap();
        let counted = dirtied().zip(before).map(|(after, before)| after - before);
        // Memory alone (tmpfs) has no clean pages. Elsewhere the kernel may keep several as one.
        if let Some(counted) = counted.filter(|_| disk.file_system != FileSystem::Tmpfs) {
            assert!(counted >= LEN as u64 - 10_000, "made dirty: {counted}");
            // The system may write them back at any moment, but not again and again.
            let stayed = (0..20).any(|_| {
                let before = dirtied();
                file.dirty_again(5000, LEN as u64 - 10_000).unwrap();
                dirtied() == before
            });
            assert!(stayed, "they were not dirty");
        }
        let mut found = vec![0; LEN];
        opened.read_exact_at(&mut found, 0).unwrap();
        assert!(found == bytes);
        file.dirty_again(0, 0).unwrap();
        file.dirty_again(LEN as u64, 1).unwrap();
        assert_eq!(kind(file.dirty_again(LEN as u64, 2)), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_range_without_blocks_becomes_dirty_too() {
    let (_dir, disk) = disk();
    let file = disk.create(&path("f"), 1 << 20).unwrap();
    file.write_all_at(b"end", (1 << 20) - 3).unwrap();
    file.dirty_again(0, 1 << 20).unwrap();
    file.sync_data().unwrap();
    let mut found = vec![1; 1 << 20];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found.ends_with(b"\0end") && found[..(1 << 20) - 3].iter().all(|b| *b == 0));
}
