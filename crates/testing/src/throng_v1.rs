//! A client that speaks throng.v1, by tokio-tungstenite.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::Client;
use super::server::TestServer;

/// A connection that asked for `throng.v1` and was greeted.
pub struct Throng {
    /// The WebSocket under it.
    pub client: Client,
    /// The data of its `hello`.
    pub hello: Value,
}

impl Throng {
    /// Opens a WebSocket and waits for the greeting.
    pub fn connect(server: &TestServer) -> Self {
        Self::connect_to(server.address())
    }

    /// Opens a WebSocket to a server in another process, and waits for the greeting.
    pub fn connect_to(address: SocketAddr) -> Self {
        let headers = [("sec-websocket-protocol", "other, throng.v1")];
        let mut client = Client::connect_with(address, "/ws", &headers);
        let greeting = client.receive();
        let (event, hello) = split(&greeting);
        assert_eq!(event, "hello");
        Self { client, hello }
    }

    /// Returns the name that others see its publications come from.
    pub fn name(&self) -> &str {
        self.hello["connection"].as_str().unwrap()
    }

    /// Sends a request.
    pub fn request(&mut self, event: &str, data: Value) {
        self.client.send(&format!("{event} {data}"));
    }

    /// Sends a request and returns the data of the answer, which must be the next message.
    pub fn ask(&mut self, event: &str, data: Value, answer: &str) -> Value {
        self.request(event, data);
        self.receive(answer)
    }

    /// Becomes a member of a room; returns the data of `joined`.
    pub fn join(&mut self, room: &str) -> Value {
        self.ask("join", json!({"room": room}), "joined")
    }

    /// Becomes a member again, from a position on.
    pub fn rejoin(&mut self, room: &str, since: &Value) -> Value {
        self.ask("join", json!({"room": room, "since": since}), "joined")
    }

    /// Publishes to a room; returns the data of the `ack`, before which a member gets its own.
    pub fn publish(&mut self, room: &str, msg: Value) {
        self.request("msg", json!({"to": room, "msg": msg}));
    }

    /// The next message, which must have this name.
    pub fn receive(&mut self, event: &str) -> Value {
        let text = self.client.receive();
        let (received, data) = split(&text);
        assert_eq!(received, event, "{text}");
        data
    }

    /// Expects this to be the next message.
    pub fn expect(&mut self, event: &str, data: Value) {
        assert_eq!(self.receive(event), data);
    }

    /// Expects a publication to be the next message: its offset and what was published.
    pub fn expect_msg(&mut self, offset: u64, msg: Value) {
        let data = self.receive("msg");
        assert_eq!(
            (&data["offset"], &data["msg"]),
            (&json!(offset), &msg),
            "{data}"
        );
    }

    /// Expects an `error` with this code to be the next message; returns its data.
    pub fn expect_error(&mut self, code: &str) -> Value {
        let data = self.receive("error");
        assert_eq!(data["code"], code, "{data}");
        data
    }
}

/// The name and the data of an event.
pub fn split(text: &str) -> (&str, Value) {
    let (event, data) = text.split_once(' ').unwrap();
    (event, serde_json::from_str(data).unwrap())
}
