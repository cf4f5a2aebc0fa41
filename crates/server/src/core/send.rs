//! Step 5: outboxes to sockets, in slices.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use rooms::{FlushQueue, LocalRooms, Overflow, Slot, Slots};

use super::Core;
use super::share;
use super::socket::{Phase, Socket};
use crate::clock;
use crate::core::flush::{Bytes, SLICE_COUNT_MAX, Send};

/// Sockets that are written to between two looks at the clock.
const BATCH: usize = 32;

impl Core {
    /// Flushes a slice of each line.
    pub(super) fn flush(&mut self) {
        for queue in [FlushQueue::Prompt, FlushQueue::Bulk] {
            let mut until = None;
            while self.next_batch(queue) {
                self.flush_batch();
                let now = clock::now();
                if now >= *until.get_or_insert(now + share::FLUSH) {
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
        let slice = self.unsent_slice;
        let sends: Vec<_> = batch
            .iter()
            .filter_map(|slot| send(*slot, &self.sockets, &self.local, slice))
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
    fn flushed(&mut self, slot: Slot, wanted: usize, result: io::Result<usize>) {
        match result {
            Ok(taken) => {
                self.metrics.bytes_out.add(taken as u64);
                self.local.advance(slot, taken);
                if self.local.outbox(slot).is_empty() {
                    self.note_all_taken(slot);
                    if self
                        .socket(slot)
                        .is_some_and(|socket| socket.phase == Phase::Closing)
                    {
                        self.shut(slot);
                    }
                } else if taken < wanted {
                    self.block(slot);
                } else {
                    // There is more than one write takes.
                    self.local.set_blocked(slot, false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.block(slot),
            Err(error) if is_reset(&error) => self.reset_by_peer(slot),
            Err(_) => self.lost(slot),
        }
    }

    /// Notes that the peer has reset the connection: nothing more is sent. What it sent before may
    /// still be there, a last message even, so the end is noticed by reading on.
    fn reset_by_peer(&mut self, slot: Slot) {
        self.local.set_blocked(slot, true);
        self.note_dead(slot);
    }

    /// Blocks a connection whose socket takes no more: the readiness set will tell when it does.
    fn block(&mut self, slot: Slot) {
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
            .reregister(&mut SourceFd(&source), Token(slot.index()), interest)
            .is_err()
        {
            self.lost(slot);
        }
    }

    /// Finds out whether full outboxes mean slow consumers, for about so many frames that did not
    /// fit: offers each outbox to its socket, and queues again what did not fit. What is left goes
    /// on in the next turn, before anything more is fanned out.
    pub(super) fn resolve_overflow(&mut self, now: Instant) {
        if self.local.has_overflow() {
            let overflow = self.local.take_overflow(share::OVERFLOW_FRAMES);
            self.push_again(overflow, now);
        }
    }

    /// Resolves the overflow of one connection.
    pub(super) fn resolve_overflow_of(&mut self, slot: Slot, now: Instant) {
        if self.local.has_overflow() {
            let overflow = self.local.take_overflow_of(slot);
            self.push_again(overflow, now);
        }
    }

    /// Fans nothing out meanwhile, or that would overtake what did not fit.
    ///
    /// A socket takes little at once, however fast its peer is. So of one that took everything
    /// before, a turn's frames are queued over the bound: its peer has had no time to be slow in.
    /// That is so once, until the outbox is empty again.
    fn push_again(&mut self, overflow: Vec<Overflow>, now: Instant) {
        let mut bursts = HashSet::<Slot, ahash::RandomState>::default();
        for overflow in overflow {
            let slot = overflow.slot;
            if self
                .socket(slot)
                .is_none_or(|s| matches!(s.phase, Phase::Closing | Phase::Shut))
            {
                continue;
            }
            if !self.local.has_place_for(&overflow) {
                if !self.local.is_blocked(slot) && !self.local.has_allowance(slot) {
                    bursts.insert(slot);
                }
                self.flush_now(slot);
                if self.socket(slot).is_none() {
                    continue;
                }
                if bursts.contains(&slot) && !self.local.has_place_for(&overflow) {
                    self.local.allow(slot, overflow.frame.len());
                }
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

    /// Writes to one connection until its outbox is empty or its socket takes no more.
    pub(super) fn flush_now(&mut self, slot: Slot) {
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

/// Returns whether the peer, and not something here, ended the connection.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Returns what to write to the connection in a slot: as much as goes into one write, or a slice if
/// it is slow.
fn send<'a>(
    slot: Slot,
    sockets: &'a Slots<Option<Socket>>,
    local: &'a LocalRooms,
    slow_bytes_max: usize,
) -> Option<Send<'a>> {
    let socket = sockets.get(slot)?.as_ref()?;
    let outbox = local.outbox(slot);
    let bytes_max = if socket.is_slow() {
        slow_bytes_max
    } else {
        usize::MAX
    };
    let bytes = match outbox.single() {
        Some(bytes) => Bytes::One(&bytes[..bytes.len().min(bytes_max)]),
        None => {
            let mut slices = [IoSlice::new(&[]); SLICE_COUNT_MAX];
            let count = outbox.slices(&mut slices, bytes_max);
            Bytes::Many(slices[..count].into())
        }
    };
    Some(Send {
        socket: socket.as_fd(),
        bytes,
        is_apart: socket.is_slow(),
    })
}
