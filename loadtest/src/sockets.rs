//! TCP sockets of this machine: who listens, whether a connection is open, how many bytes wait in
//! it.
//!
//! A server on another machine, or in another network namespace, is not there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process, all_processes};

/// Returns all sockets there are, by their own address and the other end's.
pub(crate) fn connections() -> HashMap<(SocketAddr, SocketAddr), TcpNetEntry> {
    // A server that listens on both has IPv4 connections in the newer table.
    let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    let ends = |it: &TcpNetEntry| (canonical(it.local_address), canonical(it.remote_address));
    entries().map(|entry| (ends(&entry), entry)).collect()
}

/// Finds the process that listens on this port of this machine, as far as one may see it.
///
/// When several share the socket, it is the one that started the others.
pub(crate) fn listener(address: SocketAddr) -> Option<u32> {
    let listens = |it: &TcpNetEntry| {
        it.state == TcpState::Listen && it.local_address.port() == address.port()
    };
    let inodes: HashSet<u64> = entries().filter(listens).map(|it| it.inode).collect();
    if inodes.is_empty() || !address.ip().is_loopback() {
        return None;
    }
    let is_one = |file: &FDTarget| matches!(file, FDTarget::Socket(it) if inodes.contains(it));
    let owns = |process: &Process| {
        let mut files = process.fd().into_iter().flatten().flatten();
        files.any(|file| is_one(&file.target))
    };
    let owners = all_processes().ok()?.flatten().filter(owns);
    let owners: Vec<_> = owners
        .filter_map(|process| Some((process.pid, process.stat().ok()?.ppid)))
        .collect();
    let is_owner = |pid: i32| owners.iter().any(|(owner, _)| *owner == pid);
    let (eldest, _) = owners.iter().find(|(_, parent)| !is_owner(*parent))?;
    u32::try_from(*eldest).ok()
}

fn entries() -> impl Iterator<Item = TcpNetEntry> {
    [tcp(), tcp6()].into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_was_written_and_not_read_waits_at_the_other_end() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue; // a machine without IPv6
            };
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            client.write_all(b"hello").unwrap();
            server.peek(&mut [0; 5]).unwrap();
            let ends = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            let socket = &connections()[&ends];
            assert_eq!(socket.state, TcpState::Established);
            assert_eq!((socket.rx_queue, socket.tx_queue), (5, 0));
        }
    }

    #[test]
    fn the_process_that_listens_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listener(address), Some(std::process::id()));
        let elsewhere = SocketAddr::new([192, 0, 2, 1].into(), address.port());
        assert_eq!(listener(elsewhere), None);
    }
}
