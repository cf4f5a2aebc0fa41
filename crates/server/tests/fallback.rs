//! The application's own HTTP service on the server's port.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::routing::{get as on_get, post as on_post};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use proto::OpCode;

use throng::{Config, FlushMode, Page, Server};
use throng_testing::{Client, Raw, Reply, TIMEOUT, TestServer, config, exchange, get, until};

/// Longer than any test may take.
const NEVER: Duration = Duration::from_secs(3600);

/// A time that passes within a test, and is enough for a request.
const SOON: Duration = Duration::from_millis(300);

fn serve(config: Config, service: axum::Router) -> TestServer {
    let mut server = Server::bind(config).unwrap();
    server.fallback(service);
    TestServer::serve(server, |_, _| {})
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Asks on a connection that stays open; returns the answer with its body.
fn ask(raw: &mut Raw, path: &str) -> Reply {
    raw.send(request("GET", path).as_bytes());
    receive(raw)
}

fn receive(raw: &mut Raw) -> Reply {
    let mut reply = Reply::parse(&raw.receive_head());
    let len = reply.header("content-length").unwrap().parse().unwrap();
    reply.body = raw.receive_text(len);
    reply
}

/// Waits until a connection that says nothing is ended, which takes a whole `header_read`.
fn let_header_read_pass(server: &TestServer) {
    server.connect_raw().expect_end();
}

/// A handler that answers when the test says so, and says when it is asked and when it is dropped.
struct Held {
    asked: Receiver<()>,
    dropped: Receiver<()>,
    release: Arc<Semaphore>,
}

impl Held {
    /// At `/held`.
    fn add_to(router: axum::Router) -> (axum::Router, Self) {
        struct Guard(std::sync::mpsc::Sender<()>);
        impl Drop for Guard {
            fn drop(&mut self) {
                _ = self.0.send(());
            }
        }
        let (is_asked, asked) = channel();
        let (is_dropped, dropped) = channel();
        let release = Arc::new(Semaphore::new(0));
        let released = release.clone();
        let handler = move || async move {
            let _guard = Guard(is_dropped);
            is_asked.send(()).unwrap();
            released.acquire().await.unwrap().forget();
            "at last"
        };
        let held = Self {
            asked,
            dropped,
            release,
        };
        (router.route("/held", on_get(handler)), held)
    }

    fn wait_until_asked(&self) {
        self.asked.recv_timeout(TIMEOUT).unwrap();
    }

    fn wait_until_dropped(&self) {
        self.dropped.recv_timeout(TIMEOUT).unwrap();
    }

    fn release(&self) {
        self.release.add_permits(1);
    }
}

mod requests {
    use super::*;

    #[test]
    fn what_is_neither_the_websocket_nor_a_page_is_the_services() {
        let service = axum::Router::new()
            .route("/", on_get(|| async { "never seen" }))
            .route("/healthz", on_get(|| async { "never seen" }))
            .route("/ws", on_get(|| async { "never seen" }))
            .route("/hello", on_get(|| async { "hello" }))
            .route(
                "/length",
                on_post(|body: Bytes| async move { body.len().to_string() }),
            )
            .fallback(|| async { (StatusCode::IM_A_TEAPOT, "no such tea") });
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.fallback(service).page(Page {
            path: "/",
            content_type: "text/plain",
            body: "the page".into(),
        });
        let server = TestServer::serve(server, |_, _| {});

        assert_eq!(get(server.address(), "/").body, "the page");
        assert_eq!(get(server.address(), "/healthz").body, "ok\n");
        assert_eq!(get(server.address(), "/ws").status, 426);
        assert_eq!(get(server.address(), "/hello").body, "hello");
        let reply = get(server.address(), "/no");
        assert_eq!((reply.status, &*reply.body), (418, "no such tea"));
        let body = "x".repeat(100_000);
        let text = format!(
            "POST /length HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(exchange(server.address(), &text).body, "100000");
        server.check_health();
    }

    #[test]
    fn the_service_and_then_a_websocket_share_a_connection() {
        let service = axum::Router::new().route("/hello", on_get(|| async { "hello" }));
        let server = serve(config(FlushMode::Auto), service);
        let mut raw = server.connect_raw();
        for _ in 0..3 {
            assert_eq!(ask(&mut raw, "/hello").body, "hello");
            assert_eq!(ask(&mut raw, "/healthz").body, "ok\n");
        }
        raw.opened().sync();
    }

    #[test]
    fn the_service_is_told_the_address_of_its_client() {
        let whose = |Extension(peer): Extension<IpAddr>| async move { peer.to_string() };
        let service = axum::Router::new().route("/whose", on_get(whose));
        let server = serve(config(FlushMode::Auto), service);
        assert_eq!(get(server.address(), "/whose").body, "127.0.0.1");
    }

    #[test]
    fn without_a_path_the_service_has_what_asks_for_no_websocket() {
        let mut config = config(FlushMode::Auto);
        config.path = None;
        let service = axum::Router::new().fallback(|| async { "the service" });
        let server = serve(config, service);
        for path in ["/", "/ws", "/any/where"] {
            assert_eq!(get(server.address(), path).body, "the service");
            Client::connect_with(server.address(), path, &[]).sync();
        }
        assert_eq!(get(server.address(), "/healthz").body, "ok\n");
    }

    /// A service that answers with the body that it was sent.
    fn echo() -> axum::Router {
        axum::Router::new().fallback(|body: Bytes| async move { body })
    }

    #[test]
    fn a_get_with_a_body_that_asks_for_no_websocket_is_the_services() {
        let mut config = config(FlushMode::Auto);
        config.path = None;
        let server = serve(config, echo());
        let mut raw = server.connect_raw();
        let head = request("GET", "/any").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n");
        raw.send(format!("{head}abc").as_bytes());
        assert_eq!(receive(&mut raw).body, "abc");
    }

    #[test]
    fn a_request_whose_end_a_proxy_could_see_elsewhere_is_the_connections_last() {
        let server = serve(config(FlushMode::Auto), echo());
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
        ] {
            let mut raw = server.connect_raw();
            let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
            let smuggled = request("GET", "/smuggled");
            raw.send(format!("{head}3\r\nabc\r\n0\r\n\r\n{smuggled}").as_bytes());
            let answers = raw.receive_all();
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
            let reply = Reply::parse(&answers);
            assert_eq!((reply.status, &*reply.body), (200, "abc"), "{answers}");
        }
    }

    #[test]
    fn a_body_is_asked_for_when_the_service_reads_it_and_other_expectations_are_refused() {
        let server = serve(config(FlushMode::Auto), echo());
        let mut raw = server.connect_raw();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: ";
        raw.send(format!("{head}100-Continue\r\n\r\n").as_bytes());
        assert!(raw.receive_head().starts_with("HTTP/1.1 100 "));
        raw.send(b"abc");
        assert_eq!(receive(&mut raw).body, "abc");
        raw.send(format!("{head}tea\r\n\r\n").as_bytes());
        assert_eq!(receive(&mut raw).status, 417);
        raw.expect_end();
    }

    #[test]
    fn a_service_publishes_to_rooms() {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        let rooms = server.rooms();
        let publish = move |text: String| async move {
            let reached = rooms.emit("tea", "news", &text);
            reached.map_or_else(|error| error.to_string(), |count| count.to_string())
        };
        server.fallback(axum::Router::new().route("/publish", on_post(publish)));
        let server = TestServer::serve(server, |_, _| {});
        let mut alice = server.connect();
        alice.join("tea");
        let text = "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Content-Length: 5\r\n\r\nready";
        assert_eq!(exchange(server.address(), text).body, "1");
        alice.expect("news \"ready\"");
    }

    #[test]
    fn an_answer_of_many_frames_arrives_whole() {
        let streamed = || async {
            let frames = (0..100).map(|number| {
                let text = format!("{number};").repeat(3000);
                Ok::<_, Infallible>(Frame::data(Bytes::from(text)))
            });
            axum::body::Body::new(Frames(frames.collect()))
        };
        let service = axum::Router::new().route("/streamed", on_get(streamed));
        let server = serve(config(FlushMode::Auto), service);
        let text = "GET /streamed HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let reply = exchange(server.address(), text);
        let wanted: String = (0..100).map(|n| format!("{n};").repeat(3000)).collect();
        assert!(reply.body == wanted, "{} bytes", reply.body.len());
    }

    /// A body of unknown length.
    struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, Infallible>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front())
        }
    }
}

