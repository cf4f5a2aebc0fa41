//! What the kernel says of TCP connections on this machine: whether they are open, and how many bytes
//! wait in them.
//!
//! Read from `/proc/net/tcp` and `/proc/net/tcp6`. A server on another machine, or in another network
//! namespace, is not there.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketState {
    /// Neither end has begun to end it, as far as this end knows.
    pub(crate) is_established: bool,
    /// Written, and not acknowledged by the other end's kernel.
    pub(crate) unsent_bytes: u64,
    /// Received, and not read.
    pub(crate) unread_bytes: u64,
}

/// All connections there are, by their own address and the other end's.
pub(crate) fn connections() -> HashMap<(SocketAddr, SocketAddr), SocketState> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    tables
        .flat_map(|table| table.lines().filter_map(parse_line).collect::<Vec<_>>())
        .collect()
}

/// `sl local remote state tx_queue:rx_queue ...`; none for the heading.
fn parse_line(line: &str) -> Option<((SocketAddr, SocketAddr), SocketState)> {
    const ESTABLISHED: &str = "01";
    let mut fields = line.split_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let is_established = fields.next()? == ESTABLISHED;
    let (unsent, unread) = fields.next()?.split_once(':')?;
    let state = SocketState {
        is_established,
        unsent_bytes: u64::from_str_radix(unsent, 16).ok()?,
        unread_bytes: u64::from_str_radix(unread, 16).ok()?,
    };
    Some(((local, remote), state))
}

/// The address is in words of the machine's own byte order, the port is a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |start: usize| u32::from_str_radix(address.get(start..start + 8)?, 16).ok();
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?.to_ne_bytes());
            }
            // A server that listens on both has IPv4 connections in the newer table.
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_was_written_and_not_read_waits_at_the_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.peek(&mut [0; 5]).unwrap();
        let addresses = (server.local_addr().unwrap(), server.peer_addr().unwrap());
        let state = connections()[&addresses];
        assert!(state.is_established);
        assert_eq!((state.unread_bytes, state.unsent_bytes), (5, 0));
    }

    #[test]
    fn the_heading_is_not_a_connection() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert_eq!(parse_line(heading), None);
    }

    #[test]
    fn both_kinds_of_address_are_read() {
        let words = |bytes: &[u8]| -> String {
            let words = bytes.chunks(4).map(|word| word.try_into().unwrap());
            words
                .map(|word| format!("{:08X}", u32::from_ne_bytes(word)))
                .collect()
        };
        for address in ["127.0.0.2:8080", "[2001:db8::7]:1"] {
            let address: SocketAddr = address.parse().unwrap();
            let bytes = match address.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let text = format!("{}:{:04X}", words(&bytes), address.port());
            assert_eq!(parse_address(&text), Some(address), "{text}");
        }
    }
}
