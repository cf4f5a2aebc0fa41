//! One HTTP request on a connection of its own.

use std::net::SocketAddr;

use super::raw::Raw;

/// An answer, taken apart.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    head: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Takes the bytes of an answer apart.
    pub fn parse(text: &str) -> Self {
        let parts = text.split_once("\r\n\r\n");
        let (head, body) = parts.unwrap_or_else(|| panic!("{text:?} is no HTTP answer"));
        let status = head.split(' ').nth(1).unwrap();
        Self {
            status: status.parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The value of a header, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1);
        let mut pairs = headers.filter_map(|line| line.split_once(": "));
        pairs.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// Reads a page.
pub fn get(address: SocketAddr, path: &str) -> Reply {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends a request as it is, and reads until the server ends the connection.
pub fn exchange(address: SocketAddr, request: &str) -> Reply {
    let mut raw = Raw::connect(address);
    // Refused before it was read, it may be cut off; the answer is there nevertheless.
    raw.try_send(request.as_bytes());
    Reply::parse(&raw.receive_all())
}
