//! Rooms as an application has them: managers, rooms without a name, everybody.

#![expect(
    clippy::unwrap_used,
    reason = "what a test expects and does not get is its failure"
)]

use std::sync::mpsc::{Receiver, channel};

use throng::{
    Config, Connection, EmitError, FlushMode, Hub, JoinError, Request, Room, RoomManager, Router,
    Server,
};
use throng_testing::{
    Client, TIMEOUT, TestServer, add_signals_to, config, for_each_flush_mode, until,
};

/// State of a connection: the query of its request.
struct Named(String);

type Peer = Connection<Named>;

/// A server on two cores, two managers, a room without a name, everybody; and connections with
/// names.
struct House {
    server: TestServer,
    rooms: RoomManager,
    others: RoomManager,
    room: Room,
    hub: Hub,
    /// The handle of each connection, as they come.
    handles: Receiver<Peer>,
}

impl House {
    fn start(mode: FlushMode) -> Self {
        let config = Config {
            cores: 2,
            ..config(mode)
        };
        Self::start_with(config, |_| {})
    }

    fn start_with(config: Config, set_up: impl FnOnce(&mut Router<Named>)) -> Self {
        let server = Server::bind(config).unwrap();
        let (sender, handles) = channel();
        let name_of = |request: &Request| Named(request.query().unwrap_or_default().to_owned());
        let mut router = Router::with_state(name_of);
        router.on_connect(move |conn: &Peer, _| _ = sender.send(conn.clone()));
        add_signals_to(&mut router);
        set_up(&mut router);
        Self {
            rooms: server.rooms(),
            others: server.room_manager(),
            room: server.room(),
            hub: server.hub(),
            server: TestServer::run(server, router),
            handles,
        }
    }

    /// A client and the server's handle to it.
    fn connect(&self, name: &str) -> (Client, Peer) {
        let client = Client::connect_with(self.server.address(), &format!("/ws?{name}"), &[]);
        let handle = self.handles.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(handle.state().0, name);
        (client, handle)
    }

    /// A client on a core of the other one's, or of its own.
    fn connect_apart(&self, name: &str, from: &Peer, apart: bool) -> (Client, Peer) {
        until(
            || {
                let (client, handle) = self.connect(name);
                ((handle.id().core() != from.id().core()) == apart).then_some((client, handle))
            },
            || "no connection came to that core".to_owned(),
        )
    }
}

/// Waits for an answer of the cores'.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let in_time = runtime.block_on(async { tokio::time::timeout(TIMEOUT, future).await });
    in_time.expect("the cores should have answered")
}

fn names(connections: Vec<Peer>) -> Vec<String> {
    let names = connections.iter().map(|conn| conn.state().0.clone());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn managers_do_not_see_each_others_rooms() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        let (mut bob, b) = house.connect("bob");
        house.rooms.join(&a, "tea").unwrap();
        house.others.join(&b, "tea").unwrap();
        house.room.join(&b).unwrap();
        assert_eq!(house.rooms.emit("tea", "said", "here").unwrap(), 1);
        assert_eq!(house.others.emit("tea", "said", "there").unwrap(), 1);
        assert_eq!(house.room.emit("said", "nowhere").unwrap(), 1);
        alice.expect("said \"here\"");
        bob.expect("said \"there\"");
        bob.expect("said \"nowhere\"");
        alice.expect_nothing();
        bob.expect_nothing();

        house.rooms.leave_all(&b).unwrap();
        house.others.leave_all(&a).unwrap();
        bob.sync();
        alice.sync();
        let counts = || {
            [
                house.rooms.member_count("tea"),
                house.others.member_count("tea"),
                house.room.member_count(),
            ]
        };
        assert_eq!(counts(), [1, 1, 1], "each manager is left by itself");
        house.others.leave_all(&b).unwrap();
        bob.sync();
        assert_eq!(counts(), [1, 0, 1]);
        drop((alice, bob));
        house.server.wait_until_empty();
    });
}

#[test]
fn rooms_that_begin_and_end_are_told_to_their_manager_alone() {
    let house = House::start(FlushMode::Auto);
    let (sender, told) = channel();
    for (whose, manager) in [("default", &house.rooms), ("other", &house.others)] {
        let created = sender.clone();
        manager.on_created(move |name| _ = created.send(format!("{whose} {name} created")));
        let removed = sender.clone();
        manager.on_removed(move |name| _ = removed.send(format!("{whose} {name} removed")));
    }
    let (mut alice, a) = house.connect("alice");
    let next = || told.recv_timeout(TIMEOUT).unwrap();
    house.others.join(&a, "tea").unwrap();
    assert_eq!(next(), "other tea created");
    house.room.join(&a).unwrap();
    house.rooms.join(&a, "tea").unwrap();
    assert_eq!(next(), "default tea created");
    house.rooms.destroy("tea").unwrap();
    assert_eq!(next(), "default tea removed");
    alice.sync();
    drop(alice);
    assert_eq!(next(), "other tea removed");
}

