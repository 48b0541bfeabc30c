//! A broker in this process, and clients on real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends where anything is wrong")]

mod administering;
mod client;
mod consuming;
mod delivering;
mod hostile;
mod repeating;
mod restarts;
mod scrubbing;
mod sending;
mod starving;
mod stopping;

use std::{net::SocketAddr, path::Path};

use steadfast::Store;
use steadfast_broker::{Broker, BrokerConfig, StartError};
use tokio::runtime::Runtime;

/// A broker with small files on any free port.
pub(crate) struct Running {
    broker: Option<Broker>,
    runtime: Runtime,
}

impl Running {
    pub(crate) fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::try_start(data, settings).unwrap()
    }

    /// Starts one when the one before has let go of its store.
    pub(crate) fn start_when_free(data: &Path, settings: &[(&str, &str)]) -> Self {
        let mut tries = 0;
        loop {
            match Self::try_start(data, settings) {
                Ok(running) => return running,
                Err(error) if tries == 600 => panic!("{error}"),
                Err(_) => tries += 1,
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn try_start(data: &Path, settings: &[(&str, &str)]) -> Result<Self, StartError> {
        Self::try_start_with(config(data, settings))
    }

    pub(crate) fn start_with(config: BrokerConfig) -> Self {
        Self::try_start_with(config).unwrap()
    }

    fn try_start_with(config: BrokerConfig) -> Result<Self, StartError> {
        let runtime = Runtime::new().unwrap();
        let broker = Some(runtime.block_on(Broker::start(config))?);
        Ok(Self { broker, runtime })
    }

    pub(crate) fn scrubbed(&self) -> steadfast_broker::Scrubbed {
        self.broker.as_ref().unwrap().scrubbed()
    }

    pub(crate) fn store(&self) -> &Store {
        self.broker.as_ref().unwrap().store()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.as_ref().unwrap().address()
    }

    pub(crate) fn names(&self) -> SocketAddr {
        self.broker.as_ref().unwrap().name_server().unwrap()
    }

    pub(crate) fn stop(mut self) {
        let broker = self.broker.take().unwrap();
        self.runtime.block_on(broker.stop()).unwrap();
    }
}

/// Settings with small files and any free port.
pub(crate) fn config(data: &Path, settings: &[(&str, &str)]) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.data = data.to_owned();
    config.listen.set_port(0);
    config.name_server_listen.set_port(0);
    config.store.segment_bytes = 1 << 20;
    config.store.queue_file_bytes = 20_000;
    config.store.index_slots = 100;
    config.store.index_entries = 400;
    for (key, value) in settings {
        assert!(config.set(key, value).unwrap(), "{key}");
    }
    config
}