mod failures {
    use super::*;

    /// Fails in as many ways as there are.
    #[derive(Clone)]
    struct Failing;

    struct Bomb;

    impl Body for Bomb {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            panic!("as the test wants it");
        }
    }

    impl tower_service::Service<Request<Incoming>> for Failing {
        type Response = Response<http_body_util::Either<Full<Bytes>, Bomb>>;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Incoming>) -> Self::Future {
            use http_body_util::Either;
            let path = request.uri().path().to_owned();
            assert_ne!(path, "/call", "as the test wants it");
            Box::pin(async move {
                assert_ne!(path, "/future", "as the test wants it");
                match &*path {
                    "/error" => Err(io::ErrorKind::NotConnected.into()),
                    "/body" => Ok(Response::new(Either::Right(Bomb))),
                    _ => {
                        let body = request.into_body().collect().await;
                        let body = body.map_err(io::Error::other)?.to_bytes();
                        Ok(Response::new(Either::Left(Full::new(body))))
                    }
                }
            })
        }
    }

    #[test]
    fn a_service_that_fails_or_panics_answers_500_and_harms_nobody() {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.fallback(Failing);
        let server = TestServer::serve(server, |_, _| {});
        let mut alice = server.connect();
        let mut raw = server.connect_raw();
        for path in ["/call", "/future", "/error"] {
            // On one connection: it outlives them all.
            let reply = ask(&mut raw, path);
            assert_eq!(reply.status, 500, "{path}");
            assert!(reply.body.len() > 10 && !reply.body.contains("test"));
        }
        // The head was sent; the end of the connection says that it was not all.
        let mut cut = server.connect_raw();
        cut.send(request("GET", "/body").as_bytes());
        assert!(!cut.receive_all().ends_with("0\r\n\r\n"));
        assert_eq!(ask(&mut raw, "/").status, 200);
        alice.sync();
        server.check_health();
    }
}

