use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use super::*;

const LEN: u64 = 16 << 10;

/// Runs `test` on heap memory and on a mapped file.
fn on_both(test: impl Fn(Arc<Memory>)) {
    test(Arc::new(Memory::heap(LEN)));
    test(Arc::new(Memory::map_file(&file(LEN), LEN, Access::Write).unwrap()));
}

fn file(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn what_is_published_can_be_read() {
    on_both(|memory| {
        let mut writer = memory.claim_writer().unwrap();
        assert_eq!((memory.len(), memory.published()), (LEN, 0));
        writer.slice(0, 5).copy_from_slice(b"hello");
        writer.publish(5);
        assert_eq!(memory.read(0, 5), b"hello");
        writer.slice(5, 3).copy_from_slice(b"you");
        assert!(panics(|| memory.read(5, 1)), "stored is not published");
        writer.publish(8);
        assert_eq!(memory.read(1, 7), b"elloyou");
        assert_eq!(memory.read(8, 0), b"");
    });
}

#[test]
fn slices_never_reach_published_bytes() {
    on_both(|memory| {
        let mut writer = memory.claim_writer().unwrap();
        writer.publish(100);
        assert!(panics(|| writer.slice(99, 1).len()));
        assert!(panics(|| writer.slice(LEN, 1).len()));
        assert!(panics(|| writer.slice(200, u64::MAX).len()));
        assert!(panics(|| memory.read(u64::MAX, 2).len()));
        assert!(panics(|| writer.publish(LEN + 1)));
        assert_eq!(writer.slice(100, LEN - 100).len() as u64, LEN - 100);
        writer.publish(50);
        assert_eq!(memory.published(), 100, "published never shrinks");
    });
}

#[test]
fn there_is_one_writer() {
    on_both(|memory| {
        memory.publish_existing(10);
        let writer = memory.claim_writer().unwrap();
        assert!(memory.claim_writer().is_none());
        assert!(panics(|| memory.publish_existing(20)), "the writer alone publishes");
        drop(writer);
        assert!(memory.claim_writer().is_none(), "at most one ever");
        assert_eq!(memory.published(), 10);
    });
}

#[test]
fn one_writer_per_block() {
    let block = Arc::new(HeapBlock::new(100));
    let over = |access| Arc::new(Memory::shared_heap(Arc::clone(&block), 100, access));
    let (first, second) = (over(Access::Write), over(Access::Write));
    assert!(over(Access::Read).claim_writer().is_none());
    let writer = first.claim_writer().unwrap();
    assert!(second.claim_writer().is_none());
    drop(writer);
    assert!(second.claim_writer().is_some());
}

#[test]
fn readers_see_whole_what_was_published() {
    on_both(|memory| {
        let mut writer = memory.claim_writer().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let end = memory.published();
                    assert!(memory.read(0, end).iter().all(|&b| b == 7));
                    if end == LEN {
                        return;
                    }
                }
            });
            for at in (0..LEN).step_by(64) {
                writer.slice(at, 64).fill(7);
                writer.publish(at + 64);
            }
        });
    });
}

#[test]
fn populating_changes_nothing_and_refuses_nothing() {
    on_both(|memory| {
        let mut writer = memory.claim_writer().unwrap();
        writer.slice(0, LEN).fill(3);
        for (at, len) in [(0, LEN), (1, LEN), (1, 10), (4096, 4096), (LEN, 1), (5, u64::MAX)] {
            memory.populate(at, len).unwrap();
        }
        memory.prefetch(0);
        memory.prefetch(LEN - 1);
        memory.prefetch(LEN);
        memory.prefetch(u64::MAX);
        writer.publish(LEN);
        assert!(memory.read(0, LEN).iter().all(|&b| b == 3));
    });
}

#[test]
fn a_mapping_is_the_file() {
    use std::os::unix::fs::FileExt;
    let file = file(LEN);
    let memory = Arc::new(Memory::map_file(&file, LEN, Access::Write).unwrap());
    let seen = Memory::map_file(&file, LEN, Access::Read).unwrap();
    let mut writer = memory.claim_writer().unwrap();
    writer.slice(4000, 200).fill(9);
    let mut bytes = [0; 200];
    file.read_exact_at(&mut bytes, 4000).unwrap();
    assert_eq!(bytes, [9; 200]);
    file.write_all_at(b"by call", 8000).unwrap();
    seen.publish_existing(LEN);
    assert_eq!(seen.read(8000, 7), b"by call");
    assert_eq!(seen.read(4100, 1), [9]);
    sync_file_range(&file, 0, LEN).unwrap();
}

#[test]
fn nothing_is_mapped_past_the_file() {
    let file = file(4096);
    for access in [Access::Read, Access::Write] {
        assert!(Memory::map_file(&file, 4097, access).is_err());
        assert_eq!(Memory::map_file(&file, 0, access).unwrap().read(0, 0), b"");
    }
    let reading = Arc::new(Memory::map_file(&file, 4096, Access::Read).unwrap());
    assert!(reading.claim_writer().is_none(), "stores to a read-only mapping fault");
}

#[test]
fn blocks_copy_in_and_out() {
    let block = HeapBlock::new(10_000);
    assert!(block.is_zero(0, 10_000));
    block.copy_in(4_090, &[1; 20]);
    assert!(block.equals(4_090, &[1; 20]) && !block.equals(4_089, &[1; 20]));
    assert!(block.is_zero(0, 4_090) && !block.is_zero(0, 4_091) && block.is_zero(4_110, 5_890));
    let mut out = [9; 22];
    block.copy_out(4_089, &mut out);
    assert_eq!((out[0], out[1], out[20], out[21]), (0, 1, 1, 0));
    block.zero(4_000, 100);
    assert!(block.is_zero(0, 4_100) && !block.is_zero(0, 4_101));
    assert!(panics(|| block.copy_in(9_990, &[1; 11])));
    assert!(panics(|| block.copy_out(u64::MAX, &mut [0; 2])));
}
