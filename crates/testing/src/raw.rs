//! A TCP connection whose every byte is the test's own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::iter;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use proto::frame::encode_masked;
use proto::{Input, Limits, Message, MessageReader, OpCode, Role};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::time::TIMEOUT;

/// A request to open a WebSocket that is in order.
const OPENING: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The most that a server of ours sends, by the tests' own doing.
const LIMITS: Limits = Limits {
    message_len_max: 1 << 24,
    fragment_count_max: 1,
};

/// A masked frame with this opcode.
pub fn opcode(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_masked(opcode, payload, [7, 77, 177, 255], &mut bytes);
    bytes
}

/// A text message in one masked frame.
pub fn text(text: &str) -> Vec<u8> {
    opcode(OpCode::Text, text.as_bytes())
}

/// A close frame with this code.
pub fn close(code: u16) -> Vec<u8> {
    opcode(OpCode::Close, &code.to_be_bytes())
}

/// A TCP connection to a server.
pub struct Raw {
    stream: TcpStream,
    reader: MessageReader,
    /// Bytes that came and have not been looked at.
    unread: Vec<u8>,
}

impl Raw {
    /// Connects and says nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Connects with a small window, so that little is enough to fill it.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self {
            stream,
            reader: MessageReader::new(Role::Client),
            unread: Vec::new(),
        }
    }

    /// Opens a WebSocket that speaks throng.v1.
    pub fn opened_as_throng(mut self) -> Self {
        let end = OPENING.len() - 2;
        let protocol = "Sec-WebSocket-Protocol: throng.v1\r\n\r\n";
        self.send(&[&OPENING.as_bytes()[..end], protocol.as_bytes()].concat());
        let head = self.receive_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let (_, hello) = self.receive();
        assert!(hello.starts_with(b"hello "));
        self
    }

    /// Connects and opens a WebSocket.
    pub fn connect_websocket(address: SocketAddr) -> Self {
        Self::connect(address).opened()
    }

    /// Opens a WebSocket.
    pub fn opened(mut self) -> Self {
        self.open_and_send(&[]);
        self
    }

    /// Opens a WebSocket, and sends more in the same write, before the answer has come.
    pub fn open_and_send(&mut self, more: &[u8]) {
        self.send(&[OPENING.as_bytes(), more].concat());
        let head = self.receive_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Sends bytes, in one write if the kernel takes them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes that the server may refuse by then.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends the same bytes again and again, until the server takes nothing for a while; gives up,
    /// and fails, when it has taken 64 MiB.
    pub fn send_until_full(&mut self, bytes: &[u8]) {
        let quiet = Duration::from_millis(300);
        self.stream.set_write_timeout(Some(quiet)).unwrap();
        let mut sent = 0;
        loop {
            match self.stream.write(bytes).map_err(|error| error.kind()) {
                Ok(len) => sent += len,
                Err(ErrorKind::Interrupted) => {}
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Err(kind) => panic!("{kind} after {sent} bytes"),
            }
            assert!(sent < 64 << 20, "{sent} bytes were taken");
        }
    }

    /// Both ends' addresses, the server's first.
    pub fn ends_at_server(&self) -> (SocketAddr, SocketAddr) {
        let stream = &self.stream;
        (stream.peer_addr().unwrap(), stream.local_addr().unwrap())
    }

    /// Reads once, at most so many bytes; false at the end.
    pub fn read_at_most(&mut self, len_max: usize) -> bool {
        let mut buffer = vec![0; len_max];
        let len = self.stream.read(&mut buffer).unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..len]);
        len > 0
    }

    /// The frames that came whole.
    pub fn take_frames(&mut self) -> Vec<(OpCode, Vec<u8>)> {
        iter::from_fn(|| self.next_frame()).collect()
    }

    /// Sends a text message.
    pub fn send_text(&mut self, message: &str) {
        self.send(&text(message));
    }

    /// Returns when the server has done what it was sent before.
    pub fn sync(&mut self) {
        self.send_text("sync 0");
        self.expect("synced 0");
    }

    /// The head of an HTTP answer.
    pub fn receive_head(&mut self) -> String {
        loop {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            let what = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.receive_some(), "the end instead of a head: {what:?}");
        }
    }

    /// The next bytes, this many, which are no frame.
    pub fn receive_text(&mut self, len: usize) -> String {
        while self.unread.len() < len {
            assert!(self.receive_some(), "the end instead of {len} bytes");
        }
        String::from_utf8(self.unread.drain(..len).collect()).unwrap()
    }

    /// Expects this text message to be the next frame.
    pub fn expect(&mut self, text: &str) {
        let (opcode, payload) = self.receive();
        let got = String::from_utf8_lossy(&payload);
        assert_eq!((opcode, &*got), (OpCode::Text, text));
    }

    /// Expects a close frame with this code to be the next frame.
    pub fn expect_close(&mut self, code: u16) -> String {
        let (opcode, payload) = self.receive();
        let what = String::from_utf8_lossy(&payload);
        assert_eq!(opcode, OpCode::Close, "{what:?}");
        assert_eq!(payload[..2], code.to_be_bytes(), "{what:?}");
        String::from_utf8(payload[2..].to_vec()).unwrap()
    }

    /// Skips what comes before the close frame, which is to have this code; returns its reason.
    pub fn skip_to_close(&mut self, code: u16) -> String {
        self.bytes_to_close(code).1
    }

    /// Skips what comes before the close frame, which is to have this code; returns how much that
    /// was, in bytes, and the reason.
    pub fn bytes_to_close(&mut self, code: u16) -> (u64, String) {
        let mut before = 0;
        loop {
            let (opcode, payload) = self.receive();
            if opcode == OpCode::Close {
                assert_eq!(payload[..2], code.to_be_bytes());
                return (before, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
            before += payload.len() as u64;
        }
    }

    /// The next frame.
    pub fn receive(&mut self) -> (OpCode, Vec<u8>) {
        loop {
            if let Some(frame) = self.next_frame() {
                return frame;
            }
            assert!(
                self.receive_some(),
                "the connection ended instead of a frame"
            );
        }
    }

    fn next_frame(&mut self) -> Option<(OpCode, Vec<u8>)> {
        let mut unread = std::mem::take(&mut self.unread);
        let mut input = Input::new(&mut unread);
        // Without a whole frame, what there is of one is kept by the reader.
        let frame = match self.reader.read(&mut input, &LIMITS).unwrap()? {
            Message::Binary(payload) => (OpCode::Binary, payload.to_vec()),
            Message::Close(frame) => (OpCode::Close, frame.encode()),
            Message::Ping(payload) => (OpCode::Ping, payload.to_vec()),
            Message::Pong(payload) => (OpCode::Pong, payload.to_vec()),
            Message::Text(payload) => (OpCode::Text, payload.to_vec()),
        };
        self.unread = input.rest().to_vec();
        Some(frame)
    }

    /// Expects the server to end the connection, in order or by a reset.
    pub fn expect_end(&mut self) {
        while self.receive_some() {}
    }

    /// Everything until the server ends the connection, as text.
    pub fn receive_all(&mut self) -> String {
        self.expect_end();
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Says that nothing more will be sent; still receives.
    pub fn shut_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset, as a peer does that crashed.
    pub fn reset(self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits for more bytes; false at the end.
    fn receive_some(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer).map_err(|error| error.kind()) {
                Ok(len) => {
                    self.unread.extend_from_slice(&buffer[..len]);
                    return len > 0;
                }
                // The kernel takes a ring apart on the thread that made it, here the test's, and
                // interrupts what that thread waits for.
                Err(ErrorKind::Interrupted) => {}
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("waited in vain for bytes")
                }
                Err(_) => return false,
            }
        }
    }
}
