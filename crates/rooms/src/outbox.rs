//! The frames on their way to one member that its socket has not taken.
//!
//! Invariants: `pending_bytes` is the sum of what is queued less what was sent of the first frame;
//! `rest` is absent when it would be empty; `first` is present whenever `rest` is. A gap tells of
//! publications without holes, none of which is queued, in the place of the first of them. A
//! publication that the member is excepted from makes no hole, and no gap begins or ends with it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use proto::{SharedFrame, frame};
use thiserror::Error;

use crate::id::RoomId;

/// Frames waiting for one member's socket, bounded in bytes.
///
/// A room writes here and the socket's flush reads, so this queue is the only place where a fast
/// room meets a slow socket. The bound counts bytes and not frames: a frame may be tens of bytes
/// or tens of kilobytes, and it is memory that runs out. An empty outbox has no allocation; one
/// with a single frame, which is the usual case since a turn's publications are merged, has none
/// of its own either.
///
/// Bytes that the kernel already holds are not counted.
///
/// # Examples
///
/// ```
/// use throng_rooms::{Outbox, PushError, Tag};
///
/// let mut outbox = Outbox::default();
/// outbox.push(&b"hello".as_slice().into(), Tag::Firm, 8)?;
/// outbox.advance(2);
/// assert_eq!(outbox.pending_bytes(), 3);
///
/// let refused = outbox.push(&b"worlds".as_slice().into(), Tag::Firm, 8);
/// assert_eq!(refused, Err(PushError::Full { pending_bytes: 3, pending_bytes_max: 8 }));
/// # Ok::<(), PushError>(())
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<SharedFrame>,
    rest: Option<Box<Rest>>,
    /// The bytes of `first` that the socket has taken.
    sent: u32,
    pending_bytes: u32,
}

/// The buffers behind the first. In a box: 8 bytes in every member.
#[derive(Debug, Default)]
struct Rest {
    frames: VecDeque<SharedFrame>,
    /// One tag for each buffer if one of them is not firm; else none, as for the members of most
    /// rooms.
    tags: VecDeque<Tag>,
}

impl Rest {
    #[inline]
    fn push_back(&mut self, frame: SharedFrame, tag: Tag) {
        if tag != Tag::Firm || !self.tags.is_empty() {
            self.push_tag(tag);
        }
        self.frames.push_back(frame);
    }

    #[cold]
    fn push_tag(&mut self, tag: Tag) {
        self.tags.resize(self.frames.len(), Tag::Firm);
        self.tags.push_back(tag);
    }

    #[inline]
    fn pop_front(&mut self) -> Option<SharedFrame> {
        if !self.tags.is_empty() {
            self.tags.pop_front();
        }
        self.frames.pop_front()
    }

    fn remove(&mut self, index: usize) {
        self.tags.remove(index);
        self.frames.remove(index);
    }

    /// Puts a gap in a place, unless that gap is there already.
    fn tell(
        &mut self,
        place: Option<(usize, Span)>,
        gap: &impl Fn(Span) -> SharedFrame,
        pending_bytes: &mut u32,
    ) {
        let Some((index, span)) = place.filter(|(at, span)| self.tags[*at] != Tag::Gap(*span))
        else {
            return;
        };
        let frame = gap(span);
        *pending_bytes -= len_of(&self.frames[index]);
        *pending_bytes += len_of(&frame);
        self.frames[index] = frame;
        self.tags[index] = Tag::Gap(span);
    }
}

/// The publications that a buffer holds, for code that may have to drop it.
///
/// The tag of the first buffer of an outbox is forgotten, because a part of that buffer may be on
/// the wire. Only code that knows what it holds may drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Never dropped: answers, control frames, and the publications of most rooms.
    Firm,
    /// A gap, which tells of publications that were dropped.
    Gap(Span),
    /// Publications that may be dropped, if a gap tells of them.
    Publications(Span),
}

/// Publications of one room, without holes except for those that the member is excepted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The room.
    pub room: RoomId,
    /// The offset of the first publication.
    pub first: u64,
    /// The offset of the last publication.
    pub last: u64,
    /// The publications between the first and the last that the member is excepted from.
    pub excepted_within: u32,
    /// The publications right behind the last that the member is excepted from.
    pub excepted_behind: u32,
}

impl Span {
    /// Returns how many publications there are.
    pub const fn len(&self) -> u64 {
        self.last + 1 - self.first - self.excepted_within as u64
    }

