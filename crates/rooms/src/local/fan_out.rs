//! Publications to the members of a room, merged over a turn.

use std::borrow::Borrow;

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::{MemberRef, MemberState};
use crate::batch::{Batch, Pending};
use crate::class::SlowConsumer;
use crate::delivery::Delivery;
use crate::gap;
use crate::handle::RoomHandle;
use crate::id::{Audience, RoomId};
use crate::outbox::{Span, Tag};

impl LocalRooms {
    /// Queues all publications that wait with their members: for each room and wire one buffer of up to
    /// 64 KiB, however many publications it carries. Then the answers.
    ///
    /// Merging is worth 4x over queueing each publication with each member (measured: 22 M/s
    /// deliveries against 5.5 M/s).
    pub fn fan_out(&mut self) {
        while !self.fan_out_some(usize::MAX) {}
    }

    /// Does about as much of [`fan_out`](Self::fan_out) as `work_max` buffers queued with a member, for
    /// small rooms and again for large ones. Returns true when nothing waits any more.
    ///
    /// A room is fanned out whole, so one room of many members may exceed `work_max`. Answers wait for
    /// every room that was published to before them. What is left goes on with the next call; meanwhile
    /// publications to a room that waits are merged with those that wait.
    pub fn fan_out_some(&mut self, work_max: usize) -> bool {
        if self.pass.is_over() {
            self.pass.left = [self.published[0].len(), self.published[1].len()];
            std::mem::swap(&mut self.due_answers, &mut self.answers);
        }
        for line in 0..self.published.len() {
            let mut work = 0;
            while work < work_max
                && let Some(room) = self.published[line].pop_front()
            {
                work += self.fan_out_room(room).max(1);
                self.pass.note_one(line);
            }
        }
        if self.pass.is_over() {
            self.push_answers();
        }
        if self.has_published() {
            return false;
        }
        self.due_answers.append(&mut self.answers);
        self.push_answers();
        true
    }

    /// Whether publications wait to be fanned out.
    pub fn has_published(&self) -> bool {
        self.published.iter().any(|line| !line.is_empty())
    }

    pub(super) fn deliver(
        &mut self,
        (room, to): (RoomId, Audience),
        frame: SharedFrame,
        delivery: Delivery,
    ) {
        let Some(room) = self.find_room((room, to.wire())) else {
            return;
        };
        // Who is no member now will not be one before this is fanned out: a join does that first.
        let except = to
            .exception(self.core)
            .and_then(|connection| self.slot_of(connection))
            .filter(|slot| self.membership_index(*slot, room).is_some());
        let local = &mut self.rooms[room as usize];
        if local.pending.is_empty() {
            self.published[queue_of(local.members.len()) as usize].push_back(room);
        }
        local.has_exceptions |= except.is_some();
        local.pending.push(Pending {
            frame,
            delivery,
            except,
        });
    }

    /// Fans out the rooms that the connection is a member of, so that what follows for it comes
    /// after what was published before.
    pub(super) fn fan_out_rooms_of(&mut self, slot: u32) {
        if !self.has_published() {
            return;
        }
        for index in 0..self.members[slot as usize].memberships.len() {
            self.fan_out_room(self.members[slot as usize].memberships[index].room);
        }
    }

    /// Pushes the pending publications of a room to each of its members, merged into as few
    /// shared buffers as they fit. Members that are excepted from some of them get the others apart.
    /// Returns how much work it was: frames merged, and buffers queued.
    pub(super) fn fan_out_room(&mut self, room: u32) -> usize {
        let local = &mut self.rooms[room as usize];
        if local.pending.is_empty() {
            return 0;
        }
        let mut work = local.pending.len();
        // Moved out and back, so that the outboxes can be borrowed too.
        let mut pending = std::mem::take(&mut local.pending);
        let mut members = std::mem::take(&mut local.members);
        let (id, slow_consumer) = (local.handle.id, local.handle.slow_consumer);
        let known = local.newest.len();
        let queue = queue_of(members.len());
        let mut scratch = std::mem::take(&mut self.merged);
        let mut sharing = &members[..];
        if std::mem::take(&mut local.has_exceptions) {
            let sharing_count = self.part_excepted(room, &pending, &mut members);
            let (others, apart) = members.split_at(sharing_count);
            self.push_apart(room, apart, &pending, queue, &mut scratch);
            work += apart.len() * pending.len();
            sharing = others;
        }
        self.counts.deliveries += pending.len() as u64 * sharing.len() as u64;
        let mut rest = &pending[..];
        while let Some(batch) = Batch::first_of(rest, id, slow_consumer, &mut scratch) {
            self.push_to_all(room, sharing, &batch, queue, &mut scratch);
            work += sharing.len();
            rest = &rest[batch.len()..];
        }
        pending.clear();
        pending.shrink_to(PENDING_KEPT_MIN.max(members.len() / MEMBERS_PER_PENDING_KEPT));
        self.merged = scratch;
        let local = &mut self.rooms[room as usize];
        if local.newest.len() > known {
            local.newest.drain(..known);
        }
        local.members = members;
        local.pending = pending;
        work
    }

    pub(super) fn push_to_all(
        &mut self,
        room: u32,
        members: &[MemberRef],
        batch: &Batch<'_, impl Borrow<Pending>>,
        queue: FlushQueue,
        scratch: &mut Vec<u8>,
    ) {
        if batch.tag() != Tag::Firm || batch.has_passing() {
            return self.push_to_each(members, batch, room, queue, scratch);
        }
        for member in members {
            self.push(member.slot, batch.frame(), queue);
        }
    }

