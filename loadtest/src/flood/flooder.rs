//! One flooder: it connects, says hello as its wire wants it, and then only sends.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proto::{CloseFrame, OpCode};
use socket2::SockRef;

use super::Tally;
use crate::handshake::{self, Response};
use crate::inbox::{Inbox, Recipient};
use crate::opening::Refusal;
use crate::sockets;
use crate::target::Target;
use crate::wire::{Meaning, Wire};

/// A call waits no longer before it looks whether the flood has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A server under a flood answers a handshake late, but not as late as this.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);

/// Before a connection that ended is opened again: a server that refuses is not to be flooded with
/// connections, for that is another question.
const PAUSE: Duration = Duration::from_millis(10);

/// What answers are read into.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The least priority there is.
const NICE: i32 = 19;

#[derive(Debug)]
pub(super) struct Flooder {
    pub(super) target: Target,
    /// What makes it a member of its room, if it is to be one.
    pub(super) join: Option<Vec<u8>>,
    /// Whole frames.
    pub(super) bytes: Vec<u8>,
    /// Whether it reads what the server answers.
    pub(super) reads: bool,
}

impl Flooder {
    /// Floods until it is told to end.
    pub(super) fn run(&self, stop: &AtomicBool) -> Tally {
        // On Linux that is the thread's own; without the right to it, the driver is measured a
        // little late.
        let _ = rustix::process::nice(NICE);
        let mut tally = Tally::default();
        while !must_stop(stop) {
            let ended = match self.open(stop) {
                Ok((stream, inbox)) => {
                    tally.connections += 1;
                    self.flood(&stream, inbox, &mut tally, stop)
                }
                Err(refusal) => Some(refusal.to_string()),
            };
            if let Some(ended) = ended.filter(|_| !must_stop(stop)) {
                tally.ended.count(ended);
                thread::sleep(PAUSE);
            }
        }
        tally
    }

    /// Sends and, if it is to, reads; returns how the server ended it, if it did.
    fn flood(
        &self,
        stream: &TcpStream,
        inbox: Inbox,
        tally: &mut Tally,
        stop: &AtomicBool,
    ) -> Option<String> {
        let (sent_bytes, broken, closed) = thread::scope(|scope| {
            let reader = self
                .reads
                .then(|| scope.spawn(|| self.read(stream, inbox, stop)));
            let (sent_bytes, broken) = self.send(stream, stop);
            if broken.is_some() {
                // The reader has what was there, and then the end.
                let _ = stream.shutdown(Shutdown::Both);
            }
            let closed = reader.and_then(|reader| reader.join().ok().flatten());
            (sent_bytes, broken, closed)
        });
        tally.taken_bytes += sent_bytes - waiting_bytes(stream).min(sent_bytes);
        closed.or_else(|| Some(Refusal::from(broken?).to_string()))
    }

    /// Sends until it is told to end, or the connection is.
    fn send(&self, mut stream: &TcpStream, stop: &AtomicBool) -> (u64, Option<io::Error>) {
        let (mut sent_bytes, mut at) = (0, 0);
        while !must_stop(stop) {
            match stream.write(&self.bytes[at..]) {
                Ok(bytes) => {
                    sent_bytes += bytes as u64;
                    at = (at + bytes) % self.bytes.len();
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return (sent_bytes, Some(error)),
            }
        }
        (sent_bytes, None)
    }

    /// Reads until the end; returns what the server's close frame said, if there was one.
    fn read(&self, mut stream: &TcpStream, mut inbox: Inbox, stop: &AtomicBool) -> Option<String> {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut ear = Ear::new(&self.target.wire);
        while !must_stop(stop) && ear.closed.is_none() {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => inbox.receive(&mut buffer[..bytes], &mut ear).ok()?,
                Err(error) if is_pause(&error) => {}
                Err(_) => break,
            }
            // What the wire wants answered is not: nothing but the flood is sent.
            ear.replies.clear();
        }
        ear.closed
    }