#[test]
fn everybody_but_one_is_sent_an_event_in_its_place() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        let (mut near, b) = house.connect_apart("near", &a, false);
        let (mut far, c) = house.connect_apart("far", &a, true);
        for member in [&a, &b, &c] {
            house.rooms.join(member, "tea").unwrap();
        }
        for number in 0..100 {
            if number % 3 == 0 {
                let reached = house.rooms.emit_except(&a, "tea", "said", &number).unwrap();
                assert_eq!(reached, 3, "she counts");
            } else {
                house.rooms.emit("tea", "said", &number).unwrap();
            }
        }
        for number in 0..100 {
            let text = format!("said {number}");
            near.expect(&text);
            far.expect(&text);
            if number % 3 != 0 {
                alice.expect(&text);
            }
        }
        alice.expect_nothing();
    });
}

#[test]
fn the_members_of_a_room_are_named_with_their_state() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (_alice, a) = house.connect("alice");
        let (_near, b) = house.connect_apart("near", &a, false);
        let (mut far, c) = house.connect_apart("far", &a, true);
        for member in [&a, &b, &c] {
            house.others.join(member, "tea").unwrap();
        }
        house.rooms.join(&c, "tea").unwrap();
        house.others.join(&c, "milk").unwrap();
        let members = |room| names(wait(house.others.members(room)).unwrap());
        assert_eq!(members("tea"), ["alice", "far", "near"]);
        assert_eq!(members("milk"), ["far"]);
        assert_eq!(members("rum"), [""; 0]);
        let rooms = |conn| {
            let mut rooms = wait(house.others.rooms_of(conn)).unwrap();
            rooms.sort();
            rooms
        };
        assert_eq!(rooms(&c), ["milk".into(), "tea".into()]);
        // A handle from there works as any other.
        for member in wait(house.others.members::<Named>("milk")).unwrap() {
            member.emit("you", &member.state().0).unwrap();
        }
        far.expect("you \"far\"");
        far.close();
        house.server.wait_for_metric("throng_connections", 2);
        assert_eq!(members("tea"), ["alice", "near"]);
        assert_eq!(rooms(&c), [], "it is gone");
    });
}

#[test]
#[should_panic = "keeps something else"]
fn members_with_a_state_of_another_type_are_a_mistake_that_is_named() {
    let house = House::start(FlushMode::Auto);
    let (_alice, a) = house.connect("alice");
    house.rooms.join(&a, "tea").unwrap();
    _ = wait(house.rooms.members::<String>("tea"));
}

#[test]
fn who_asks_from_a_handler_is_answered_too() {
    let server = Server::bind(config(FlushMode::Auto)).unwrap();
    let (rooms, hub) = (server.rooms(), server.hub());
    let mut router = Router::new();
    add_signals_to(&mut router);
    router.on("count", move |conn: Connection| {
        let (rooms, hub) = (rooms.clone(), hub.clone());
        async move {
            rooms.join(&conn, "tea").unwrap();
            let members = rooms.members::<()>("tea").await.unwrap().len();
            let all = hub.connections::<()>().await.unwrap().len();
            let own = rooms.rooms_of(&conn).await.unwrap();
            conn.emit("count", &(members, all, own.concat()))
        }
    });
    let server = TestServer::run(server, router);
    let (mut alice, mut bob) = (server.connect(), server.connect());
    bob.sync();
    alice.send("count");
    alice.expect(r#"count [1,2,"tea"]"#);
    bob.send("count");
    bob.expect(r#"count [2,2,"tea"]"#);
}

#[test]
fn a_room_that_is_destroyed_is_left_by_everybody_and_can_be_joined_again() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        let (mut far, b) = house.connect_apart("far", &a, true);
        for member in [&a, &b] {
            house.rooms.join(member, "tea").unwrap();
            house.rooms.join(member, "milk").unwrap();
        }
        house.rooms.emit("tea", "said", "before").unwrap();
        house.rooms.destroy("tea").unwrap();
        house.rooms.emit("tea", "said", "after").unwrap();
        house.rooms.emit("milk", "said", "elsewhere").unwrap();
        for client in [&mut alice, &mut far] {
            client.expect("said \"before\"");
            client.expect("said \"elsewhere\"");
            client.expect_nothing();
        }
        assert_eq!(house.rooms.member_count("tea"), 0);
        house.rooms.join(&a, "tea").unwrap();
        house.rooms.emit("tea", "said", "again").unwrap();
        alice.expect("said \"again\"");
    });
}

