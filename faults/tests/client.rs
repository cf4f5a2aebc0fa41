//! The clients over sockets, against a server that does what each test says: what is written down.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what must not fail may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use faults::client::{Client, Options, Task};
use faults::golem::GolemClient;
use faults::record::{Entry, Key, Position, Record};
use futures_util::{SinkExt as _, StreamExt as _};
use throng_client::Pauses;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
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

    fn client(&self) -> Client {
        let task = Task {
            number: 1,
            rooms: vec![0],
            pad_bytes: 0,
            own_before_ack: true,
        };
        Client::start(task, self.options()).unwrap()
    }

    /// Takes a WebSocket, and speaks what it asks for.
    async fn accept(&self) -> Peer {
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let agree = |request: &Request, mut response: Response| {
            if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol.clone());
            }
            Ok(response)
        };
        let (stream, _) = within("a client", self.listener.accept()).await.unwrap();
        Peer(
            within("a handshake", accept_hdr_async(stream, agree))
                .await
                .unwrap(),
        )
    }

    /// Takes a client of throng.v1.
    async fn greet(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.say(r#"hello {"server":"test","connection":"me","keepalive_ms":0}"#)
            .await;
        peer
    }

    /// Waits until the record says so.
    async fn recorded(&self, client: &Client, is_so: impl Fn(&Record) -> bool) {
        within("the record", async {
            while !is_so(&client.record().lock()) {
                self.progress.notified().await;
            }
        })
        .await;
    }
}

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Passes over pings, and expects this.
    async fn expect(&mut self, text: &str) {
        let wanted = read(text);
        within(text, async {
            loop {
                let heard = self.0.next().await.unwrap().unwrap();
                if !heard.is_ping() && !heard.is_pong() {
                    return assert_eq!(read(heard.to_text().unwrap()), wanted);
                }
            }
        })
        .await;
    }
}

/// The event and its data: in which order an object's fields are written says nothing.
fn read(text: &str) -> (&str, serde_json::Value) {
    let (event, data) = text.split_once(' ').unwrap();
    (event, serde_json::from_str(data).unwrap())
}

#[tokio::test]
async fn what_the_application_is_given_and_told_is_written_down() {
    let server = Server::new().await;
    let client = server.client();
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"faults:0"}"#).await;
    peer.say(r#"joined {"id":1,"room":"faults:0","position":{"epoch":"a","offset":4}}"#)
        .await;
    let msg = |offset, key| {
        let content = format!(r#"{{"key":"{key}","room":0,"pad":""}}"#);
        format!(r#"msg {{"room":"faults:0","offset":{offset},"at":1,"msg":{content}}}"#)
    };
    peer.say(&msg(5, "c2-1")).await;
    peer.say(r#"gap {"room":"faults:0","from":6,"to":7}"#).await;
    server
        .recorded(&client, |record| record.rooms[&0].entries.len() == 3)
        .await;
    assert!(client.publish(0));
    let publish = |id| {
        let content = r#"{"key":"c1-1","room":0,"pad":""}"#;
        format!(r#"msg {{"id":{id},"to":"faults:0","msg":{content},"key":"c1-1"}}"#)
    };
    peer.expect(&publish(2)).await;
    let close = CloseFrame {
        code: 4102.into(),
        reason: r#"{"after_ms":1}"#.into(),
    };
    peer.0.close(Some(close)).await.unwrap();
    within("the end", async {
        while let Some(Ok(_)) = peer.0.next().await {}
    })
    .await;

    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"faults:0","since":{"epoch":"a","offset":7}}"#)
        .await;
    peer.expect(&publish(2)).await;
    let position = r#""position":{"epoch":"b","offset":1}"#;
    let answer = r#""recovered":false,"first":1"#;
    peer.say(&format!(
        r#"joined {{"id":1,"room":"faults:0",{position},{answer}}}"#
    ))
    .await;
    peer.say(&msg(1, "c1-1")).await;
    peer.say(&format!(
        r#"ack {{"id":2,"room":"faults:0",{position},"duplicate":true}}"#
    ))
    .await;
    server
        .recorded(&client, |record| record.unanswered_count() == 0)
        .await;

    let record = client.record().lock();
    let joined = |epoch, offset, recovered, reached| Entry::Joined {
        position: Position::new(epoch, offset),
        recovered,
        reached,
    };
    let given = |epoch, offset, client| Entry::Publication {
        position: Position::new(epoch, offset),
        key: Key { client, number: 1 },
    };
    let entries = [
        joined("a", 4, None, 4),
        given("a", 5, 2),
        Entry::Missing {
            epoch: "a".into(),
            from: 6,
            to: 7,
        },
        joined("b", 1, Some(false), 0),
        Entry::MissingUnknown,
        given("b", 1, 1),
    ];
    assert_eq!(record.rooms[&0].entries, entries);
    assert!(record.acknowledged[0].duplicate);
    assert_eq!(
        (record.connection_count, record.failed_attempt_count),
        (2, 0)
    );
    assert_eq!((record.closes[&4102], &*record.complaints), (1, &[][..]));
}

#[tokio::test]
async fn what_the_protocol_does_not_allow_is_complained_of() {
    let server = Server::new().await;
    let client = server.client();
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"faults:0"}"#).await;
    peer.say(r#"joined {"id":1,"room":"faults:0","position":{"epoch":"a","offset":4}}"#)
        .await;
    let wrong = [
        r#"msg {"room":"faults:0","offset":5,"at":1,"msg":"a stranger's"}"#,
        r#"msg {"room":"faults:0","offset":7,"msg":{"key":"c2-1","room":0,"pad":""}}"#,
        r#"ack {"id":9,"room":"faults:0"}"#,
        r#"error {"event":"join","code":"bad_room","message":""}"#,
    ];
    for (index, text) in wrong.iter().enumerate() {
        peer.say(text).await;
        let wanted = index as u64 + 1;
        server
            .recorded(&client, |record| record.complaint_count == wanted)
            .await;
    }
    let close = CloseFrame {
        code: 4001.into(),
        reason: "".into(),
    };
    peer.0.close(Some(close)).await.unwrap();
    server
        .recorded(&client, |record| record.complaints.len() >= 5)
        .await;
}

#[tokio::test]
async fn a_client_on_golems_wire_comes_back_and_misses_what_was_published_meanwhile() {
    let server = Server::new().await;
    let client = GolemClient::start(7, vec![0], server.options());
    for key in ["c1-1", "c1-3"] {
        let mut peer = server.accept().await;
        peer.expect(r#"join {"name":"faults:0"}"#).await;
        peer.expect(r#"join {"name":"echo:7"}"#).await;
        peer.expect(r#"msg {"msg":"echo:7","to":"echo:7"}"#).await;
        peer.say(r#"msg "echo:7""#).await;
        within("the echo", client.joined()).await;
        peer.say(&format!(r#"msg {{"key":"{key}","room":0}}"#))
            .await;
        peer.say(r#"msg {"key":"c1-9","room":5}"#).await;
        // It asks by what it alone hears, and has taken all that came before that.
        peer.expect(r#"msg {"msg":"echo:7","to":"echo:7"}"#).await;
    }
    let key = |number| Key { client: 1, number };
    let given = client.given();
    assert_eq!(given.len(), 1);
    assert_eq!(given[&0].get(&key(1)), Some(&1));
    assert_eq!(given[&0].get(&key(3)), Some(&1));
    assert_eq!(given[&0].len(), 2);
}
