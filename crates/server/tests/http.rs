//! What is answered over HTTP, and where is listened.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use throng::{BindError, FlushMode, ListenAddress, Page, Server};
use throng_testing::{Client, Raw, Reply, TestServer, config, exchange, get, until};

mod pages {
    use super::*;

    #[test]
    fn health_is_answered_with_ok() {
        let server = TestServer::start(config(FlushMode::Auto));
        let reply = get(server.address(), "/healthz");
        assert_eq!((reply.status, &*reply.body), (200, "ok\n"));
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(get(server.address(), "/healthz?verbose").status, 200);
    }

    #[test]
    fn metrics_are_lines_that_a_scraper_reads() {
        let server = TestServer::start(config(FlushMode::Auto));
        let mut alice = server.connect();
        alice.join("tea");
        alice.send("dance");
        alice.expect_error("unknown_event");
        let text = open_metrics(&server);
        check_exposition(&text);
        for line in [
            "throng_connections 1",
            "throng_rooms 1",
            "throng_members 1",
            "throng_rooms_created_total 1",
            "throng_errors_total{code=\"unknown_event\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn whatever_peers_do_no_metric_has_other_labels_than_at_the_start() {
        let server = TestServer::start(config(FlushMode::Auto));
        let labels = || {
            let text = get(server.address(), "/metrics").body;
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let names = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
            names.collect::<Vec<_>>()
        };
        let at_the_start = labels();
        assert!(at_the_start.len() > 50, "{at_the_start:?}");
        // A member for whom something waits, rooms, events, pages and errors of the peers' own.
        let mut deaf = server.connect_raw_websocket();
        deaf.send_text(r#"join {"name":"tea"}"#);
        deaf.sync();
        let mut alice = server.connect();
        for number in 0..50 {
            alice.join(&format!("room-{number}"));
            alice.send(&format!("event-{number}"));
            alice.expect_error("unknown_event");
            let page = format!(
                "GET /ws-{number} HTTP/1.1\r\nHost: h-{number}\r\nConnection: close\r\n\
                 Origin: https://{number}.example\r\n\r\n"
            );
            exchange(server.address(), &page);
            if number % 10 == 0 {
                assert_eq!(labels(), at_the_start);
            }
        }
        let mut publish_until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                alice.say("tea", &"x".repeat(60_000));
                alice.sync();
            }
        };
        let pending =
            |bound| server.metric(&format!("throng_connections_pending{{le=\"{bound}\"}}"));
        publish_until(&|| pending("0") < pending("+Inf"));
        assert_eq!(labels(), at_the_start, "something waits for her");
        publish_until(&|| server.metric("throng_slow_consumers_total") > 0);
        assert_eq!(labels(), at_the_start);
    }

    #[test]
    fn a_counter_of_the_applications_own_is_shown() {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.counter("orders", "Orders taken", || 7);
        let server = TestServer::serve(server, |_, _| {});
        assert_eq!(server.metric("throng_orders_total"), 7);
        check_exposition(&open_metrics(&server));
    }

    fn open_metrics(server: &TestServer) -> String {
        let text = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Accept: application/openmetrics-text\r\n\r\n";
        let reply = exchange(server.address(), text);
        assert_eq!(reply.status, 200);
        reply.body
    }

