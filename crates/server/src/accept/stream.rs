//! Listeners and streams of either family, while the runtime has them.

use std::io;
use std::net::IpAddr;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Limits;
use crate::kernel;

/// A listener of some family.
pub(super) trait Accept {
    type Stream: Stream;

    async fn accept_one(&self) -> io::Result<(Self::Stream, Option<IpAddr>)>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept_one(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.accept().await?;
        Ok((stream, Some(peer.ip().to_canonical())))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept_one(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, None))
    }
}

/// A stream of some family, while the runtime has it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Sets what the socket needs from its first byte on: what the kernel may hold for it, too.
    fn prepare(&self, limits: &Limits);

    /// Takes it out of the runtime. It stays non-blocking.
    fn into_socket(self) -> io::Result<socket2::Socket>;
}

impl Stream for TcpStream {
    fn prepare(&self, limits: &Limits) {
        // The loop merges writes itself; waiting for more would only delay them.
        _ = self.set_nodelay(true);
        kernel::bound_unsent(&SockRef::from(self), limits);
        kernel::bound_buffers(&SockRef::from(self), limits);
    }

    fn into_socket(self) -> io::Result<socket2::Socket> {
        self.into_std().map(socket2::Socket::from)
    }
}

impl Stream for UnixStream {
    fn prepare(&self, limits: &Limits) {
        kernel::bound_buffers(&SockRef::from(self), limits);
    }

    fn into_socket(self) -> io::Result<socket2::Socket> {
        self.into_std().map(socket2::Socket::from)
    }
}