    /// Returns whether there are none; there always are some.
    pub const fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Returns whether the others follow these without a hole.
    const fn is_before(&self, others: &Self) -> bool {
        self.last + 1 + self.excepted_behind as u64 == others.first
    }

    /// Extends the span to the end of others that follow without a hole.
    const fn extend_to(&mut self, others: &Self) {
        self.last = others.last;
        self.excepted_behind = others.excepted_behind;
    }

    /// Notes that the member is excepted from a publication, if it is the next one.
    pub(crate) const fn except(&mut self, offset: u64) {
        if self.last + 1 + self.excepted_behind as u64 == offset {
            self.excepted_behind = self.excepted_behind.saturating_add(1);
        }
    }
}

/// A frame that does not fit into the outbox. The outbox is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The member's socket has not taken enough of what was sent before.
    #[error("outbox holds {pending_bytes} of {pending_bytes_max} bytes")]
    Full {
        /// The bytes that are queued.
        pending_bytes: u32,
        /// The bytes that are allowed.
        pending_bytes_max: u32,
    },
}

impl Outbox {
    /// Queues encoded frames for the socket.
    ///
    /// Costs one reference count, never a copy: every member of a room shares the same buffer. An
    /// empty outbox takes a frame of any size; otherwise a limit set too low would let nothing
    /// through.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] if the frame would take the outbox over `pending_bytes_max`.
    #[inline]
    pub fn push(
        &mut self,
        frame: &SharedFrame,
        tag: Tag,
        pending_bytes_max: u32,
    ) -> Result<(), PushError> {
        let pending_bytes = self.pending_bytes;
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Some(total) = pending_bytes.checked_add(len) else {
            return Err(PushError::Full {
                pending_bytes,
                pending_bytes_max,
            });
        };
        if total > pending_bytes_max && pending_bytes > 0 {
            return Err(PushError::Full {
                pending_bytes,
                pending_bytes_max,
            });
        }
        self.pending_bytes = total;
        if self.first.is_none() {
            self.first = Some(frame.clone());
        } else {
            let rest = self.rest.get_or_insert_default();
            rest.push_back(frame.clone(), tag);
        }
        Ok(())
    }

    /// Returns whether a frame of so many bytes would fit.
    pub(crate) fn has_place_for(&self, len: usize, pending_bytes_max: u32) -> bool {
        let total = len.saturating_add(self.pending_bytes as usize);
        self.is_empty() || total <= pending_bytes_max as usize
    }

    /// Drops queued publications of the room, the oldest first, while `wants_more` returns true for
    /// the bytes that are left. Puts the gap that `gap` encodes in their place; returns how many
    /// publications it dropped.
    ///
    /// Publications that follow each other go into one gap, wherever they are queued; frames of
    /// other rooms stay between them. Costs in proportion to the queue at worst; the oldest
    /// publications are at its beginning.
    pub fn drop_oldest(
        &mut self,
        room: RoomId,
        wants_more: impl Fn(u32) -> bool,
        gap: impl Fn(Span) -> SharedFrame,
    ) -> u64 {
        let Some(rest) = &mut self.rest else { return 0 };
        let mut dropped_count = 0;
        // Where the last gap is, and what it is to tell.
        let mut place: Option<(usize, Span)> = None;
        let mut index = 0;
        while index < rest.tags.len() && wants_more(self.pending_bytes) {
            let (span, is_gap) = match rest.tags[index] {
                Tag::Gap(span) => (span, true),
                Tag::Publications(span) => (span, false),
                Tag::Firm => {
                    index += 1;
                    continue;
                }
            };
            if span.room != room {
                index += 1;
                continue;
            }
            dropped_count += if is_gap { 0 } else { span.len() };
            if let Some((_, told)) = place.as_mut().filter(|(_, told)| told.is_before(&span)) {
                told.extend_to(&span);
                self.pending_bytes -= len_of(&rest.frames[index]);
                rest.remove(index);
                continue;
            }
            let done = place.replace((index, span));
            rest.tell(done, &gap, &mut self.pending_bytes);
            if !is_gap {
                // At once, so that its own length counts.
                rest.tell(place, &gap, &mut self.pending_bytes);
            }
            index += 1;
        }
        rest.tell(place, &gap, &mut self.pending_bytes);
        dropped_count
    }

