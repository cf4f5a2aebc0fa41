//! Publications of one turn, put together into buffers that all members of a room share.

use std::borrow::Borrow;

use proto::SharedFrame;

use crate::class::SlowConsumer;
use crate::delivery::{Delivery, EventKind};
use crate::id::RoomId;
use crate::outbox::{Span, Tag};

/// A publication or event that is not fanned out yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) frame: SharedFrame,
    pub(crate) delivery: Delivery,
    /// The slot of the member that is not sent it.
    pub(crate) except: Option<u32>,
}

impl Pending {
    /// Its place in the room's stream, if it has one.
    pub(crate) const fn offset(&self) -> Option<u64> {
        match self.delivery {
            Delivery::Event(_) => None,
            Delivery::Publication(offset) => Some(offset),
        }
    }

    fn is_passing(&self) -> bool {
        self.delivery == Delivery::Event(EventKind::Passing)
    }
}

/// The largest buffer that publications are merged into, in bytes. Beyond it a copy costs more
/// than the entry of a vectored write that it saves.
pub(crate) const MERGED_LEN_MAX: usize = 64 * 1024;

/// As many publications of a turn as go into one buffer: all that wait for a room, or references to those
/// that are for one member.
#[derive(Debug)]
pub(crate) struct Batch<'a, P> {
    publications: &'a [P],
    frame: SharedFrame,
    tag: Tag,
    passing_count: u64,
}

impl<'a, P: Borrow<Pending>> Batch<'a, P> {
    /// Puts the first of them together; none if there are none.
    pub(crate) fn first_of(
        pending: &'a [P],
        room: RoomId,
        slow_consumer: SlowConsumer,
        scratch: &mut Vec<u8>,
    ) -> Option<Self> {
        let (frame, len) = merge(scratch, pending.iter().map(|p| &p.borrow().frame))?;
        let publications = &pending[..len];
        let passing = publications.iter().filter(|p| (*p).borrow().is_passing());
        Some(Self {
            publications,
            frame,
            tag: match slow_consumer {
                SlowConsumer::Disconnect => Tag::Firm,
                SlowConsumer::Latest | SlowConsumer::Skip => tag_of(publications, room),
            },
            passing_count: passing.count() as u64,
        })
    }

    /// How many publications and events are in it.
    pub(crate) const fn len(&self) -> usize {
        self.publications.len()
    }

    /// All of them as one buffer.
    pub(crate) const fn frame(&self) -> &SharedFrame {
        &self.frame
    }

    /// What may be dropped with the buffer.
    pub(crate) const fn tag(&self) -> Tag {
        self.tag
    }

    /// Whether there are events that may be passed over.
    pub(crate) const fn has_passing(&self) -> bool {
        self.passing_count > 0
    }

    /// How many events may be passed over.
    pub(crate) const fn passing_count(&self) -> u64 {
        self.passing_count
    }

    /// The others as one buffer; none if there are none.
    pub(crate) fn without_passing(&self, scratch: &mut Vec<u8>) -> Option<SharedFrame> {
        let firm = self.publications.iter().map(Borrow::borrow);
        let firm = firm.filter(|pending| !pending.is_passing());
        merge(scratch, firm.map(|pending| &pending.frame)).map(|(frame, _)| frame)
    }

    /// The newest publication alone, if the batch may be dropped.
    pub(crate) fn newest(&self) -> Option<(&SharedFrame, Tag)> {
        let Tag::Publications(span) = self.tag else {
            return None;
        };
        let newest_first = self.publications.iter().rev().map(Borrow::borrow);
        let is_newest = |p: &&Pending| p.delivery == Delivery::Publication(span.last);
        let newest = { newest_first }.find(is_newest)?;
        let tag = Tag::Publications(Span {
            first: span.last,
            excepted_within: 0,
            ..span
        });
        Some((&newest.frame, tag))
    }

    /// The publications before the newest, if there are any.
    pub(crate) fn older_than_newest(&self) -> Option<Span> {
        let Tag::Publications(span) = self.tag else {
            return None;
        };
        let newest_first = self.publications.iter().rev().map(Borrow::borrow);
        let last = { newest_first }.filter_map(Pending::offset).nth(1)?;
        let between = span.last - 1 - last;
        let excepted_behind = u32::try_from(between).unwrap_or(u32::MAX);
        Some(Span {
            last,
            excepted_within: span.excepted_within.saturating_sub(excepted_behind),
            excepted_behind,
            ..span
        })
    }

    /// The offset of the first publication.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        let mut publications = self.publications.iter().map(Borrow::borrow);
        publications.find_map(Pending::offset)
    }
}

/// What a buffer of these holds. An event that must arrive makes the whole of it firm.
fn tag_of<P: Borrow<Pending>>(publications: &[P], room: RoomId) -> Tag {
    let mut span: Option<Span> = None;
    for pending in publications {
        match pending.borrow().delivery {
            Delivery::Event(EventKind::Lasting) => return Tag::Firm,
            Delivery::Event(EventKind::Passing) => {}
            Delivery::Publication(offset) => {
                let span = span.get_or_insert(Span {
                    room,
                    first: offset,
                    last: offset,
                    excepted_within: 0,
                    excepted_behind: 0,
                });
                // A core is sent all of a room: what is missing between two is not for this member.
                let missing = offset.saturating_sub(span.last + 1);
                let missing = u32::try_from(missing).unwrap_or(u32::MAX);
                span.excepted_within = span.excepted_within.saturating_add(missing);
                span.last = offset;
            }
        }
    }
    span.map_or(Tag::Firm, Tag::Publications)
}

/// Puts as many of the first frames together as fit in [`MERGED_LEN_MAX`], at least one; returns
/// the buffer and how many frames are in it.
pub(crate) fn merge<'f>(
    scratch: &mut Vec<u8>,
    frames: impl Iterator<Item = &'f SharedFrame> + Clone,
) -> Option<(SharedFrame, usize)> {
    let mut rest = frames.clone();
    let first = rest.next()?;
    let mut len = first.len();
    let more = rest.take_while(|frame| {
        len += frame.len();
        len <= MERGED_LEN_MAX
    });
    let count = 1 + more.count();
    if count == 1 {
        return Some((first.clone(), 1));
    }
    scratch.clear();
    frames
        .take(count)
        .for_each(|frame| scratch.extend_from_slice(frame));
    Some((SharedFrame::from(&scratch[..]), count))
}
