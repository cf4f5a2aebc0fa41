//! Rooms over loopback: who hears what, in which order, and what handles and hooks do.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use proto::OpCode;
use throng::{CloseCode, Config, Connection, ConnectionId, EmitError};
use throng_testing::{
    Client, Raw, TIMEOUT, TestServer, close, config, for_each_flush_mode, opcode, seed, text, until,
};

fn two_cores(flush: throng::FlushMode) -> Config {
    Config {
        cores: 2,
        ..config(flush)
    }
}

mod chat {
    use super::*;

    #[test]
    fn members_hear_each_other_and_themselves_and_others_hear_nothing() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let (mut alice, mut bob, mut carol) =
                (server.connect(), server.connect(), server.connect());
            alice.join("tea");
            bob.join("tea");
            carol.join("coffee");

            alice.say("tea", "hi");
            alice.expect("msg \"hi\"");
            bob.expect("msg \"hi\"");
            carol.expect_nothing();

            // Who is no member may publish all the same, and hears nothing of it.
            carol.say("tea", "may I");
            alice.expect("msg \"may I\"");
            bob.expect("msg \"may I\"");
            carol.expect_nothing();
        });
    }

    #[test]
    fn who_left_hears_nothing_more() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let (mut alice, mut bob) = (server.connect(), server.connect());
            alice.join("tea");
            bob.join("tea");
            bob.leave("tea");
            alice.say("tea", "gone?");
            alice.expect("msg \"gone?\"");
            bob.expect_nothing();
        });
    }

    #[test]
    fn any_json_is_passed_on_as_it_is() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect();
            alice.join("te\"a");
            alice.send(r#"msg {"msg":{"z":[1,-2,0.5,null,true],"a":"ä\n"},"to":"te\"a"}"#);
            alice.expect(r#"msg {"z":[1,-2,0.5,null,true],"a":"ä\n"}"#);
        });
    }

    #[test]
    fn what_is_no_event_is_answered_and_the_connection_goes_on() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect();
            alice.send("");
            alice.expect_error("bad_message");
            alice.send(" {}");
            alice.expect_error("bad_message");
            alice.send("dance {}");
            assert_eq!(alice.expect_error("unknown_event")["event"], "dance");
            alice.send("join {");
            assert_eq!(alice.expect_error("bad_data")["event"], "join");
            alice.send("join");
            alice.expect_error("bad_data");
            alice.send("join [\"tea\"]");
            alice.expect_error("bad_data");
            alice.send_message(b"join {}".as_slice().into());
            alice.expect_error("binary");

            alice.join("tea");
            alice.say("tea", "still here");
            alice.expect("msg \"still here\"");
        });
    }

    #[test]
    fn joining_twice_is_joining_once_and_so_is_leaving() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect();
            alice.join("tea");
            alice.join("tea");
            alice.say("tea", "once");
            alice.expect("msg \"once\"");
            alice.expect_nothing();
            assert_eq!(server.rooms.member_count("tea"), 1);

            alice.leave("tea");
            alice.say("tea", "to nobody");
            alice.expect_nothing();
            assert_eq!(server.metric("throng_rooms"), 0, "one leave is enough");

            alice.leave("tea");
            alice.leave("never joined");
            alice.join("tea");
            alice.say("tea", "again");
            alice.expect("msg \"again\"");
        });
    }

    #[test]
    fn a_room_without_members_is_gone() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(two_cores(mode));
            let (mut alice, mut bob) = (server.connect_on(0), server.connect_on(1));
            alice.join("tea");
            bob.join("tea");
            assert_eq!(server.metric("throng_rooms"), 1);
            alice.leave("tea");
            assert_eq!(server.metric("throng_rooms"), 1);
            // The last one goes without leaving.
            drop(bob);
            server.wait_for_metric("throng_rooms", 0);
            drop(alice);
            server.wait_until_empty();
        });
    }
}

mod order {
    use super::*;

