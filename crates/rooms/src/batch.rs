//! Publications of one turn, merged into buffers that all members of a room share.

use std::borrow::Borrow;

use proto::SharedFrame;

use crate::class::SlowConsumer;
use crate::delivery::{Delivery, EventKind};
use crate::id::{RoomId, Slot};
use crate::outbox::{Span, Tag};

/// A publication or event that is not fanned out yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) frame: SharedFrame,
    pub(crate) delivery: Delivery,
    /// The slot of the member that does not receive it.
    pub(crate) except: Option<Slot>,
}

impl Pending {
    /// Returns its place in the room's stream, if it has one.
    pub(crate) const fn offset(&self) -> Option<u64> {
        match self.delivery {
            Delivery::Event(_) => None,
            Delivery::Publication(offset) => Some(offset),
        }
    }

    fn is_ephemeral(&self) -> bool {
        self.delivery == Delivery::Event(EventKind::Ephemeral)
    }
}

/// The largest buffer that publications are merged into, in bytes. Above it a copy costs more than
/// the entry of a vectored write that it saves.
pub(crate) const MERGED_LEN_MAX: usize = 64 * 1024;

/// The publications of a turn that fit into one buffer: of all that wait for a room, or of
/// references to those that are for one member.
#[derive(Debug)]
pub(crate) struct Batch<'a, P> {
    publications: &'a [P],
    frame: SharedFrame,
    tag: Tag,
    ephemeral_count: u64,
}

impl<'a, P: Borrow<Pending>> Batch<'a, P> {
    /// Merges the first of them; none if there are none.
    pub(crate) fn first_of(
        pending: &'a [P],
        room: RoomId,
        slow_consumer: SlowConsumer,
        scratch: &mut Vec<u8>,
    ) -> Option<Self> {
        let (frame, len) = merge(scratch, pending.iter().map(|p| &p.borrow().frame))?;
        let publications = &pending[..len];
        let ephemeral = publications.iter().filter(|p| (*p).borrow().is_ephemeral());
        Some(Self {
            publications,
            frame,
            tag: match slow_consumer {
                SlowConsumer::Disconnect => Tag::Firm,
                SlowConsumer::Latest | SlowConsumer::Skip => tag_of(publications, room),
            },
            ephemeral_count: ephemeral.count() as u64,
        })
    }

    /// Returns how many publications and events are in it.
    pub(crate) const fn len(&self) -> usize {
        self.publications.len()
    }

    /// Returns all of them as one buffer.
    pub(crate) const fn frame(&self) -> &SharedFrame {
        &self.frame
    }

    /// Returns what may be dropped with the buffer.
    pub(crate) const fn tag(&self) -> Tag {
        self.tag
    }

    /// Returns whether it has ephemeral events.
    pub(crate) const fn has_ephemeral(&self) -> bool {
        self.ephemeral_count > 0
    }

    /// Returns how many ephemeral events it has.
    pub(crate) const fn ephemeral_count(&self) -> u64 {
        self.ephemeral_count
    }

    /// Returns the rest without ephemeral events as one buffer; none if there is no rest.
    pub(crate) fn without_ephemeral(&self, scratch: &mut Vec<u8>) -> Option<SharedFrame> {
        let firm = self.publications.iter().map(Borrow::borrow);
        let firm = firm.filter(|pending| !pending.is_ephemeral());
        merge(scratch, firm.map(|pending| &pending.frame)).map(|(frame, _)| frame)
    }

    /// Returns the newest publication alone, if the batch may be dropped.
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

    /// Returns the publications before the newest, if there are any.
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

    /// Returns the offset of the first publication.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        let mut publications = self.publications.iter().map(Borrow::borrow);
        publications.find_map(Pending::offset)
    }
}

/// Returns the tag of a buffer of these. An event that must arrive makes the whole buffer firm.
fn tag_of<P: Borrow<Pending>>(publications: &[P], room: RoomId) -> Tag {
    let mut span: Option<Span> = None;
    for pending in publications {
        match pending.borrow().delivery {
            Delivery::Event(EventKind::Lasting) => return Tag::Firm,
            Delivery::Event(EventKind::Ephemeral) => {}
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

/// Merges as many of the first frames as fit in [`MERGED_LEN_MAX`], at least one; returns the
/// buffer and how many frames are in it.
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
