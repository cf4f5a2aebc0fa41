//! Requests at the edge of HTTP: where one ends, whom it is for, and which methods there are.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use throng::{FlushMode, Page, Server};
use throng_testing::{Raw, Reply, TestServer, config, exchange, text};

/// The lines of a handshake, without its end.
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn serving() -> TestServer {
    TestServer::start(config(FlushMode::Auto))
}

/// Returns when the server has read what was written to it on any connection before.
fn server_has_read(other: &mut Raw) {
    other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(other.receive_head().starts_with("HTTP/1.1 200 "));
    assert_eq!(other.receive_text(3), "ok\n");
}

/// Sends a request in two pieces, cut at every place, and expects one answer and the end each time.
fn expect_at_every_cut(server: &TestServer, request: &[u8], status: u16) {
    let mut other = server.connect_raw();
    for cut in 0..=request.len() {
        let mut raw = server.connect_raw();
        let (first, second) = request.split_at(cut);
        raw.send(first);
        server_has_read(&mut other);
        raw.try_send(second);
        let answers = raw.receive_all();
        let shown = String::from_utf8_lossy(request);
        let found = answers.matches("HTTP/1.1 ").count();
        assert_eq!(found, 1, "cut at {cut}: {answers:?} to {shown:?}");
        let reply = Reply::parse(&answers);
        assert_eq!(reply.status, status, "cut at {cut}: {shown:?}");
        let len = reply.header("content-length").unwrap();
        assert_eq!(len, reply.body.len().to_string(), "cut at {cut}");
    }
}

mod bodies {
    use super::*;

    #[test]
    fn a_handshake_with_a_body_is_refused_wherever_its_bytes_are_cut() {
        let server = serving();
        let frame = text("sync 0");
        let chunk = [
            format!("{:x}\r\n", frame.len()).as_bytes(),
            &frame,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        let length = format!("Content-Length: {}\r\n", frame.len());
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (headers, body) in [
            (length.clone(), frame.clone()),
            (chunked.to_owned(), chunk.clone()),
            (format!("{length}{chunked}"), chunk.clone()),
            (format!("{chunked}{length}"), chunk),
            (format!("{length}{length}"), frame),
        ] {
            let head = format!("{HANDSHAKE}{headers}\r\n");
            let request = [head.as_bytes(), &body].concat();
            expect_at_every_cut(&server, &request, 400);
        }
        assert_eq!(server.metric("throng_connections_opened_total"), 0);
        assert_eq!(server.metric("throng_messages_in_total"), 0);
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused_wherever_they_are_cut() {
        let server = serving();
        for headers in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3, 4\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: -3\r\n",
            "Content-Length: 0x3\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
        ] {
            let request = format!("{HANDSHAKE}{headers}\r\nabc");
            expect_at_every_cut(&server, request.as_bytes(), 400);
        }
    }

    #[test]
    fn a_handshake_that_says_that_it_has_no_body_is_served() {
        let server = serving();
        for headers in ["Content-Length: 0\r\n", "Expect: 100-continue\r\n"] {
            let mut raw = server.connect_raw();
            raw.send(format!("{HANDSHAKE}{headers}\r\n").as_bytes());
            let head = raw.receive_head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{headers}{head}");
            raw.sync();
        }
    }

    /// A request that a proxy takes for the body of another is answered to nobody.
    #[test]
    fn nothing_behind_a_body_that_is_not_read_is_taken_for_a_request() {
        let server = serving();
        let smuggled = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let length = format!("Content-Length: {}\r\n", smuggled.len());
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (line, headers, body, status) in [
            ("GET /healthz", length.clone(), smuggled.to_owned(), 200),
            ("POST /healthz", length.clone(), smuggled.to_owned(), 405),
            ("POST /nothing", length.clone(), smuggled.to_owned(), 404),
            (
                "GET /healthz",
                format!("{length}{chunked}"),
                format!("0\r\n\r\n{smuggled}"),
                400,
            ),
            (
                "GET /ws",
                format!("{chunked}{length}"),
                format!("0\r\n\r\n{smuggled}"),
                426,
            ),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}");
            let mut raw = server.connect_raw();
            raw.send(request.as_bytes());
            let answers = raw.receive_all();
            assert_eq!(
                answers.matches("HTTP/1.1 ").count(),
                1,
                "{request}{answers}"
            );
            let reply = Reply::parse(&answers);
            assert_eq!(reply.status, status, "{request}");
            assert_eq!(reply.header("connection"), Some("close"), "{request}");
        }
    }

