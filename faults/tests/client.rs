//! The clients over sockets, against a server that does what each test says.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what must not fail may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use faults::client::{Client, Options, Pauses, Task};
use faults::golem::GolemClient;
use faults::record::{Entry, Key, SharedRecord};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Longer than anything here takes; what takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Nothing waits long here, so that nothing takes long.
const SHORT: Duration = Duration::from_millis(50);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(TIMEOUT, future).await;
    waited.unwrap_or_else(|_| panic!("still waiting for {what}"))
}

/// Where clients connect to.
struct Server {
    listener: TcpListener,
    progress: Arc<Notify>,
}

/// The server's end of one connection.
struct Peer(WebSocketStream<TcpStream>);

impl Server {
    async fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            progress: Arc::new(Notify::new()),
        }
    }

    fn options(&self) -> Options {
        Options {
            address: self.listener.local_addr().unwrap(),
            pauses: Pauses {
                first: SHORT,
                last: SHORT,
                steady: TIMEOUT,
            },
            keepalive: SHORT,
            patience: TIMEOUT,
            seed: 1,
            progress: self.progress.clone(),
        }
    }

    fn client(&self, options: Options) -> Client {
        let task = Task {
            number: 1,
            rooms: vec![0],
            pad_bytes: 0,
            own_before_ack: true,
        };
        Client::start(task, options)
    }

    async fn accept(&self) -> TcpStream {
        within("a client", self.listener.accept()).await.unwrap().0
    }

    /// Takes a client of throng.v1.
    async fn greet(&self) -> Peer {
        let mut peer = Peer::of(self.accept().await, Some("throng.v1")).await;
        peer.say(r#"hello {"server":"test","connection":"me","keepalive_ms":0,"limits":{}}"#)
            .await;
        peer
    }

    /// Waits until the record says so.
    async fn recorded(&self, record: &SharedRecord, is_so: impl Fn(&[Entry]) -> bool) {
        within("the record", async {
            while !is_so(&record.lock().rooms[&0].entries) {
                self.progress.notified().await;
            }
        })
        .await;
    }
}

