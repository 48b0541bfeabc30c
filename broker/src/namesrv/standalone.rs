//! A name server of its own.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::task::JoinSet;

use super::{Directory, Routes, forget_silent};
use crate::net::{Server, Stop};

/// A name server that is running, for brokers and clients of any process. Its routes are in memory
/// only: brokers register again every 30 s.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    stop: Stop,
    tasks: JoinSet<()>,
}

impl NameServer {
    /// Begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address and why it cannot be listened on.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let server = Server::bind(listen).await?;
        let (address, stop) = (server.address(), Stop::new());
        let routes = Arc::new(Routes::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(Arc::new(Directory::new(routes.clone())), stop.clone()));
        tasks.spawn(forget_silent(routes, stop.clone()));
        Ok(Self { address, stop, tasks })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and lets those that are under way end.
    pub async fn stop(mut self) {
        self.stop.stop();
        while self.tasks.join_next().await.is_some() {}
    }
}