    /// The same where not every member gets the same: in rooms that may be skipped, and of events that
    /// are passed over under pressure.
    fn push_to_each(
        &mut self,
        members: &[MemberRef],
        batch: &Batch<'_, impl Borrow<Pending>>,
        index: u32,
        queue: FlushQueue,
        scratch: &mut Vec<u8>,
    ) {
        let room = &self.rooms[index as usize].handle.clone();
        let latest = batch
            .newest()
            .filter(|_| room.slow_consumer == SlowConsumer::Latest);
        let mut firm = None;
        for MemberRef { slot, .. } in members {
            let member = &self.members[*slot as usize];
            let waits = member.state.has(MemberState::BLOCKED) || member.outbox.has_rest();
            // Older ones may be among what found no place: all of it comes behind them, or goes with them.
            let is_next = !member.state.has(MemberState::OVERFLOWED);
            if let Some((frame, tag)) = latest.filter(|_| waits && is_next) {
                self.drop_first(*slot, index);
                self.push_latest(*slot, (frame, tag), batch, room, queue);
            } else if batch.has_passing() && self.is_pressed(*slot, batch.frame().len()) {
                self.counts.passed_over += batch.passing_count();
                let firm = firm.get_or_insert_with(|| batch.without_passing(scratch));
                if let Some(frame) = firm {
                    self.push_tagged(*slot, (frame, batch.tag()), Some(room), queue);
                }
            } else {
                let frame = (batch.frame(), batch.tag());
                self.push_tagged(*slot, frame, Some(room), queue);
            }
        }
        let buffers = latest.map(|newest| [newest, (batch.frame(), batch.tag())]);
        for (frame, tag) in buffers.into_iter().flatten() {
            if let Tag::Publications(span) = tag {
                self.rooms[index as usize]
                    .newest
                    .push((frame.clone(), span));
            }
        }
    }

    /// Drops the first buffer of an outbox, for a newer one that takes its place, if its socket takes no more
    /// and it is the room's. Of that many turns may pass before it is written.
    fn drop_first(&mut self, slot: u32, index: u32) {
        let room = &self.rooms[index as usize];
        let member = &mut self.members[slot as usize];
        if member.state.has(MemberState::BLOCKED) {
            let gap = |span: Span| gap::encode(&room.handle.name, span.first, span.last);
            self.counts.skipped += member.outbox.drop_first(&room.newest, gap);
        }
    }

    /// Whether passing events are not for a member, in a buffer of so many bytes: much waits for it, or
    /// something found no place, or they would not either.
    fn is_pressed(&self, slot: u32, len: usize) -> bool {
        let member = &self.members[slot as usize];
        let pending_bytes = member.outbox.pending_bytes();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        member.state.has(MemberState::OVERFLOWED)
            || pending_bytes > self.limits.outbox_bytes_max / PRESSURE_DIVISOR
            || pending_bytes > 0 && pending_bytes.saturating_add(len) > self.limits.outbox_bytes_max
    }

    /// Queues the newest publication of a batch for a member for whom something waits already, in place
    /// of all older ones of the room that wait.
    fn push_latest(
        &mut self,
        slot: u32,
        (frame, tag): (&SharedFrame, Tag),
        batch: &Batch<'_, impl Borrow<Pending>>,
        room: &RoomHandle,
        queue: FlushQueue,
    ) {
        self.counts.passed_over += batch.passing_count();
        let outbox = &mut self.members[slot as usize].outbox;
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        self.counts.skipped += outbox.drop_oldest(room.id, |_| true, gap);
        if let Some(older) = batch.older_than_newest() {
            if !self.pass_over(slot, older, room) {
                let whole = (batch.frame(), batch.tag());
                self.push_tagged(slot, whole, Some(room), queue);
                return;
            }
            self.counts.skipped += older.len();
        }
        self.push_tagged(slot, (frame, tag), Some(room), queue);
    }
}

/// The rooms that had publications when a fan-out began, by line: answers that were queued before it may
/// go when those are done, whatever has been published since.
#[derive(Debug, Default)]
pub(super) struct Pass {
    left: [usize; 2],
}

impl Pass {
    /// Takes note that the next room of a line is done.
    fn note_one(&mut self, line: usize) {
        self.left[line] = self.left[line].saturating_sub(1);
    }

    fn is_over(&self) -> bool {
        self.left == [0, 0]
    }
}

/// Passing events go to members for whom less waits than this part of what may.
const PRESSURE_DIVISOR: u32 = 4;

/// In which line so many connections wait that are sent the same.
pub(super) const fn queue_of(count: usize) -> FlushQueue {
    match count {
        0..=PROMPT_MEMBERS_MAX => FlushQueue::Prompt,
        _ => FlushQueue::Bulk,
    }
}

/// How many places for the publications of a turn a room keeps between turns.
const PENDING_KEPT_MIN: usize = 4;

/// A large room keeps more of them, one for so many members: it is where publications are many.
const MEMBERS_PER_PENDING_KEPT: usize = 4;

/// The members up to which a room is small: as many sends as fit in half a millisecond.
const PROMPT_MEMBERS_MAX: usize = 64;