    #[test]
    fn a_message_behind_the_join_and_one_before_the_leave_are_heard() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect_raw_websocket();
            let join = text(r#"join {"name":"tea"}"#);
            let say = |word: &str| text(&format!(r#"msg {{"to":"tea","msg":"{word}"}}"#));
            let leave = text(r#"leave {"name":"tea"}"#);

            alice.send(&[&join[..], &say("first")].concat());
            alice.expect("msg \"first\"");
            alice.send(&[&say("last")[..], &leave, &say("late")].concat());
            alice.expect("msg \"last\"");
            alice.send(&[&join[..], &say("again"), &leave, &join, &say("and again")].concat());
            alice.expect("msg \"again\"");
            alice.expect("msg \"and again\"");
            alice.sync();
        });
    }

    #[test]
    fn who_publishes_and_says_goodbye_in_one_write_hears_itself_first() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(two_cores(mode));
            let mut alice = server.connect_raw_websocket();
            let mut bob = server.connect();
            bob.join("tea");
            let goodbye = [
                text(r#"join {"name":"tea"}"#),
                text(r#"msg {"to":"tea","msg":"bye"}"#),
                text("dance"),
                close(1000),
                text(r#"msg {"to":"tea","msg":"from beyond"}"#),
            ];
            alice.send(&goodbye.concat());
            alice.expect("msg \"bye\"");
            let (_, error) = alice.receive();
            assert!(error.starts_with(b"error "));
            alice.expect_close(1000);
            alice.expect_end();
            bob.expect("msg \"bye\"");
            bob.expect_nothing();
        });
    }

    #[test]
    fn who_publishes_and_hangs_up_in_one_write_is_heard() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(two_cores(mode));
            let mut bob = server.connect();
            bob.join("tea");
            for _ in 0..50 {
                let mut alice = server.connect_raw_websocket();
                alice.send_text(r#"msg {"to":"tea","msg":"bye"}"#);
                drop(alice);
                bob.expect("msg \"bye\"");
            }
        });
    }

    #[test]
    fn two_hundred_messages_in_one_write_arrive_in_order() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect_raw_websocket();
            let mut bob = server.connect();
            bob.join("tea");
            let bytes: Vec<u8> = (0..200)
                .flat_map(|number| text(&format!(r#"msg {{"to":"tea","msg":{number}}}"#)))
                .collect();
            alice.send(&bytes);
            for number in 0..200 {
                bob.expect(&format!("msg {number}"));
            }
        });
    }

    #[test]
    fn messages_that_come_with_the_handshake_are_taken_in() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect_raw();
            let messages = [
                text(r#"join {"name":"tea"}"#),
                opcode(OpCode::Ping, b"early"),
                text(r#"msg {"to":"tea","msg":"early bird"}"#),
            ]
            .concat();
            // The last frame is cut: its rest comes when the socket is the loop's already.
            let (with_handshake, later) = messages.split_at(messages.len() - 7);
            alice.open_and_send(with_handshake);
            assert_eq!(alice.receive(), (OpCode::Pong, b"early".to_vec()));
            alice.send(later);
            alice.expect("msg \"early bird\"");
        });
    }

    #[test]
    fn more_than_a_buffer_of_messages_with_the_handshake_is_taken_in() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(config(mode));
            let mut alice = server.connect_raw();
            let mut messages = text(r#"join {"name":"tea"}"#);
            let long = "x".repeat(1000);
            for _ in 0..200 {
                messages.extend(text(&format!(r#"msg {{"to":"tea","msg":"{long}"}}"#)));
            }
            alice.open_and_send(&messages);
            for _ in 0..200 {
                alice.expect(&format!("msg \"{long}\""));
            }
        });
    }

    /// Every member of a room on two cores hears everything, and all in one order, which is also
    /// the order of each publisher.
    #[test]
    fn all_members_on_all_cores_hear_the_same_order() {
        const EACH: usize = 250;
        for_each_flush_mode(|mode| {
            let server = TestServer::start(two_cores(mode));
            let members: Vec<Client> = [0, 0, 0, 1, 1, 1]
                .map(|core| {
                    let mut member = server.connect_on(core);
                    member.join("tea");
                    member
                })
                .into();
            // Two on each core are members too, and one publishes from outside.
            let publishers: Vec<Client> =
                [0, 0, 1, 1, 1].map(|core| server.connect_on(core)).into();
            let publishers: Vec<_> = publishers
                .into_iter()
                .enumerate()
                .map(|(name, mut publisher)| {
                    thread::spawn(move || {
                        for number in 0..EACH {
                            publisher.say("tea", &format!("{name} {number}"));
                        }
                        publisher.sync();
                    })
                })
                .collect();
            let total = EACH * publishers.len();
            let listeners: Vec<_> = members
                .into_iter()
                .map(|mut member| {
                    thread::spawn(move || -> Vec<String> {
                        (0..total).map(|_| member.receive()).collect()
                    })
                })
                .collect();
            for publisher in publishers {
                publisher.join().unwrap();
            }
            let heard: Vec<_> = listeners.into_iter().map(|l| l.join().unwrap()).collect();
            check_each_publishers_order(&heard[0], EACH);
            for other in &heard[1..] {
                assert_eq!(*other, heard[0], "two members heard different orders");
            }
        });
    }

    /// Checks that each publisher's numbers are all there, and rise.
    fn check_each_publishers_order(heard: &[String], each: usize) {
        let mut next: HashMap<&str, usize> = HashMap::new();
        for message in heard {
            let (name, number) = message
                .trim_start_matches("msg \"")
                .trim_end_matches('"')
                .split_once(' ')
                .unwrap();
            let next = next.entry(name).or_default();
            assert_eq!(number.parse::<usize>().unwrap(), *next, "publisher {name}");
            *next += 1;
        }
        assert!(next.values().all(|count| *count == each), "{next:?}");
    }
}

