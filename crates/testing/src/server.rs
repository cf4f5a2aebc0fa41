//! A server in this process.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use throng::{
    Config, FlushMode, ListenAddress, RoomManager, Router, ServeError, Server, Stop, Timeouts,
};

use super::chat;
use super::client::Client;
use super::http::get;
use super::raw::Raw;
use super::time::{TIMEOUT, until};
use crate::files::raise_file_limit;

/// The ways of writing that every test which writes is run with.
pub const MODES: [FlushMode; 2] = [FlushMode::Auto, FlushMode::Write];

/// Runs a test once for each way of writing.
#[expect(
    clippy::print_stdout,
    reason = "shown when the test fails, to tell in which way of writing"
)]
pub fn for_each_flush_mode(test: impl Fn(FlushMode)) {
    for mode in MODES {
        println!("flush mode: {mode}");
        test(mode);
    }
}

/// One core on a port that the kernel chooses, and no pings to end what a test expects to last.
pub fn config(flush: FlushMode) -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        cores: 1,
        flush,
        timeouts: Timeouts {
            ping_interval: Duration::ZERO,
            ..Timeouts::default()
        },
        ..Config::default()
    }
}

/// A server that serves until it is dropped.
pub struct TestServer {
    /// The address that it listens on.
    pub addresses: Vec<ListenAddress>,
    /// Its rooms.
    pub rooms: RoomManager,
    /// The handle that stops it.
    pub stop: Stop,
    /// The result of `serve`.
    ended: Receiver<Result<(), ServeError>>,
    was_awaited: bool,
}

impl TestServer {
    /// Starts the chat.
    pub fn start(config: Config) -> Self {
        Self::start_with(config, |_, _| {})
    }

    /// Starts the chat with more events, or hooks.
    pub fn start_with(config: Config, set_up: impl FnOnce(&mut Router, &RoomManager)) -> Self {
        let server = Server::bind(config).unwrap();
        Self::serve(server, set_up)
    }

    /// Starts the chat on a server that is bound already.
    pub fn serve(server: Server, set_up: impl FnOnce(&mut Router, &RoomManager)) -> Self {
        let mut router = Router::new();
        let rooms = server.rooms();
        chat::add_to(&mut router);
        set_up(&mut router, &rooms);
        Self::run(server, router)
    }

    /// Runs a server with an application of the test's own.
    pub fn run<S: Send + Sync + 'static>(server: Server, router: Router<S>) -> Self {
        // A thousand peers and their server in one process need more than the usual 1,024.
        raise_file_limit();
        let rooms = server.rooms();
        let (addresses, stop) = (server.addresses(), server.stop());
        let (sender, ended) = channel();
        thread::spawn(move || _ = sender.send(server.serve(router)));
        Self {
            addresses,
            rooms,
            stop,
            ended,
            was_awaited: false,
        }
    }

    /// The first TCP address.
    pub fn address(&self) -> SocketAddr {
        let tcp = |address: &ListenAddress| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        };
        self.addresses.iter().find_map(tcp).unwrap()
    }

    /// A new WebSocket.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A new WebSocket on this core: the kernel chooses, so it is tried until it is so.
    pub fn connect_on(&self, core: u8) -> Client {
        let try_once = || {
            let mut client = self.connect();
            (client.core() == core).then_some(client)
        };
        until(try_once, || format!("no connection came to core {core}"))
    }

    /// A new TCP connection that has said nothing.
    pub fn connect_raw(&self) -> Raw {
        Raw::connect(self.address())
    }

    /// A new WebSocket whose every byte is the test's own.
    pub fn connect_raw_websocket(&self) -> Raw {
        Raw::connect_websocket(self.address())
    }

    /// A number from `/metrics`, named as there: `throng_rooms`, `throng_errors_total{code="..."}`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = get(self.address(), "/metrics").body;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("there is no metric {name} in:\n{text}"));
        value.parse().unwrap()
    }

    /// The sum of all numbers with this name, over their labels.
    pub fn metric_sum(&self, name: &str) -> u64 {
        let text = get(self.address(), "/metrics").body;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        samples
            .map(|sample| sample.split_once("} ").unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    /// Waits until a number from `/metrics` is this one.
    pub fn wait_for_metric(&self, name: &str, wanted: u64) {
        self.wait_for_metric_to_be(name, |value| value == wanted, &wanted.to_string());
    }

    /// Waits until a number from `/metrics` is this one or a larger one.
    pub fn wait_for_metric_from(&self, name: &str, least: u64) {
        self.wait_for_metric_to_be(name, |value| value >= least, &format!("{least} or more"));
    }

    fn wait_for_metric_to_be(&self, name: &str, fits: impl Fn(u64) -> bool, wanted: &str) {
        until(
            || fits(self.metric(name)).then_some(()),
            || {
                let value = self.metric(name);
                format!("{name} is {value} and not {wanted}")
            },
        );
    }

    /// Waits until nobody is left, and nothing of anybody.
    pub fn wait_until_empty(&self) {
        for gauge in ["throng_connections", "throng_members", "throng_rooms"] {
            self.wait_for_metric(gauge, 0);
        }
    }

    /// Serves a fresh pair of clients, as a server does that took no harm.
    pub fn check_health(&self) {
        let mut alice = self.connect();
        let mut bob = self.connect();
        alice.join("health");
        bob.join("health");
        alice.say("health", "are you there");
        bob.expect("msg \"are you there\"");
        alice.expect("msg \"are you there\"");
    }

    /// Drains the server and waits for it; returns what `serve` returned.
    pub fn drain(mut self) -> Result<(), ServeError> {
        self.stop.drain();
        self.wait()
    }

    /// Waits for the end of a server that something else ends.
    pub fn wait(&mut self) -> Result<(), ServeError> {
        self.was_awaited = true;
        self.ended
            .recv_timeout(TIMEOUT)
            .expect("the server should have ended")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.was_awaited && !thread::panicking() {
            self.stop.drain();
            self.wait().unwrap();
        }
    }
}
