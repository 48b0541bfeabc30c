//! What `src/sync.rs` is to the engine, here shuttle's: each use of a lock, an atomic or a futex is
//! a step, before which any other thread may run.

use std::{
    fmt,
    sync::{PoisonError, TryLockError},
};

pub(crate) use shuttle::sync::{
    MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

/// As `parking_lot` has it: without poison.
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// Setting and looking are steps of their own.
pub(crate) struct OnceLock<T>(std::sync::OnceLock<T>, AtomicBool);

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self(std::sync::OnceLock::new(), AtomicBool::new(false))
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.1.store(true, Ordering::SeqCst);
        self.0.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.1.load(Ordering::SeqCst);
        self.0.get()
    }
}

/// A word that threads sleep on, with the kernel's side of it.
pub(crate) struct AtomicU32 {
    word: shuttle::sync::atomic::AtomicU32,
    bucket: shuttle::sync::Mutex<()>,
    sleepers: shuttle::sync::Condvar,
}

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            word: shuttle::sync::atomic::AtomicU32::new(value),
            bucket: shuttle::sync::Mutex::new(()),
            sleepers: shuttle::sync::Condvar::new(),
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u32 {
        self.word.load(order)
    }

    pub(crate) fn store(&self, value: u32, order: Ordering) {
        self.word.store(value, order);
    }

    pub(crate) fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
        self.word.fetch_add(by, order)
    }
}

impl From<u32> for AtomicU32 {
    fn from(value: u32) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for AtomicU32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.word.fmt(f)
    }
}

pub(crate) mod futex {
    use std::{
        sync::{PoisonError, atomic::Ordering},
        time::Duration,
    };

    /// Who waits no longer than this counts on the time to pass.
    const SHORT: Duration = Duration::from_millis(10);

    pub(crate) struct Flags;

    impl Flags {
        pub(crate) const PRIVATE: Self = Self;
    }

    pub(crate) struct Timespec {
        pub(crate) tv_sec: i64,
        pub(crate) tv_nsec: i64,
    }

    /// Sleeps if the word is as expected, looked at under the kernel's lock. A long sleep never
    /// times out: a wake-up that is lost shows as a deadlock.
    pub(crate) fn wait(
        word: &super::AtomicU32,
        _: Flags,
        expected: u32,
        timeout: Option<&Timespec>,
    ) -> Result<(), ()> {
        if let Some(Timespec { tv_sec: 0, tv_nsec }) = timeout
            && Duration::from_nanos(*tv_nsec as u64) < SHORT
        {
            crate::time::pass(Duration::from_nanos(*tv_nsec as u64));
            shuttle::thread::yield_now();
            return Err(());
        }
        let bucket = word.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if word.word.load(Ordering::SeqCst) != expected {
            return Err(());
        }
        drop(word.sleepers.wait(bucket).unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    pub(crate) fn wake(word: &super::AtomicU32, _: Flags, _: u32) -> Result<usize, ()> {
        let _bucket = word.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        word.sleepers.notify_all();
        Ok(0)
    }
}

/// A thread's own value. The engine keeps nothing in it from one use to the next.
pub(crate) struct PerThread<T>(pub(crate) fn() -> T);

impl<T> PerThread<std::cell::RefCell<T>> {
    pub(crate) fn with_borrow_mut<R>(&'static self, body: impl FnOnce(&mut T) -> R) -> R {
        body(&mut (self.0)().borrow_mut())
    }
}

macro_rules! per_thread {
    (static $name:ident: $type:ty = const { $value:expr };) => {
        static $name: crate::sync::PerThread<$type> = crate::sync::PerThread(|| $value);
    };
}
pub(crate) use per_thread as thread_local;

pub(crate) mod thread {
    use std::{cell::Cell, time::Duration};

    pub(crate) use shuttle::thread::{Builder, JoinHandle, panicking, park, yield_now};

    /// Threads that look around from time to time do so this often; then they only do when they
    /// are told to, so that a wake-up that is lost ends as a deadlock.
    const ROUNDS: u32 = 2;

    shuttle::thread_local! {
        static DONE: Cell<u32> = Cell::new(0);
    }

    pub(crate) fn park_timeout(timeout: Duration) {
        crate::time::pass(timeout);
        let nap = timeout < Duration::from_millis(1);
        let again = nap || DONE.with(|done| done.replace(done.get() + 1) < ROUNDS);
        if again { yield_now() } else { park() }
    }
}
