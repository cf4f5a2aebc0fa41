//! Connections that end, and what a client does about it.

use std::time::Duration;

use crate::fake::{Peer, Server, within};
use futures_util::{SinkExt as _, StreamExt as _};
use throng_client::{
    Closed, Connection, Connector, End, Notice, OpenError, Options, PingError, Start, State,
    StreamError, Violation,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_hello_and_everything_that_waits_after() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let publishing = room.publish("hi");
    let joining = tokio::spawn(async move { room.join(Start::Last(3)).await });
    let mut peer = server.upgrade().await;
    peer.expect_nothing_for(SECOND).await;
    assert_eq!(connection.hello(), None);
    peer.say(r#"hello {"server":"fake","connection":"me","keepalive_ms":0,"new":1}"#)
        .await;
    peer.expect(r#"join {"id":1,"room":"lobby","last":3}"#)
        .await;
    peer.expect(r#"msg {"id":2,"to":"lobby","msg":"hi","key":"me-1"}"#)
        .await;
    peer.say("presence {}").await;
    peer.say(r#"ack {"id":2,"room":"lobby"}"#).await;
    let position = r#""position":{"epoch":"a","offset":9}"#;
    peer.say(&format!(
        r#"joined {{"id":1,"room":"lobby",{position},"first":8}}"#
    ))
    .await;
    let joined = joining.await.unwrap().unwrap();
    assert_eq!(
        (joined.reached, joined.recovered, joined.again),
        (7, None, false)
    );
    assert_eq!(publishing.await.unwrap().position, None);
    assert_eq!(connection.hello().unwrap().server, "fake");
    connection.opened().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_speak_throng_v1_is_given_up_and_said_so() {
    let mut server = Server::new();
    let connection = server.open();
    let mut publications = connection.room("lobby").publications(1);
    let publishing = connection.room("lobby").publish("hi");
    let _peer = Peer::of(server.accept().await, None).await;
    let closed = connection.opened().await.unwrap_err();
    assert_eq!(closed.code, 1006);
    assert!(closed.reason.contains("throng.v1"), "{closed}");
    assert!(matches!(connection.status().end, Some(End::NotThrong)));
    assert_eq!(publishing.await, Err(closed.clone().into()));
    assert_eq!(
        publications.next().await,
        Some(Err(StreamError::Closed(closed)))
    );
    assert_eq!(publications.next().await, None);
    server.expect_nobody_for(60 * SECOND).await;
    connection.reconnect();
    let _peer = server.greet().await;
    connection.opened().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_that_says_so_keeps_the_client_away_until_somebody_tries_again() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let peer = server.greet().await;
    connection.opened().await.unwrap();
    let (joined, ()) = tokio::join!(room.join(Start::Now), peer.close(4001, "forbidden"));
    let closed = Closed {
        code: 4001,
        reason: "forbidden".to_owned(),
    };
    assert_eq!(joined, Err(closed.clone().into()));
    server.expect_nobody_for(600 * SECOND).await;
    assert_eq!(room.publish("hi").await, Err(closed.clone().into()));
    assert_eq!(room.history(Start::Now, None).await, Err(closed.into()));
    assert_eq!(connection.rooms(), ["lobby".into()]);
    connection.reconnect();
    server.greet().await.let_in(1, "lobby", 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_the_server_asks_for_is_kept() {
    let mut server = Server::new();
    let connection = server.open();
    let pause = Duration::from_millis(7000);
    for ending in ["close", "drain", "drain instead of hello", "503"] {
        let began_at = if ending == "503" {
            let mut stream = server.accept().await;
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\
                        Content-Length: 0\r\n\r\n";
            let began_at = Instant::now();
            stream.write_all(full.as_bytes()).await.unwrap();
            began_at
        } else {
            let mut peer = if ending == "drain instead of hello" {
                server.upgrade().await
            } else {
                server.greet().await
            };
            let began_at = Instant::now();
            if ending == "close" {
                peer.close(4102, r#"{"reason":"slow_consumer","after_ms":7000}"#)
                    .await;
            } else {
                peer.say(r#"drain {"after_ms":7000}"#).await;
            }
            began_at
        };
        server.expect_nobody_for(pause - SECOND / 100).await;
        let State::Waiting { until } = connection.status().state else {
            panic!("it should wait after {ending}");
        };
        assert!(until - began_at >= pause, "{ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_errors_status_is_final_and_a_busy_servers_is_not() {
    for (status, is_final) in [(404, true), (403, true), (429, false), (500, false)] {
        let mut server = Server::new();
        let connection = server.open();
        let mut stream = server.accept().await;
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if is_final {
            assert!(connection.opened().await.is_err());
            assert!(matches!(
                connection.status().end,
                Some(End::Rejected { .. })
            ));
        } else {
            let _peer = server.greet().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_and_then_given_up() {
    let mut server = Server::new();
    let connection = server.open();
    let mut notices = connection.notices(100);
    let mut peer = server.greet().await;
    connection.opened().await.unwrap();
    let began_at = Instant::now();
    // The library answers the ping while it reads.
    let heard = within("a ping", peer.0.next()).await.unwrap().unwrap();
    assert_eq!(heard, Message::Ping(Default::default()));
    assert_eq!(began_at.elapsed().as_secs(), 25);
    // Anything that is heard is answer enough.
    peer.say(r#"presence {}"#).await;
    let heard = within("another", peer.0.next()).await.unwrap().unwrap();
    assert_eq!(heard, Message::Ping(Default::default()));
    // Nobody polls the peer any more, so that it answers nothing.
    let _again = server.greet().await;
    let mut ends = 0;
    while ends == 0 {
        if let Notice::Status(status) = notices.next().await.unwrap().unwrap() {
            ends += usize::from(matches!(status.end, Some(End::Silent)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_brings_no_greeting_is_given_up_after_its_time() {
    let mut server = Server::new();
    let connection = server.open();
    let mute = server.accept().await;
    let began_at = Instant::now();
    let again = server.upgrade().await;
    assert!(began_at.elapsed() >= 15 * SECOND);
    assert!(matches!(connection.status().end, Some(End::Silent)));
    drop((mute, again));
    let mut peer = server.upgrade().await;
    let mut notices = connection.notices(10);
    peer.say(r#"pong {"id":1}"#).await;
    let kind = Violation::Greeting;
    let Notice::Violation { kind: told, .. } = notices.next().await.unwrap().unwrap() else {
        panic!("it should be told first");
    };
    assert_eq!(told, kind);
    let _greeted = server.greet().await;
    connection.opened().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_server_are_answered_and_large_and_deep_messages_taken() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let mut publications = room.publications(10);
    let mut peer = server.greet().await;
    peer.0
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let heard = within("a pong", peer.0.next()).await.unwrap().unwrap();
    assert_eq!(heard, Message::Pong("are you there".into()));
    let (joined, ()) = tokio::join!(room.join(Start::Now), peer.let_in(1, "lobby", 0));
    joined.unwrap();
    let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for (offset, data) in [(1, &deep), (2, &large)] {
        peer.say(&format!(
            r#"msg {{"room":"lobby","offset":{offset},"msg":{data}}}"#
        ))
        .await;
        let publication = publications.next().await.unwrap().unwrap();
        assert!(publication.data.as_str() == data);
    }
    let (asked, ()) = tokio::join!(connection.ping(), async {
        peer.expect(r#"ping {"id":2}"#).await;
        sleep(SECOND).await;
        peer.say(r#"pong {"id":2}"#).await;
    });
    assert_eq!(asked.unwrap(), SECOND);
    let (asked, ()) = tokio::join!(connection.ping(), async move { drop(peer) });
    assert_eq!(asked, Err(PingError));
}

#[tokio::test(start_paused = true)]
async fn closing_settles_everything_and_says_goodbye() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let mut publications = room.publications(10);
    let mut notices = connection.notices(10);
    let mut peer = server.greet().await;
    connection.opened().await.unwrap();
    let sent = room.publish("sent");
    let waiting = room.publish("waiting");
    peer.expect(r#"msg {"id":1,"to":"lobby","msg":"sent","key":"me-1"}"#)
        .await;
    tokio::join!(connection.close(), peer.expect_close(1000));
    let closed = Closed {
        code: 1000,
        reason: String::new(),
    };
    let key = "me-1".into();
    assert_eq!(
        sent.await,
        Err(throng_client::PublishError::Unknown { key })
    );
    assert_eq!(waiting.await, Err(closed.clone().into()));
    assert_eq!(room.join(Start::Now).await, Err(closed.clone().into()));
    assert_eq!(publications.next().await, None);
    while notices.next().await.is_some() {}
    assert_eq!(connection.status().state, State::Closed);
    assert_eq!(connection.opened().await, Err(closed));
    connection.reconnect();
    server.expect_nobody_for(60 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_last_handle() {
    let mut server = Server::new();
    let room = server.open().room("lobby");
    let mut peer = server.greet().await;
    let publications = room.publications(10);
    drop(room);
    peer.expect_nothing_for(SECOND).await;
    drop(publications);
    peer.expect_close(1000).await;
}

#[test]
fn nobody_waits_for_a_runtime_that_has_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::new();
    let connection = runtime.block_on(async { server.open() });
    let publishing = connection.room("lobby").publish("hi");
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let closed = Closed {
        code: 1000,
        reason: String::new(),
    };
    assert_eq!(other.block_on(publishing), Err(closed.into()));
}

#[tokio::test]
async fn addresses_and_options_that_cannot_be_used_fail_at_once() {
    let open = |url: &str, options| Connection::open(url, options).unwrap_err();
    for url in ["", "lobby", "http://a/ws", "ws:///ws"] {
        assert_eq!(
            open(url, Options::default()),
            OpenError::Url {
                url: url.to_owned()
            }
        );
    }
    assert_eq!(open("wss://a/ws", Options::default()), OpenError::Tls);
    let options = Options {
        key_prefix: Some("x".repeat(41)),
        ..Options::default()
    };
    assert_eq!(
        open("ws://a/ws", options),
        OpenError::KeyPrefix { bytes: 41, max: 40 }
    );
    let options = Options {
        publishes_max: 0,
        ..Options::default()
    };
    assert_eq!(
        open("ws://a/ws", options),
        OpenError::Zero {
            option: "publishes_max"
        }
    );
    let connector = Connector::new(|| async { Ok(tokio::io::duplex(1).0) });
    let options = Options {
        connector: Some(connector),
        ..Options::default()
    };
    Connection::open("wss://a/ws", options).unwrap();
}