#[test]
fn a_manager_that_is_stopped_has_no_rooms_any_more() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        for room in ["tea", "milk"] {
            house.others.join(&a, room).unwrap();
        }
        house.rooms.join(&a, "tea").unwrap();
        let clone = house.others.clone();
        house.others.stop();
        alice.sync();
        assert_eq!(clone.member_count("tea") + clone.member_count("milk"), 0);
        assert_eq!(clone.join(&a, "tea"), Err(JoinError::Stopped));
        house.rooms.emit("tea", "said", "here").unwrap();
        alice.expect("said \"here\"");
        house.room.join(&a).unwrap();
        house.room.stop();
        assert_eq!(house.room.join(&a), Err(JoinError::Stopped));
        alice.sync();
        assert_eq!(house.room.member_count(), 0);
    });
}

#[test]
fn the_default_manager_that_is_stopped_refuses_requests_of_throng_v1_too() {
    let house = House::start_with(config(FlushMode::Auto), |router| {
        router.serve_throng_v1();
    });
    let mut alice = throng_testing::Throng::connect(&house.server);
    alice.join("tea");
    house.rooms.stop();
    let join = serde_json::json!({"id": 1, "room": "tea"});
    assert_eq!(alice.ask("join", join, "error")["code"], "stopped");
    assert_eq!(house.rooms.member_count("tea"), 0);
}

#[test]
fn a_connection_is_closed_with_its_last_room_if_that_was_asked_for() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        let (mut bob, b) = house.connect("bob");
        let (mut carol, c) = house.connect("carol");
        for handle in [&a, &b, &c] {
            house.rooms.close_with_last_room(handle, true).unwrap();
            house.rooms.join(handle, "tea").unwrap();
            house.others.join(handle, "milk").unwrap();
        }
        house.rooms.close_with_last_room(&c, false).unwrap();
        house.rooms.join(&a, "rum").unwrap();
        house.others.leave_all(&a).unwrap();
        house.rooms.leave(&a, "tea").unwrap();
        alice.sync();
        house.rooms.emit("rum", "said", "bye").unwrap();
        house.rooms.leave(&a, "rum").unwrap();
        alice.expect("said \"bye\"");
        assert_eq!(alice.expect_close(1000), "left the last room");
        house.rooms.destroy("tea").unwrap();
        bob.expect_close(1000);
        carol.sync();
        assert_eq!(house.others.member_count("milk"), 1);
    });
}

#[test]
fn everybody_is_told_what_is_broadcast_in_its_place() {
    for_each_flush_mode(|mode| {
        let house = House::start(mode);
        let (mut alice, a) = house.connect("alice");
        let (mut far, b) = house.connect_apart("far", &a, true);
        house.rooms.join(&a, "tea").unwrap();
        house.rooms.join(&b, "tea").unwrap();
        let (mut loner, _) = house.connect("loner");
        for number in 0..20 {
            house.rooms.emit("tea", "said", &number).unwrap();
            house.hub.broadcast("news", &number).unwrap();
        }
        for number in 0..20 {
            for client in [&mut alice, &mut far] {
                client.expect(&format!("said {number}"));
                client.expect(&format!("news {number}"));
            }
            loner.expect(&format!("news {number}"));
        }
        until(
            || (house.hub.connection_count() >= 3).then_some(()),
            || "the connections are not counted".to_owned(),
        );
        let all = names(wait(house.hub.connections()).unwrap());
        for name in ["alice", "far", "loner"] {
            assert!(all.iter().any(|found| found == name), "{all:?}");
        }
    });
}

#[test]
fn the_names_of_throng_v1s_own_events_are_refused_where_it_is_spoken() {
    let house = House::start_with(config(FlushMode::Auto), |router| {
        router.serve_throng_v1();
    });
    let (mut alice, a) = house.connect("alice");
    house.rooms.join(&a, "tea").unwrap();
    for event in ["msg", "ack", "throng_new"] {
        let refused = |result| assert!(matches!(result, Err(EmitError::Reserved)), "{event}");
        refused(house.rooms.emit("tea", event, "x").map(drop));
        refused(house.room.emit(event, "x").map(drop));
        refused(house.hub.broadcast(event, "x"));
    }
    a.emit("msg", "golem has no such names").unwrap();
    alice.expect("msg \"golem has no such names\"");
}

#[test]
fn what_is_of_no_room_has_data_and_no_room_on_throng_v1() {
    let server = Server::bind(config(FlushMode::Auto)).unwrap();
    let hub = server.hub();
    let mut router = Router::new();
    router.serve_throng_v1();
    router.on("hello_server", move |conn: &Connection| {
        conn.emit("hello_you", "friend")?;
        hub.broadcast("news", &1)
    });
    let server = TestServer::run(server, router);
    let mut golem = server.connect();
    let mut alice = throng_testing::Throng::connect(&server);
    alice.client.send("hello_server");
    alice.client.expect(r#"hello_you {"data":"friend"}"#);
    alice.client.expect(r#"news {"data":1}"#);
    golem.expect("news 1");
    golem.send("hello_server");
    golem.expect("hello_you \"friend\"");
    golem.expect("news 1");
}
