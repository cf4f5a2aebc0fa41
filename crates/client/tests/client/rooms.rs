//! Rooms: what is delivered, what is missing, and what a member is told of it.

use std::time::Duration;

use crate::fake::{Peer, Server};
use futures_util::StreamExt as _;
use throng_client::{
    Closed, Connection, Emission, EmitError, GapReason, HistoryError, JoinError, Json, Notice,
    Position, Room, RoomEvent, RoomEvents, Start, StreamError, Violation,
};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// A member of `lobby` at this offset of epoch `a`, whose first events were read.
async fn member(offset: u64) -> (Server, Connection, Room, RoomEvents, Peer) {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let mut events = room.events(100);
    let mut peer = server.greet().await;
    let (joined, ()) = tokio::join!(room.join(Start::Now), peer.let_in(1, "lobby", offset));
    joined.unwrap();
    assert_eq!(
        told(&mut events, 1).await,
        [format!("joined a{offset} None")]
    );
    (server, connection, room, events, peer)
}

/// The next events, in short.
async fn told(events: &mut RoomEvents, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let next = timeout(600 * SECOND, events.next()).await;
        let next = next.unwrap_or_else(|_| panic!("nothing came after {told:?}"));
        told.push(match next.unwrap().unwrap() {
            RoomEvent::Emission(Emission {
                event, from, data, ..
            }) => {
                format!("{event} {} of {}", data.as_str(), from.unwrap_or_default())
            }
            RoomEvent::Gap(gap) => format!("{:?} {}{:?}", gap.reason, gap.epoch, gap.offsets),
            RoomEvent::Joined(joined) => {
                let Position { epoch, .. } = joined.position;
                format!("joined {epoch}{} {:?}", joined.reached, joined.recovered)
            }
            RoomEvent::Publication(publication) => {
                let Position { epoch, offset } = publication.position;
                let gap = publication.gap.map_or("", |_| " behind a gap");
                format!("{epoch}{offset}{gap}")
            }
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_member_goes_on_where_it_was_and_gets_each_publication_once() {
    let (mut server, _connection, room, mut events, mut peer) = member(4).await;
    peer.publish("lobby", 5).await;
    assert_eq!(told(&mut events, 1).await, ["a5"]);
    drop(peer);
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"a","offset":5}}"#)
        .await;
    assert!(!room.is_joined());
    let position = r#""position":{"epoch":"a","offset":7}"#;
    let recovered = r#""recovered":true,"first":5"#;
    peer.say(&format!(
        r#"joined {{"id":1,"room":"lobby",{position},{recovered}}}"#
    ))
    .await;
    for offset in [5, 6, 7, 8] {
        peer.publish("lobby", offset).await;
    }
    let wanted = ["joined a5 Some(true)", "a6", "a7", "a8"];
    assert_eq!(told(&mut events, 4).await, wanted);
    assert_eq!(room.position(), Some(Position::new("a", 8)));
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_says_is_missing_is_told() {
    for (answer, offset, wanted) in [
        (
            r#"{"epoch":"a","offset":9},"recovered":false,"first":8"#,
            8,
            [
                "joined a7 Some(false)",
                "Evicted aSome(5..=7)",
                "a8 behind a gap",
            ],
        ),
        (
            r#"{"epoch":"b","offset":2},"recovered":false,"first":3"#,
            3,
            ["joined b2 Some(false)", "Epoch bNone", "b3 behind a gap"],
        ),
        (
            r#"{"epoch":"a","offset":2},"recovered":false,"first":1"#,
            1,
            ["joined a0 Some(false)", "Epoch aNone", "a1 behind a gap"],
        ),
    ] {
        let (mut server, _connection, _room, mut events, peer) = member(4).await;
        drop(peer);
        let mut peer = server.greet().await;
        peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"a","offset":4}}"#)
            .await;
        peer.say(&format!(
            r#"joined {{"id":1,"room":"lobby","position":{answer}}}"#
        ))
        .await;
        peer.publish("lobby", offset).await;
        assert_eq!(told(&mut events, 3).await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn another_epoch_without_loss_is_taken_over_in_silence() {
    let (mut server, _connection, _room, mut events, peer) = member(4).await;
    drop(peer);
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"a","offset":4}}"#)
        .await;
    let position = r#""position":{"epoch":"b","offset":2},"recovered":true,"first":2"#;
    peer.say(&format!(r#"joined {{"id":1,"room":"lobby",{position}}}"#))
        .await;
    peer.publish("lobby", 2).await;
    assert_eq!(told(&mut events, 2).await, ["joined b1 Some(true)", "b2"]);
    drop(peer);
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"b","offset":2}}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn gaps_and_jumps_are_told_with_both_ends_and_stand_at_the_publication_behind_them() {
    let (mut server, _connection, room, mut events, mut peer) = member(0).await;
    let mut publications = room.publications(10);
    peer.say(r#"gap {"room":"lobby","from":1,"to":3}"#).await;
    peer.publish("lobby", 4).await;
    peer.publish("lobby", 6).await;
    peer.say(r#"gap {"room":"lobby","from":8,"to":9}"#).await;
    peer.say(r#"gap {"room":"lobby","from":8,"to":9}"#).await;
    let wanted = [
        "Slow aSome(1..=3)",
        "a4 behind a gap",
        "Jump aSome(5..=5)",
        "a6 behind a gap",
        "Jump aSome(7..=7)",
        "Slow aSome(8..=9)",
    ];
    assert_eq!(told(&mut events, 6).await, wanted);
    let gap = publications.next().await.unwrap().unwrap().gap.unwrap();
    assert_eq!((gap.reason, gap.offsets), (GapReason::Slow, Some(1..=3)));
    drop(peer);
    let mut peer = server.greet().await;
    peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"a","offset":9}}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_the_streams_and_joining_again_waits_for_it() {
    let (_server, connection, room, mut events, mut peer) = member(4).await;
    let again = async {
        let left = room.leave();
        let mut joined = Vec::new();
        let rejoining = async {
            // Behind the leave, which was polled first.
            joined.push(room.join(Start::Since(Position::new("a", 4))).await);
        };
        tokio::join!(left, rejoining);
        joined
    };
    let talking = async {
        peer.expect(r#"leave {"id":2,"room":"lobby"}"#).await;
        peer.publish("lobby", 5).await;
        peer.expect_nothing_for(SECOND).await;
        peer.say(r#"left {"id":2,"room":"lobby"}"#).await;
        peer.expect(r#"join {"id":3,"room":"lobby","since":{"epoch":"a","offset":4}}"#)
            .await;
        let position = r#""position":{"epoch":"a","offset":5},"recovered":true,"first":5"#;
        peer.say(&format!(r#"joined {{"id":3,"room":"lobby",{position}}}"#))
            .await;
    };
    let (joined, ()) = tokio::join!(again, talking);
    assert_eq!(joined[0].as_ref().unwrap().recovered, Some(true));
    assert_eq!(events.next().await, None);
    let mut events = room.events(10);
    peer.publish("lobby", 5).await;
    assert_eq!(told(&mut events, 1).await, ["a5"]);
    let other = connection.room("other");
    let (joined, ()) = tokio::join!(other.join(Start::Now), async {
        peer.expect(r#"join {"id":4,"room":"other"}"#).await;
        // Nobody answers: the connection ends, and with it the membership.
        drop(peer);
        other.leave().await;
    });
    assert_eq!(joined, Err(JoinError::Left));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_left_while_it_is_joined_is_left_behind_the_answer() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let mut events = room.events(10);
    let mut peer = server.greet().await;
    let leaving = async {
        peer.expect(r#"join {"id":1,"room":"lobby"}"#).await;
        tokio::join!(room.leave(), async {
            peer.expect_nothing_for(SECOND).await;
            let position = r#""position":{"epoch":"a","offset":0}"#;
            peer.say(&format!(r#"joined {{"id":1,"room":"lobby",{position}}}"#))
                .await;
            peer.publish("lobby", 1).await;
            peer.expect(r#"leave {"id":2,"room":"lobby"}"#).await;
            peer.say(r#"left {"id":2,"room":"lobby"}"#).await;
        });
    };
    let (joined, ()) = tokio::join!(room.join(Start::Now), leaving);
    assert_eq!(joined, Err(JoinError::Left));
    assert_eq!(events.next().await, None);
    assert!(connection.rooms().is_empty() && room.position().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_put_off_is_asked_again_and_one_that_is_refused_is_not() {
    let mut server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    let mut events = room.events(10);
    let mut peer = server.greet().await;
    let talking = async {
        peer.expect(r#"join {"id":1,"room":"lobby"}"#).await;
        let error = r#""event":"join","code":"overloaded","message":"""#;
        peer.say(&format!(
            r#"error {{"id":1,{error},"retry_after_ms":3000}}"#
        ))
        .await;
        let put_off_at = Instant::now();
        peer.expect(r#"join {"id":2,"room":"lobby"}"#).await;
        assert_eq!(put_off_at.elapsed(), 3 * SECOND);
        peer.say(r#"error {"id":2,"event":"join","code":"new_code","message":"no"}"#)
            .await;
    };
    let (joined, ()) = tokio::join!(room.join(Start::Now), talking);
    let Err(JoinError::Refused(refused)) = joined else {
        panic!("{joined:?} is no refusal");
    };
    assert_eq!(refused.code, "new_code");
    assert_eq!(
        events.next().await,
        Some(Err(StreamError::Refused(refused)))
    );
    assert_eq!(connection.rooms(), [] as [std::sync::Arc<str>; 0]);
    drop(peer);
    server.greet().await.expect_nothing_for(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_servers_limits_is_refused_here() {
    let mut server = Server::new();
    let connection = server.open();
    let limits = r#"{"message_bytes":100,"room_name_bytes":8,"key_bytes":8}"#;
    let mut peer = server.greet_with(limits).await;
    connection.opened().await.unwrap();
    let long = connection.room("123456789");
    let Err(JoinError::Refused(refused)) = long.join(Start::Now).await else {
        panic!("the name is too long");
    };
    assert_eq!(refused.code, "bad_room");
    let room = connection.room("lobby");
    let code = |outcome| match outcome {
        Err(throng_client::PublishError::Refused(refused)) => refused.code,
        other => panic!("{other:?} is no refusal"),
    };
    assert_eq!(code(room.publish(&"x".repeat(100)).await), "too_large");
    assert_eq!(
        code(room.publish_with_key("123456789", "x").await),
        "bad_key"
    );
    let Err(EmitError::Refused(refused)) = room.emit("typing", &"x".repeat(100)) else {
        panic!("it is too large");
    };
    assert_eq!(refused.code, "too_large");
    peer.expect_nothing_for(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_gets_what_is_held_and_where_to_go_on() {
    let (_server, _connection, room, mut events, mut peer) = member(0).await;
    let mut publications = room.publications(2);
    for offset in 1..=4 {
        peer.publish("lobby", offset).await;
    }
    assert_eq!(told(&mut events, 4).await, ["a1", "a2", "a3", "a4"]);
    for offset in 1..=2 {
        let publication = publications.next().await.unwrap().unwrap();
        assert_eq!(publication.position, Position::new("a", offset));
    }
    let position = Some(Position::new("a", 2));
    let lagged = StreamError::Lagged {
        position,
        buffer_max: 2,
    };
    assert_eq!(publications.next().await, Some(Err(lagged)));
    assert_eq!(publications.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn events_are_emitted_now_or_not_at_all() {
    let server = Server::new();
    let connection = server.open();
    let room = connection.room("lobby");
    assert_eq!(room.emit("typing", &true), Err(EmitError::Away));
    for event in ["", "a b", "msg", "throng.x", &"x".repeat(65)] {
        assert_eq!(
            room.emit(event, &true),
            Err(EmitError::Name {
                event: event.to_owned()
            })
        );
    }
    drop((server, connection, room));
    let (_server, connection, room, mut events, mut peer) = member(0).await;
    let mut notices = connection.notices(10);
    room.emit("typing", &true).unwrap();
    peer.expect(r#"emit {"to":"lobby","event":"typing","data":true}"#)
        .await;
    peer.say(r#"typing {"room":"lobby","from":"you","data":true}"#)
        .await;
    peer.say(r#"typing {"room":"other","from":"you","data":true}"#)
        .await;
    assert_eq!(told(&mut events, 1).await, ["typing true of you"]);
    // A stream that is full leaves out what is worthless later, and goes on.
    let mut narrow = room.events(1);
    peer.say(r#"typing {"room":"lobby","from":"you","data":1}"#)
        .await;
    peer.say(r#"typing {"room":"lobby","from":"you","data":2}"#)
        .await;
    assert_eq!(told(&mut events, 2).await[1], "typing 2 of you");
    assert_eq!(told(&mut narrow, 1).await, ["typing 1 of you"]);
    peer.publish("lobby", 1).await;
    assert_eq!(told(&mut narrow, 1).await, ["a1"]);
    peer.say(r#"news {"data":[1]}"#).await;
    let Some(Ok(Notice::Emission(emission))) = notices.next().await else {
        panic!("it should come first");
    };
    assert_eq!(
        (emission.event.as_str(), emission.data),
        ("news", Json::from("[1]"))
    );
    assert_eq!(room.position(), Some(Position::new("a", 1)));
    let large = "x".repeat(60_000);
    let taken = (0..1000)
        .take_while(|_| room.emit("typing", &large).is_ok())
        .count();
    assert!((17..20).contains(&taken), "{taken} were taken");
    assert_eq!(room.emit("typing", &true), Err(EmitError::Busy));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_should_not_say_is_told_and_survived() {
    let (_server, connection, _room, mut events, mut peer) = member(0).await;
    let mut notices = connection.notices(100);
    for (text, wanted) in [
        ("msg", Violation::Data),
        ("msg {", Violation::Data),
        (r#"gap {"room":"lobby","from":-1,"to":2}"#, Violation::Data),
        (
            r#"msg {"room":"other","offset":1,"msg":1}"#,
            Violation::Unasked,
        ),
        (r#"ack {"id":5,"room":"lobby"}"#, Violation::Unasked),
        (r#"left {"room":"lobby"}"#, Violation::Unasked),
        (
            r#"joined {"id":1,"room":"lobby","position":{"epoch":"a","offset":0}}"#,
            Violation::Unasked,
        ),
        ("hello {}", Violation::Greeting),
    ] {
        peer.say(text).await;
        let Some(Ok(Notice::Violation { kind, text: told })) = notices.next().await else {
            panic!("{text} should be told");
        };
        assert_eq!((kind, &*told), (wanted, text));
    }
    // What nobody can match is told, and disturbs no request.
    peer.say(r#"error {"event":"msg","code":"bad_message","message":"what?"}"#)
        .await;
    assert!(matches!(notices.next().await, Some(Ok(Notice::Refused(_)))));
    peer.publish("lobby", 1).await;
    assert_eq!(told(&mut events, 1).await, ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_history_is_read_in_parts_and_what_is_missing_is_told() {
    let (mut server, _connection, room, _events, mut peer) = member(0).await;
    let since = || Start::Since(Position::new("0", 0));
    let part = |id: u64, rest: &str| {
        let publications = r#"[{"room":"lobby","offset":8,"from":"you","at":1,"msg":"hi"}]"#;
        let position = r#""position":{"epoch":"a","offset":8}"#;
        let publications = format!(r#""publications":{publications}"#);
        format!(r#"history {{"id":{id},"room":"lobby",{position},{publications},{rest}}}"#)
    };
    let talking = async {
        let question = r#"{"id":2,"room":"lobby","since":{"epoch":"0","offset":0},"limit":1}"#;
        peer.expect(&format!("history {question}")).await;
        peer.say(&part(2, r#""recovered":false,"first":8,"more":true"#))
            .await;
        peer.expect(r#"history {"id":3,"room":"lobby","last":1}"#)
            .await;
        drop(peer);
        // It is asked again, behind the rooms.
        let mut peer = server.greet().await;
        peer.expect(r#"join {"id":1,"room":"lobby","since":{"epoch":"a","offset":0}}"#)
            .await;
        peer.expect(r#"history {"id":2,"room":"lobby","last":1}"#)
            .await;
        peer.say(&part(2, r#""first":8"#)).await;
        peer.expect(r#"history {"id":3,"room":"lobby"}"#).await;
        peer.say(r#"history {"id":3,"room":"lobby","position":null,"publications":[]}"#)
            .await;
    };
    let reading = async {
        let first = room.history(since(), Some(1)).await.unwrap();
        assert_eq!((first.recovered, first.has_more), (Some(false), true));
        assert_eq!(first.position, Some(Position::new("a", 8)));
        let publication = &first.publications[0];
        assert_eq!(publication.from.as_deref(), Some("you"));
        assert_eq!(publication.data.decode::<String>().unwrap(), "hi");
        assert_eq!(publication.gap.as_ref().unwrap().reason, GapReason::Epoch);
        let last = room.history(Start::Last(1), None).await.unwrap();
        assert_eq!(
            (last.recovered, last.publications[0].gap.clone()),
            (None, None)
        );
        assert_eq!(room.history(Start::Now, None).await.unwrap().position, None);
    };
    tokio::join!(talking, reading);
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded_put_off_and_refused() {
    let (_server, connection, room, _events, mut peer) = member(0).await;
    let ask = || {
        let room = room.clone();
        tokio::spawn(async move { room.history(Start::Last(1), None).await })
    };
    let first = ask();
    peer.expect(r#"history {"id":2,"room":"lobby","last":1}"#)
        .await;
    let others: Vec<_> = (0..128).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    let put_off_at = Instant::now();
    let error = r#""event":"history","code":"overloaded","message":"""#;
    peer.say(&format!(r#"error {{"id":2,{error},"retry_after_ms":1}}"#))
        .await;
    for id in 3..130 {
        peer.expect(&format!(r#"history {{"id":{id},"room":"lobby","last":1}}"#))
            .await;
    }
    // Not before 100 ms, so that a wrong figure does not mean all the time.
    peer.expect(r#"history {"id":130,"room":"lobby","last":1}"#)
        .await;
    assert_eq!(put_off_at.elapsed(), SECOND / 10);
    peer.say(r#"error {"id":130,"event":"history","code":"bad_data","message":""}"#)
        .await;
    assert!(matches!(
        first.await.unwrap(),
        Err(HistoryError::Refused(_))
    ));
    connection.close().await;
    let mut full = 0;
    for other in others {
        match other.await.unwrap() {
            Err(HistoryError::Full { max: 128 }) => full += 1,
            Err(HistoryError::Closed(Closed { code: 1000, .. })) => {}
            other => panic!("{other:?} came"),
        }
    }
    assert_eq!(full, 1);
}
