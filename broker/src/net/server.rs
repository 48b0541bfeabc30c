//! Accepting connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tracing::{debug, warn};

use super::connection::{Connection, Ended, Reply, run};
use crate::protocol::Request;

/// After a failed accept, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// So long the peer has to close its end, too, when we stop.
const PARTING: Duration = Duration::from_millis(100);

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Answers requests. Called on the connection's own task, one request after the other: what takes
/// long keeps the [`Reply`] and answers later.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Does what is asked.
    fn handle(&self, connection: &Arc<Connection>, request: Request, reply: Reply);

    /// The connection is gone.
    fn closed(&self, connection: &Arc<Connection>);
}

/// Tells all tasks to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// From now on everything ends.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Returns once [`stop`](Self::stop) was called.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as we do.
        let mut told = self.0.subscribe();
        let _ended = told.wait_for(|stopped| *stopped).await;
    }
}

/// Listens, and serves who comes.
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The address and why it cannot be listened on.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
        let listener = TcpListener::bind(address).await.map_err(named)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that was chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is told to stop; returns when no connection is left.
    pub(crate) async fn run(self, handler: Arc<dyn Handler>, stop: Stop) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(serve(stream, peer, handler.clone(), stop.clone()));
                    }
                    Err(error) => {
                        warn!(%error, address = %self.address, "no connection could be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = stop.stopped() => break,
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, handler: Arc<dyn Handler>, stop: Stop) {
    let number = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
    let connection = Arc::new(Connection::new(number, peer));
    // Replies are small, and who waits for one does nothing meanwhile.
    let _slower_only = stream.set_nodelay(true);
    match run(&stream, &connection, &*handler, &stop).await {
        Ok(Ended::Here) => {}
        Ok(Ended::Drained) => part(&mut stream).await,
        Err(error) => debug!(?connection, %error, "closed"),
    }
    connection.close();
    handler.closed(&connection);
}

/// Closes a connection so that the peer gets what was written: bytes of its that nobody read would
/// make the system throw it away.
async fn part(stream: &mut TcpStream) {
    let all_read = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _gone = tokio::time::timeout(PARTING, all_read).await;
}