    /// Connects and says everything that comes before the flood.
    fn open(&self, stop: &AtomicBool) -> Result<(TcpStream, Inbox), Refusal> {
        let mut stream = self.connect()?;
        let mut bytes = self.shake_hands(&mut stream, stop)?;
        let wire = &self.target.wire;
        let (mut inbox, mut ear) = (Inbox::new(wire.lines), Ear::new(wire));
        let mut messages = Vec::from_iter(wire.greeting.message(""));
        loop {
            if inbox.receive(&mut bytes, &mut ear).is_err() {
                return Err(Refusal::Malformed);
            }
            messages.extend(ear.replies.drain(..).map(|reply| reply.as_bytes().to_vec()));
            messages.extend(self.join.clone().filter(|_| ear.is_welcome));
            let mut frames = Vec::new();
            for message in messages.drain(..) {
                let key = fastrand::u32(..).to_ne_bytes();
                proto::frame::encode_masked(OpCode::Text, &message, key, &mut frames);
            }
            stream.write_all(&frames)?;
            if ear.is_welcome {
                return Ok((stream, inbox));
            }
            bytes = hear(&mut stream, stop)?;
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.target.address, OPENING_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL))?;
        stream.set_write_timeout(Some(LOOK_INTERVAL))?;
        // What the server has not read when the flood ends is no burden to what comes after it.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// Does the opening handshake; returns what came behind its answer.
    fn shake_hands(&self, stream: &mut TcpStream, stop: &AtomicBool) -> Result<Vec<u8>, Refusal> {
        let key = proto::handshake::request_key(fastrand::u128(..).to_ne_bytes());
        stream.write_all(&handshake::request(&self.target, &key))?;
        let mut response = Vec::new();
        loop {
            response.append(&mut hear(stream, stop)?);
            match handshake::read(&response, &key, &self.target) {
                Response::Accepted { head_bytes, .. } => return Ok(response.split_off(head_bytes)),
                Response::Incomplete => {}
                Response::Refused(refused) => return Err(refused.refusal),
            }
        }
    }
}

/// Waits for bytes.
fn hear(stream: &mut TcpStream, stop: &AtomicBool) -> Result<Vec<u8>, Refusal> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    for _ in 0..OPENING_PATIENCE.as_millis() / LOOK_INTERVAL.as_millis() {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Refusal::Reset),
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(error) if is_pause(&error) && !must_stop(stop) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::TimedOut)
}

fn must_stop(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}

/// Returns whether a call only waited for too long.
fn is_pause(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Returns what was sent and not read by the server, at both ends as far as they are on this
/// machine.
fn waiting_bytes(stream: &TcpStream) -> u64 {
    let (Ok(own), Ok(server)) = (stream.local_addr(), stream.peer_addr()) else {
        return 0; // it has ended
    };
    let connections = sockets::connections();
    let unsent = connections.get(&(own, server)).map_or(0, |it| it.tx_queue);
    let unread = connections.get(&(server, own)).map_or(0, |it| it.rx_queue);
    u64::from(unsent) + u64::from(unread)
}

/// What is listened for: who asks for an answer, who lets in, who says goodbye.
#[derive(Debug)]
struct Ear<'a> {
    wire: &'a Wire,
    replies: Vec<&'a str>,
    is_welcome: bool,
    closed: Option<String>,
}

impl<'a> Ear<'a> {
    fn new(wire: &'a Wire) -> Self {
        Self {
            wire,
            replies: Vec::new(),
            is_welcome: wire.join_after.is_none(),
            closed: None,
        }
    }
}

impl Recipient for Ear<'_> {
    fn message(&mut self, start: &[u8], _message_bytes: u64) {
        if let Meaning::Answer(text) = self.wire.meaning(start) {
            self.replies.push(text);
        }
        self.is_welcome |= self.wire.is_welcome(start);
    }

    fn ping(&mut self, _payload: &[u8]) {}

    fn close(&mut self, payload: &[u8]) {
        let code = CloseFrame::parse(payload).map(|close| close.code.0);
        let named = code.map(|code| format!("closed_{code}"));
        self.closed = Some(named.unwrap_or_else(|_| "closed".to_owned()));
    }
}