    /// Drops the first buffer if it is one of these and has not begun to be sent, and puts the gap
    /// that `gap` encodes in its place. Returns how many publications the buffer held.
    pub fn drop_first(
        &mut self,
        known: &[(SharedFrame, Span)],
        gap: impl Fn(Span) -> SharedFrame,
    ) -> u64 {
        let Some(first) = self.first.as_mut().filter(|_| self.sent == 0) else {
            return 0;
        };
        let is_first = |(frame, _): &&(SharedFrame, Span)| Arc::ptr_eq(frame, first);
        let Some((_, span)) = known.iter().find(is_first) else {
            return 0;
        };
        self.pending_bytes -= len_of(first);
        *first = gap(*span);
        self.pending_bytes += len_of(first);
        span.len()
    }

    /// Tells of publications that it does not queue: in the gap that ends right before them if
    /// nothing of the room is queued behind it, else in a new gap at the end.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] if a new gap would take the outbox over `pending_bytes_max`; the outbox
    /// is unchanged.
    pub fn skip(
        &mut self,
        span: Span,
        gap: impl Fn(Span) -> SharedFrame,
        pending_bytes_max: u32,
    ) -> Result<(), PushError> {
        let last = self.rest.as_mut().and_then(|rest| {
            let of_the_room = |tag: &Tag| match tag {
                Tag::Firm => false,
                Tag::Gap(queued) | Tag::Publications(queued) => queued.room == span.room,
            };
            let index = rest.tags.iter().rposition(of_the_room)?;
            match rest.tags[index] {
                Tag::Gap(told) if told.is_before(&span) => Some((index, told, rest)),
                _ => None,
            }
        });
        let Some((index, mut told, rest)) = last else {
            return self.push(&gap(span), Tag::Gap(span), pending_bytes_max);
        };
        told.extend_to(&span);
        rest.tell(Some((index, told)), &gap, &mut self.pending_bytes);
        Ok(())
    }

    /// Notes that the member is excepted from a publication of the room, if what is queued of it
    /// ends right before: a gap may then span the publication. Costs in proportion to the queue at
    /// worst.
    pub fn except(&mut self, room: RoomId, offset: u64) {
        let Some(rest) = &mut self.rest else { return };
        let last = rest.tags.iter_mut().rev().find_map(|tag| match tag {
            Tag::Gap(span) | Tag::Publications(span) if span.room == room => Some(span),
            _ => None,
        });
        if let Some(span) = last {
            span.except(offset);
        }
    }

    /// Returns the bound for what is queued behind the first frame, which may be over it alone.
    pub fn bound(&self, pending_bytes_max: u32) -> u32 {
        let first_len = self.first.as_ref().map_or(0, len_of);
        pending_bytes_max.max(first_len)
    }

    /// Forbids dropping what is queued of the room by now, and extending its gaps: it belongs to a
    /// membership that is over.
    pub fn seal(&mut self, room: RoomId) {
        for tag in self.rest.iter_mut().flat_map(|rest| rest.tags.iter_mut()) {
            if matches!(tag, Tag::Gap(span) | Tag::Publications(span) if span.room == room) {
                *tag = Tag::Firm;
            }
        }
    }

    /// Returns whether more than one buffer is queued.
    #[inline]
    pub const fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Returns the bytes that the socket has not taken.
    pub const fn pending_bytes(&self) -> u32 {
        self.pending_bytes
    }

