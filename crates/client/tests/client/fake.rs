//! A server that does what a test says, in memory and in simulated time.
//!
//! Tests read as transcripts: `peer.expect` is what the client says, `peer.say` what the server
//! answers. Time stands still while anybody has something to do, and then jumps.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use throng_client::{Connection, Connector, Options};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Longer than any pause of a client; simulated, so that nobody waits for it.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(TIMEOUT, future).await;
    waited.unwrap_or_else(|_| panic!("still waiting for {what}"))
}

/// The address that clients connect to.
pub(crate) struct Server {
    connector: Connector,
    incoming: mpsc::Receiver<DuplexStream>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let (sender, incoming) = mpsc::channel(16);
        let connector = Connector::new(move || {
            let (client, server) = tokio::io::duplex(1 << 22);
            let sent = sender.try_send(server);
            async move { sent.map(|()| client).map_err(std::io::Error::other) }
        });
        Self {
            connector,
            incoming,
        }
    }

    /// Short pauses, the same in every run.
    pub(crate) fn options(&self) -> Options {
        Options {
            connector: Some(self.connector.clone()),
            key_prefix: Some("me".to_owned()),
            seed: Some(1),
            ..Options::default()
        }
    }

    pub(crate) fn open(&self) -> Connection {
        Connection::open("ws://fake/ws", self.options()).unwrap()
    }

    /// Takes a connection that has said nothing.
    pub(crate) async fn accept(&mut self) -> DuplexStream {
        within("a connection", self.incoming.recv()).await.unwrap()
    }

    /// Takes a WebSocket, and does not greet.
    pub(crate) async fn upgrade(&mut self) -> Peer {
        Peer::of(self.accept().await, Some("throng.v1")).await
    }

    /// Takes a WebSocket, and greets.
    pub(crate) async fn greet(&mut self) -> Peer {
        self.greet_with(r#"{"message_bytes":65536}"#).await
    }

    /// Takes a WebSocket, and greets with these limits.
    pub(crate) async fn greet_with(&mut self, limits: &str) -> Peer {
        let mut peer = self.upgrade().await;
        let greeting = r#""server":"fake","connection":"me","keepalive_ms":25000"#;
        peer.say(&format!(r#"hello {{{greeting},"limits":{limits}}}"#))
            .await;
        peer
    }

    /// Expects that nobody comes for so long.
    pub(crate) async fn expect_nobody_for(&mut self, pause: Duration) {
        let come = timeout(pause, self.incoming.recv()).await;
        assert!(come.is_err(), "somebody came");
    }
}

/// The server's end of one connection.
pub(crate) struct Peer(pub(crate) WebSocketStream<DuplexStream>);

impl Peer {
    /// Answers the handshake, with this protocol.
    pub(crate) async fn of(stream: DuplexStream, protocol: Option<&'static str>) -> Self {
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let check = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["sec-websocket-protocol"], "throng.v1");
            if let Some(protocol) = protocol {
                let protocol = HeaderValue::from_static(protocol);
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol);
            }
            Ok(response)
        };
        let accepting = accept_hdr_async(stream, check);
        Self(within("a handshake", accepting).await.unwrap())
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Expects this to be the next message.
    pub(crate) async fn expect(&mut self, text: &str) {
        let message = within(text, self.0.next()).await.unwrap().unwrap();
        assert_eq!(message.to_text().unwrap(), text);
    }

    /// Expects that nothing comes for so long but pings.
    pub(crate) async fn expect_nothing_for(&mut self, pause: Duration) {
        let heard = timeout(pause, async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Ping(_))) => {}
                    other => return other,
                }
            }
        });
        if let Ok(message) = heard.await {
            panic!("{message:?} came");
        }
    }

    /// Expects the client to close with this code.
    pub(crate) async fn expect_close(&mut self, wanted: u16) {
        let message = within("a close", self.0.next()).await.unwrap().unwrap();
        let Message::Close(Some(frame)) = message else {
            panic!("{message:?} is no close frame with a code");
        };
        assert_eq!(u16::from(frame.code), wanted);
        self.expect_gone().await;
    }

    /// Expects that the client goes.
    pub(crate) async fn expect_gone(&mut self) {
        within("the end", async {
            loop {
                match self.0.next().await {
                    Some(Ok(_) | Err(Error::ConnectionClosed)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        })
        .await;
    }

    /// Closes with this code and reason.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.0.close(Some(frame)).await.unwrap();
        self.expect_gone().await;
    }

    /// Answers the next message, a `join` of a room that is there, without a replay.
    pub(crate) async fn let_in(&mut self, id: u64, room: &str, offset: u64) {
        self.expect(&format!(r#"join {{"id":{id},"room":"{room}"}}"#))
            .await;
        let position = format!(r#"{{"epoch":"a","offset":{offset}}}"#);
        self.say(&format!(
            r#"joined {{"id":{id},"room":"{room}","position":{position}}}"#
        ))
        .await;
    }

    /// Publishes to the client.
    pub(crate) async fn publish(&mut self, room: &str, offset: u64) {
        let text = format!(r#"msg {{"room":"{room}","offset":{offset},"at":1,"msg":{offset}}}"#);
        self.say(&text).await;
    }
}
