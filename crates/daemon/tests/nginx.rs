//! The example for nginx of docs/operations.md, as it stands there, with an nginx that nobody here
//! wrote.
//!
//! Without one on `PATH` there is nothing to test; `cargo xtask test` installs it.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use binary::Binary;
use tempfile::TempDir;
use throng_testing::{Reply, TIMEOUT, text, until};

/// An nginx that listens on a Unix socket, killed when dropped.
struct Nginx {
    child: Child,
    socket: PathBuf,
}

impl Nginx {
    /// Runs the example with another upstream.
    fn serve(directory: &TempDir, upstream: &str) -> Self {
        let directory = directory.path();
        let socket = directory.join("nginx.sock");
        let listen = format!("listen unix:{};", socket.display());
        let example = example()
            .replace("unix:/run/throng/throng.sock", upstream)
            .replace("listen 80;", &listen);
        assert!(
            example.contains(upstream) && example.contains(&listen),
            "{example}"
        );
        let at = |name: &str| directory.join(name).display().to_string();
        let file = at("nginx.conf");
        let conf = format!(
            "daemon off; master_process off; pid {pid}; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {temp}; proxy_temp_path {temp};\n\
             fastcgi_temp_path {temp}; uwsgi_temp_path {temp}; scgi_temp_path {temp};\n\
             {example} }}\n",
            pid = at("nginx.pid"),
            temp = at("temp"),
        );
        fs::write(&file, conf).unwrap();
        let child = Command::new("nginx")
            .args(["-p", &at(""), "-c", &file])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, socket };
        until(
            || UnixStream::connect(&nginx.socket).ok(),
            || "nginx does not listen".to_owned(),
        );
        nginx
    }

    /// Asks as the browser of a page of this host does; returns the head of the answer, and what
    /// follows.
    fn ask(&self, path: &str, host: &str, more: &str) -> (Reply, UnixStream) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        (Reply::parse(&String::from_utf8(head).unwrap()), stream)
    }

    fn open(&self, host: &str, origin: &str) -> (Reply, UnixStream) {
        let more = format!(
            "Origin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        self.ask("/ws", host, &more)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The example of the manual.
fn example() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = fs::read_to_string(page).unwrap();
    let (_, rest) = text.split_once("```nginx\n").unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[expect(clippy::print_stdout, reason = "says what was not tested")]
fn is_there() -> bool {
    let found = Command::new("nginx")
        .arg("-v")
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        println!("skipped: there is no nginx on PATH (Debian: nginx-light)");
    }
    found.is_ok()
}

/// A member says something and hears it.
fn check_conversation(mut stream: UnixStream) {
    stream.write_all(&text(r#"join {"name":"tea"}"#)).unwrap();
    stream
        .write_all(&text(r#"msg {"to":"tea","msg":"hi"}"#))
        .unwrap();
    let wanted = b"msg \"hi\"";
    let mut frame = vec![0; 2 + wanted.len()];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[2..], wanted[..]);
}

#[test]
fn pages_of_the_hosts_own_connect_through_the_example_and_others_do_not() {
    if !is_there() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let socket = format!("unix:{}", directory.path().join("throng.sock").display());
    let binary = Binary::start(&[("THRONG_LISTEN", &socket)]);
    binary.wait_for_line("listening on unix:");
    let nginx = Nginx::serve(&directory, &socket);

    for host in ["chat.example.com", "chat.example.com:8080"] {
        let (reply, stream) = nginx.open(host, &format!("http://{host}"));
        assert_eq!(reply.status, 101, "{reply:?}");
        check_conversation(stream);
    }
    let (reply, _) = nginx.open("chat.example.com", "https://evil.example");
    assert_eq!(reply.status, 403, "{reply:?}");
    let (reply, _) = nginx.ask("/", "chat.example.com", "");
    assert_eq!(reply.status, 200, "{reply:?}");
    let (reply, _) = nginx.ask("/metrics", "chat.example.com", "");
    assert_eq!(reply.status, 403, "{reply:?}");
}

#[test]
fn over_tcp_the_name_must_be_allowed_and_the_refusal_says_how() {
    if !is_there() {
        return;
    }
    let line = "THRONG_ALLOWED_HOSTS=chat.example.com";
    let allowed = ("THRONG_ALLOWED_HOSTS", "chat.example.com");
    for (variables, status) in [(&[][..], 403), (&[allowed], 101)] {
        let directory = TempDir::new().unwrap();
        let (_binary, address) = Binary::serve(variables);
        let nginx = Nginx::serve(&directory, &address.to_string());
        let (reply, mut stream) = nginx.open("chat.example.com", "http://chat.example.com");
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 101 {
            check_conversation(stream);
            assert_eq!(nginx.ask("/", "chat.example.com", "").0.status, 200);
        } else {
            let len: usize = reply.header("content-length").unwrap().parse().unwrap();
            let mut body = vec![0; len];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains(line), "{body}");
            assert_eq!(nginx.ask("/", "chat.example.com", "").0.status, 403);
        }
    }
}
