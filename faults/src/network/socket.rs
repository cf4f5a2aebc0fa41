//! Sockets of a link: how they are opened, and the two ways of ending them.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Listens for clients.
///
/// # Errors
///
/// If the address cannot be had.
pub(super) fn listen(address: SocketAddr, socket_bytes: Option<u32>) -> io::Result<TcpListener> {
    let socket = open(socket_bytes)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Connects to the server.
///
/// # Errors
///
/// If nobody listens there.
pub(super) async fn connect(
    address: SocketAddr,
    socket_bytes: Option<u32>,
) -> io::Result<TcpStream> {
    let socket = open(socket_bytes)?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    socket.connect(address).await
}

/// A socket that holds about so much. Its segments are an Ethernet's then, for the kernel would let
/// a sender have 20 of loopback's 64 KiB under way.
fn open(socket_bytes: Option<u32>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = socket_bytes {
        let bytes = bytes as usize;
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
        socket.set_tcp_mss(SEGMENT_BYTES)?;
    }
    Ok(socket)
}

/// Ends a connection by RST.
pub(super) fn reset(stream: TcpStream) {
    // If it is gone already, there is nothing to end.
    _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Ends a connection by FIN, and reads what the peer still sends, for unread bytes would make the
/// kernel send an RST behind it.
pub(super) async fn cut(stream: TcpStream) {
    shut(&stream);
    _ = timeout(CUT_TIME_MAX, discard(&stream)).await;
}

/// Sends a FIN.
pub(super) fn shut(stream: &TcpStream) {
    // If it is gone already, there is nobody to tell.
    _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

async fn discard(stream: &TcpStream) {
    let mut buffer = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// What fits into an Ethernet frame with TCP's timestamps.
const SEGMENT_BYTES: u32 = 1448;

/// How long a peer that got a FIN may go on sending.
const CUT_TIME_MAX: Duration = Duration::from_secs(1);