mod time {
    use super::*;

    #[test]
    fn a_slow_answer_may_take_longer_than_a_handshake() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.handshake = SOON;
        config.timeouts.header_read = SOON;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config, service);
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        let_header_read_pass(&server);
        let_header_read_pass(&server);
        held.release();
        assert_eq!(receive(&mut raw).body, "at last");
    }

    #[test]
    fn a_connection_that_asks_nothing_more_is_ended() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.header_read = SOON;
        let service = axum::Router::new().route("/hello", on_get(|| async { "hello" }));
        let server = serve(config, service);
        let mut raw = server.connect_raw();
        assert_eq!(ask(&mut raw, "/hello").body, "hello");
        raw.expect_end();
        // That is its normal end.
        let counter = r#"throng_handshakes_refused_total{reason="handshake_timeout"}"#;
        assert_eq!(server.metric(counter), 0);
    }

    #[test]
    fn a_connection_that_is_used_lasts_longer_than_a_handshake() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.handshake = SOON * 3;
        config.timeouts.header_read = SOON * 3;
        let service = axum::Router::new().route("/hello", on_get(|| async { "hello" }));
        let server = serve(config.clone(), service);
        config.timeouts.header_read = SOON;
        let clock = TestServer::start(config);
        let mut raw = server.connect_raw();
        for _ in 0..5 {
            assert_eq!(ask(&mut raw, "/hello").body, "hello");
            let_header_read_pass(&clock);
        }
    }

    /// A length that no socket's buffers hold.
    const LARGE: usize = 64 << 20;

    fn large() -> axum::Router {
        let large = Bytes::from(vec![b'x'; LARGE]);
        axum::Router::new()
            .route("/large", on_get(move || async move { large }))
            .route("/hello", on_get(|| async { "hello" }))
    }

    #[test]
    fn who_takes_nothing_of_an_answer_is_cut_off_and_gives_its_place_back() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.handshake = SOON;
        config.limits.fallback_connections_max = 1;
        let server = serve(config, large());
        let mut stuck = Raw::connect_narrow(server.address());
        stuck.send(request("GET", "/large").as_bytes());
        let head = stuck.receive_head();
        assert!(head.contains(&LARGE.to_string()), "{head}");
        assert_eq!(get(server.address(), "/hello").status, 503);
        until(
            || (get(server.address(), "/hello").status == 200).then_some(()),
            || "the place is never free again".to_owned(),
        );
        assert!(stuck.receive_all().len() < LARGE);
    }

    #[test]
    fn who_takes_an_answer_slowly_gets_all_of_it() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.handshake = SOON * 8;
        let server = serve(config.clone(), large());
        config.timeouts.header_read = SOON;
        let clock = TestServer::start(config);
        let mut slow = Raw::connect_narrow(server.address());
        slow.send(request("GET", "/large").as_bytes());
        slow.receive_head();
        // Over longer than the timeout, and never nothing for as long as that.
        for _ in 0..10 {
            slow.receive_text(4 << 20);
            let_header_read_pass(&clock);
        }
        slow.receive_text(LARGE - 10 * (4 << 20));
    }

    #[test]
    fn a_request_whose_client_is_gone_is_dropped() {
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config(FlushMode::Auto), service);
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        drop(raw);
        held.wait_until_dropped();
    }
}

mod places {
    use super::*;

    #[test]
    fn one_connection_too_many_for_the_service_is_refused_until_one_ends() {
        let mut config = config(FlushMode::Auto);
        config.limits.fallback_connections_max = 1;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config, service.fallback(|| async { "hello" }));
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();

        let reply = get(server.address(), "/hello");
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
        let counter = r#"throng_handshakes_refused_total{reason="fallback_connections"}"#;
        assert_eq!(server.metric(counter), 1);
        assert_eq!(get(server.address(), "/healthz").status, 200);
        server.check_health();

