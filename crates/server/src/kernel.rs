//! What the kernel may hold for one connection.
//!
//! Left alone, it takes megabytes for a peer that reads slowly, and all of it is older than what
//! the outbox would send by now. So both of a socket's buffers are bounded, and of what is to be
//! sent the part that is not even on its way is bounded far lower.

use std::time::Duration;

use socket2::SockRef;

use crate::config::Limits;

/// Bounds the memory of a socket's two buffers. Costs two system calls.
pub(crate) fn bound_buffers(socket: &SockRef<'_>, limits: &Limits) {
    // The kernel doubles what it is told, and counts its own overhead in.
    if limits.send_buffer_bytes > 0 {
        _ = socket.set_send_buffer_size(limits.send_buffer_bytes.div_ceil(2) as usize);
    }
    if limits.receive_buffer_bytes > 0 {
        _ = socket.set_recv_buffer_size(limits.receive_buffer_bytes.div_ceil(2) as usize);
    }
}

/// Bounds what lies unsent in a TCP socket. Costs a system call.
///
/// The kernel takes a whole write while less than its bound lies there, so that is half of what is
/// allowed, and a slow connection is written [the other half](unsent_slice) at a time.
pub(crate) fn bound_unsent(socket: &SockRef<'_>, limits: &Limits) {
    #[cfg(target_os = "linux")]
    if limits.unsent_bytes_max > 0 {
        _ = socket.set_tcp_notsent_lowat(limits.unsent_bytes_max.div_ceil(2));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, limits);
}

/// Returns the maximum bytes that a slow connection is written at a time.
pub(crate) fn unsent_slice(limits: &Limits) -> usize {
    match limits.unsent_bytes_max {
        0 => usize::MAX,
        bytes => bytes.div_ceil(2) as usize,
    }
}

/// Lets the kernel forget a closed socket whose peer does not acknowledge what it was sent last.
/// Costs a system call.
pub(crate) fn forget_after(socket: &SockRef<'_>, time: Duration) {
    #[cfg(target_os = "linux")]
    {
        _ = socket.set_tcp_user_timeout(Some(time));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, time);
}
