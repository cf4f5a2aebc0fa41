//! What an application builds on the library: state, handlers that wait, hooks.

#![expect(
    clippy::unwrap_used,
    reason = "what a test expects and does not get is its failure"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use throng::{
    Action, CloseCode, Config, Connection, FlushMode, Refusal, Rejection, Request, Router, Server,
};
use throng_testing::{
    Client, TIMEOUT, TestServer, add_signals_to, config, exchange, for_each_flush_mode,
};
use tokio::sync::{Semaphore, mpsc};

/// Starts a server with an application, which a test can also talk to by `sync` and `core`.
fn start<S: Send + Sync + 'static>(config: Config, mut router: Router<S>) -> TestServer {
    add_signals_to(&mut router);
    TestServer::run(Server::bind(config).unwrap(), router)
}

mod state {
    use super::*;

    #[derive(Debug)]
    struct Visitor {
        name: String,
        pokes: AtomicU32,
        dropped: std::sync::mpsc::Sender<String>,
    }

    impl Drop for Visitor {
        fn drop(&mut self) {
            _ = self.dropped.send(std::mem::take(&mut self.name));
        }
    }

    #[test]
    fn each_connection_has_its_own_for_as_long_as_it_lives() {
        for_each_flush_mode(|mode| {
            let (sender, dropped) = std::sync::mpsc::channel();
            let mut router = Router::with_state(move |request: &Request| Visitor {
                name: request.query().unwrap_or("nobody").to_owned(),
                pokes: AtomicU32::new(0),
                dropped: sender.clone(),
            });
            router.on("poke", |conn: &Connection<Visitor>| {
                let pokes = 1 + conn.state().pokes.fetch_add(1, Ordering::Relaxed);
                conn.emit("poked", &(&conn.state().name, pokes))
            });
            let (sender, closed) = std::sync::mpsc::channel();
            router.on_close(move |conn: &Connection<Visitor>, _| {
                _ = sender.send(conn.state().name.clone());
            });
            let server = start(config(mode), router);
            let mut ada = Client::connect_with(server.address(), "/ws?ada", &[]);
            let mut bob = Client::connect_with(server.address(), "/ws?bob", &[]);
            ada.send("poke");
            ada.send("poke");
            bob.send("poke");
            ada.expect(r#"poked ["ada",1]"#);
            ada.expect(r#"poked ["ada",2]"#);
            bob.expect(r#"poked ["bob",1]"#);
            ada.close();
            assert_eq!(closed.recv_timeout(TIMEOUT).unwrap(), "ada");
            assert_eq!(dropped.recv_timeout(TIMEOUT).unwrap(), "ada");
            // Who has the place next has nothing of whoever had it before.
            let mut cy = server.connect();
            cy.send("poke");
            cy.expect(r#"poked ["nobody",1]"#);
        });
    }

    #[test]
    fn one_that_cannot_be_made_closes_its_connection_and_nobody_elses() {
        let router = Router::with_state(|request: &Request| {
            assert!(request.query().is_none(), "as the test wants it");
        });
        let server = start(config(FlushMode::Auto), router);
        let mut bystander = server.connect();
        bystander.sync();
        let mut culprit = Client::connect_with(server.address(), "/ws?boom", &[]);
        assert_eq!(culprit.expect_close(1011), "internal error");
        bystander.sync();
        server.wait_for_metric("throng_connections_closed_total{reason=\"panicked\"}", 1);
    }
}

mod handshake {
    use super::*;

    struct User {
        name: &'static str,
    }

    /// Lets in who has the right cookie, after something that takes its time.
    fn router(asked: mpsc::Sender<String>, gate: Arc<Semaphore>) -> Router<User> {
        let mut router = Router::with_handshake(move |request: Request| {
            let (asked, gate) = (asked.clone(), gate.clone());
            async move {
                let session = request.cookie("sid").unwrap_or_default();
                _ = asked.send(session.to_owned()).await;
                _ = gate.acquire().await;
                match session {
                    "ada" => Ok(User { name: "Ada" }),
                    "panic" => panic!("as the test wants it"),
                    _ => Err(Rejection::unauthorized("log in first\n").header(
                        http::header::WWW_AUTHENTICATE,
                        http::HeaderValue::from_static("Cookie"),
                    )),
                }
            }
        });
        router.on("whoami", |conn: &Connection<User>| {
            conn.emit("you", conn.state().name)
        });
        router
    }

    fn opening(cookie: &str) -> String {
        format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: sid={cookie}\r\n\r\n"
        )
    }

    #[test]
    fn who_is_let_in_brings_its_state_and_who_is_not_is_told_over_http() {
        let (asked, _questions) = mpsc::channel(16);
        let server = start(
            config(FlushMode::Auto),
            router(asked, Arc::new(Semaphore::new(9))),
        );
        let headers = [("cookie", "a=b; sid=ada")];
        let mut ada = Client::connect_with(server.address(), "/ws", &headers);
        ada.send("whoami");
        ada.expect(r#"you "Ada""#);

        let reply = exchange(server.address(), &opening("eve"));
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(reply.body, "log in first\n");
        assert_eq!(reply.header("www-authenticate"), Some("Cookie"));

        let reply = exchange(server.address(), &opening("panic"));
        assert_eq!(reply.status, 500, "{reply:?}");
        let refused = "throng_handshakes_refused_total{reason=\"application\"}";
        assert_eq!(server.metric(refused), 2);
        assert_eq!(server.metric("throng_connections"), 1);
    }

    #[test]
    fn a_slow_look_up_holds_up_nobody_and_has_an_end() {
        let (asked, mut questions) = mpsc::channel(16);
        let gate = Arc::new(Semaphore::new(0));
        let mut config = config(FlushMode::Auto);
        config.cores = 1;
        config.timeouts.handshake = std::time::Duration::from_millis(300);
        let server = start(config, router(asked, gate.clone()));
        let address = server.address();
        let late = std::thread::spawn(move || exchange(address, &opening("ada")));
        assert_eq!(questions.blocking_recv().as_deref(), Some("ada"));
        // The core answers others meanwhile.
        assert_eq!(throng_testing::get(address, "/healthz").status, 200);
        let reply = late.join().unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
        assert_eq!(reply.header("retry-after"), Some("2"));
        gate.add_permits(1);
        let mut ada = Client::connect_with(address, "/ws", &[("cookie", "sid=ada")]);
        ada.send("whoami");
        ada.expect(r#"you "Ada""#);
    }
}

mod waiting {
    use super::*;

    /// An application with an event `wait`, which is done when the test says so.
    struct Waiting {
        server: TestServer,
        /// Handlers that have begun.
        begun: Mutex<mpsc::Receiver<u32>>,
        gate: Arc<Semaphore>,
    }

    /// Tells when it is dropped, as a handler's future is where it waits.
    struct Dropped(std::sync::mpsc::Sender<&'static str>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            _ = self.0.send("dropped");
        }
    }

    impl Waiting {
        fn start(config: Config) -> Self {
            Self::start_with(config, |_| {})
        }

        fn start_with(config: Config, set_up: impl FnOnce(&mut Router)) -> Self {
            let gate = Arc::new(Semaphore::new(0));
            let (sender, begun) = mpsc::channel(16);
            let mut router = Router::new();
            let waited_for = gate.clone();
            router.on("wait", move |conn: Connection, number: u32| {
                let (gate, begun) = (waited_for.clone(), sender.clone());
                async move {
                    _ = begun.send(number).await;
                    conn.emit("waiting", &number)?;
                    gate.acquire().await.unwrap().forget();
                    match number {
                        0 => panic!("as the test wants it"),
                        13 => Err(Refusal::new("refused", "not that one")),
                        _ => Ok(conn.emit("waited", &number)?),
                    }
                }
            });
            router.on(
                "now",
                |conn: Connection| async move { conn.emit("now", &()) },
            );
            set_up(&mut router);
            Self {
                server: start(config, router),
                begun: Mutex::new(begun),
                gate,
            }
        }

        fn expect_begun(&self, number: u32) {
            assert_eq!(self.begun.lock().blocking_recv(), Some(number));
        }

        fn finish_one(&self) {
            self.gate.add_permits(1);
        }
    }

    #[test]
    fn a_handler_that_waits_holds_up_its_own_connection_alone() {
        for_each_flush_mode(|mode| {
            let waiting = Waiting::start(Config {
                cores: 1,
                ..config(mode)
            });
            let (mut slow, mut other) = (waiting.server.connect(), waiting.server.connect());
            slow.send("wait 1");
            slow.send("wait 2");
            slow.send("now");
            waiting.expect_begun(1);
            slow.expect("waiting 1");
            waiting.server.wait_for_metric("throng_handlers", 1);
            other.sync();
            waiting.finish_one();
            waiting.expect_begun(2);
            slow.expect("waited 1");
            slow.expect("waiting 2");
            waiting.finish_one();
            slow.expect("waited 2");
            slow.expect("now null");
            slow.sync();
            waiting.server.wait_for_metric("throng_handlers", 0);
        });
    }

    #[test]
    fn what_is_refused_later_is_answered_in_its_place() {
        let waiting = Waiting::start(config(FlushMode::Auto));
        let mut alice = waiting.server.connect();
        alice.send("wait 13");
        alice.send("now");
        alice.send(r#"wait "no number""#);
        alice.expect("waiting 13");
        waiting.finish_one();
        assert_eq!(alice.expect_error("refused")["event"], "wait");
        alice.expect("now null");
        assert_eq!(alice.expect_error("bad_data")["event"], "wait");
        alice.sync();
    }

    #[test]
    fn a_panic_after_a_wait_ends_its_connection_and_nobody_elses() {
        for_each_flush_mode(|mode| {
            let waiting = Waiting::start(config(mode));
            let (mut culprit, mut bystander) = (waiting.server.connect(), waiting.server.connect());
            culprit.send("wait 0");
            culprit.expect("waiting 0");
            waiting.finish_one();
            assert_eq!(culprit.expect_close(1011), "internal error");
            bystander.sync();
            let panicked = "throng_connections_closed_total{reason=\"panicked\"}";
            waiting.server.wait_for_metric(panicked, 1);
        });
    }

    #[test]
    fn many_messages_behind_a_handler_that_waits_are_neither_read_nor_lost() {
        for_each_flush_mode(|mode| {
            let waiting = Waiting::start(config(mode));
            let mut alice = waiting.server.connect();
            alice.send("wait 1");
            let sender = std::thread::spawn(move || {
                // Two megabytes, of which the kernel and one read buffer hold only a part.
                let padding = "x".repeat(1000);
                for _ in 0..2000 {
                    alice.send(&format!("unknown \"{padding}\""));
                }
                alice.sync();
                alice
            });
            waiting.expect_begun(1);
            waiting.finish_one();
            let mut alice = sender.join().unwrap();
            let answers = alice.take_inbox();
            assert_eq!(answers.len(), 2 + 2000);
            assert_eq!(answers[..2], ["waiting 1", "waited 1"]);
        });
    }

    #[test]
    fn a_handler_is_dropped_when_the_server_closes_its_connection() {
        for_each_flush_mode(|mode| {
            let (sender, dropped) = std::sync::mpsc::channel();
            let handles = Arc::<Mutex<Vec<Connection>>>::default();
            let seen = handles.clone();
            let waiting = Waiting::start_with(config(mode), move |router| {
                router.on("for_ever", move |conn: Connection| {
                    let dropped = Dropped(sender.clone());
                    seen.lock().push(conn);
                    async move {
                        std::future::pending::<()>().await;
                        drop(dropped);
                    }
                });
            });
            let mut alice = waiting.server.connect();
            alice.send("for_ever");
            waiting.server.wait_for_metric("throng_handlers", 1);
            let handle = handles.lock().pop().unwrap();
            handle.close(CloseCode(4000), "enough").unwrap();
            assert_eq!(alice.expect_close(4000), "enough");
            assert_eq!(dropped.recv_timeout(TIMEOUT), Ok("dropped"));
            waiting.server.wait_for_metric("throng_handlers", 0);
            drop(alice);
            waiting.server.wait_until_empty();
        });
    }

    #[test]
    fn who_goes_while_its_handler_waits_is_forgotten_when_that_is_done() {
        for_each_flush_mode(|mode| {
            let waiting = Waiting::start(config(mode));
            let mut alice = waiting.server.connect();
            alice.send("wait 1");
            alice.expect("waiting 1");
            drop(alice);
            waiting.server.connect().sync();
            waiting.finish_one();
            waiting.server.wait_until_empty();
        });
    }

    /// Its end is told of while nobody reads from it.
    #[test]
    fn who_has_gone_before_the_server_closes_it_is_forgotten_at_once() {
        for_each_flush_mode(|mode| {
            let handles = Arc::<Mutex<Vec<Connection>>>::default();
            let seen = handles.clone();
            let mut config = config(mode);
            config.timeouts.close = std::time::Duration::from_secs(3600);
            config.timeouts.drain = std::time::Duration::from_millis(1);
            let waiting = Waiting::start_with(config, move |router| {
                router.on_connect(move |conn, _| seen.lock().push(conn.clone()));
            });
            let mut alice = waiting.server.connect();
            alice.send("wait 1");
            alice.expect("waiting 1");
            drop(alice);
            let handle = handles.lock().pop().unwrap();
            // What is sent is answered by a reset, and what is sent behind that fails: nobody reads
            // on then.
            for _ in 0..3 {
                let turns = waiting.server.metric("throng_turns_total");
                handle.emit("there?", &()).unwrap();
                waiting
                    .server
                    .wait_for_metric_from("throng_turns_total", turns + 2);
            }
            handle.close(CloseCode(4000), "enough").unwrap();
            waiting.server.wait_until_empty();
        });
    }

    #[test]
    fn a_drain_lets_a_handler_finish() {
        for_each_flush_mode(|mode| {
            let waiting = Waiting::start(config(mode));
            let (mut slow, mut other) = (waiting.server.connect(), waiting.server.connect());
            slow.send("wait 1");
            slow.expect("waiting 1");
            waiting.server.stop.drain();
            other.expect_close(1001);
            waiting.finish_one();
            slow.expect("waited 1");
            slow.expect_close(1001);
            drop((slow, other));
            let Waiting { mut server, .. } = waiting;
            server.wait().unwrap();
        });
    }

    #[test]
    fn a_drain_does_not_wait_for_ever() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.drain = std::time::Duration::from_millis(200);
        let waiting = Waiting::start(config);
        let mut slow = waiting.server.connect();
        slow.send("wait 1");
        slow.expect("waiting 1");
        let Waiting { server, .. } = waiting;
        server.drain().unwrap();
    }
}

mod before {
    use super::*;

    #[test]
    fn hooks_are_asked_in_their_order_until_one_refuses() {
        let mut router = Router::with_state(|_| Mutex::new(Vec::new()));
        type Log = Mutex<Vec<String>>;
        let name = |action: Action<'_>| match action {
            Action::Request { event } => event.to_owned(),
            action => action.name().to_owned(),
        };
        router.before(move |conn: &Connection<Log>, action: Action<'_>| {
            let event = name(action);
            conn.state().lock().push(format!("first {event}"));
            match event.as_str() {
                "forbidden" => Err(Refusal::new("forbidden", "not you").retry_after_ms(5)),
                "panic" => panic!("as the test wants it"),
                _ => Ok(()),
            }
        });
        router.before(move |conn: &Connection<Log>, action: Action<'_>| {
            conn.state().lock().push(format!("second {}", name(action)));
            Ok(())
        });
        router.on("forbidden", |conn: &Connection<Log>| {
            conn.emit("never", &())
        });
        router.on("log", |conn: &Connection<Log>| {
            conn.emit("log", &*conn.state().lock())
        });
        let server = start(config(FlushMode::Auto), router);
        let mut alice = server.connect();
        alice.send("forbidden");
        let error = alice.expect_error("forbidden");
        assert_eq!(
            (&error["event"], &error["retry_after_ms"]),
            (&"forbidden".into(), &5.into())
        );
        alice.send("log");
        alice.expect(r#"log ["first forbidden","first log","second log"]"#);
        alice.send("panic");
        alice.expect_close(1011);
    }

    #[test]
    fn the_requests_of_throng_v1_are_asked_about_too_and_answered_with_their_id() {
        let mut router = Router::new();
        router.serve_throng_v1();
        router.before(|_: &Connection, action: Action<'_>| match action {
            Action::Publish { .. } => Err(Refusal::new("too_fast", "not so fast")),
            Action::Ping => panic!("as the test wants it"),
            _ => Ok(()),
        });
        let server = start(config(FlushMode::Auto), router);
        let mut alice = throng_testing::Throng::connect(&server);
        alice.join("tea");
        let error = alice.ask("msg", json!({"id": 2, "to": "tea", "msg": 1}), "error");
        assert_eq!(
            error,
            json!({"id": 2, "event": "msg", "code": "too_fast", "message": "not so fast"})
        );
        alice.request("ping", json!({"id": 3}));
        alice.client.expect_close(1011);
    }
}
