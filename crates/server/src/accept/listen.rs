//! Listening sockets: one a core for TCP, one shared by the cores for Unix.

use std::fs::Metadata;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use crate::accept::hosts::Reach;
use crate::config::ListenAddress;

/// Maximum finished TCP handshakes that wait to be accepted. The kernel caps it at `somaxconn`; a
/// restart brings everybody back at once, so as many as it gives.
const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address.
    pub address: ListenAddress,
    /// Why not.
    pub source: io::Error,
}

/// A bound address: its sockets for each core.
#[derive(Debug)]
pub(crate) struct Bound {
    /// With the port that the kernel chose.
    pub(crate) address: ListenAddress,
    sockets: Vec<Socket>,
    /// Removed with this.
    _file: Option<SocketFile>,
}

/// The file of a Unix socket, removed when dropped unless another server has put its own there:
/// while this one drains, nobody answers, and its file is taken for one that was left behind.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
}

/// The identity by which a file differs from the next one of its name. An inode's number may be
/// used again at once, so the time belongs to it.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity: FileIdentity::of(&metadata),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|metadata| FileIdentity::of(&metadata) == self.identity) {
            // If it is gone by now, the better.
            _ = std::fs::remove_file(&self.path);
        }
    }
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A listener inside a runtime.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Bound {
    /// Binds an address for `core_count` cores.
    pub(crate) fn new(address: &ListenAddress, core_count: usize) -> Result<Self, ListenError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address, core_count),
            ListenAddress::Unix(path) => bind_unix(path, core_count),
        };
        bound.map_err(|source| ListenError {
            address: address.clone(),
            source,
        })
    }

    /// Takes the next core's listener. Called inside that core's runtime.
    pub(crate) fn take(&mut self) -> Option<Socket> {
        self.sockets.pop()
    }
}

impl Listener {
    /// Returns who can connect to it.
    pub(crate) fn reach(&self) -> io::Result<Reach> {
        match self {
            Self::Tcp(listener) => Ok(Reach::of(listener.local_addr()?)),
            Self::Unix(_) => Ok(Reach::Unix),
        }
    }

    /// Hands a socket of [`Bound::take`] to the runtime that this is called in.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket.local_addr()?.domain() {
            Domain::UNIX => Self::Unix(tokio::net::UnixListener::from_std(socket.into())?),
            _ => Self::Tcp(tokio::net::TcpListener::from_std(socket.into())?),
        })
    }
}

fn bind_tcp(address: SocketAddr, core_count: usize) -> io::Result<Bound> {
    // SO_REUSEPORT would share the port with another server of the same user without a word. So
    // the first socket listens alone, which fails if anybody has the address, and from then on
    // nobody else gets it; only then it is told to share with the others.
    let first = tcp_socket(address)?;
    first.bind(&address.into())?;
    let chosen = first.local_addr()?.as_socket().unwrap_or(address);
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..core_count {
        let socket = tcp_socket(chosen)?;
        socket.set_reuse_port(true)?;
        socket.bind(&chosen.into())?;
        socket.listen(BACKLOG)?;
        sockets.push(socket);
    }
    Ok(Bound {
        address: ListenAddress::Tcp(chosen),
        sockets,
        _file: None,
    })
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // [::]:80 beside 0.0.0.0:80 must be possible.
        socket.set_only_v6(true)?;
    }
    // Connections of the last run in TIME_WAIT must not keep the server from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, core_count: usize) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let sockets = (0..core_count)
        .map(|_| socket.try_clone())
        .collect::<io::Result<_>>()?;
    let address = ListenAddress::Unix(path.to_owned());
    Ok(Bound {
        address,
        sockets,
        _file: Some(file),
    })
}

/// Removes the socket file of a server that is gone; one that answers is in use.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if is_answered(path)? {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)
        }
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns whether a server listens there. Does not wait: one whose queue is full would have it
/// wait for as long as that server is stuck.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    })
}
