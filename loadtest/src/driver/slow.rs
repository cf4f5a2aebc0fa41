//! Members that stop reading, or read slowly, and what is found in their sockets at the end.

use std::net::SocketAddr;
use std::time::Duration;

use proto::{CloseFrame, OpCode};

use super::{Driver, ReadOutcome};
use crate::clock::to_ns;
use crate::connection::State;
use crate::failure::Failure;
use crate::inbox::Recipient;
use crate::payload::Stamp;
use crate::plan::{Home, MemberId, Plan, StreamId};
use crate::positions::{PositionBook, PositionTally, Seat};
use crate::sequence::{Faults, SequenceChecker};
use crate::wire::RoomShape;
use crate::wire::throng::{self, Said};

/// What the kernel may keep for a member that will not read: as much as it begins with for everybody,
/// and it does not grow. It must be said before connecting: a kernel whose buffer shrinks drops what
/// it had promised to take, and the server's then sends it again and again.
pub(super) const SLOW_BUFFER_BYTES: usize = 64 * 1024;

/// A socket from which nothing came for so long has given all that the server had for it.
const QUIET: Duration = Duration::from_millis(300);

/// Reading everything that was left behind may take so long; a server may go on sending.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// A member that does not read, or slowly.
#[derive(Debug)]
struct SlowMember {
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
    /// What its offsets and gaps say of it, on a wire with positions.
    pub(crate) positions: Option<Passed>,
    /// How old each publication was that it read while the others did, in nanoseconds.
    pub(crate) ages_ns: Vec<u64>,
}

