//! The WebSocket as a route of other HTTP servers: axum's and hyper's.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;

use throng::{
    Config, FlushMode, ListenAddress, Mount, Rejection, Request, RoomManager, Router, Running,
    ServeError, Server, Stop,
};
use throng_testing::{Client, Raw, Reply, TIMEOUT, config, get, text, until};

/// A mounted server with the chat, and the other server that it is mounted in.
struct Mounted {
    /// Address of the other server.
    address: SocketAddr,
    /// The mounted one's own, for its metrics.
    inside: SocketAddr,
    rooms: RoomManager,
    stop: Stop,
    ended: Receiver<Result<(), ServeError>>,
    /// The other server's.
    _runtime: Runtime,
}

fn start(config: Config) -> (Mount, Running, SocketAddr, RoomManager) {
    let server = Server::bind(config).unwrap();
    let rooms = server.rooms();
    let mut router = Router::new();
    throng_testing::add_chat_to(&mut router);
    let ListenAddress::Tcp(inside) = server.addresses()[0] else {
        panic!("it listens on TCP");
    };
    let (mount, running) = server.mount(router);
    (mount, running, inside, rooms)
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

fn listen(runtime: &Runtime) -> TcpListener {
    runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap()
}

impl Mounted {
    /// In axum, at `/live`.
    fn in_axum(config: Config) -> Self {
        Self::start(config, |listener, mount| async move {
            let app = axum::Router::<()>::new()
                .route("/hello", axum::routing::get(|| async { "hello" }))
                .route_service("/live", mount);
            axum::serve(listener, app).await.unwrap();
        })
    }

    /// In hyper's HTTP/1, at any path, with the peer's address in each request.
    fn in_hyper(config: Config) -> Self {
        Self::start(config, serve_by_hyper)
    }

    fn start<F, Fut>(config: Config, serve: F) -> Self
    where
        F: FnOnce(TcpListener, Mount) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (mount, running, inside, rooms) = start(config);
        let runtime = runtime();
        let listener = listen(&runtime);
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, mount));
        let stop = running.stop();
        let (sender, ended) = channel();
        thread::spawn(move || _ = sender.send(running.join()));
        Self {
            address,
            inside,
            rooms,
            stop,
            ended,
            _runtime: runtime,
        }
    }

    fn connect(&self) -> Client {
        Client::connect_with(self.address, "/live", &[])
    }

    fn ask(&self, headers: &str) -> Reply {
        get_websocket(self.address, headers)
    }

    fn metric(&self, name: &str) -> u64 {
        metric(self.inside, name)
    }

    fn wait_for_end(&self) {
        self.ended.recv_timeout(TIMEOUT).unwrap().unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.stop.drain();
    }
}

/// Serves every connection, with the peer's address in each request.
async fn serve_by_hyper(listener: TcpListener, mount: Mount) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let mount = mount.clone();
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer.ip());
            let answer = mount.upgrade(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

/// Asks for a WebSocket, with these headers more; returns the answer.
fn get_websocket(address: SocketAddr, headers: &str) -> Reply {
    let mut raw = Raw::connect(address);
    raw.send(opening(headers).as_bytes());
    let mut reply = Reply::parse(&raw.receive_head());
    if let Some(len) = reply.header("content-length") {
        reply.body = raw.receive_text(len.parse().unwrap());
    }
    reply
}

fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = get(address, "/metrics").body;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("no {name}"))
        .parse()
        .unwrap()
}

fn wait_for_metric(address: SocketAddr, name: &str, wanted: u64) {
    until(
        || (metric(address, name) == wanted).then_some(()),
        || format!("{name} never is {wanted}"),
    );
}

fn refused(reason: &str) -> String {
    format!("throng_handshakes_refused_total{{reason=\"{reason}\"}}")
}