    /// Returns whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the only buffer, if there is exactly one.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match (&self.first, &self.rest) {
            (Some(first), None) => Some(&first[self.sent as usize..]),
            _ => None,
        }
    }

    /// Sets slices to the front of the queue, for one vectored write of at most so many bytes;
    /// returns how many it set.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>], bytes_max: usize) -> usize {
        let first = self.first.iter().map(|frame| &frame[self.sent as usize..]);
        let rest = self
            .rest
            .iter()
            .flat_map(|rest| rest.frames.iter())
            .map(|frame| &frame[..]);
        let (mut count, mut left) = (0, bytes_max);
        for (slot, bytes) in into.iter_mut().zip(first.chain(rest)) {
            if left == 0 {
                break;
            }
            let bytes = &bytes[..bytes.len().min(left)];
            *slot = IoSlice::new(bytes);
            left -= bytes.len();
            count += 1;
        }
        count
    }

    /// Removes the first `taken` bytes, which the socket has taken.
    pub fn advance(&mut self, taken: usize) {
        let mut taken = u32::try_from(taken)
            .unwrap_or(u32::MAX)
            .min(self.pending_bytes);
        self.pending_bytes -= taken;
        while let Some(first) = &self.first {
            let left = u32::try_from(first.len()).unwrap_or(u32::MAX) - self.sent;
            if taken < left {
                self.sent += taken;
                return;
            }
            taken -= left;
            self.sent = 0;
            self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
            if self
                .rest
                .as_ref()
                .is_some_and(|rest| rest.frames.is_empty())
            {
                self.rest = None;
            }
        }
    }

    /// Drops everything that has not begun to be sent, so that a close frame can follow.
    ///
    /// If a part of a buffer is on the wire, the frame that is cut stays: the peer must be able to
    /// read on.
    pub fn drop_unsent(&mut self) {
        self.rest = None;
        self.drop_first_unsent();
        self.pending_bytes = self.first.as_ref().map_or(0, len_of) - self.sent;
    }

    /// Drops everything that has not begun to be sent, except for the last buffer.
    pub fn drop_all_but_last(&mut self) {
        let last = self.rest.as_mut().and_then(|rest| rest.frames.pop_back());
        let Some(last) = last else { return };
        self.drop_unsent();
        // Less than there was before, so within any bound.
        _ = self.push(&last, Tag::Firm, u32::MAX);
    }

    /// Cuts the first buffer behind the frame that is half on the wire, if there is one.
    fn drop_first_unsent(&mut self) {
        let sent = self.sent as usize;
        let Some(first) = self.first.take_if(|_| sent > 0) else {
            self.first = None;
            return;
        };
        // Nothing is cut where the last byte that was sent ends its frame.
        let end = frame::end_of_frame_at(&first, sent - 1);
        if end == sent {
            self.sent = 0;
        } else if end == first.len() {
            self.first = Some(first);
        } else {
            self.first = Some(first[..end].into());
        }
    }
}

