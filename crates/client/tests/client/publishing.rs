//! Publications: keys, acknowledgements, what is sent again and what is given up.

use std::time::Duration;

use crate::fake::{Peer, Server};
use futures_util::StreamExt as _;
use throng_client::{Connection, Notice, Options, Position, PublishError, Room};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

async fn publisher(change: impl FnOnce(&mut Options)) -> (Server, Connection, Room, Peer) {
    let mut server = Server::new();
    let mut options = server.options();
    change(&mut options);
    let connection = Connection::open("ws://fake/ws", options).unwrap();
    let room = connection.room("lobby");
    let peer = server.greet().await;
    connection.opened().await.unwrap();
    (server, connection, room, peer)
}

/// A publication as it is sent.
fn msg(id: u64, number: u64) -> String {
    format!(r#"msg {{"id":{id},"to":"lobby","msg":{number},"key":"me-{number}"}}"#)
}

/// Its acknowledgement.
fn ack(id: u64, offset: u64, rest: &str) -> String {
    format!(
        r#"ack {{"id":{id},"room":"lobby","position":{{"epoch":"a","offset":{offset}}}{rest}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_sent_again_with_its_key_before_anything_new() {
    let (mut server, connection, room, mut peer) =
        publisher(|options| options.publishes_in_flight_max = 2).await;
    let one = room.publish(&1);
    let two = room.publish(&2);
    let three = room.publish(&3);
    peer.expect(&msg(1, 1)).await;
    peer.expect(&msg(2, 2)).await;
    peer.expect_nothing_for(SECOND).await;
    // Answers may come in any order.
    peer.say(&ack(2, 8, "")).await;
    assert_eq!(two.await.unwrap().position, Some(Position::new("a", 8)));
    drop(peer);
    let mut peer = server.greet().await;
    let four = room.publish(&4);
    peer.expect(&msg(1, 1)).await;
    peer.expect(&msg(2, 3)).await;
    peer.say(&ack(1, 7, r#","duplicate":true"#)).await;
    let acked = one.await.unwrap();
    assert_eq!((acked.is_duplicate, &*acked.key), (true, "me-1"));
    peer.expect(&msg(3, 4)).await;
    peer.say(&ack(3, 10, "")).await;
    peer.say(&ack(2, 9, "")).await;
    assert!(!three.await.unwrap().is_duplicate);
    assert_eq!(four.await.unwrap().position, Some(Position::new("a", 10)));
    assert_eq!(connection.unacknowledged(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_after_a_lost_answer_may_have_been_delivered_before() {
    let (mut server, connection, room, mut peer) = publisher(|_| {}).await;
    let refused = room.publish(&1);
    let closed = room.publish(&2);
    peer.expect(&msg(1, 1)).await;
    drop(peer);
    let mut peer = server.greet().await;
    peer.expect(&msg(1, 1)).await;
    peer.say(r#"error {"id":1,"event":"msg","code":"too_large","message":""}"#)
        .await;
    let unknown = |key: &str| Err(PublishError::Unknown { key: key.into() });
    assert_eq!(refused.await, unknown("me-1"));
    peer.expect(&msg(2, 2)).await;
    drop(peer);
    let waiting = server.accept().await;
    connection.close().await;
    assert_eq!(closed.await, unknown("me-2"));
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_keeps_the_order_also_of_what_is_put_off() {
    let (_server, _connection, room, mut peer) = publisher(|_| {}).await;
    let one = room.publish(&1);
    let two = room.publish(&2);
    peer.expect(&msg(1, 1)).await;
    let error = r#""event":"msg","code":"storage","message":"""#;
    peer.say(&format!(
        r#"error {{"id":1,{error},"retry_after_ms":2000}}"#
    ))
    .await;
    let put_off_at = Instant::now();
    peer.expect(&msg(2, 1)).await;
    assert_eq!(put_off_at.elapsed(), 2 * SECOND);
    peer.say(&ack(2, 1, "")).await;
    one.await.unwrap();
    peer.expect(&msg(3, 2)).await;
    peer.say(r#"error {"id":3,"event":"msg","code":"bad_data","message":"no"}"#)
        .await;
    let Err(PublishError::Refused(refused)) = two.await else {
        panic!("it was refused");
    };
    assert_eq!((&*refused.code, &*refused.message), ("bad_data", "no"));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_answer_in_time_is_unknown_and_is_not_sent_again() {
    let (mut server, _connection, room, mut peer) = publisher(|_| {}).await;
    let sent_at = Instant::now();
    let sent = room.publish(&1);
    let waiting = room.publish(&2);
    peer.expect(&msg(1, 1)).await;
    drop(peer);
    // It is away for longer than a repeat would be safe.
    let refused = server.accept().await;
    let unknown = Err(PublishError::Unknown { key: "me-1".into() });
    let (outcome, ()) = tokio::join!(sent, async {
        drop(refused);
        for _ in 0..1000 {
            if sent_at.elapsed() > 151 * SECOND {
                break;
            }
            drop(server.accept().await);
        }
    });
    assert_eq!(outcome, unknown);
    let mut peer = server.greet().await;
    peer.expect(&msg(1, 2)).await;
    peer.say(&ack(1, 1, "")).await;
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_an_outcome_because_the_client_has_to_stay_away() {
    let (_server, _connection, room, mut peer) = publisher(|_| {}).await;
    let sent_at = Instant::now();
    let sent = room.publish(&1);
    peer.expect(&msg(1, 1)).await;
    peer.close(4100, r#"{"reason":"drain","after_ms":300000}"#)
        .await;
    assert_eq!(
        sent.await,
        Err(PublishError::Unknown { key: "me-1".into() })
    );
    assert_eq!(sent_at.elapsed(), 150 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_bounds_fails_at_once() {
    let server = Server::new();
    let mut options = server.options();
    (options.publishes_max, options.publish_bytes_max) = (3, 10);
    let connection = Connection::open("ws://fake/ws", options).unwrap();
    let room = connection.room("lobby");
    let first = room.publish("12345678");
    let full = PublishError::FullBytes { max: 10 };
    assert_eq!(room.publish(&1).await, Err(full));
    assert_eq!(first.withdraw().await, Err(PublishError::Withdrawn));
    let taken: Vec<_> = (0..3).map(|number| room.publish(&number)).collect();
    let full = PublishError::FullCount { max: 3 };
    assert_eq!(connection.room("other").publish(&1).await, Err(full));
    assert_eq!((connection.unacknowledged(), taken.len()), (3, 3));
    let unfit = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(
        room.publish(&unfit).await,
        Err(PublishError::Data { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn what_is_withdrawn_is_never_sent_or_unknown() {
    let (_server, _connection, room, mut peer) = publisher(|_| {}).await;
    let sent = room.publish(&1);
    let waiting = room.publish(&2);
    let last = room.publish(&3);
    peer.expect(&msg(1, 1)).await;
    assert_eq!(waiting.withdraw().await, Err(PublishError::Withdrawn));
    let unknown = PublishError::Unknown { key: "me-1".into() };
    assert_eq!(sent.withdraw().await, Err(unknown));
    peer.expect(&msg(2, 3)).await;
    peer.say(&ack(2, 2, "")).await;
    let acked = last.await.unwrap();
    assert_eq!(&*acked.key, "me-3");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_waits_for_is_told() {
    let (_server, connection, room, mut peer) = publisher(|_| {}).await;
    let mut notices = connection.notices(10);
    drop(room.publish_with_key("mine", &1));
    peer.expect(r#"msg {"id":1,"to":"lobby","msg":1,"key":"mine"}"#)
        .await;
    peer.say(r#"error {"id":1,"event":"msg","code":"too_large","message":""}"#)
        .await;
    assert!(matches!(notices.next().await, Some(Ok(Notice::Refused(_)))));
    let Some(Ok(Notice::Unpublished(failed))) = notices.next().await else {
        panic!("it should be told");
    };
    assert_eq!((&*failed.room, &*failed.key), ("lobby", "mine"));
    assert!(matches!(failed.error, PublishError::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn keys_of_two_clients_differ_unless_they_are_told_otherwise() {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (_server, _connection, room, mut peer) =
            publisher(|options| options.key_prefix = None).await;
        let publishing = room.publish(&1);
        sleep(SECOND).await;
        let sent = peer.0.next().await.unwrap().unwrap();
        assert!(sent.to_text().unwrap().contains(r#""key":""#));
        peer.say(&ack(1, 1, "")).await;
        keys.push(publishing.await.unwrap().key);
    }
    assert_ne!(keys[0], keys[1]);
    assert!(keys[0].len() <= 64);
}