    /// Checks the text format: comments first, then the samples of that family, then the end.
    fn check_exposition(text: &str) {
        let text = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let mut family = "";
        let mut kind = "";
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next().unwrap(), words.next().unwrap());
                let rest = words.next().unwrap();
                match what {
                    "HELP" => assert!(!rest.is_empty(), "{line}"),
                    "TYPE" => kind = rest,
                    other => panic!("{other} in {line}"),
                }
                if name != family {
                    assert!(!families.contains(&name), "{name} comes twice");
                    families.push(name);
                    family = name;
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("no number in {line}"));
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            assert!(labels.ends_with('}'), "{line}");
            match kind {
                "counter" => assert_eq!(name, format!("{family}_total"), "{line}"),
                "gauge" => assert_eq!(name, family, "{line}"),
                other => panic!("{other} for {line}"),
            }
            assert!(name.starts_with("throng_"), "{line}");
        }
        assert!(families.len() > 15, "{families:?}");
    }

    #[test]
    fn a_page_is_served_as_it_is_and_what_is_none_is_not_found() {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.page(Page {
            path: "/",
            content_type: "text/html; charset=utf-8",
            body: "<p>hello".into(),
        });
        let server = TestServer::serve(server, |_, _| {});
        let reply = get(server.address(), "/");
        assert_eq!((reply.status, &*reply.body), (200, "<p>hello"));
        assert_eq!(reply.header("content-length"), Some("8"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("content-security-policy").is_some());

        for path in ["/no", "/healthz/", "//", "/%2e%2e/etc/passwd"] {
            assert_eq!(get(server.address(), path).status, 404, "{path}");
        }
        let post = exchange(
            server.address(),
            "POST /no HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: 3\r\n\r\nabc",
        );
        assert_eq!(post.status, 404);
    }

    #[test]
    fn a_page_is_read_with_get_or_head_only() {
        let server = TestServer::start(config(FlushMode::Auto));
        for method in ["POST", "PUT", "DELETE", "BREW"] {
            let reply = exchange(
                server.address(),
                &format!(
                    "{method} /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                ),
            );
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
            assert!(!reply.body.is_empty());
        }
        for path in ["/healthz", "/metrics"] {
            let head = exchange(
                server.address(),
                &format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            );
            assert_eq!((head.status, &*head.body), (200, ""));
            let len: usize = head.header("content-length").unwrap().parse().unwrap();
            assert!(len > 0);
        }
    }

    #[test]
    fn http_1_0_is_answered() {
        let server = TestServer::start(config(FlushMode::Auto));
        let reply = exchange(server.address(), "GET /healthz HTTP/1.0\r\n\r\n");
        assert_eq!((reply.status, &*reply.body), (200, "ok\n"));
    }

    #[test]
    fn requests_one_after_the_other_and_then_a_websocket_share_a_connection() {
        let server = TestServer::start(config(FlushMode::Auto));
        let mut raw = server.connect_raw();
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        raw.send(&[&request[..], request].concat());
        for _ in 0..2 {
            assert!(raw.receive_head().starts_with("HTTP/1.1 200 "));
            assert_eq!(raw.receive_text(3), "ok\n");
        }
        let mut raw = raw.opened();
        raw.sync();
    }
}

mod upgrades {
    use super::*;

    const CONNECTION: &str = "Connection: keep-alive, Upgrade\r\n";
    const UPGRADE: &str = "Upgrade: WebSocket\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// The status and the sentence for a request that is to be refused.
    fn refused(server: &TestServer, line: &str, headers: &[&str]) -> Reply {
        let mut raw = server.connect_raw();
        raw.send(format!("{line}\r\nHost: localhost\r\n{}\r\n", headers.concat()).as_bytes());
        // Not to the end of the connection: its Connection header is the test's own.
        let head = raw.receive_head();
        let mut reply = Reply::parse(&head);
        let len = reply.header("content-length").unwrap().parse().unwrap();
        reply.body = raw.receive_text(len);
        assert!(
            reply.body.len() > 5 && reply.body.ends_with('\n'),
            "{reply:?}"
        );
        reply
    }

    #[test]
    fn each_mistake_in_a_handshake_has_its_status_and_a_sentence() {
        let server = TestServer::start(config(FlushMode::Auto));
        let get = "GET /ws HTTP/1.1";
        let key = "Sec-WebSocket-Key: c2hvcnQ=\r\n";
        let old = "Sec-WebSocket-Version: 8\r\n";
        for (line, headers, status, word) in [
            (get, &[][..], 426, "Upgrade: websocket"),
            (get, &[CONNECTION, VERSION, KEY], 426, "Upgrade: websocket"),
            (get, &[UPGRADE, VERSION, KEY], 400, "Connection"),
            (
                get,
                &[CONNECTION, UPGRADE, VERSION],
                400,
                "Sec-WebSocket-Key",
            ),
            (get, &[CONNECTION, UPGRADE, VERSION, key], 400, "16 bytes"),
            (get, &[CONNECTION, UPGRADE, VERSION, KEY, KEY], 400, "once"),
            (get, &[CONNECTION, UPGRADE, KEY], 426, "version 13"),
            (get, &[CONNECTION, UPGRADE, KEY, old], 426, "version 13"),
            (
                "POST /ws HTTP/1.1",
                &[CONNECTION, UPGRADE, VERSION, KEY],
                405,
                "GET",
            ),
            (
                "HEAD /ws HTTP/1.1",
                &[CONNECTION, UPGRADE, VERSION, KEY],
                405,
                "",
            ),
            (
                "GET /ws HTTP/1.0",
                &[CONNECTION, UPGRADE, VERSION, KEY],
                400,
                "HTTP/1.1",
            ),
        ] {
            let case = format!("{line} {headers:?}");
            let reply = if line.starts_with("HEAD") {
                let text = format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                exchange(server.address(), &text)
            } else {
                refused(&server, line, headers)
            };
            assert_eq!(reply.status, status, "{case}");
            assert!(reply.body.contains(word), "{case}: {}", reply.body);
            match status {
                426 => {
                    assert_eq!(reply.header("sec-websocket-version"), Some("13"), "{case}");
                    assert_eq!(reply.header("upgrade"), Some("websocket"), "{case}");
                }
                405 => assert_eq!(reply.header("allow"), Some("GET"), "{case}"),
                _ => {}
            }
        }
        let counter = r#"throng_handshakes_refused_total{reason="bad_handshake"}"#;
        assert_eq!(server.metric(counter), 11);
        assert_eq!(server.metric("throng_connections_opened_total"), 0);
    }

    #[test]
    fn a_websocket_is_opened_on_its_path_only() {
        let server = TestServer::start(config(FlushMode::Auto));
        let headers = [CONNECTION, UPGRADE, VERSION, KEY];
        assert_eq!(refused(&server, "GET / HTTP/1.1", &headers).status, 404);
        Client::connect_with(server.address(), "/ws?room=tea", &[]).sync();
    }

    #[test]
    fn without_a_path_a_websocket_is_opened_on_any_that_is_no_page() {
        let mut config = config(FlushMode::Auto);
        config.path = None;
        let server = TestServer::start(config);
        for path in ["/", "/ws", "/any/where"] {
            Client::connect_with(server.address(), path, &[]).sync();
        }
        assert_eq!(get(server.address(), "/healthz").status, 200);
        assert_eq!(get(server.address(), "/any").status, 426);
    }

    #[test]
    fn a_subprotocol_that_is_not_spoken_is_not_selected() {
        let server = TestServer::start(config(FlushMode::Auto));
        let mut raw = server.connect_raw();
        let offers = "Sec-WebSocket-Protocol: mqtt, graphql-ws\r\n";
        let extensions = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let headers = [CONNECTION, UPGRADE, VERSION, KEY, offers, extensions].concat();
        raw.send(format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
        let head = raw.receive_head().to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        raw.sync();
    }
}

mod origins {
    use throng::Origins;

    use super::*;

    const REFUSED: &str = r#"throng_handshakes_refused_total{reason="origin"}"#;

    fn serving(origins: &str) -> TestServer {
        let mut config = config(FlushMode::Auto);
        config.origins = origins.parse().unwrap();
        TestServer::start(config)
    }

    /// Asks for a WebSocket, as `Host: localhost` and with these headers more.
    fn ask(server: &TestServer, headers: &str) -> Reply {
        let mut raw = server.connect_raw();
        raw.send(
            format!(
                "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
            )
            .as_bytes(),
        );
        let mut reply = Reply::parse(&raw.receive_head());
        if let Some(len) = reply.header("content-length") {
            reply.body = raw.receive_text(len.parse().unwrap());
        }
        reply
    }

    #[test]
    fn a_page_of_the_same_origin_is_served_and_one_of_another_is_refused_with_403() {
        let server = TestServer::start(config(FlushMode::Auto));
        for page in ["http://localhost", "https://localhost"] {
            let mut client = Client::connect_with(server.address(), "/ws", &[("origin", page)]);
            client.sync();
        }
        assert_eq!(server.metric(REFUSED), 0);
        for page in ["https://evil.example", "http://localhost:8080", "null"] {
            let reply = ask(&server, &format!("Origin: {page}\r\n"));
            assert_eq!(reply.status, 403, "{page}");
            let wanted = format!(
                "the origin \"{page}\" may not open a WebSocket here; the operator can allow it \
                 with THRONG_ORIGINS (Config::origins)\n"
            );
            assert_eq!(reply.body, wanted);
            let content_type = reply.header("content-type");
            assert_eq!(content_type, Some("text/plain; charset=utf-8"));
        }
        assert_eq!(server.metric(REFUSED), 3);
        assert_eq!(server.metric("throng_connections_opened_total"), 2);
        // Pages are for everybody: only the WebSocket acts in somebody's name.
        let text = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
                    Connection: close\r\n\r\n";
        assert_eq!(exchange(server.address(), text).status, 200);
    }

    #[test]
    fn several_origins_and_one_that_is_no_text_are_refused() {
        let server = serving("same,https://chat.example");
        let mine = "Origin: https://chat.example\r\n";
        assert_eq!(ask(&server, mine).status, 101);
        let reply = ask(&server, &[mine, mine].concat());
        assert_eq!(reply.status, 403);
        assert!(reply.body.starts_with("several origins may "), "{reply:?}");
        let reply = ask(&server, "Origin: https://ü.example\r\n");
        assert_eq!(reply.status, 403);
        assert!(
            reply.body.contains(r"https://\xc3\xbc.example"),
            "{reply:?}"
        );
        assert_eq!(server.metric(REFUSED), 2);
    }

    #[test]
    fn what_the_operator_allows_is_served() {
        let server = serving("https://*.chat.example");
        for (page, status) in [
            ("https://a.chat.example", 101),
            ("https://chat.example", 403),
            ("http://localhost", 403),
        ] {
            let reply = ask(&server, &format!("Origin: {page}\r\n"));
            assert_eq!(reply.status, status, "{page}");
        }
        server.check_health();
        let open = serving("*");
        assert_eq!(ask(&open, "Origin: null\r\n").status, 101);
    }

    #[test]
    fn a_page_that_is_refused_takes_no_place() {
        let mut config = config(FlushMode::Auto);
        config.limits.connections_max = 1.into();
        config.origins = Origins::same();
        let server = TestServer::start(config);
        for _ in 0..3 {
            let reply = ask(&server, "Origin: https://evil.example\r\n");
            assert_eq!(reply.status, 403);
        }
        server.connect().sync();
    }
}

mod addresses {
    use super::*;

    /// A path for a socket in a directory of its own, removed with what is in it.
    struct SocketPath(PathBuf);

    impl SocketPath {
        fn new(name: &str) -> Self {
            let directory = format!("throng-{name}-{}", std::process::id());
            let directory = std::env::temp_dir().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory.join("throng.sock"))
        }

        fn address(&self) -> ListenAddress {
            ListenAddress::Unix(self.0.clone())
        }
    }

    impl Drop for SocketPath {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    fn listening_on(addresses: Vec<ListenAddress>) -> throng::Config {
        let mut config = config(FlushMode::Auto);
        config.cores = 2;
        config.listen = addresses;
        config
    }

    #[test]
    fn several_addresses_serve_the_same_rooms() {
        let path = SocketPath::new("several");
        let mut addresses = vec![
            "127.0.0.1:0".parse().unwrap(),
            "127.0.0.1:0".parse().unwrap(),
            path.address(),
        ];
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        if has_ipv6 {
            addresses.push("[::1]:0".parse().unwrap());
        }
        let server = TestServer::start(listening_on(addresses));
        let mut clients = vec![Client::connect_unix(&path.0)];
        for address in &server.addresses {
            if let ListenAddress::Tcp(address) = address {
                clients.push(Client::connect(*address));
            }
        }
        assert_eq!(clients.len(), server.addresses.len());
        for client in &mut clients {
            client.join("tea");
        }
        for index in 0..clients.len() {
            clients[index].say("tea", &index.to_string());
            for client in &mut clients {
                client.expect(&format!("msg \"{index}\""));
            }
        }
    }

    #[test]
    fn ipv6_is_served() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            println!("this machine has no IPv6");
            return;
        }
        let server = TestServer::start(listening_on(vec!["[::1]:0".parse().unwrap()]));
        assert!(server.address().is_ipv6());
        server.check_health();
    }

    #[test]
    fn a_unix_socket_serves_and_its_file_goes_with_the_server() {
        let path = SocketPath::new("serves");
        // One core listens on TCP too, for the metrics.
        let addresses = vec![path.address(), "127.0.0.1:0".parse().unwrap()];
        let server = TestServer::start(listening_on(addresses));
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let mut client = Client::connect_unix(&path.0);
                client.join("tea");
                client
            })
            .collect();
        server.rooms.emit("tea", "said", &1).unwrap();
        for mut client in clients {
            client.expect("said 1");
        }
        server.wait_until_empty();
        server.drain().unwrap();
        assert!(!path.0.exists());
    }

    #[test]
    fn a_unix_socket_serves_every_host_but_none_that_is_malformed() {
        let path = SocketPath::new("hosts");
        let _server = TestServer::start(listening_on(vec![path.address()]));
        for (host, status) in [
            ("Host: chat.example.com\r\n", "200"),
            ("Host: localhost\r\n", "200"),
            ("", "400"),
            ("Host: a b\r\n", "400"),
            ("Host: a\r\nHost: a\r\n", "400"),
        ] {
            let mut stream = UnixStream::connect(&path.0).unwrap();
            let text = format!("GET /metrics HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{host}");
        }
    }

    #[test]
    fn the_file_of_a_server_that_is_gone_is_replaced() {
        let path = SocketPath::new("stale");
        drop(UnixListener::bind(&path.0).unwrap());
        assert!(path.0.exists(), "std leaves the file");
        let server = TestServer::start(listening_on(vec![path.address()]));
        Client::connect_unix(&path.0).sync();
        server.drain().unwrap();
        assert!(!path.0.exists());
    }

    #[test]
    fn the_file_of_a_server_that_lives_and_a_file_that_is_no_socket_are_left_alone() {
        let path = SocketPath::new("live");
        let live = UnixListener::bind(&path.0).unwrap();
        let error = Server::bind(listening_on(vec![path.address()])).unwrap_err();
        assert!(error.to_string().contains("throng.sock"), "{error}");
        UnixStream::connect(&path.0).unwrap();
        drop(live);

        std::fs::remove_file(&path.0).unwrap();
        std::fs::write(&path.0, "precious").unwrap();
        let error = Server::bind(listening_on(vec![path.address()])).unwrap_err();
        assert!(matches!(error, BindError::Listen(_)), "{error}");
        assert_eq!(std::fs::read_to_string(&path.0).unwrap(), "precious");
    }

    #[test]
    fn a_server_that_could_not_be_bound_or_never_served_leaves_no_file() {
        let path = SocketPath::new("unbound");
        // An address from the RFCs' examples: no machine has it.
        let nowhere = "192.0.2.1:80".parse().unwrap();
        Server::bind(listening_on(vec![path.address(), nowhere])).unwrap_err();
        assert!(!path.0.exists());
        drop(Server::bind(listening_on(vec![path.address()])).unwrap());
        assert!(!path.0.exists());
    }

    #[test]
    fn a_server_that_ends_does_not_take_the_file_of_its_successor() {
        let path = SocketPath::new("successor");
        let addresses = vec![path.address(), "127.0.0.1:0".parse().unwrap()];
        let first = TestServer::start(listening_on(addresses));
        // It drains for as long as this peer stays.
        let mut lingering = Raw::connect_websocket(first.address());
        lingering.sync();
        first.stop.drain();
        lingering.expect_close(1001);
        let second = until(
            || Server::bind(listening_on(vec![path.address()])).ok(),
            || "the file of a server that drains is never free".to_owned(),
        );
        let second = TestServer::serve(second, |_, _| {});
        Client::connect_unix(&path.0).sync();
        drop(lingering);
        first.drain().unwrap();
        Client::connect_unix(&path.0).sync();
        second.drain().unwrap();
        assert!(!path.0.exists());
    }
}
