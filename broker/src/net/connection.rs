//! One connection: a task that reads, hands requests to the handler and writes what is answered.

use std::{
    borrow::Cow,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{net::TcpStream, time::Instant};
use tracing::debug;

use super::{
    outbox::Outbox,
    server::{Handler, Stop},
};
use crate::{
    limits::Used,
    protocol::{Request, Response, Serialization, encode_request, next_frame, status},
};

/// A connection on which nothing was heard or said for so long is closed. As in RocketMQ.
const IDLE_MOST: Duration = Duration::from_secs(120);
/// So much is read in one go.
const READ: usize = 64 << 10;
/// With so much waiting to be written nothing more is read: who does not take replies gets to ask
/// nothing.
const UNWRITTEN_MOST: usize = 4 << 20;

/// One connection, as everybody but its own task sees it.
pub(crate) struct Connection {
    /// Unlike any other one's in this process.
    pub(crate) number: u64,
    pub(crate) peer: SocketAddr,
    /// What it made the broker remember.
    pub(crate) used: Used,
    outbox: Outbox,
    next_opaque: AtomicI32,
}

impl Connection {
    pub(super) fn new(number: u64, peer: SocketAddr) -> Self {
        Self {
            number,
            peer,
            used: Used::default(),
            outbox: Outbox::default(),
            next_opaque: AtomicI32::new(1),
        }
    }

    /// Sends a request of ours that wants no reply.
    pub(crate) fn push(
        &self,
        code: i32,
        fields: &[(&'static str, Cow<'static, str>)],
        body: &[u8],
    ) {
        let opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        self.outbox.put(|out| encode_request((code, opaque), false, fields, body, out));
    }

    /// Closes it, without waiting for anything.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} of {}", self.number, self.peer)
    }
}

/// The way back to who asked. Whoever drops it without [sending](Self::send) lets the peer know
/// that something went wrong here.
#[derive(Debug)]
pub(crate) struct Reply {
    to: Option<Arc<Connection>>,
    opaque: i32,
    form: Serialization,
}

impl Reply {
    fn new(to: &Arc<Connection>, request: &Request) -> Self {
        let to = (!request.header.is_oneway()).then(|| to.clone());
        Self { to, opaque: request.header.opaque, form: request.serialization }
    }

    /// Answers, unless the request wants no reply.
    pub(crate) fn send(mut self, response: &Response) {
        if let Some(to) = self.to.take() {
            to.outbox.put(|out| response.encode(self.opaque, self.form, out));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let response = Response::refuse(status::SYSTEM_ERROR, "the request was not finished");
            to.outbox.put(|out| response.encode(self.opaque, self.form, out));
        }
    }
}

/// Runs a connection until the peer leaves, breaks the protocol or we stop.
pub(super) async fn run(
    stream: &TcpStream,
    connection: &Arc<Connection>,
    handler: &dyn Handler,
    stop: &Stop,
) -> io::Result<()> {
    let mut received = BytesMut::new();
    let mut unwritten = BytesMut::new();
    let mut heard = Instant::now();
    loop {
        if !unwritten.has_remaining() {
            match connection.outbox.take() {
                Some(bytes) => unwritten = bytes,
                None => return Ok(()),
            }
        }
        while unwritten.has_remaining() {
            match stream.try_write(&unwritten) {
                Ok(written) => unwritten.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
            heard = Instant::now();
        }
        let behind = unwritten.len() + connection.outbox.len() > UNWRITTEN_MOST;
        tokio::select! {
            ready = stream.readable(), if !behind => {
                ready?;
                if !read(stream, connection, handler, &mut received)? {
                    return Ok(());
                }
                heard = Instant::now();
            }
            ready = stream.writable(), if unwritten.has_remaining() => ready?,
            () = connection.outbox.filled() => {}
            () = tokio::time::sleep_until(heard + IDLE_MOST) => {
                debug!(?connection, "closed: nothing was heard of it");
                return Ok(());
            }
            () = stop.stopped() => return Ok(()),
        }
    }
}

/// Reads what there is and handles the whole frames in it. Returns whether it goes on.
fn read(
    stream: &TcpStream,
    connection: &Arc<Connection>,
    handler: &dyn Handler,
    received: &mut BytesMut,
) -> io::Result<bool> {
    received.reserve(READ);
    match stream.try_read_buf(received) {
        Ok(0) => return Ok(false),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(e) => return Err(e),
    }
    while let Some(frame) = next_frame(received).map_err(invalid)? {
        // Frames say where they end, so those behind a header that cannot be read could be; but
        // its peer would wait for an answer that cannot be addressed.
        let request = Request::read(frame).map_err(invalid)?;
        if request.header.is_response() {
            continue;
        }
        let reply = Reply::new(connection, &request);
        handler.handle(connection, request, reply);
    }
    Ok(true)
}

/// An error for a peer that breaks the protocol.
pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
