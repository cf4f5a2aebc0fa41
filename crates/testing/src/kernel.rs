//! What the kernel holds for a TCP connection.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Bytes that wait at one end of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued {
    /// Written here, and not acknowledged by the other end's kernel.
    pub unacknowledged: u64,
    /// Received here, and not read.
    pub unread: u64,
}

/// Returns what waits at the end of a connection that has the first of these addresses.
pub fn queued((own, other): (SocketAddr, SocketAddr)) -> Queued {
    let ends = [own, other].map(hex).join(" ");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let found = table.lines().find_map(|line| {
        // The state, and both queues.
        let (_, rest) = line.split_once(&ends)?;
        let (sending, unread) = rest.split_whitespace().nth(1)?.split_once(':')?;
        let bytes = |text| u64::from_str_radix(text, 16).unwrap();
        Some(Queued {
            unacknowledged: bytes(sending),
            unread: bytes(unread),
        })
    });
    found.unwrap_or_else(|| panic!("no connection from {own} to {other}"))
}

/// As the kernel writes an address of IPv4.
fn hex(address: SocketAddr) -> String {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is not of IPv4")
    };
    let word = u32::from_ne_bytes(ip.octets());
    format!("{word:08X}:{:04X}", address.port())
}