    #[test]
    fn a_folded_header_is_refused_wherever_it_is_cut() {
        let server = serving();
        for fold in [
            "X: a\r\n b\r\n",
            "Content-Length:\r\n 5\r\n",
            "Host: a\r\n\tb\r\n",
        ] {
            let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fold}\r\n");
            expect_at_every_cut(&server, request.as_bytes(), 400);
        }
    }

    #[test]
    fn what_is_expected_and_not_known_is_refused_and_a_body_that_nobody_reads_is_not_asked_for() {
        let server = serving();
        let ask = |line: &str, expect: &str| {
            let text = format!(
                "{line}\r\nHost: localhost\r\nExpect: {expect}\r\nContent-Length: 3\r\n\r\n"
            );
            let mut raw = server.connect_raw();
            raw.send(text.as_bytes());
            raw.receive_all()
        };
        for (line, expect, status) in [
            ("POST /healthz HTTP/1.1", "100-continue", 405),
            ("GET /ws HTTP/1.1", "100-Continue", 426),
            ("GET /healthz HTTP/1.1", "tea", 417),
            ("GET /healthz HTTP/1.0", "tea", 200),
        ] {
            let answers = ask(line, expect);
            assert!(!answers.contains(" 100 "), "{line}: {answers}");
            assert_eq!(Reply::parse(&answers).status, status, "{line}, {expect}");
        }
    }
}

mod hosts {
    use super::*;

    /// Requests for everything there is, with these lines for a host.
    fn statuses(server: &TestServer, hosts: &str) -> Vec<u16> {
        let lines = [
            "GET /healthz",
            "HEAD /healthz",
            "OPTIONS /healthz",
            "GET /metrics",
            "GET /",
            "GET /nothing",
            "POST /healthz",
            "GET /ws",
        ];
        let status = |line: &&str| {
            let more = "Connection: close\r\n\r\n";
            let text = format!("{line} HTTP/1.1\r\n{hosts}{more}");
            exchange(server.address(), &text).status
        };
        lines.iter().map(status).collect()
    }

    #[test]
    fn a_request_without_a_host_with_two_or_with_a_malformed_one_is_refused() {
        let server = serving();
        for hosts in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
            "Host:\r\n",
            "Host: \r\n",
            "Host: a b\r\n",
            "Host: localhost/\r\n",
            "Host: http://localhost\r\n",
            "Host: user@localhost\r\n",
            "Host: localhost:port\r\n",
            "Host: localhost:80:80\r\n",
            "Host: localhost:65536\r\n",
            "Host: localhost:-1\r\n",
            "Host: ::1\r\n",
            "Host: [::1\r\n",
            "Host: [::1]80\r\n",
            "Host: [localhost]\r\n",
            "Host: %zz\r\n",
            "Host: %4\r\n",
            "Host: a?b\r\n",
            "Host: a#b\r\n",
            "Host: a\\b\r\n",
            "Host: \"localhost\"\r\n",
            "Host: b\u{fc}cher.example\r\n",
            "Host: :80\r\n",
        ] {
            assert_eq!(statuses(&server, hosts), [400; 8], "{hosts}");
        }
        server.check_health();
    }

    #[test]
    fn a_handshake_with_a_wrong_host_is_refused_wherever_it_is_cut() {
        let server = serving();
        for host in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: a b\r\n",
        ] {
            let request = format!("{HANDSHAKE}\r\n").replace("Host: localhost\r\n", host);
            expect_at_every_cut(&server, request.as_bytes(), 400);
        }
        assert_eq!(server.metric("throng_connections_opened_total"), 0);
    }

    #[test]
    fn every_way_to_write_a_host_of_this_machine_is_served() {
        let server = serving();
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost:",
            "127.0.0.1:1",
            "[::1]:80",
        ] {
            let text =
                format!("GET /metrics HTTP/1.1\r\nhost:   {host}\t\r\nConnection: close\r\n\r\n");
            assert_eq!(exchange(server.address(), &text).status, 200, "{host}");
        }
    }

    #[test]
    fn http_1_0_needs_no_host_but_may_not_have_two() {
        let server = serving();
        for (hosts, status) in [
            ("", 200),
            ("Host: localhost\r\n", 200),
            ("Host: localhost\r\nHost: localhost\r\n", 400),
            ("Host: a b\r\n", 400),
        ] {
            let text = format!("GET /metrics HTTP/1.0\r\n{hosts}\r\n");
            assert_eq!(exchange(server.address(), &text).status, status, "{hosts}");
        }
    }

    #[test]
    fn a_whole_address_in_the_request_line_must_be_of_the_same_host() {
        let server = serving();
        for (target, host, status) in [
            ("http://localhost/healthz", "localhost", 200),
            ("http://LOCALHOST:80/healthz", "localhost", 200),
            ("http://localhost/healthz", "localhost:80", 200),
            ("http://localhost:8080/healthz", "localhost:8080", 200),
            ("http://evil.example/healthz", "localhost", 400),
            ("http://localhost/healthz", "evil.example", 400),
            ("http://localhost:81/healthz", "localhost:80", 400),
            ("http://user@localhost/healthz", "localhost", 400),
            ("ftp://localhost/healthz", "localhost", 400),
        ] {
            let text =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let reply = exchange(server.address(), &text);
            assert_eq!(reply.status, status, "{target} of {host}");
        }
        let handshake = format!("{HANDSHAKE}\r\n").replace("/ws", "http://evil.example/ws");
        let mut raw = server.connect_raw();
        raw.send(handshake.as_bytes());
        assert!(raw.receive_head().starts_with("HTTP/1.1 400 "));
    }
}