mod handles {
    use super::*;

    /// The handles of all connections, as they come.
    type Handles = Arc<Mutex<Vec<Connection>>>;

    fn start_with_handles(config: Config) -> (TestServer, Handles) {
        let handles = Handles::default();
        let seen = handles.clone();
        let server = TestServer::start_with(config, move |router, _| {
            router.on_connect(move |conn, _| seen.lock().push(conn.clone()));
        });
        (server, handles)
    }

    /// The handle of a client that has just come.
    fn newest(client: &mut Client, handles: &Handles) -> Connection {
        client.sync();
        handles.lock().last().unwrap().clone()
    }

    #[test]
    fn a_handle_works_from_another_thread() {
        for_each_flush_mode(|mode| {
            let (server, handles) = start_with_handles(config(mode));
            let mut alice = server.connect();
            let handle = newest(&mut alice, &handles);

            server.rooms.join(&handle, "tea").unwrap();
            server.rooms.emit("tea", "said", "from outside").unwrap();
            handle.emit("greeting", &[1, 2]).unwrap();
            handle.send_text("no event").unwrap();
            handle.send_binary(b"\0\xff").unwrap();
            alice.expect("said \"from outside\"");
            alice.expect("greeting [1,2]");
            alice.expect("no event");
            alice.expect_binary(b"\0\xff");

            server.rooms.leave_all(&handle).unwrap();
            server.rooms.emit("tea", "said", "to nobody").unwrap();
            handle.close(CloseCode(4001), "no place for you").unwrap();
            handle.send_text("too late").unwrap();
            assert_eq!(alice.expect_close(4001), "no place for you");
        });
    }

    #[test]
    fn a_stale_handle_reaches_nobody() {
        for_each_flush_mode(|mode| {
            let (server, handles) = start_with_handles(config(mode));
            let mut alice = server.connect();
            let stale = newest(&mut alice, &handles);
            alice.close();
            server.wait_until_empty();

            // The next one has the same slot, which is the point of the test.
            let mut bob = server.connect();
            let fresh = newest(&mut bob, &handles);
            assert_eq!(fresh.id().slot(), stale.id().slot());
            assert_ne!(fresh.id(), stale.id());

            stale.emit("greeting", "to alice").unwrap();
            stale.send_text("to alice").unwrap();
            server.rooms.join(&stale, "tea").unwrap();
            server.rooms.leave_all(&stale).unwrap();
            server.rooms.emit("tea", "said", "to alice").unwrap();
            stale.close(CloseCode(4001), "to alice").unwrap();
            bob.expect_nothing();
            server.wait_for_metric("throng_rooms", 0);
            assert_eq!(server.metric("throng_connections"), 1);
        });
    }

