//! One socket: connecting, handshaking, then a stream of messages.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use proto::OpCode;
use proto::frame;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::inbox::Inbox;
use crate::target::Target;

/// One connection of the driver's.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// None once it was dropped, which resets the connection.
    stream: Option<TcpStream>,
    pub(crate) state: State,
    /// What the socket has not taken, empty nearly always.
    pub(crate) pending: Vec<u8>,
    /// Whether the driver has it on its list of sockets to write to.
    pub(crate) is_listed: bool,
    /// Whether it has asked to be a member of its room.
    pub(crate) has_joined: bool,
    /// Whether a probe has arrived: it is a member of its room.
    pub(crate) has_received: bool,
}

/// How far a connection is.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// There are no more bytes to come.
    #[default]
    Closed,
    /// TCP's handshake is under way.
    Connecting,
    /// The request is sent, and this is what came back so far.
    Handshaking { key: String, response: Vec<u8> },
    /// Messages come and go.
    Open(Inbox),
}

/// What became of a read.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// The server is done, or the connection broke.
    Ended(io::Error),
    /// So many bytes; more may be there if that is the whole buffer.
    Bytes(usize),
    /// Nothing more for now.
    Nothing,
}

impl Connection {
    /// Begins to connect. The kernel keeps about twice `receive_buffer_bytes` of what is not read,
    /// or as much as it sees fit.
    pub(crate) fn open(
        target: &Target,
        index: u32,
        receive_buffer_bytes: Option<usize>,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(target.address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        // Closing resets. Otherwise the port of every connection stays taken for a minute, and the
        // third run of 20,000 finds none.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = target.source(index) {
            socket.bind(&SockAddr::from(source))?;
        }
        match socket.connect(&SockAddr::from(target.address)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: Some(TcpStream::from_std(socket.into())),
            state: State::Connecting,
            ..Self::default()
        })
    }

    /// Returns the socket, to be registered; none after [`abort`](Self::abort).
    pub(crate) fn source(&mut self) -> Option<&mut TcpStream> {
        self.stream.as_mut()
    }

    /// Ends the connection with a reset, whatever is under way.
    pub(crate) fn abort(&mut self) {
        let is_listed = self.is_listed;
        *self = Self {
            is_listed,
            ..Self::default()
        };
    }

    /// Returns both ends' addresses, this one first.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let stream = self.stream.as_ref()?;
        stream.local_addr().ok().zip(stream.peer_addr().ok())
    }

    /// Returns whether TCP's handshake is over.
    ///
    /// # Errors
    ///
    /// Why nobody answered.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the server that nothing more is wanted.
    pub(crate) fn shut_down(&self) {
        // It does not matter whether that succeeds: the socket is of no more use.
        let _ = self.stream.as_ref().map(|it| it.shutdown(Shutdown::Both));
    }

    /// Reads once.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let Some(stream) = &mut self.stream else {
            return ReadOutcome::Nothing;
        };
        loop {
            return match stream.read(buffer) {
                Ok(0) => ReadOutcome::Ended(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => ReadOutcome::Bytes(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => ReadOutcome::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => ReadOutcome::Ended(error),
            };
        }
    }

    /// Queues one frame.
    pub(crate) fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        let key = fastrand::u32(..).to_ne_bytes();
        frame::encode_masked(opcode, payload, key, &mut self.pending);
    }

    /// Writes what is queued, as far as the socket takes it.
    ///
    /// # Errors
    ///
    /// That the connection broke.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut written = 0;
        let result = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match stream.write(&self.pending[written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        result
    }
}

/// `EINPROGRESS`, for which the standard library's kind is not stable.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