/// A request for a WebSocket, with these headers more.
fn opening(headers: &str) -> String {
    format!(
        "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Members who came through the other server talk with one who came by the server's own listener.
fn check_conversation(mounted: &Mounted) {
    let mut alice = mounted.connect();
    let mut bob = Client::connect(mounted.inside);
    alice.join("tea");
    bob.join("tea");
    alice.say("tea", "hello");
    bob.expect("msg \"hello\"");
    alice.expect("msg \"hello\"");
    assert_eq!(mounted.rooms.emit("tea", "news", &1).unwrap(), 2);
    alice.expect("news 1");
    bob.expect("news 1");
    alice.close();
    bob.close();
    wait_for_metric(mounted.inside, "throng_connections", 0);
}

#[test]
fn members_who_come_by_axum_share_the_rooms() {
    let mounted = Mounted::in_axum(config(FlushMode::Auto));
    assert_eq!(get(mounted.address, "/hello").body, "hello");
    for _ in 0..3 {
        check_conversation(&mounted);
    }
}

#[test]
fn members_who_come_by_hyper_share_the_rooms() {
    let mounted = Mounted::in_hyper(config(FlushMode::Write));
    for _ in 0..3 {
        check_conversation(&mounted);
    }
}

#[test]
fn members_come_by_unix_sockets_of_both() {
    let (mount, running, _, _) = start(config(FlushMode::Auto));
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let [of_axum, of_hyper] = ["axum", "hyper"].map(|name| directory.path().join(name));
    let listeners = runtime
        .block_on(async { [&of_axum, &of_hyper].map(|path| UnixListener::bind(path).unwrap()) });
    let [for_axum, for_hyper] = listeners;
    let app = axum::Router::<()>::new().route_service("/ws", mount.clone());
    runtime.spawn(async move { axum::serve(for_axum, app).await });
    runtime.spawn(async move {
        let (stream, _) = for_hyper.accept().await.unwrap();
        let service = service_fn(move |request| {
            let answer = mount.upgrade(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await
    });
    let mut clients = [of_axum, of_hyper].map(|path| Client::connect_unix(&path));
    for client in &mut clients {
        client.join("tea");
    }
    clients[0].say("tea", "hello");
    clients[1].expect("msg \"hello\"");
    drop(clients);
    running.stop().drain();
    running.join().unwrap();
}

#[test]
fn what_is_sent_behind_the_request_is_not_lost() {
    for mounted in [
        Mounted::in_axum(config(FlushMode::Auto)),
        Mounted::in_hyper(config(FlushMode::Auto)),
    ] {
        let mut raw = Raw::connect(mounted.address);
        let request = opening("");
        raw.send(&[request.as_bytes(), &text("sync 5"), &text("sync 6")].concat());
        assert!(raw.receive_head().starts_with("HTTP/1.1 101 "));
        raw.expect("synced 5");
        raw.expect("synced 6");
    }
}

#[test]
fn a_request_is_held_against_the_same_rules_as_on_the_servers_own_path() {
    let mounted = Mounted::in_axum(config(FlushMode::Auto));
    let reply = get(mounted.address, "/live");
    assert_eq!(reply.status, 426);
    assert_eq!(reply.header("sec-websocket-version"), Some("13"));
    let reply = mounted.ask("Origin: https://evil.example\r\n");
    assert_eq!(reply.status, 403);
    assert!(reply.body.contains("https://evil.example"), "{reply:?}");
    let reply = mounted.ask("Origin: https://localhost\r\nSec-WebSocket-Protocol: mqtt\r\n");
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("sec-websocket-protocol"), None);
    for (reason, count) in [("bad_handshake", 1), ("origin", 1), ("connections", 0)] {
        assert_eq!(mounted.metric(&refused(reason)), count, "{reason}");
    }
}

#[test]
fn one_connection_too_many_is_refused_until_one_ends() {
    for (reason, limit) in [("connections", 0), ("connections_per_ip", 1)] {
        let mut config = config(FlushMode::Auto);
        match limit {
            0 => config.limits.connections_max = 1.into(),
            _ => config.limits.connections_per_ip_max = 1,
        }
        let mounted = Mounted::in_hyper(config);
        let mut alice = mounted.connect();
        alice.sync();
        let reply = mounted.ask("");
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
        assert_eq!(mounted.metric(&refused(reason)), 1, "{reason}");
        alice.close();
        wait_for_metric(mounted.inside, "throng_connections", 0);
        mounted.connect().sync();
    }
}

#[test]
fn a_handshake_with_a_body_or_a_wrong_host_is_refused() {
    for mounted in [
        Mounted::in_axum(config(FlushMode::Auto)),
        Mounted::in_hyper(config(FlushMode::Auto)),
    ] {
        let ask = |opening: &str| {
            let mut raw = Raw::connect(mounted.address);
            raw.send(opening.as_bytes());
            Reply::parse(&raw.receive_head()).status
        };
        let host = |host: &str| opening("").replace("Host: localhost\r\n", host);
        let body = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";
        for text in [
            opening("Content-Length: 3\r\n") + "abc",
            opening("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            opening(body) + "0\r\n\r\n",
            host(""),
            host("Host: localhost\r\nHost: localhost\r\n"),
            host("Host: a b\r\n"),
            opening("").replace("/live", "http://evil.example/live"),
        ] {
            assert_eq!(ask(&text), 400, "{text}");
        }
        assert_eq!(ask(&opening("Content-Length: 0\r\n")), 101);
        assert_eq!(mounted.metric(&refused("bad_handshake")), 7);
    }
}

/// The other server has the listener, and knows who can connect to it.
#[test]
fn every_host_is_served_unless_there_is_a_rule() {
    let named = |mounted: &Mounted| {
        let mut raw = Raw::connect(mounted.address);
        let text = opening("").replace("Host: localhost", "Host: chat.example.com");
        raw.send(text.as_bytes());
        Reply::parse(&raw.receive_head()).status
    };
    let mut config = config(FlushMode::Auto);
    assert_eq!(named(&Mounted::in_axum(config.clone())), 101);
    config.allowed_hosts = "a.example".parse().unwrap();
    let mounted = Mounted::in_axum(config.clone());
    assert_eq!(named(&mounted), 403);
    assert_eq!(mounted.metric(&refused("host")), 1);
    config.allowed_hosts = "chat.example.com".parse().unwrap();
    assert_eq!(named(&Mounted::in_axum(config)), 101);
}

#[test]
fn connections_go_to_the_core_that_has_the_fewest() {
    let mut config = config(FlushMode::Auto);
    config.cores = 4;
    let mounted = Mounted::in_axum(config);
    let mut clients = Vec::new();
    for round in 1..=3 {
        let mut cores: Vec<u8> = (0..4)
            .map(|_| {
                let mut client = mounted.connect();
                let core = client.core();
                clients.push(client);
                wait_for_metric(
                    mounted.inside,
                    "throng_connections",
                    u64::try_from(clients.len()).unwrap(),
                );
                core
            })
            .collect();
        cores.sort_unstable();
        assert_eq!(cores, [0, 1, 2, 3], "round {round}");
    }
}

#[test]
fn a_stream_that_is_no_socket_is_counted_and_gives_its_place_back() {
    let mut config = config(FlushMode::Auto);
    config.limits.connections_max = 1.into();
    let (mount, running, inside, _) = start(config);
    let runtime = runtime();
    for count in 1..=2 {
        let mount = mount.clone();
        runtime.block_on(async move {
            let (mut near, far) = tokio::io::duplex(4096);
            let service = service_fn(move |request| {
                let answer = mount.upgrade(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
            tokio::spawn(connection.with_upgrades());
            near.write_all(opening("").as_bytes()).await.unwrap();
            let mut answer = String::new();
            let all = near.read_to_string(&mut answer);
            tokio::time::timeout(TIMEOUT, all).await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        });
        wait_for_metric(inside, &refused("undeliverable"), count);
    }
    running.stop().drain();
    running.join().unwrap();
}

#[test]
fn a_server_that_never_sends_the_answer_keeps_a_place_only_so_long() {
    let mut config = config(FlushMode::Auto);
    config.limits.connections_max = 1.into();
    config.timeouts.handshake = Duration::from_millis(200);
    let (mount, running, inside, _) = start(config);
    let runtime = runtime();
    let (is_asked, asked) = channel();
    let (mut near, far) = tokio::io::duplex(4096);
    let service = service_fn(move |request| {
        let (answer, is_asked) = (mount.upgrade(request), is_asked.clone());
        async move {
            is_asked.send(answer.await.status()).unwrap();
            std::future::pending::<Result<http::Response<String>, Infallible>>().await
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    runtime.spawn(connection.with_upgrades());
    let request = opening("");
    runtime
        .block_on(near.write_all(request.as_bytes()))
        .unwrap();
    assert_eq!(asked.recv_timeout(TIMEOUT).unwrap(), 101);
    let free = || {
        let mut raw = Raw::connect(inside);
        raw.send(opening("").replace("/live", "/ws").as_bytes());
        raw.receive_head().contains(" 101 ").then_some(raw)
    };
    assert!(free().is_none());
    until(free, || "the place is never free again".to_owned());
    running.stop().drain();
    running.join().unwrap();
}

#[test]
fn the_application_looks_at_requests_with_their_peers() {
    let server = Server::bind(config(FlushMode::Auto)).unwrap();
    let router = Router::with_handshake(|request: Request| async move {
        match (request.query(), request.peer()) {
            (Some("ticket=7"), Some(peer)) if peer.is_loopback() => Ok(()),
            _ => Err(Rejection::unauthorized("no ticket\n")),
        }
    });
    let (mount, running) = server.mount(router);
    // The other server's runtime need not have timers.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_io().build().unwrap();
    let listener = listen(&runtime);
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve_by_hyper(listener, mount));
    let reply = get_websocket(address, "");
    assert_eq!((reply.status, &*reply.body), (401, "no ticket\n"));
    Client::connect_with(address, "/live?ticket=7", &[]).close();
    running.stop().drain();
    running.join().unwrap();
}

#[test]
fn a_drain_closes_everybody_and_lets_nobody_in() {
    let mounted = Mounted::in_axum(config(FlushMode::Auto));
    let mut alice = Raw::connect(mounted.address);
    alice.send(opening("").as_bytes());
    assert!(alice.receive_head().starts_with("HTTP/1.1 101 "));
    alice.sync();
    mounted.stop.drain();
    alice.expect_close(1001);
    // The other server still listens.
    let reply = until(
        || Some(mounted.ask("")).filter(|reply| reply.status != 101),
        || "a server that drains still takes WebSockets".to_owned(),
    );
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("stopping"), "{reply:?}");
    assert_eq!(get(mounted.address, "/hello").body, "hello");
    drop(alice);
    mounted.wait_for_end();
    // And after the end, whoever still has the route.
    assert_eq!(mounted.ask("").status, 503);
}

#[test]
fn a_server_that_listens_nowhere_ends_when_it_is_told() {
    let mut config = config(FlushMode::Auto);
    (config.listen, config.cores) = (Vec::new(), 2);
    let server = Server::bind(config).unwrap();
    let (mount, running) = server.mount(Router::new());
    running.stop().drain();
    running.join().unwrap();
    let request = http::Request::builder().header("host", "localhost");
    let request = request.body(()).unwrap();
    let answer = runtime().block_on(mount.upgrade(request));
    assert_eq!(answer.status(), 426);
}