/// Returns the length of a frame that was counted when it was queued.
fn len_of(frame: &SharedFrame) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proto::OpCode;

    use super::*;

    fn outbox_with(frames: &[&[u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        for frame in frames {
            outbox.push(&(*frame).into(), Tag::Firm, 1000).unwrap();
        }
        outbox
    }

    fn contents(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.slices(&mut slices, usize::MAX);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn every_partial_write_leaves_the_rest_in_order() {
        for taken in 0..=9 {
            let mut outbox = outbox_with(&[b"abc", b"d", b"efghi"]);
            outbox.advance(taken);
            assert_eq!(contents(&outbox), b"abcdefghi"[taken..]);
            assert_eq!(outbox.pending_bytes() as usize, 9 - taken);
            assert_eq!(outbox.is_empty(), taken == 9);
        }
    }

    #[test]
    fn many_partial_writes_of_one_frame_add_up() {
        let mut outbox = outbox_with(&[b"abcd", b"e"]);
        for left in [b"bcde".as_slice(), b"cde", b"de", b"e", b""] {
            outbox.advance(1);
            assert_eq!(contents(&outbox), left);
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_empty_outbox_takes_a_frame_over_the_limit_and_then_nothing() {
        let mut outbox = Outbox::default();
        let push = |outbox: &mut Outbox, text: &[u8]| outbox.push(&text.into(), Tag::Firm, 4);
        assert_eq!(push(&mut outbox, b"12345"), Ok(()));
        assert!(push(&mut outbox, b"6").is_err());
        outbox.advance(5);
        assert_eq!(push(&mut outbox, b"6"), Ok(()));
    }

    /// Returns an outbox of buffers of binary frames with these texts.
    fn framed(buffers: &[&[&str]]) -> Outbox {
        let buffers = buffers.iter().map(|texts| -> SharedFrame {
            let frames = texts
                .iter()
                .map(|text| frame::encode(OpCode::Text, text.as_bytes()));
            frames.flat_map(|frame| frame.to_vec()).collect()
        });
        let mut outbox = Outbox::default();
        for buffer in buffers {
            outbox.push(&buffer, Tag::Firm, u32::MAX).unwrap();
        }
        outbox
    }

    /// Returns what is left after so much was sent and the rest was dropped.
    fn left_after(taken: usize, drop: impl Fn(&mut Outbox)) -> String {
        let mut outbox = framed(&[&["ab", "cd", "ef"], &["gh"], &["end"]]);
        outbox.advance(taken);
        drop(&mut outbox);
        let left = contents(&outbox);
        assert_eq!(left.len(), outbox.pending_bytes() as usize);
        String::from_utf8_lossy(&left).replace(|c: char| !c.is_ascii_lowercase(), ".")
    }

    #[test]
    fn dropping_the_unsent_keeps_the_frame_that_is_half_on_the_wire() {
        let left_after = |taken| left_after(taken, Outbox::drop_unsent);
        assert_eq!(left_after(0), "");
        assert_eq!(left_after(1), ".ab");
        assert_eq!(left_after(3), "b");
        assert_eq!(left_after(4), "", "a whole frame is on the wire");
        assert_eq!(left_after(5), ".cd");
        assert_eq!(left_after(11), "f");
        assert_eq!(left_after(12), "");
        assert_eq!(left_after(13), ".gh");
        assert_eq!(left_after(20), "d");
    }

    #[test]
    fn the_last_buffer_stays_when_all_else_makes_way_for_it() {
        let left_after = |taken| left_after(taken, Outbox::drop_all_but_last);
        assert_eq!(left_after(0), "..end");
        assert_eq!(left_after(7), "d..end");
        assert_eq!(left_after(12), "..end");
        assert_eq!(left_after(15), "h..end");
        assert_eq!(left_after(16), "..end");
        assert_eq!(left_after(18), "end", "it is under way itself");
    }

    #[test]
    fn what_is_half_on_the_wire_stays_however_often_the_rest_is_dropped() {
        let mut outbox = framed(&[&["ab", "cd"]]);
        outbox.advance(5);
        for _ in 0..3 {
            outbox.drop_unsent();
        }
        outbox.advance(1);
        assert_eq!(contents(&outbox), b"cd");
        outbox.advance(2);
        assert!(outbox.is_empty());
    }

    const TEA: RoomId = RoomId::new(1, 0);
    const ART: RoomId = RoomId::new(2, 0);

    /// An outbox with `x` under way and publications queued, four bytes each, of one letter a room.
    fn queued(publications: &[(RoomId, u64)]) -> Outbox {
        let mut outbox = outbox_with(&[b"x"]);
        for (room, offset) in publications {
            let span = Span {
                room: *room,
                ..publication(*offset)
            };
            let letter = if *room == TEA { 't' } else { 'a' };
            let frame = format!("{letter}{offset:02} ").into_bytes().into();
            outbox.push(&frame, Tag::Publications(span), 1000).unwrap();
        }
        outbox
    }

    fn gap(span: Span) -> SharedFrame {
        format!("[{}-{}] ", span.first, span.last)
            .into_bytes()
            .into()
    }

    fn text(outbox: &Outbox) -> String {
        let text = String::from_utf8(contents(outbox)).unwrap();
        assert_eq!(text.len(), outbox.pending_bytes() as usize);
        text
    }

    #[test]
    fn the_oldest_of_a_room_make_way_and_one_gap_says_so_in_their_place() {
        let mut outbox = queued(&[(TEA, 1), (ART, 7), (TEA, 2), (TEA, 3), (ART, 8)]);
        assert_eq!(outbox.drop_oldest(TEA, |bytes| bytes > 19, gap), 2);
        assert_eq!(text(&outbox), "x[1-2] a07 t03 a08 ");
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 1);
        assert_eq!(text(&outbox), "x[1-3] a07 a08 ");
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 0);
        assert_eq!(outbox.drop_oldest(ART, |_| true, gap), 2);
        assert_eq!(text(&outbox), "x[1-3] [7-8] ");
    }

    #[test]
    fn what_does_not_fit_even_then_is_told_in_the_same_gap() {
        let span = |first, last| Span {
            last,
            ..publication(first)
        };
        let mut outbox = queued(&[(TEA, 1), (ART, 7)]);
        outbox.drop_oldest(TEA, |_| true, gap);
        outbox.skip(span(2, 5), gap, 0).unwrap();
        assert_eq!(text(&outbox), "x[1-5] a07 ");

        let mut outbox = queued(&[(TEA, 1), (ART, 7)]);
        assert!(outbox.skip(span(2, 2), gap, 14).is_err());
        outbox.skip(span(2, 2), gap, 15).unwrap();
        outbox.skip(span(3, 4), gap, 15).unwrap();
        assert_eq!(text(&outbox), "xt01 a07 [2-4] ");
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 1);
        assert_eq!(text(&outbox), "x[1-4] a07 ");
    }

    #[test]
    fn the_first_buffer_makes_way_if_it_is_known_and_not_under_way() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1);
        push(&mut outbox, 2);
        let first = outbox.first.clone().unwrap();
        let other: SharedFrame = b"t01 ".as_slice().into();
        let known = |frame| [(frame, publication(1))];
        assert_eq!(outbox.drop_first(&known(other), gap), 0, "it is another");
        assert_eq!(outbox.drop_first(&known(first.clone()), gap), 1);
        assert_eq!(text(&outbox), "[1-1] t02 ");
        assert_eq!(outbox.drop_first(&known(first), gap), 0);

        let mut outbox = Outbox::default();
        push(&mut outbox, 1);
        outbox.advance(1);
        let first = outbox.first.clone().unwrap();
        assert_eq!(outbox.drop_first(&known(first), gap), 0);
        assert_eq!(text(&outbox), "01 ");
    }

    #[test]
    fn the_first_buffer_is_never_dropped() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1);
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 0);
        outbox.skip(publication(2), gap, 100).unwrap();
        assert_eq!(text(&outbox), "t01 [2-2] ");
    }

    #[test]
    fn two_gaps_that_meet_are_one_also_if_nothing_is_dropped_for_it() {
        let mut outbox = queued(&[(TEA, 1), (TEA, 2)]);
        outbox.skip(publication(3), gap, 100).unwrap();
        assert_eq!(text(&outbox), "xt01 t02 [3-3] ");
        assert_eq!(outbox.drop_oldest(TEA, |bytes| bytes > 13, gap), 2);
        assert_eq!(text(&outbox), "x[1-2] [3-3] ");
        assert_eq!(outbox.drop_oldest(TEA, |bytes| bytes > 7, gap), 0);
        assert_eq!(text(&outbox), "x[1-3] ");
    }

    #[test]
    fn what_is_firm_is_in_no_gap_and_parts_them() {
        let mut outbox = queued(&[(TEA, 1), (TEA, 2)]);
        let firm = b"t03+".as_slice().into();
        outbox.push(&firm, Tag::Firm, 100).unwrap();
        push(&mut outbox, 4);
        push(&mut outbox, 5);
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 4);
        assert_eq!(text(&outbox), "x[1-2] t03+[4-5] ");
        outbox.push(&firm, Tag::Firm, 100).unwrap();
        outbox.skip(publication(7), gap, 100).unwrap();
        assert_eq!(text(&outbox), "x[1-2] t03+[4-5] t03+[7-7] ");
    }

    #[test]
    fn what_is_sealed_is_neither_dropped_nor_told_on() {
        let mut outbox = queued(&[(TEA, 1), (ART, 7)]);
        outbox.drop_oldest(TEA, |_| true, gap);
        push(&mut outbox, 2);
        outbox.seal(TEA);
        push(&mut outbox, 3);
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 1);
        assert_eq!(text(&outbox), "x[1-1] a07 t02 [3-3] ");
        assert_eq!(outbox.drop_oldest(ART, |_| true, gap), 1);
    }

    #[test]
    fn a_gap_goes_across_what_the_member_is_excepted_from_and_ends_with_nothing_of_it() {
        let mut outbox = queued(&[(TEA, 1)]);
        outbox.except(TEA, 2);
        outbox.except(ART, 2);
        outbox.except(TEA, 3);
        push(&mut outbox, 4);
        outbox.except(TEA, 5);
        assert_eq!(outbox.drop_oldest(TEA, |bytes| bytes < 10, gap), 1);
        assert_eq!(text(&outbox), "x[1-1] t04 ");
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 1);
        assert_eq!(text(&outbox), "x[1-4] ");
        outbox.skip(publication(6), gap, 100).unwrap();
        assert_eq!(text(&outbox), "x[1-6] ");

        // 8 is no exception: it may have been sent.
        outbox.except(TEA, 7);
        outbox.except(TEA, 9);
        push(&mut outbox, 9);
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 1);
        assert_eq!(text(&outbox), "x[1-6] [9-9] ");
    }

    #[test]
    fn what_the_member_is_excepted_from_is_not_counted_as_dropped() {
        let mut outbox = queued(&[(TEA, 1)]);
        let span = Span {
            last: 6,
            excepted_within: 2,
            ..publication(2)
        };
        let merged = b"t02 t04 t06 ".as_slice().into();
        outbox.push(&merged, Tag::Publications(span), 100).unwrap();
        assert_eq!(outbox.drop_oldest(TEA, |_| true, gap), 4);
        assert_eq!(text(&outbox), "x[1-6] ");
    }

    const fn publication(offset: u64) -> Span {
        Span {
            room: TEA,
            first: offset,
            last: offset,
            excepted_within: 0,
            excepted_behind: 0,
        }
    }

    fn push(outbox: &mut Outbox, offset: u64) {
        let frame = format!("t{offset:02} ").into_bytes().into();
        let tag = Tag::Publications(publication(offset));
        outbox.push(&frame, tag, 1000).unwrap();
    }
}