mod allowed {
    use super::*;

    const REFUSED: &str = r#"throng_handshakes_refused_total{reason="host"}"#;

    fn serving(hosts: &str) -> TestServer {
        let mut config = config(FlushMode::Auto);
        config.allowed_hosts = hosts.parse().unwrap();
        let mut server = Server::bind(config).unwrap();
        server.page(Page::html("/", "<p>hello"));
        TestServer::serve(server, |_, _| {})
    }

    /// Returns what a page of this host gets whose browser was led here.
    fn ask(server: &TestServer, path: &str, host: &str) -> Reply {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Connection: close\r\n\r\n"
        );
        exchange(server.address(), &text)
    }

    fn open(server: &TestServer, host: &str) -> String {
        let handshake = format!("{HANDSHAKE}Origin: http://{host}\r\n\r\n");
        let handshake = handshake.replace("Host: localhost", &format!("Host: {host}"));
        let mut raw = server.connect_raw();
        raw.send(handshake.as_bytes());
        raw.receive_head()
    }

    #[test]
    fn a_name_that_was_made_to_lead_to_the_loopback_is_refused_and_health_says_nothing_of_anybody()
    {
        let server = serving("");
        for host in [
            "evil.example",
            "evil.example:8080",
            "192.168.0.7",
            "localhost.evil.example",
        ] {
            for path in ["/", "/metrics", "/nothing", "/ws"] {
                let reply = ask(&server, path, host);
                assert_eq!(reply.status, 403, "{path} of {host}");
                let name = host.split(':').next().unwrap();
                let line = format!("THRONG_ALLOWED_HOSTS={name} ");
                assert!(reply.body.contains(&line), "{}", reply.body);
            }
            assert!(open(&server, host).starts_with("HTTP/1.1 403 "), "{host}");
            assert_eq!(ask(&server, "/healthz", host).status, 200, "{host}");
        }
        assert_eq!(server.metric(REFUSED), 20);
        for host in [
            "localhost:8080",
            "chat.localhost",
            "127.0.0.1:1",
            "127.8.9.10",
            "[::1]",
        ] {
            assert_eq!(ask(&server, "/", host).status, 200, "{host}");
            assert!(open(&server, host).starts_with("HTTP/1.1 101 "), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_allowed_is_served_and_another_is_told_what_to_add() {
        let server = serving("chat.example.com,*.example.org");
        for host in [
            "chat.example.com",
            "CHAT.example.com:8443",
            "a.example.org",
            "localhost",
        ] {
            assert_eq!(ask(&server, "/", host).status, 200, "{host}");
            assert!(open(&server, host).starts_with("HTTP/1.1 101 "), "{host}");
        }
        let reply = ask(&server, "/", "example.org");
        assert_eq!(reply.status, 403);
        // Which other names there are is nobody's business.
        let line = "THRONG_ALLOWED_HOSTS=...,example.org ";
        assert!(reply.body.contains(line), "{}", reply.body);
        assert_eq!(ask(&serving("*"), "/", "any.example").status, 200);
    }

    #[test]
    fn the_applications_own_service_is_not_asked_by_another_host() {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.fallback(axum::Router::new().fallback(|| async { "hello" }));
        let server = TestServer::serve(server, |_, _| {});
        assert_eq!(ask(&server, "/hello", "evil.example").status, 403);
        assert_eq!(ask(&server, "/hello", "localhost").body, "hello");
    }
}

mod methods {
    use super::*;

    fn paged() -> TestServer {
        let mut server = Server::bind(config(FlushMode::Auto)).unwrap();
        server.page(Page::html("/", "<p>hello"));
        TestServer::serve(server, |_, _| {})
    }

    fn ask(server: &TestServer, line: &str) -> Reply {
        let host = "Host: localhost\r\nConnection: close\r\n\r\n";
        exchange(server.address(), &format!("{line} HTTP/1.1\r\n{host}"))
    }

    #[test]
    fn head_is_answered_with_the_headers_of_get_and_no_body() {
        let server = paged();
        for path in ["/", "/healthz", "/nothing"] {
            let get = ask(&server, &format!("GET {path}"));
            let head = ask(&server, &format!("HEAD {path}"));
            assert_eq!((head.status, &*head.body), (get.status, ""), "{path}");
            for name in ["content-length", "content-type", "cache-control"] {
                assert!(get.header(name).is_some(), "{path}: {name}");
                assert_eq!(head.header(name), get.header(name), "{path}: {name}");
            }
        }
        let head = ask(&server, "HEAD /metrics");
        assert_eq!((head.status, &*head.body), (200, ""));
        let len: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(len > 1000);
    }

    #[test]
    fn options_is_answered_with_what_is_allowed_and_other_methods_with_405() {
        let server = paged();
        for path in ["/", "/healthz", "/metrics", "*"] {
            let reply = ask(&server, &format!("OPTIONS {path}"));
            assert_eq!((reply.status, &*reply.body), (204, ""), "{path}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
            assert_eq!(reply.header("content-length"), None, "{path}");
        }
        for path in ["/", "/healthz", "/metrics"] {
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
                let reply = ask(&server, &format!("{method} {path}"));
                assert_eq!(reply.status, 405, "{method} {path}");
                assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
            }
        }
    }
}

mod exposition {
    use super::*;

    const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn scrape(server: &TestServer, accept: &[&str]) -> Reply {
        let lines: String = accept.iter().map(|a| format!("Accept: {a}\r\n")).collect();
        let text =
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n");
        exchange(server.address(), &text)
    }

    #[test]
    fn the_format_of_metrics_is_the_one_that_is_asked_for() {
        let server = serving();
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
             escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (&[][..], PLAIN),
            (&["*/*"], PLAIN),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], PLAIN),
            (&["text/plain"], PLAIN),
            (&["text/plain;version=0.0.4"], PLAIN),
            (&["text/*"], PLAIN),
            (&["application/*"], OPEN),
            (&["application/openmetrics-text"], OPEN),
            (&["application/openmetrics-text; version=1.0.0"], OPEN),
            (&["Application/OpenMetrics-Text;Version=\"1.0.0\""], OPEN),
            (
                &["application/openmetrics-text;version=0.0.1,*/*;q=0.1"],
                PLAIN,
            ),
            (&[prometheus_3], OPEN),
            (
                &["application/openmetrics-text;q=0.5,text/plain;q=0.6"],
                PLAIN,
            ),
            (
                &["application/openmetrics-text;q=0.6,text/plain;q=0.5"],
                OPEN,
            ),
            (
                &["application/openmetrics-text;q=0.6", "text/plain;q=0.5"],
                OPEN,
            ),
            (&["text/plain;q=0,*/*"], OPEN),
            (&["application/openmetrics-text;q=0,*/*;q=0.1"], PLAIN),
            (
                &["application/openmetrics-text;q=0.001,text/plain;q=0.000"],
                OPEN,
            ),
            // What nobody can be given is given what everybody reads.
            (&["application/json"], PLAIN),
            (&["text/plain;q=0"], PLAIN),
            (&[";;;,q=,/"], PLAIN),
        ] {
            let reply = scrape(&server, accept);
            assert_eq!(reply.status, 200, "{accept:?}");
            assert_eq!(reply.header("content-type"), Some(wanted), "{accept:?}");
            assert_eq!(reply.header("vary"), Some("Accept"), "{accept:?}");
            assert_eq!(
                reply.body.ends_with("# EOF\n"),
                wanted == OPEN,
                "{accept:?}"
            );
        }
    }

    #[test]
    fn the_plain_format_names_a_counter_as_its_samples_are_named() {
        let server = serving();
        let text = scrape(&server, &["text/plain"]).body;
        let lines: Vec<&str> = text.lines().collect();
        let place = |line: &str| lines.iter().position(|found| *found == line);
        let kind = place("# TYPE throng_turns_total counter").unwrap();
        assert!(lines[kind - 1].starts_with("# HELP throng_turns_total "));
        assert!(lines[kind + 1].starts_with("throng_turns_total "));
        assert!(place("# TYPE throng_connections gauge").is_some());
        for line in lines {
            assert!(!line.starts_with("# UNIT") && line != "# EOF", "{line}");
        }
    }
}