impl Peer {
    async fn of(stream: TcpStream, protocol: Option<&'static str>) -> Self {
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let check = |request: &Request, mut response: Response| {
            let asked = request.headers().get("sec-websocket-protocol");
            assert_eq!(
                asked.map(HeaderValue::as_bytes),
                protocol.map(str::as_bytes)
            );
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

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn expect(&mut self, text: &str) {
        let message = within("a message", self.0.next()).await.unwrap().unwrap();
        assert_eq!(read(&message), read(&Message::text(text)));
    }

    /// Passes over what else is said, and waits for this.
    async fn wait_for(&mut self, text: &str) {
        let wanted = read(&Message::text(text));
        within(text, async {
            while read(&self.0.next().await.unwrap().unwrap()) != wanted {}
        })
        .await;
    }

    /// Expects that the client goes.
    async fn expect_gone(&mut self) {
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
}

/// The event and its data: in which order an object's fields are written says nothing.
fn read(message: &Message) -> (String, serde_json::Value) {
    let text = message.to_text().unwrap_or_default();
    let (event, data) = text.split_once(' ').unwrap_or((text, "null"));
    let data = serde_json::from_str(data).unwrap_or_else(|_| data.into());
    (event.to_owned(), data)
}

#[tokio::test]
async fn a_client_whose_connection_breaks_goes_on_where_it_was() {
    let server = Server::new().await;
    let client = server.client(Options {
        keepalive: TIMEOUT,
        ..server.options()
    });
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":0,"room":"faults:0"}"#).await;
    peer.say(r#"joined {"id":0,"room":"faults:0","position":{"epoch":"a","offset":4}}"#)
        .await;
    peer.say(r#"msg {"room":"faults:0","offset":5,"at":1,"msg":{"key":"c2-1"}}"#)
        .await;
    assert!(client.publish(0));
    let publish =
        r#"msg {"id":1000001,"to":"faults:0","msg":{"key":"c1-1","room":0,"pad":""},"key":"c1-1"}"#;
    peer.expect(publish).await;
    drop(peer);

    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":0,"room":"faults:0","since":{"epoch":"a","offset":5}}"#)
        .await;
    peer.expect(publish).await;
    peer.say(r#"joined {"id":0,"room":"faults:0","position":{"epoch":"a","offset":6},"recovered":true,"first":6}"#)
        .await;
    peer.say(r#"msg {"room":"faults:0","offset":6,"at":1,"msg":{"key":"c1-1"}}"#)
        .await;
    peer.say(r#"ack {"id":1000001,"room":"faults:0","position":{"epoch":"a","offset":6},"duplicate":true}"#)
        .await;
    within("the ack", async {
        while client.record().lock().unanswered_count() > 0 {
            server.progress.notified().await;
        }
    })
    .await;

    let record = client.record().lock();
    let keys = record.rooms[&0]
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Publication { key, .. } => Some(key.to_string()),
            _ => None,
        });
    assert_eq!(keys.collect::<Vec<_>>(), ["c2-1", "c1-1"]);
    assert_eq!((record.connection_count, &*record.complaints), (2, &[][..]));
}

#[tokio::test]
async fn a_client_that_hears_nothing_asks_and_then_tries_another_connection() {
    let server = Server::new().await;
    let client = server.client(Options {
        patience: SHORT * 10,
        ..server.options()
    });
    let mut peer = server.greet().await;
    peer.wait_for("ping {}").await;
    // Anything that is heard is answer enough.
    peer.say("pong {}").await;
    peer.wait_for("ping {}").await;
    peer.expect_gone().await;
    let _again = server.greet().await;
    let record = client.record().lock();
    assert_eq!((record.silent_count, record.complaint_count), (1, 0));
}

#[tokio::test]
async fn a_server_that_never_greets_is_given_up() {
    let server = Server::new().await;
    let options = Options {
        patience: SHORT * 10,
        ..server.options()
    };
    let client = server.client(options);
    let mut silent = Peer::of(server.accept().await, Some("throng.v1")).await;
    silent.expect_gone().await;
    // Nor is one that does not even answer the handshake waited for.
    let mut mute = server.accept().await;
    let mut request = Vec::new();
    within("the end", mute.read_to_end(&mut request))
        .await
        .unwrap();
    assert!(request.starts_with(b"GET /ws HTTP/1.1\r\n"));
    let _greeted = server.greet().await;
    within("attempts", async {
        while client.record().lock().failed_attempt_count < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_full_or_slow_is_left_alone_for_as_long_as_it_asks() {
    let server = Server::new().await;
    let client = server.client(server.options());
    let mut stream = server.accept().await;
    let mut head = [0; 1024];
    assert!(stream.read(&mut head).await.unwrap() > 0);
    let full = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(full).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut peer = server.greet().await;
    assert!(began.elapsed() >= Duration::from_millis(990));

    let reason = r#"{"reason":"slow_consumer","after_ms":700}"#.into();
    let close = CloseFrame {
        code: 4102.into(),
        reason,
    };
    let began = tokio::time::Instant::now();
    peer.0.close(Some(close)).await.unwrap();
    let _again = server.greet().await;
    assert!(began.elapsed() >= Duration::from_millis(690));
    assert_eq!(client.record().lock().closes[&4102], 1);
}

#[tokio::test]
async fn a_client_that_is_told_not_to_come_back_says_so_and_does_not() {
    let server = Server::new().await;
    let client = server.client(server.options());
    let mut peer = server.greet().await;
    let close = CloseFrame {
        code: 4001.into(),
        reason: "".into(),
    };
    peer.0.close(Some(close)).await.unwrap();
    peer.expect_gone().await;
    drop(peer);
    within("its complaint", async {
        while client.record().lock().complaint_count == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let come = timeout(SHORT * 5, server.listener.accept()).await;
    assert!(come.is_err());
}

#[tokio::test]
async fn a_member_is_handed_what_it_was_told_is_missing() {
    let server = Server::new().await;
    let client = server.client(server.options());
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":0,"room":"faults:0"}"#).await;
    peer.say(r#"joined {"id":0,"room":"faults:0","position":{"epoch":"a","offset":0}}"#)
        .await;
    peer.say(r#"gap {"room":"faults:0","from":1,"to":2}"#).await;
    let missing = Entry::Missing {
        epoch: "a".into(),
        from: 1,
        to: 2,
    };
    server
        .recorded(client.record(), |entries| entries.contains(&missing))
        .await;
}

#[tokio::test]
async fn a_client_on_golems_wire_comes_back_and_misses_what_was_published_meanwhile() {
    let server = Server::new().await;
    let client = GolemClient::start(7, vec![0], server.options());
    for key in ["c1-1", "c1-3"] {
        let mut peer = Peer::of(server.accept().await, None).await;
        peer.expect(r#"join {"name":"faults:0"}"#).await;
        peer.expect(r#"join {"name":"echo:7"}"#).await;
        peer.expect(r#"msg {"msg":"echo:7","to":"echo:7"}"#).await;
        peer.say(r#"msg "echo:7""#).await;
        within("the echo", client.joined()).await;
        peer.say(&format!(r#"msg {{"key":"{key}","room":0}}"#))
            .await;
        peer.say(r#"msg {"key":"c1-9","room":5}"#).await;
        // It asks by what it alone hears, and has taken all that came before that.
        peer.wait_for(r#"msg {"msg":"echo:7","to":"echo:7"}"#).await;
    }
    let key = |number| Key { client: 1, number };
    let given = client.given();
    assert_eq!(given.len(), 1);
    assert_eq!(given[&0].get(&key(1)), Some(&1));
    assert_eq!(given[&0].get(&key(3)), Some(&1));
    assert_eq!(given[&0].len(), 2);
}
