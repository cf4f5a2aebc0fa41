//! Step 5: outboxes to sockets, in slices.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use rooms::{FlushQueue, LocalRooms, Slots};

use super::Core;
use super::socket::{Phase, Socket};
use crate::clock;
use crate::flush::{Bytes, SLICE_COUNT_MAX, Send};

/// How long each of the two lines is flushed before the loop goes round: together half a
/// millisecond, which bounds what a small room waits for a large one.
const SLICE: Duration = Duration::from_micros(250);

/// How many sockets are written to between two looks at the clock.
const BATCH: usize = 32;

impl Core {
    /// Flushes a slice of each line.
    pub(super) fn flush(&mut self) {
        for queue in [FlushQueue::Prompt, FlushQueue::Bulk] {
            let mut until = None;
            while self.next_batch(queue) {
                self.flush_batch();
                let now = clock::now();
                if now >= *until.get_or_insert(now + SLICE) {
                    break;
                }
            }
        }
    }

    /// Takes the next connections of a line into `batch`.
    fn next_batch(&mut self, queue: FlushQueue) -> bool {
        self.batch.clear();
        while self.batch.len() < BATCH
            && let Some(slot) = self.local.next_to_flush(queue)
        {
            self.batch.push(slot);
        }
        !self.batch.is_empty()
    }

    /// Writes once to each connection of `batch`.
    fn flush_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut results = std::mem::take(&mut self.results);
        results.clear();
        let sends: Vec<_> = batch
            .iter()
            .filter_map(|slot| send(*slot, &self.sockets, &self.local))
            .collect();
        let calls = self.flusher.flush(&sends, &mut results);
        let wanted: Vec<usize> = sends.iter().map(|send| send.bytes.len()).collect();
        drop(sends);
        self.count_calls(calls);
        self.metrics.flushes.add(wanted.len() as u64);
        // Every slot in a line has a socket, so the three are side by side.
        for ((slot, wanted), result) in batch.iter().zip(wanted).zip(results.drain(..)) {
            self.flushed(*slot, wanted, result);
        }
        self.batch = batch;
        self.results = results;
    }

    fn count_calls(&self, calls: u64) {
        match self.flusher.name() {
            "write" => self.metrics.system_calls.send.add(calls),
            _ => self.metrics.system_calls.io_uring_enter.add(calls),
        }
    }

    /// Takes note of how a write fared.
    fn flushed(&mut self, slot: u32, wanted: usize, result: io::Result<usize>) {
        match result {
            Ok(taken) => {
                self.metrics.bytes_out.add(taken as u64);
                self.local.advance(slot, taken);
                if self.local.outbox(slot).is_empty() {
                    if self
                        .socket(slot)
                        .is_some_and(|socket| socket.phase == Phase::Closing)
                    {
                        self.shut(slot);
                    }
                } else if taken < wanted {
                    self.block(slot);
                } else {
                    // There were more slices than one write takes.
                    self.local.set_blocked(slot, false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.block(slot),
            Err(error) if is_reset(&error) => self.reset_by_peer(slot),
            Err(_) => self.lost(slot),
        }
    }

    /// The peer has reset the connection: nothing more is sent. What it sent before may still be
    /// there, a last message even, so the end is noticed by reading on.
    fn reset_by_peer(&mut self, slot: u32) {
        self.local.set_blocked(slot, true);
        self.readable.push_back(slot);
    }

    /// The socket takes no more: the readiness set will tell when it does.
    fn block(&mut self, slot: u32) {
        self.local.set_blocked(slot, true);
        let Some(socket) = self.socket(slot) else {
            return;
        };
        if socket.watches_writable {
            return;
        }
        // Only now: most connections never block, and Unix sockets would tell of every read.
        socket.watches_writable = true;
        let source = socket.stream.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.readiness.get_ref().registry();
        if registry
            .reregister(&mut SourceFd(&source), Token(slot as usize), interest)
            .is_err()
        {
            self.lost(slot);
        }
    }

    /// Finds out whether a full outbox means a slow consumer: offers it to the socket, and queues
    /// again what did not fit. Comes after the fan-out, so that nothing overtakes what did not fit.
    pub(super) fn resolve_overflow(&mut self, now: Instant) {
        while self.local.has_overflow() {
            for overflow in self.local.take_overflow() {
                let slot = overflow.slot;
                if self
                    .socket(slot)
                    .is_none_or(|s| matches!(s.phase, Phase::Closing | Phase::Shut))
                {
                    continue;
                }
                self.flush_now(slot);
                if self.socket(slot).is_none() {
                    continue;
                }
                let skipped = self.local.counts().skipped;
                // What does not fit now is forgotten with the connection.
                if !self.local.push_again(&overflow) {
                    self.close_slow_consumer(slot, now);
                } else if self.local.counts().skipped > skipped {
                    self.say_slow(slot, "skips publications", now);
                }
            }
        }
    }

    /// Writes to one connection until its outbox is empty or its socket takes no more.
    pub(super) fn flush_now(&mut self, slot: u32) {
        while self.socket(slot).is_some()
            && !self.local.is_blocked(slot)
            && !self.local.outbox(slot).is_empty()
        {
            self.batch.clear();
            self.batch.push(slot);
            self.flush_batch();
        }
    }
}

/// Whether the peer, and not something here, ended the connection.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// What to write to the connection in a slot.
fn send<'a>(
    slot: u32,
    sockets: &'a Slots<Option<Socket>>,
    local: &'a LocalRooms,
) -> Option<Send<'a>> {
    let socket = sockets.get(slot as usize)?.as_ref()?;
    let outbox = local.outbox(slot);
    let bytes = match outbox.single() {
        Some(bytes) => Bytes::One(bytes),
        None => {
            let mut slices = [IoSlice::new(&[]); SLICE_COUNT_MAX];
            let count = outbox.slices(&mut slices);
            Bytes::Many(slices[..count].into())
        }
    };
    Some(Send {
        socket: socket.as_fd(),
        bytes,
    })
}