        held.release();
        assert_eq!(receive(&mut raw).body, "at last");
        assert_eq!(ask(&mut raw, "/hello").body, "hello");
        // It keeps its place until others need it: then it makes way, for nothing of it is under
        // way.
        assert_eq!(get(server.address(), "/hello").status, 200);
        raw.expect_end();
        assert_eq!(server.metric(EVICTED), 1);
    }

    const EVICTED: &str = r#"throng_handshakes_refused_total{reason="evicted"}"#;

    #[test]
    fn who_has_a_place_and_begins_another_request_makes_way_and_who_waits_for_an_answer_does_not() {
        let mut config = config(FlushMode::Auto);
        config.limits.fallback_connections_max = 2;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config, service.fallback(|| async { "hello" }));
        let mut waiting = server.connect_raw();
        waiting.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        let mut partial = server.connect_raw();
        assert_eq!(ask(&mut partial, "/hello").body, "hello");
        partial.send(b"GET /hel");
        assert_eq!(get(server.address(), "/hello").status, 200);
        partial.expect_end();
        held.release();
        assert_eq!(receive(&mut waiting).body, "at last");
    }

    #[test]
    fn a_request_for_the_service_is_no_handshake_any_more() {
        let mut config = config(FlushMode::Auto);
        config.limits.handshakes_max = 1;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config, service);
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        server.connect().sync();
        held.release();
        assert_eq!(receive(&mut raw).body, "at last");
    }
}

mod drains {
    use super::*;

    #[test]
    fn a_drain_lets_the_service_answer_what_it_was_asked() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.drain = NEVER;
        config.timeouts.handshake = SOON;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config.clone(), service);
        config.timeouts.header_read = SOON;
        let clock = TestServer::start(config);
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        let mut alice = server.connect_raw_websocket();
        server.stop.drain();
        alice.expect_close(1001);
        drop(alice);
        // Longer than what is no service's is waited for.
        for _ in 0..5 {
            let_header_read_pass(&clock);
        }
        held.release();
        let reply = receive(&mut raw);
        assert_eq!(reply.body, "at last");
        assert_eq!(reply.header("connection"), Some("close"));
        raw.expect_end();
        server.drain().unwrap();
    }

    #[test]
    fn a_service_that_never_answers_delays_a_drain_only_so_long() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.drain = SOON;
        let (service, held) = Held::add_to(axum::Router::new());
        let server = serve(config, service);
        let mut raw = server.connect_raw();
        raw.send(request("GET", "/held").as_bytes());
        held.wait_until_asked();
        server.drain().unwrap();
        held.wait_until_dropped();
        raw.expect_end();
    }

    #[test]
    fn a_connection_that_waits_for_its_next_request_does_not_delay_a_drain() {
        let mut config = config(FlushMode::Auto);
        (config.timeouts.drain, config.timeouts.handshake) = (NEVER, NEVER);
        config.timeouts.header_read = NEVER;
        let service = axum::Router::new().route("/hello", on_get(|| async { "hello" }));
        let server = serve(config, service);
        let mut raw = server.connect_raw();
        assert_eq!(ask(&mut raw, "/hello").body, "hello");
        server.drain().unwrap();
        raw.expect_end();
    }
}

#[test]
fn what_a_service_asks_of_the_engine_holds_back_no_connection() {
    let mut config = config(FlushMode::Auto);
    config.cores = 1;
    // Full as soon as there is anything in it.
    config.limits.mailbox_bytes_max = 1;
    let mut server = Server::bind(config).unwrap();
    let rooms = server.rooms();
    let alice = Arc::new(Mutex::new(None::<Raw>));
    let pinging = alice.clone();
    let stop = move || async move {
        // On the core's thread: the ping is there to be read in the turn behind this.
        let mut alice = pinging.lock();
        alice.as_mut().unwrap().send(&[0x89, 0x80, 0, 0, 0, 0]);
        rooms.stop();
        "stopped"
    };
    server.fallback(axum::Router::new().route("/stop", on_get(stop)));
    let server = TestServer::serve(server, |_, _| {});
    // Who is in a room of the manager has something to be asked.
    let mut bob = server.connect();
    bob.join("tea");
    *alice.lock() = Some(server.connect_raw_websocket());
    let stalls = server.metric("throng_publisher_stalls_total");

    assert_eq!(get(server.address(), "/stop").body, "stopped");
    let mut alice = alice.lock();
    let answer = alice.as_mut().unwrap().receive();
    assert_eq!(answer, (OpCode::Pong, Vec::new()));
    assert_eq!(server.metric("throng_publisher_stalls_total"), stalls);
    // Gone, so that the end of the server waits for nobody.
    *alice = None;
}