    #[test]
    fn rooms_are_published_to_from_foreign_threads_while_members_come_and_go() {
        const EACH: usize = 300;
        for_each_flush_mode(|mode| {
            let server = TestServer::start(two_cores(mode));
            let mut steady = [server.connect_on(0), server.connect_on(1)];
            for member in &mut steady {
                member.join("feed");
            }
            let done = Arc::new(AtomicBool::new(false));
            let passers_by: Vec<_> = (0..2)
                .map(|_| {
                    let (address, done) = (server.address(), done.clone());
                    thread::spawn(move || come_and_go(address, &done))
                })
                .collect();
            let feeds: Vec<_> = (0..4)
                .map(|name| {
                    let rooms = server.rooms.clone();
                    thread::spawn(move || {
                        for number in 0..EACH {
                            let data = (name, number);
                            while let Err(error) = rooms.emit("feed", "tick", &data) {
                                // The bound of the mailbox is not reached by this little.
                                assert!(matches!(error, EmitError::Overloaded(_)), "{error}");
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            let orders = steady.map(|mut member| {
                thread::spawn(move || -> Vec<String> {
                    (0..4 * EACH).map(|_| member.receive()).collect()
                })
            });
            for feed in feeds {
                feed.join().unwrap();
            }
            let [first, second] = orders.map(|order| order.join().unwrap());
            done.store(true, Ordering::Relaxed);
            for passer_by in passers_by {
                passer_by.join().unwrap();
            }
            assert_eq!(first, second);
            check_rising(&first, true);
        });
    }

    /// Joins, listens a while, leaves or hangs up, and checks what it heard.
    fn come_and_go(address: std::net::SocketAddr, done: &AtomicBool) {
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            let mut client = Client::connect(address);
            for _ in 0..3 {
                client.join("feed");
                client.leave("feed");
                let heard = client.take_inbox();
                check_rising(&heard, false);
            }
            rounds += 1;
            if rounds % 2 == 0 {
                client.join("feed");
            }
        }
    }

    /// Checks that each feed's numbers rise by one, from zero if all was heard.
    fn check_rising(heard: &[String], all: bool) {
        let mut last: HashMap<u64, u64> = HashMap::new();
        for event in heard {
            let data = event.strip_prefix("tick ").unwrap();
            let (name, number): (u64, u64) = serde_json::from_str(data).unwrap();
            match last.insert(name, number) {
                None => assert!(!all || number == 0, "feed {name} began with {number}"),
                Some(last) => assert_eq!(number, last + 1, "feed {name}"),
            }
        }
    }
}

mod hooks {
    use super::*;

    #[test]
    fn rooms_are_created_and_removed_in_turns() {
        let seed = seed();
        for_each_flush_mode(|mode| {
            let lives: Arc<Mutex<HashMap<String, Vec<&str>>>> = Arc::default();
            let (created, removed) = (lives.clone(), lives.clone());
            let server = TestServer::start_with(two_cores(mode), |_, rooms| {
                rooms.on_created(move |name| {
                    created.lock().entry(name.into()).or_default().push("+");
                });
                rooms.on_removed(move |name| {
                    removed.lock().entry(name.into()).or_default().push("-");
                });
            });
            let guests: Vec<_> = (0..4)
                .map(|guest| {
                    let address = server.address();
                    let random = fastrand::Rng::with_seed(seed.wrapping_add(guest));
                    thread::spawn(move || wander(address, random))
                })
                .collect();
            for guest in guests {
                guest.join().unwrap();
            }
            server.wait_until_empty();
            until(
                || {
                    let lives = lives.lock();
                    let ended = lives.values().all(|life| life.last() == Some(&"-"));
                    ended.then_some(())
                },
                || format!("not all rooms were removed: {:?}", lives.lock()),
            );
            let lives = lives.lock();
            for (name, life) in lives.iter() {
                let in_turns = life.chunks(2).all(|pair| pair == ["+", "-"]);
                assert!(in_turns, "room {name}: {life:?}");
            }
            let births: usize = lives.values().map(|life| life.len() / 2).sum();
            assert_eq!(births as u64, server.metric("throng_rooms_created_total"));
        });
    }

    /// Joins and leaves a few rooms in any order, on a few connections that end in any way.
    fn wander(address: std::net::SocketAddr, mut random: fastrand::Rng) {
        for _ in 0..12 {
            let mut raw = Raw::connect_websocket(address);
            for _ in 0..random.usize(..12) {
                let event = random.choice(["join", "leave"]).unwrap();
                let room = random.usize(..3);
                raw.send_text(&format!(r#"{event} {{"name":"{room}"}}"#));
            }
            match random.usize(..4) {
                0 => raw.sync(),
                1 => raw.reset(),
                2 => raw.send(&close(1000)),
                _ => {}
            }
        }
    }

    #[test]
    fn the_hook_for_connections_is_given_the_request() {
        let (sender, requests) = std::sync::mpsc::channel();
        let server = TestServer::start_with(config(throng::FlushMode::Auto), |router, _| {
            router.on_connect(move |conn, request| {
                let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
                _ = sender.send((conn.id(), request.uri().to_string(), agent));
                _ = conn.emit("welcome", request.uri().query().unwrap_or(""));
            });
        });
        let headers = [("user-agent", "a test")];
        let mut alice =
            Client::connect_with(server.address(), "/ws?token=abc&name=%C3%A4", &headers);
        alice.expect("welcome \"token=abc&name=%C3%A4\"");
        let (_, uri, agent) = requests.recv_timeout(TIMEOUT).unwrap();
        assert!(uri.ends_with("/ws?token=abc&name=%C3%A4"), "{uri}");
        assert_eq!(agent, "a test");
    }

    #[test]
    fn what_the_hook_for_connections_sends_comes_before_the_answers_to_early_messages() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start_with(config(mode), |router, rooms| {
                let rooms = rooms.clone();
                router.on_connect(move |conn, _| {
                    rooms.join(conn, "lobby").unwrap();
                    rooms.emit("lobby", "said", "welcome").unwrap();
                });
            });
            let mut alice = server.connect_raw();
            alice.open_and_send(&text("sync 1"));
            alice.expect("said \"welcome\"");
            alice.expect("synced 1");
        });
    }

    /// Whatever of the application panics, one connection ends by it at most.
    #[test]
    fn a_handler_that_panics_ends_its_connection_and_nobody_elses() {
        for_each_flush_mode(|mode| {
            let ends = Arc::<Mutex<Vec<u16>>>::default();
            let noted = ends.clone();
            let server = TestServer::start_with(config(mode), |router, rooms| {
                router.on("panic", |_: &Connection| -> () { panic!("in a handler") });
                router.on_connect(|_, request| {
                    assert!(
                        request.uri().query().is_none(),
                        "in the hook for connections"
                    );
                });
                router.on_close(move |_, disconnect| {
                    noted.lock().push(disconnect.code.0);
                    panic!("in the hook for ends");
                });
                rooms.on_created(|_| panic!("in a hook for rooms"));
                rooms.on_removed(|_| panic!("in a hook for rooms"));
            });
            let mut bystander = server.connect();
            bystander.join("tea");
            let mut culprit = server.connect();
            culprit.join("coffee");
            culprit.send("panic");
            culprit.send("sync 1");
            assert_eq!(culprit.expect_close(1011), "internal error");
            drop(culprit);
            let mut unwelcome = Client::connect_with(server.address(), "/ws?unwelcome", &[]);
            unwelcome.expect_close(1011);
            drop(unwelcome);
            server.wait_for_metric("throng_connections", 1);
            server.wait_for_metric("throng_rooms", 1);

            server.rooms.emit("tea", "said", "still here").unwrap();
            bystander.expect("said \"still here\"");
            assert_eq!(*ends.lock(), [1011, 1011]);
            let counter = r#"throng_connections_closed_total{reason="panicked"}"#;
            assert_eq!(server.metric(counter), 2);
            drop(bystander);
            server.drain().unwrap();
        });
    }

    /// Which connections ended, with which codes.
    type Ends = Arc<Mutex<HashMap<ConnectionId, Vec<u16>>>>;

    struct Ending {
        ends: Ends,
        handles: Arc<Mutex<Vec<Connection>>>,
        server: TestServer,
    }

    impl Ending {
        fn start(config: Config) -> Self {
            let (ends, handles) = (Ends::default(), Arc::<Mutex<Vec<Connection>>>::default());
            let (noted, seen) = (ends.clone(), handles.clone());
            let server = TestServer::start_with(config, |router, rooms| {
                router.on_connect(move |conn, _| seen.lock().push(conn.clone()));
                let rooms = rooms.clone();
                router.on_close(move |conn, disconnect| {
                    noted
                        .lock()
                        .entry(conn.id())
                        .or_default()
                        .push(disconnect.code.0);
                    // Whatever is done with it now goes nowhere, and harms nobody.
                    _ = conn.emit("late", &1);
                    conn.close(CloseCode(4000), "twice").unwrap();
                    rooms.join(conn, "afterlife").unwrap();
                });
            });
            Self {
                server,
                ends,
                handles,
            }
        }

        /// Waits until this many connections have ended, then checks that each did so once.
        fn expect(&self, codes: &[u16]) {
            let seen = || {
                let mut seen: Vec<u16> = self.ends.lock().values().flatten().copied().collect();
                seen.sort_unstable();
                seen
            };
            until(
                || (seen().len() >= codes.len()).then_some(()),
                || format!("{:?} and not {codes:?}", seen()),
            );
            self.server.wait_until_empty();
            assert_eq!(seen(), codes);
            assert!(self.ends.lock().values().all(|codes| codes.len() == 1));
            assert_eq!(self.ends.lock().len(), self.handles.lock().len());
            let counted = self.server.metric_sum("throng_connections_closed_total");
            assert_eq!(counted, codes.len() as u64, "each end has one reason");
        }
    }

    #[test]
    fn the_hook_for_ends_is_called_once_for_every_way_to_end() {
        for_each_flush_mode(|mode| {
            let mut config = config(mode);
            config.limits.outbox_bytes_max = 4096;
            let ending = Ending::start(config);
            let server = &ending.server;

            // The peer says goodbye, hangs up, or crashes.
            server.connect().close();
            let mut codes = vec![1005];
            ending.expect(&codes);
            let mut raw = server.connect_raw_websocket();
            raw.send(&close(4321));
            raw.expect_close(4321);
            drop(raw);
            codes.push(4321);
            ending.expect(&codes);
            drop(server.connect_raw_websocket());
            codes.insert(1, 1006);
            ending.expect(&codes);
            server.connect_raw_websocket().reset();
            codes.insert(1, 1006);
            ending.expect(&codes);

            // It says goodbye and does not wait for the answer.
            let mut raw = server.connect_raw_websocket();
            raw.send(&close(1000));
            raw.reset();
            codes.insert(0, 1000);
            ending.expect(&codes);

            // The application closes it.
            let mut client = server.connect();
            client.sync();
            let handle = ending.handles.lock().last().unwrap().clone();
            handle.close(CloseCode(4001), "enough").unwrap();
            handle.close(CloseCode(4002), "not heard").unwrap();
            client.expect_close(4001);
            drop(client);
            codes.insert(4, 4001);
            ending.expect(&codes);

            // It breaks the rules.
            let mut raw = server.connect_raw_websocket();
            raw.send(b"\xff\xff\xff\xff");
            raw.expect_close(1002);
            drop(raw);
            codes.insert(1, 1002);
            ending.expect(&codes);

            // It does not read.
            let mut raw = Raw::connect_narrow(server.address()).opened();
            raw.send_text(r#"join {"name":"tea"}"#);
            let long = "x".repeat(4000);
            until(
                || {
                    for _ in 0..50 {
                        _ = server.rooms.emit("tea", "said", &long);
                    }
                    let closed = server.metric("throng_slow_consumers_total");
                    (closed == 1).then_some(())
                },
                || "no slow consumer".to_owned(),
            );
            drop(raw);
            codes.insert(6, 4102);
            ending.expect(&codes);

            // The server stops.
            let client = server.connect();
            let Ending { server, ends, .. } = ending;
            assert_eq!(server.metric("throng_connections"), 1);
            server.stop.drain();
            let drained = until(
                || {
                    let ends = ends.lock();
                    ends.values().flatten().find(|code| **code == 1001).copied()
                },
                || "no hook was called for a drain".to_owned(),
            );
            assert_eq!(drained, 1001);
            drop(client);
            server.drain().unwrap();
            assert!(ends.lock().values().all(|codes| codes.len() == 1));
        });
    }
}
