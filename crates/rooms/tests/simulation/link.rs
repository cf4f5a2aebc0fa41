//! A connection's way through the network: so many bytes at a time, stalled at times, and cut.

use std::collections::VecDeque;

/// A request of a client to the server.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Emit {
        kind: throng_rooms::EventKind,
        room: usize,
    },
    Join {
        room: usize,
        since: throng_rooms::Since,
    },
    Leave {
        room: usize,
    },
    Publish {
        room: usize,
        key: String,
        body: String,
    },
}

#[derive(Debug)]
pub(crate) struct Link {
    /// The bytes that the server's socket has taken and the client has not received.
    down: VecDeque<u8>,
    /// The requests of the client, each with the time at which it arrives.
    up: VecDeque<(u64, Request)>,
    /// The number of bytes a tick goes down.
    rate: usize,
    stalled_until_ms: u64,
    /// When the server notices that the link is gone, if it is.
    cut_noticed_ms: Option<u64>,
}

/// The amount of a socket takes for a client that reads nothing, in bytes.
const SOCKET_BYTES_MAX: usize = 2000;

/// The time that a request is on its way, in milliseconds.
const LATENCY_MS: u64 = 15;

impl Link {
    pub(crate) const fn new(rate: usize) -> Self {
        Self {
            down: VecDeque::new(),
            up: VecDeque::new(),
            rate,
            stalled_until_ms: 0,
            cut_noticed_ms: None,
        }
    }

    pub(crate) const fn is_cut(&self) -> bool {
        self.cut_noticed_ms.is_some()
    }

    /// Returns whether the server can know by now that the link is gone.
    pub(crate) fn is_noticed(&self, now_ms: u64) -> bool {
        self.cut_noticed_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Nothing gets through any more, and what was on its way is lost.
    pub(crate) fn cut(&mut self, noticed_ms: u64) {
        self.cut_noticed_ms.get_or_insert(noticed_ms);
        self.up.clear();
    }

    pub(crate) const fn stall(&mut self, until_ms: u64) {
        self.stalled_until_ms = until_ms;
    }

    pub(crate) fn send(&mut self, request: Request, now_ms: u64) {
        if !self.is_cut() {
            self.up.push_back((now_ms + LATENCY_MS, request));
        }
    }

    /// The next request that has arrived.
    pub(crate) fn arrived(&mut self, now_ms: u64) -> Option<Request> {
        let (at_ms, _) = self.up.front()?;
        if *at_ms > now_ms {
            return None;
        }
        self.up.pop_front().map(|(_, request)| request)
    }

    /// Returns how much the socket takes now.
    pub(crate) fn window(&self) -> usize {
        SOCKET_BYTES_MAX.saturating_sub(self.down.len())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.down.extend(bytes);
    }

    /// Returns what reaches the client in this tick.
    pub(crate) fn deliver(&mut self, now_ms: u64) -> Vec<u8> {
        if self.is_cut() || self.stalled_until_ms > now_ms {
            return Vec::new();
        }
        let count = self.down.len().min(self.rate);
        self.down.drain(..count).collect()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.down.is_empty() && self.up.is_empty()
    }
}
