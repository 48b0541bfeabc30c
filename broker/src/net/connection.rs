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
    asked::Asked,
    outbox::{Outbox, UNWRITTEN_MOST},
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
/// So many requests are handled before others' tasks have their turn.
const AT_ONCE: usize = 64;
/// So long a peer has for its answer to a question of ours.
const ANSWER_MOST: Duration = Duration::from_secs(10);
/// So long a stop waits for what was asked before to be answered, and the answers to be taken.
const DRAIN_MOST: Duration = Duration::from_secs(5);

/// One connection, as everybody but its own task sees it.
pub(crate) struct Connection {
    /// Unlike any other one's in this process.
    pub(crate) number: u64,
    pub(crate) peer: SocketAddr,
    /// What it made the broker remember.
    pub(crate) used: Used,
    outbox: Outbox,
    asked: Asked,
    closed: Stop,
    next_opaque: AtomicI32,
}

impl Connection {
    pub(super) fn new(number: u64, peer: SocketAddr) -> Self {
        Self {
            number,
            peer,
            used: Used::default(),
            outbox: Outbox::default(),
            asked: Asked::default(),
            closed: Stop::new(),
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

    /// Asks the peer, and waits for its answer; `None` if none comes.
    pub(crate) async fn ask(
        &self,
        code: i32,
        fields: &[(&'static str, Cow<'static, str>)],
        body: &[u8],
    ) -> Option<Request> {
        let opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        let answer = self.asked.open(opaque)?;
        self.outbox.put(|out| encode_request((code, opaque), true, fields, body, out));
        tokio::select! {
            answer = tokio::time::timeout(ANSWER_MOST, answer) => answer.ok()?.ok(),
            () = self.closed() => None,
        }
    }

    /// Closes it, without waiting for anything.
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.asked.close();
        self.closed.stop();
    }

    /// Returns when it is closed.
    pub(crate) async fn closed(&self) {
        self.closed.stopped().await;
    }

    /// Returns when the peer has read enough for one more answer; `false` once it is closed.
    pub(crate) async fn room(&self) -> bool {
        self.outbox.room().await
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
        if let Some(to) = &to {
            to.outbox.expect();
        }
        Self { to, opaque: request.header.opaque, form: request.serialization }
    }

    /// Answers, unless the request wants no reply.
    pub(crate) fn send(mut self, response: &Response) {
        if let Some(to) = self.to.take() {
            to.outbox.answer(|out| response.encode(self.opaque, self.form, out));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let response = Response::refuse(status::SYSTEM_ERROR, "the request was not finished");
            to.outbox.answer(|out| response.encode(self.opaque, self.form, out));
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer left, was silent for too long, or left too much unread.
    Here,
    /// We stop, and everything is answered.
    Drained,
}

/// Runs a connection until the peer leaves, breaks the protocol or we stop.
pub(super) async fn run(
    stream: &TcpStream,
    connection: &Arc<Connection>,
    handler: &dyn Handler,
    stop: &Stop,
) -> io::Result<Ended> {
    let mut received = BytesMut::new();
    let mut unwritten = BytesMut::new();
    let mut heard = Instant::now();
    loop {
        match write(stream, connection, &mut unwritten)? {
            Written::Closed => return Ok(Ended::Here),
            Written::Some => heard = Instant::now(),
            Written::Nothing => {}
        }
        if unwritten.is_empty() && connection.outbox.len() > 0 {
            // It was filled meanwhile, and nobody may tell us of that again.
            tokio::task::yield_now().await;
            continue;
        }
        // Whole frames that are here already wait, too, while their peer does not read.
        let behind = || unwritten.len() + connection.outbox.len() > UNWRITTEN_MOST;
        let mut handled = 0;
        while handled < AT_ONCE && !behind() && handle_one(connection, handler, &mut received)? {
            handled += 1;
        }
        if handled == AT_ONCE {
            tokio::task::yield_now().await;
        }
        if handled > 0 {
            continue;
        }
        tokio::select! {
            ready = stream.readable(), if !behind() => {
                ready?;
                if !read(stream, &mut received)? {
                    return Ok(Ended::Here);
                }
                heard = Instant::now();
            }
            ready = stream.writable(), if unwritten.has_remaining() => ready?,
            () = connection.outbox.filled() => {}
            () = tokio::time::sleep_until(heard + IDLE_MOST) => {
                debug!(?connection, "closed: nothing was heard of it");
                return Ok(Ended::Here);
            }
            () = stop.stopped() => break,
        }
    }
    let drained = tokio::time::timeout(DRAIN_MOST, drain(stream, connection, unwritten)).await;
    drained.unwrap_or(Ok(Ended::Here))
}

/// Lets requests that are under way end, and writes what is answered to them.
async fn drain(
    stream: &TcpStream,
    connection: &Connection,
    mut unwritten: BytesMut,
) -> io::Result<Ended> {
    loop {
        // Asked before the bytes are taken out: there are no later ones then.
        let done = connection.outbox.is_done() && unwritten.is_empty();
        if done || write(stream, connection, &mut unwritten)? == Written::Closed {
            return Ok(Ended::Drained);
        }
        if unwritten.has_remaining() {
            stream.writable().await?;
        } else if connection.outbox.len() == 0 && !connection.outbox.is_done() {
            connection.outbox.filled().await;
        }
    }
}

/// What writing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Closed,
    Nothing,
    Some,
}

/// Writes as much as the peer takes now of what is there for it.
fn write(
    stream: &TcpStream,
    connection: &Connection,
    unwritten: &mut BytesMut,
) -> io::Result<Written> {
    if !unwritten.has_remaining() {
        match connection.outbox.take() {
            Some(bytes) => *unwritten = bytes,
            None => return Ok(Written::Closed),
        }
    }
    let mut did = Written::Nothing;
    while unwritten.has_remaining() {
        match stream.try_write(unwritten) {
            Ok(written) => unwritten.advance(written),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
        did = Written::Some;
    }
    Ok(did)
}

/// Reads what there is. Returns whether it goes on.
fn read(stream: &TcpStream, received: &mut BytesMut) -> io::Result<bool> {
    received.reserve(READ);
    match stream.try_read_buf(received) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e),
    }
}

/// Handles the first frame of what was received. Returns whether there was a whole one.
fn handle_one(
    connection: &Arc<Connection>,
    handler: &dyn Handler,
    received: &mut BytesMut,
) -> io::Result<bool> {
    let Some(frame) = next_frame(received).map_err(invalid)? else { return Ok(false) };
    // Frames say where they end, so those behind a header that cannot be read could be; but its
    // peer would wait for an answer that cannot be addressed.
    let request = Request::read(frame).map_err(invalid)?;
    if request.header.is_response() {
        connection.asked.answered(request);
    } else {
        let reply = Reply::new(connection, &request);
        handler.handle(connection, request, reply);
    }
    Ok(true)
}

/// An error for a peer that breaks the protocol.
pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