/// What a slow member was not sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// Publications that are not in its socket; of one that was closed, those before the last that is.
    pub(crate) missing: u64,
    /// Those that were announced.
    pub(crate) announced: u64,
    /// Those that were not.
    pub(crate) unannounced: u64,
    /// What else was wrong with offsets and messages.
    pub(crate) faults: u64,
    pub(crate) first_fault: Option<String>,
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

    /// Lets those who were chosen read so many bytes a second each from now on, and answer pings as they come
    /// to them; returns their sockets' addresses, this end first.
    pub(crate) fn read_no_faster(
        &mut self,
        bytes_per_second: u64,
    ) -> Result<Vec<(SocketAddr, SocketAddr)>, Failure> {
        let now_ns = self.clock.now_ns();
        self.slow_rate = bytes_per_second;
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
            let reader = self.slow_reader(SlowMember { member, published }, now_ns);
            self.slow.push(reader);
        }
        Ok(addresses)
    }

    /// Reads from each slow member's socket what it may have read by now.
    pub(super) fn read_slowly(&mut self, now_ns: u64) {
        if self.slow_rate == 0 {
            return;
        }
        let mut readers = std::mem::take(&mut self.slow);
        for reader in &mut readers {
            let elapsed_us = u128::from(now_ns - reader.began_ns) / 1000;
            let allowed = u128::from(self.slow_rate) * elapsed_us / 1_000_000;
            let allowed = u64::try_from(allowed).unwrap_or(u64::MAX);
            let left = allowed.saturating_sub(reader.read_bytes);
            reader.now_ns = Some(now_ns);
            self.read_left_behind(reader, usize::try_from(left).unwrap_or(usize::MAX));
            reader.now_ns = None;
        }
        self.slow = readers;
    }

    /// Reads what is in the slow members' sockets, and says what became of them.
    pub(crate) fn read_slow(&mut self) -> Vec<SlowFate> {
        let mut readers = std::mem::take(&mut self.slow);
        let end_ns = self.clock.now_ns() + to_ns(READ_PATIENCE);
        let mut quiet_ns = self.clock.now_ns() + to_ns(QUIET);
        while readers.iter().any(|reader| reader.end.is_none()) {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns.min(quiet_ns) {
                break;
            }
            let mut heard = false;
            for reader in &mut readers {
                heard |= self.read_left_behind(reader, usize::MAX);
            }
            if heard {
                quiet_ns = now_ns + to_ns(QUIET);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        let fate = |reader: SlowReader| {
            let published = self.published_since(&reader.slow);
            reader.fate(published)
        };
        readers.into_iter().map(fate).collect()
    }

    fn slow_reader(&self, slow: SlowMember, began_ns: u64) -> SlowReader {
        let room = self.ledger.room_of(slow.member);
        let seat = self.seats.get(slow.member.index());
        SlowReader {
            checker: SequenceChecker::expecting(slow.published.clone()),
            first_stream: self.plan.rooms[room.index()].streams.start,
            shape: self.shapes.of(room).clone(),
            room: self.plan.rooms[room.index()].name.to_string(),
            positions: seat.map(|seat| (*seat, PositionBook::new(&Plan::default()))),
            slow,
            end: None,
            received: 0,
            truncated: 0,
            began_ns,
            read_bytes: 0,
            now_ns: None,
            ages_ns: Vec::new(),
            pings: Vec::new(),
        }
    }

    /// How many publications there were in a slow member's room since it stopped reading.
    fn published_since(&self, slow: &SlowMember) -> u64 {
        let room = &self.plan.rooms[self.ledger.room_of(slow.member).index()];
        let published = room
            .streams
            .clone()
            .map(|id| self.ledger.published(StreamId(id)));
        let since = published.zip(&slow.published);
        since.map(|(now, then)| u64::from(now - then)).sum()
    }

    /// Reads one slow member's socket once, at most so many bytes; false if nothing was there.
    fn read_left_behind(&mut self, reader: &mut SlowReader, bytes_max: usize) -> bool {
        let bytes_max = bytes_max.min(self.buffer.len());
        if reader.end.is_some() || bytes_max == 0 {
            return false;
        }
        let member = reader.slow.member;
        let connection = &mut self.connections[member.index()];
        match connection.read(&mut self.buffer[..bytes_max]) {
            ReadOutcome::Bytes(bytes) => {
                reader.read_bytes += bytes as u64;
                if let State::Open(inbox) = &mut connection.state
                    && inbox.receive(&mut self.buffer[..bytes], reader).is_err()
                {
                    reader.end.get_or_insert(SlowEnd::CutOff);
                }
                for payload in reader.pings.drain(..) {
                    connection.push(OpCode::Pong, &payload);
                }
                // Whether it can still be written to is seen by reading on.
                _ = connection.flush();
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

/// Takes what a slow member reads, and what it left in its socket.
#[derive(Debug)]
pub(super) struct SlowReader {
    slow: SlowMember,
    first_stream: u32,
    shape: RoomShape,
    room: String,
    checker: SequenceChecker,
    /// Where it is in its room's stream, on a wire with positions.
    positions: Option<(Seat, PositionBook)>,
    end: Option<SlowEnd>,
    received: u64,
    truncated: u64,
    began_ns: u64,
    read_bytes: u64,
    /// The time, while the others read too.
    now_ns: Option<u64>,
    ages_ns: Vec<u64>,
    /// The pings that are to be answered.
    pings: Vec<Vec<u8>>,
}

impl SlowReader {
    /// What became of its member, where so much was published since it stopped reading.
    fn fate(self, published: u64) -> SlowFate {
        let mut faults = self.checker.faults();
        faults.truncated += self.truncated;
        let end = self.end.unwrap_or(SlowEnd::Connected);
        let positions = self.positions.map(|(_, book)| {
            // Whoever is connected has everything that was not skipped, up to the newest; whoever was
            // closed has no claim to what came behind.
            let tail = match end {
                SlowEnd::Connected => published.saturating_sub(
                    self.received + book.tally.announced + book.tally.offsets_missing,
                ),
                SlowEnd::Closed(_) | SlowEnd::CutOff => 0,
            };
            Passed::of(&book.tally, tail)
        });
        SlowFate {
            end,
            received: self.received,
            faults,
            positions,
            ages_ns: self.ages_ns,
        }
    }

    /// What a server with positions says beside publications.
    fn message_said(&mut self, start: &[u8]) {
        let Some((seat, book)) = &mut self.positions else {
            return;
        };
        let understood = match throng::understand(start, &self.room) {
            Said::Gap { first, last } => seat.pass_over((first, last), book),
            Said::Drain(_) | Said::Other => Ok(()),
            Said::Wrong(what) => Err(what),
            _ => Err("what nobody asked for"),
        };
        if let Err(what) = understood {
            book.add_wrong(what, start);
        }
    }
}

impl Passed {
    fn of(tally: &PositionTally, tail: u64) -> Self {
        let unannounced = tally.offsets_missing + tail;
        Self {
            missing: tally.announced + unannounced,
            announced: tally.announced,
            unannounced,
            faults: tally.offsets_repeated + tally.wrong_messages,
            first_fault: tally.first_fault.clone(),
        }
    }
}

impl Recipient for SlowReader {
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let delivery = self.shape.delivery(start, message_bytes);
        let stamped = delivery.and_then(|it| Some((it, Stamp::read(it.letters)?)));
        let Some((delivery, stamp)) = stamped else {
            return self.message_said(start);
        };
        let lane = stamp.stream.0.wrapping_sub(self.first_stream) as usize;
        if lane >= self.slow.published.len() {
            return;
        }
        if let (Some(envelope), Some((seat, book))) = (&delivery.envelope, &mut self.positions) {
            seat.take(envelope.offset, book);
        }
        self.received += 1;
        let age_ns = self.now_ns.map(|now| now.saturating_sub(stamp.due_ns));
        self.ages_ns.extend(age_ns);
        self.truncated += u64::from(!delivery.is_whole);
        self.checker.check(lane, stamp.number);
    }

    fn ping(&mut self, payload: &[u8]) {
        self.pings.push(payload.to_vec());
    }

    fn close(&mut self, payload: &[u8]) {
        self.end = Some(match CloseFrame::parse(payload) {
            Ok(close) => SlowEnd::Closed(close.code.0),
            Err(_) => SlowEnd::CutOff,
        });
    }
}
