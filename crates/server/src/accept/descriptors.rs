//! File descriptors: how many there are for connections, and some that are kept back.
//!
//! Without a descriptor nothing can be accepted, so nobody could be told why, and `/healthz` would
//! be silent while members are served. Each core keeps a few. When accepting finds none, one is
//! given up, a connection is accepted with it and answered, and its descriptor takes the place of
//! the one that was given up.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::accept::crowd::Crowd;
use crate::config::{ConnectionsMax, Limits};

/// Descriptors that a core keeps in reserve: as many last answers are in progress at a time.
const SPARE_MAX: usize = 8;

/// Descriptors that a core opens beside its listeners when it starts: the readiness sets of its
/// loop and of its runtime, what wakes them, and a ring.
const OF_A_CORE: usize = 8;

/// Descriptors that the process may open besides: a database's journal, a file of the
/// application's.
const OTHERS: usize = 16;

/// Which part of what connections may have is left to HTTP: requests must be heard, also to be
/// refused.
const HTTP_SHARE: usize = 8;

/// Descriptors of one core that are kept back.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// The descriptor that spares are copies of.
    nothing: Option<OwnedFd>,
    spares: Mutex<Vec<OwnedFd>>,
    /// Those that are answered with them. Who says nothing makes way for the next.
    pub(crate) crowd: Crowd,
}

impl Reserve {
    pub(crate) fn new() -> Self {
        let reserve = Self {
            nothing: File::open("/dev/null").ok().map(OwnedFd::from),
            spares: Mutex::default(),
            crowd: Crowd::new(SPARE_MAX),
        };
        reserve.refill();
        reserve
    }

    /// Takes back what is missing, if there are descriptors again.
    pub(crate) fn refill(&self) {
        let mut spares = self.spares.lock();
        while spares.len() < SPARE_MAX
            && let Some(spare) = self.nothing.as_ref().and_then(|fd| fd.try_clone().ok())
        {
            spares.push(spare);
        }
    }

    /// Gives one up: the next that is opened has its number. False if none is left.
    pub(crate) fn give_up(&self) -> bool {
        self.spares.lock().pop().is_some()
    }

    /// Closes a socket and keeps its descriptor, with no moment between in which others could have
    /// it.
    pub(crate) fn take_back(&self, socket: impl Into<OwnedFd>) {
        let mut socket = socket.into();
        let mut spares = self.spares.lock();
        if let Some(nothing) = &self.nothing
            && spares.len() < SPARE_MAX
            && rustix::io::dup2(nothing, &mut socket).is_ok()
        {
            spares.push(socket);
        }
    }
}

/// Returns how many connections are let in; none is no limit.
pub(crate) fn connections_max(limits: &Limits, core_count: usize) -> Option<usize> {
    match limits.connections_max {
        ConnectionsMax::Auto => {
            let max = open_files_max()?;
            Some(room(max, in_use(), core_count, limits.handshakes_max))
        }
        ConnectionsMax::Count(max) => Some(max),
        ConnectionsMax::Unlimited => None,
    }
}

/// Says in the log if the limit of open files bounds connections before the setting does.
pub(crate) fn warn_if_short(limits: &Limits, core_count: usize) {
    let Some(open_files_max) = open_files_max() else {
        return;
    };
    let room = room(open_files_max, in_use(), core_count, limits.handshakes_max);
    let is_short = match limits.connections_max {
        ConnectionsMax::Auto => false,
        ConnectionsMax::Count(max) => max > room,
        ConnectionsMax::Unlimited => true,
    };
    if is_short {
        tracing::warn!(
            open_files_max,
            connections_max = %limits.connections_max,
            room,
            "the limit of open files leaves room for fewer connections than max_connections: \
             raise it (LimitNOFILE=, ulimit -Hn), or set THRONG_MAX_CONNECTIONS=auto"
        );
    }
}

/// Returns how many connections there is room for.
fn room(open_files_max: usize, in_use: usize, core_count: usize, handshakes_max: usize) -> usize {
    let cores = core_count * (OF_A_CORE + SPARE_MAX + 1);
    let free = open_files_max.saturating_sub(in_use + cores + OTHERS);
    let for_http = match handshakes_max {
        0 => free / HTTP_SHARE,
        max => max.min(free / HTTP_SHARE),
    };
    (free - for_http).max(1)
}

/// Returns the limit of open files; none if there is none.
fn open_files_max() -> Option<usize> {
    let max = getrlimit(Resource::Nofile).current?;
    usize::try_from(max).ok()
}

/// Returns the number of open descriptors of this process, as far as the system tells.
fn in_use() -> usize {
    let listed = |path| io::Result::Ok(std::fs::read_dir(path)?.count());
    let count = listed("/proc/self/fd").or_else(|_| listed("/dev/fd"));
    count.unwrap_or(OTHERS)
}

/// Returns whether there is no descriptor for another socket.
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let used_up = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| used_up.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_what_else_takes_descriptors() {
        // Of 1,024: 20 open, 2 cores, an eighth of the rest for requests.
        assert_eq!(room(1024, 20, 2, 4096), 835);
        assert_eq!(room(20_000, 20, 2, 4096), 17_439);
        assert_eq!(room(1_048_576, 20, 2, 4096), 1_044_410);
        assert_eq!(room(1_048_576, 20, 2, 10), 1_048_496);
        assert_eq!(room(1_048_576, 20, 2, 0), 917_443);
        assert_eq!(room(10, 20, 2, 4096), 1);
    }

    #[test]
    fn a_descriptor_that_is_given_up_is_taken_back_from_the_socket_that_got_it() {
        let reserve = Reserve::new();
        let count = || reserve.spares.lock().len();
        assert_eq!(count(), SPARE_MAX);
        assert!(reserve.give_up());
        let (socket, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        reserve.take_back(socket);
        assert_eq!(count(), SPARE_MAX);
        let read = io::Read::read(&mut peer, &mut [0]).unwrap();
        assert_eq!(read, 0, "the socket is closed");
        // More than are missing are closed.
        let (socket, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        reserve.take_back(socket);
        assert_eq!(
            (count(), io::Read::read(&mut peer, &mut [0]).unwrap()),
            (SPARE_MAX, 0)
        );
        while reserve.give_up() {}
        reserve.refill();
        assert_eq!(count(), SPARE_MAX);
    }
}
