//! The Rust client, which knows the wire from docs/protocol.md alone, against the library.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use throng::{Classes, Config, Drain, FlushMode, RoomClass};
use throng_client::{
    Connection, Connector, End, GapReason, JoinError, Notice, Options, Pauses, Position,
    Publication, PublishError, Room, RoomEvent, Start, StreamError,
};
use throng_testing::{TIMEOUT, TestServer, config};
use tokio::time::timeout;

/// The way to a server, which a test can cut and lead elsewhere.
#[derive(Clone)]
struct Way(Arc<Mutex<(SocketAddr, Option<TcpStream>)>>);

impl Way {
    fn to(server: &TestServer) -> Self {
        Self(Arc::new(Mutex::new((server.address(), None))))
    }

    fn open(&self) -> Connection {
        let way = self.0.clone();
        let connector = Connector::new(move || {
            let way = way.clone();
            async move {
                let mut way = way.lock();
                let stream = TcpStream::connect(way.0)?;
                stream.set_nonblocking(true)?;
                // The one before is over, and must not be held open.
                way.1 = Some(stream.try_clone()?);
                tokio::net::TcpStream::from_std(stream)
            }
        });
        let short = Duration::from_millis(20);
        let options = Options {
            connector: Some(connector),
            pauses: Pauses {
                first: short,
                last: short,
                steady: TIMEOUT,
            },
            ..Options::default()
        };
        Connection::open("ws://localhost/ws", options).unwrap()
    }

    fn lead_to(&self, server: &TestServer) {
        self.0.lock().0 = server.address();
    }

    fn cut(&self) {
        let stream = self.0.lock().1.take();
        // The server may have ended it already.
        _ = stream.unwrap().shutdown(Shutdown::Both);
    }
}

/// A server whose rooms keep histories, and that wants nobody to stay away for long.
fn with_histories() -> Config {
    Config {
        classes: Classes::new(Vec::new(), RoomClass::default()),
        drain: Drain {
            spread: Duration::from_millis(100),
            ..Drain::default()
        },
        ..config(FlushMode::Auto)
    }
}

/// Runs a test on a runtime of its own, which ends before the server does.
fn with_server(test: impl AsyncFnOnce(&TestServer, Way)) {
    let server = TestServer::start(with_histories());
    let way = Way::to(&server);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let waited = timeout(TIMEOUT, test(&server, way)).await;
        waited.expect("the test should have come to its end");
    });
}

async fn next<T>(stream: &mut (impl Stream<Item = Result<T, StreamError>> + Unpin)) -> T {
    stream.next().await.unwrap().unwrap()
}

/// A publication's offset and what was published, in short.
fn short(publication: &Publication) -> (u64, u64) {
    (
        publication.position.offset,
        publication.data.decode().unwrap(),
    )
}

/// Joins a room, and waits for that to be told.
async fn join(room: &Room, events: &mut throng_client::RoomEvents) {
    room.join(Start::Now).await.unwrap();
    assert!(matches!(next(events).await, RoomEvent::Joined(_)));
}

#[test]
fn members_hear_each_other_and_publishers_are_acknowledged() {
    with_server(async |_, way| {
        let (alice, bob) = (way.open(), way.open());
        let (tea, other) = (alice.room("tea"), bob.room("tea"));
        let mut heard = other.events(100);
        join(&other, &mut heard).await;
        tea.join(Start::Now).await.unwrap();
        let first = tea.publish(&1).await.unwrap();
        let again = tea.publish_with_key(&first.key, &1).await.unwrap();
        assert_eq!((again.position, again.is_duplicate), (first.position, true));
        tea.emit("typing", &true).unwrap();
        let RoomEvent::Publication(publication) = next(&mut heard).await else {
            panic!("it comes first");
        };
        assert_eq!(short(&publication), (1, 1));
        let name = alice.hello().unwrap().connection;
        assert_eq!(publication.from.as_deref(), Some(&*name));
        let RoomEvent::Emission(emission) = next(&mut heard).await else {
            panic!("it comes next");
        };
        assert_eq!(
            (&*emission.event, emission.data.as_str()),
            ("typing", "true")
        );
        alice.ping().await.unwrap();
        other.leave().await;
        assert!(heard.next().await.is_none());
        alice.close().await;
    });
}

#[test]
fn who_was_cut_off_gets_what_it_missed_and_sends_again_what_was_not_acknowledged() {
    with_server(async |server, way| {
        let connection = way.open();
        let room = connection.room("tea");
        let mut publications = room.publications(100);
        room.join(Start::Now).await.unwrap();
        room.publish(&1).await.unwrap();
        assert_eq!(short(&next(&mut publications).await), (1, 1));
        let other = Way::to(server).open();
        other.opened().await.unwrap();
        way.cut();
        other.room("tea").publish(&2).await.unwrap();
        let acked = room.publish(&3).await.unwrap();
        assert_eq!(acked.position.unwrap().offset, 3);
        assert_eq!(short(&next(&mut publications).await), (2, 2));
        let third = next(&mut publications).await;
        assert_eq!((short(&third), third.gap), ((3, 3), None));
    });
}

#[test]
fn a_server_that_is_drained_and_began_again_is_told_as_an_unknown_gap() {
    with_server(async |server, way| {
        let connection = way.open();
        let room = connection.room("tea");
        let mut publications = room.publications(100);
        room.join(Start::Now).await.unwrap();
        room.publish(&1).await.unwrap();
        assert_eq!(short(&next(&mut publications).await), (1, 1));
        let new = TestServer::start(with_histories());
        way.lead_to(&new);
        server.stop.drain();
        room.publish(&2).await.unwrap();
        let publication = next(&mut publications).await;
        assert_eq!(short(&publication), (1, 2));
        let gap = publication.gap.unwrap();
        assert_eq!((gap.reason, gap.offsets), (GapReason::Epoch, None));
        let mut notices = connection.notices(100);
        new.stop.drain();
        loop {
            if let Notice::Status(status) = next(&mut notices).await
                && let Some(End::Closed(closed)) = status.end
            {
                assert_eq!(closed.code, 4100);
                break;
            }
        }
        // The server waits for the end of what it has closed.
        way.cut();
    });
}

#[test]
fn histories_are_read_in_parts_and_refusals_are_the_servers() {
    with_server(async |_, way| {
        let connection = way.open();
        let room = connection.room("tea");
        for number in 1..=5 {
            room.publish(&number).await.unwrap();
        }
        let mut since = Position::new("0", 0);
        let mut read = Vec::new();
        loop {
            let part = room.history(Start::Since(since), Some(2)).await.unwrap();
            read.extend(part.publications.iter().map(short));
            since = part.position.unwrap();
            if !part.has_more {
                break;
            }
        }
        assert_eq!(read, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        let last = room.history(Start::Last(1), None).await.unwrap();
        assert_eq!(short(&last.publications[0]), (5, 5));
        let nowhere = connection
            .room("nowhere")
            .history(Start::Last(1), None)
            .await
            .unwrap();
        assert_eq!(nowhere.position, None);
        let Err(JoinError::Refused(refused)) = connection.room("").join(Start::Now).await else {
            panic!("a name is not empty");
        };
        assert_eq!(refused.code, "bad_room");
        let Err(PublishError::Refused(refused)) = room.publish_with_key("", &1).await else {
            panic!("a key is not empty");
        };
        assert_eq!(refused.code, "bad_key");
    });
}
