//! Members that stop reading, and what is found in their sockets at the end.

use std::net::SocketAddr;
use std::time::Duration;

use proto::CloseFrame;

use super::{Driver, ReadOutcome};
use crate::clock::to_ns;
use crate::connection::State;
use crate::failure::Failure;
use crate::inbox::Recipient;
use crate::payload::Stamp;
use crate::plan::{Home, MemberId, StreamId};
use crate::sequence::{Faults, SequenceChecker};
use crate::wire::DeliveryShape;

/// What the kernel may keep for a member that will not read: as much as it begins with for everybody,
/// and it does not grow. It must be said before connecting: a kernel whose buffer shrinks drops what
/// it had promised to take, and the server's then sends it again and again.
pub(super) const SLOW_BUFFER_BYTES: usize = 64 * 1024;

/// A socket from which nothing came for so long has given all that the server had for it.
const QUIET: Duration = Duration::from_millis(300);

/// Reading everything that was left behind may take so long; a server may go on sending.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// A member that does not read.
#[derive(Debug)]
pub(super) struct SlowMember {
    member: MemberId,
    /// Of each stream of its room, how many publications there were when it stopped.
    published: Vec<u32>,
}

/// What became of a member that did not read.
#[derive(Clone, Debug)]
pub(crate) struct SlowFate {
    pub(crate) end: SlowEnd,
    /// Deliveries that were in its socket.
    pub(crate) received: u64,
    /// What was wrong with them; what is missing at the end is not lost but was never read.
    pub(crate) faults: Faults,
}

/// How a slow member's connection was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlowEnd {
    /// With a close frame of this code.
    Closed(u16),
    /// Without one.
    CutOff,
    /// Open.
    Connected,
}

impl Driver<'_> {
    /// The members of this thread that do not publish.
    pub(crate) fn silent_members(&self) -> Vec<MemberId> {
        let mut publishes = vec![false; self.plan.connections() as usize];
        for stream in &self.plan.streams {
            if let Home::Here(member) = stream.home {
                publishes[member.index()] = true;
            }
        }
        let members = (0..self.plan.connections()).map(MemberId);
        members
            .filter(|member| !publishes[member.index()])
            .collect()
    }

    /// Says, before anybody connects, that so many of the silent members will stop reading, evenly
    /// spread.
    pub(crate) fn choose_slow(&mut self, count: usize) {
        let silent = self.silent_members();
        let count = count.min(silent.len());
        // The last of each of `count` equal parts.
        let places = (1..=count).map(|part| part * silent.len() / count - 1);
        self.chosen_slow = places.map(|place| silent[place]).collect();
    }

    /// Lets those who were chosen stop reading; returns their sockets' addresses, this end first.
    pub(crate) fn stop_reading(&mut self) -> Result<Vec<(SocketAddr, SocketAddr)>, Failure> {
        let now_ns = self.clock.now_ns();
        let mut addresses = Vec::new();
        for member in std::mem::take(&mut self.chosen_slow) {
            let connection = &mut self.connections[member.index()];
            addresses.extend(connection.addresses());
            if let Some(source) = connection.source() {
                let registry = self.readiness.poll.registry();
                registry.deregister(source).map_err(Failure::System)?;
            }
            let room = &self.plan.rooms[self.ledger.room_of(member).index()];
            let published = room.streams.clone().map(StreamId);
            let published = published.map(|id| self.ledger.published(id)).collect();
            // Nothing is under way, so nothing is lost by not waiting for it any more.
            self.ledger.disconnect(member, now_ns);
            self.slow.push(SlowMember { member, published });
        }
        Ok(addresses)
    }

    /// Reads what is in the slow members' sockets, and says what became of them.
    pub(crate) fn read_slow(&mut self) -> Vec<SlowFate> {
        let slow = std::mem::take(&mut self.slow);
        let reader = |slow: SlowMember| {
            let shape = self.shapes.of(self.ledger.room_of(slow.member));
            SlowReader::new(slow, shape.clone())
        };
        let mut readers: Vec<_> = slow.into_iter().map(reader).collect();
        let end_ns = self.clock.now_ns() + to_ns(READ_PATIENCE);
        let mut quiet_ns = self.clock.now_ns() + to_ns(QUIET);
        while readers.iter().any(|reader| reader.end.is_none()) {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns.min(quiet_ns) {
                break;
            }
            let mut heard = false;
            for reader in &mut readers {
                heard |= self.read_left_behind(reader);
            }
            if heard {
                quiet_ns = now_ns + to_ns(QUIET);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        readers.into_iter().map(SlowReader::fate).collect()
    }

    /// Reads one slow member's socket once; false if nothing was there.
    fn read_left_behind(&mut self, reader: &mut SlowReader) -> bool {
        if reader.end.is_some() {
            return false;
        }
        let member = reader.slow.member;
        let connection = &mut self.connections[member.index()];
        let room = &self.plan.rooms[self.ledger.room_of(member).index()];
        match connection.read(&mut self.buffer) {
            ReadOutcome::Bytes(bytes) => {
                reader.first_stream = room.streams.start;
                if let State::Open(inbox) = &mut connection.state
                    && inbox.receive(&mut self.buffer[..bytes], reader).is_err()
                {
                    reader.end.get_or_insert(SlowEnd::CutOff);
                }
                true
            }
            ReadOutcome::Ended(_) => {
                reader.end = Some(SlowEnd::CutOff);
                true
            }
            ReadOutcome::Nothing => false,
        }
    }
}

/// How long to leave a silent socket alone; this is not timed.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes what a slow member left in its socket.
#[derive(Debug)]
struct SlowReader {
    slow: SlowMember,
    first_stream: u32,
    shape: DeliveryShape,
    checker: SequenceChecker,
    end: Option<SlowEnd>,
    received: u64,
    truncated: u64,
}

impl SlowReader {
    fn new(slow: SlowMember, shape: DeliveryShape) -> Self {
        Self {
            checker: SequenceChecker::expecting(slow.published.clone()),
            slow,
            first_stream: 0,
            shape,
            end: None,
            received: 0,
            truncated: 0,
        }
    }

    fn fate(self) -> SlowFate {
        let mut faults = self.checker.faults();
        faults.truncated += self.truncated;
        SlowFate {
            end: self.end.unwrap_or(SlowEnd::Connected),
            received: self.received,
            faults,
        }
    }
}

impl Recipient for SlowReader {
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let Some(stamp) = self.shape.letters(start).and_then(Stamp::read) else {
            return;
        };
        let lane = stamp.stream.0.wrapping_sub(self.first_stream) as usize;
        if lane < self.slow.published.len() {
            self.received += 1;
            self.truncated += u64::from(message_bytes != self.shape.message_bytes);
            self.checker.check(lane, stamp.number);
        }
    }

    fn ping(&mut self, _payload: &[u8]) {}

    fn close(&mut self, payload: &[u8]) {
        self.end = Some(match CloseFrame::parse(payload) {
            Ok(close) => SlowEnd::Closed(close.code.0),
            Err(_) => SlowEnd::CutOff,
        });
    }
}
