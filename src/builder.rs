//! Setting a store up.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

#[allow(unused_imports, reason = "the documentation links to it")]
use crate::error::ErrorKind;
use crate::{
    clock::{Clock, SystemClock},
    disk::{Access, Disk, file::FileDisk},
    error::Result,
    open::{self, OpenRequest, ProgressFn},
    options::Options,
    runtime::Threads,
    store::Store,
};

/// Sets a store up. Made by [`Store::builder`].
pub struct StoreBuilder {
    place: Place,
    options: Options,
    clock: Arc<dyn Clock>,
    store_host: SocketAddr,
    progress: Box<ProgressFn>,
}

pub(crate) enum Place {
    Path(PathBuf),
    #[cfg(feature = "sim")]
    Disk(Arc<dyn Disk>),
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl StoreBuilder {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            options: Options::default(),
            clock: Arc::new(SystemClock::new()),
            store_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            progress: Box::new(|_, _, _| {}),
        }
    }

    /// Sets all options. Default: [`Options::default`].
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets where the store asks for the time. Default: [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the address written into records as the storing host; message ids contain it.
    /// Default: `127.0.0.1:0`.
    #[must_use]
    pub fn store_host(mut self, host: SocketAddr) -> Self {
        self.store_host = host;
        self
    }

    /// Calls `progress` with what is going on, how far it is and how far it goes (bytes of the
    /// log) while opening takes long.
    #[must_use]
    pub fn on_progress(
        mut self,
        progress: impl Fn(&str, u64, u64) + Send + Sync + 'static,
    ) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Opens the store for reading and writing; creates it if there is none.
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if it is open already, [`Damaged`](ErrorKind::Damaged) if
    /// acknowledged records may be damaged and the options say
    /// [`Refuse`](crate::OnDamage::Refuse), [`Unsupported`](ErrorKind::Unsupported) naming a file
    /// that is not read, [`InvalidInput`](ErrorKind::InvalidInput) for wrong options,
    /// [`Full`](ErrorKind::Full) and [`Io`](ErrorKind::Io).
    pub fn open(self) -> Result<Store> {
        let engine = Arc::new(open::open(self.request(Access::Write)?)?);
        let threads = Threads::start(&engine)?;
        Ok(Store::new(engine, Some(threads)))
    }

    /// Opens the store for reading: creates nothing, takes no lock, recovers in memory only, and
    /// may run beside a process that writes. [`Store::refresh`] follows that process.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`NotFound`](ErrorKind::NotFound) if there is no store.
    pub fn open_read_only(self) -> Result<Store> {
        let engine = Arc::new(open::open(self.request(Access::Read)?)?);
        Ok(Store::new(engine, None))
    }

    /// Opens the store without threads: nothing is flushed or dispatched but by
    /// [`Store::step`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "sim")]
    pub fn open_stepped(self) -> Result<Store> {
        let engine = Arc::new(open::open(self.request(Access::Write)?)?);
        Ok(Store::new(engine, None))
    }

    fn request(self, access: Access) -> Result<OpenRequest> {
        let disk: Arc<dyn Disk> = match self.place {
            Place::Path(path) => Arc::new(FileDisk::open(&path, access)?),
            #[cfg(feature = "sim")]
            Place::Disk(disk) => disk,
        };
        Ok(OpenRequest {
            disk,
            clock: self.clock,
            options: self.options,
            access,
            store_host: self.store_host,
            progress: self.progress,
            rebuild: false,
        })
    }
}
