//! A client by tokio-tungstenite, with blocking calls.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::time::TIMEOUT;

/// The runtime that drives the sockets of all clients of this process, on a thread of its own.
static DRIVER: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Waits for a future, but not for ever.
fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    let in_time = DRIVER.block_on(async { tokio::time::timeout(TIMEOUT, future).await });
    in_time.unwrap_or_else(|_| panic!("waited in vain {what}"))
}

/// A socket of any family.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A client. Answers pings whenever it waits for something.
pub struct Client {
    socket: WebSocketStream<Box<dyn Socket>>,
    /// Messages that came while something else was waited for.
    inbox: VecDeque<Message>,
    /// The number of the last `sync`.
    sync_count: u64,
    /// The answer to the handshake.
    pub response: Response,
}

impl Client {
    /// Opens a WebSocket on `/ws`.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, "/ws", &[])
    }

    /// Opens a WebSocket with this path and these headers.
    pub fn connect_with(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let stream = wait("for the connection", TcpStream::connect(address)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::open(Box::new(stream), path, headers)
    }

    /// Opens a WebSocket over a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = wait("for the connection", UnixStream::connect(path)).unwrap();
        Self::open(Box::new(stream), "/ws", &[])
    }

    fn open(socket: Box<dyn Socket>, path: &str, headers: &[(&'static str, &str)]) -> Self {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let mut request: Request = format!("ws://localhost{path}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let (socket, response) = wait("for the handshake", client_async(request, socket)).unwrap();
        Self {
            socket,
            inbox: VecDeque::new(),
            sync_count: 0,
            response,
        }
    }

    /// Becomes a member of a room; returns when it is one.
    pub fn join(&mut self, room: &str) {
        self.send(&format!("join {{\"name\":{}}}", json(room)));
        self.sync();
    }

    /// Leaves a room; returns when it has.
    pub fn leave(&mut self, room: &str) {
        self.send(&format!("leave {{\"name\":{}}}", json(room)));
        self.sync();
    }

    /// Publishes a text to a room.
    pub fn say(&mut self, room: &str, text: &str) {
        self.send(&format!(
            "msg {{\"to\":{},\"msg\":{}}}",
            json(room),
            json(text)
        ));
    }

    /// Sends a text message.
    pub fn send(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends any message.
    pub fn send_message(&mut self, message: Message) {
        wait("to send", self.socket.send(message)).unwrap();
    }

    /// Returns when the server has done what it was sent before.
    pub fn sync(&mut self) {
        self.sync_count += 1;
        self.send(&format!("sync {}", self.sync_count));
        let answer = format!("synced {}", self.sync_count);
        loop {
            match self.next_from_socket() {
                Message::Text(text) if text.as_str() == answer => return,
                Message::Close(frame) => panic!("closed instead of {answer:?}: {frame:?}"),
                other => self.inbox.push_back(other),
            }
        }
    }

    /// The core that the connection is on.
    pub fn core(&mut self) -> u8 {
        self.send("core");
        let answer = self.receive();
        let number = answer.strip_prefix("core ");
        number
            .unwrap_or_else(|| panic!("{answer:?} is no core"))
            .parse()
            .unwrap()
    }

    /// The next text message.
    pub fn receive(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} is no text message"),
        }
    }

    /// The next message of any kind.
    pub fn receive_any(&mut self) -> Message {
        self.next()
    }

    /// The next text message, or the code and the reason of the close that comes instead.
    pub fn receive_or_close(&mut self) -> Result<String, (u16, String)> {
        match self.next() {
            Message::Text(text) => Ok(text.as_str().to_owned()),
            Message::Close(Some(frame)) => {
                Err((frame.code.into(), frame.reason.as_str().to_owned()))
            }
            other => panic!("{other:?} is neither a text message nor a close frame with a code"),
        }
    }

    /// Expects this text message to be the next one.
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.receive(), text);
    }

    /// Expects this binary message to be the next one.
    pub fn expect_binary(&mut self, payload: &[u8]) {
        match self.next() {
            Message::Binary(got) => assert_eq!(got, payload),
            other => panic!("{other:?} is no binary message"),
        }
    }

    /// The text messages that came while something else was waited for.
    pub fn take_inbox(&mut self) -> Vec<String> {
        let texts = self.inbox.drain(..).map(|message| match message {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} is no text message"),
        });
        texts.collect()
    }

    /// Expects an `error` event with this code to be the next message; returns its data.
    pub fn expect_error(&mut self, code: &str) -> Value {
        let text = self.receive();
        let data = text.strip_prefix("error ");
        let data = data.unwrap_or_else(|| panic!("{text:?} is no error event"));
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["code"], code, "{text}");
        data
    }

    /// Expects nothing to be on its way.
    pub fn expect_nothing(&mut self) {
        self.sync();
        assert_eq!(self.inbox, [], "nothing was to come");
    }

    /// Expects the server to close with this code; returns the reason.
    pub fn expect_close(&mut self, code: u16) -> String {
        let message = self.next();
        let Message::Close(Some(frame)) = message else {
            panic!("{message:?} is no close frame with code {code}");
        };
        assert_eq!(u16::from(frame.code), code, "{frame:?}");
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        wait("for the end behind the close frame", end);
        frame.reason.as_str().to_owned()
    }

    /// Waits for a ping, and answers it with the next thing that is sent or waited for.
    pub fn expect_ping(&mut self) {
        loop {
            match self.any_from_socket() {
                Message::Ping(_) => return,
                Message::Pong(_) => {}
                other => panic!("{other:?} is no ping"),
            }
        }
    }

    /// Sends a message that may come too late, because the server has closed.
    pub fn try_send(&mut self, message: Message) {
        _ = wait("to send", self.socket.send(message));
    }

    /// Says goodbye, if there is still somebody to say it to, and waits for no answer.
    pub fn say_goodbye(mut self) {
        _ = wait("to say goodbye", self.socket.close(None));
    }

    /// Says goodbye and waits for the answer.
    pub fn close(mut self) {
        wait("to close", self.socket.close(None)).unwrap();
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        wait("for the end", end);
    }

    fn next(&mut self) -> Message {
        match self.inbox.pop_front() {
            Some(message) => message,
            None => self.next_from_socket(),
        }
    }

    fn next_from_socket(&mut self) -> Message {
        loop {
            match self.any_from_socket() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    fn any_from_socket(&mut self) -> Message {
        match wait("for a message", self.socket.next()) {
            Some(message) => message.unwrap(),
            None => panic!("the connection ended instead of a message"),
        }
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
