//! Publications of one turn, put together into buffers that all members of a room share.

use proto::SharedFrame;

use crate::class::SlowConsumer;
use crate::id::RoomId;
use crate::mailbox::Delivery;
use crate::outbox::{Span, Tag};
use crate::publication::EventKind;

/// A publication or event that is not fanned out yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) frame: SharedFrame,
    pub(crate) delivery: Delivery,
}

impl Pending {
    fn is_passing(&self) -> bool {
        self.delivery == Delivery::Event(EventKind::Passing)
    }
}

/// The largest buffer that publications are merged into, in bytes. Beyond it a copy costs more
/// than the entry of a vectored write that it saves.
pub(crate) const MERGED_LEN_MAX: usize = 64 * 1024;

/// As many publications of a turn as go into one buffer.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    publications: &'a [Pending],
    frame: SharedFrame,
    tag: Tag,
    passing_count: u64,
}

impl<'a> Batch<'a> {
    /// Puts the first of them together; none if there are none.
    pub(crate) fn first_of(
        pending: &'a [Pending],
        room: RoomId,
        slow_consumer: SlowConsumer,
        scratch: &mut Vec<u8>,
    ) -> Option<Self> {
        let (frame, len) = merge(scratch, pending.iter().map(|pending| &pending.frame))?;
        let publications = &pending[..len];
        let passing = publications.iter().filter(|pending| pending.is_passing());
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
        let firm = self.publications.iter().filter(|p| !p.is_passing());
        merge(scratch, firm.map(|pending| &pending.frame)).map(|(frame, _)| frame)
    }

    /// The newest publication alone, if the batch may be dropped.
    pub(crate) fn newest(&self) -> Option<(&SharedFrame, Tag)> {
        let Tag::Publications(span) = self.tag else {
            return None;
        };
        let is_newest = |p: &&Pending| p.delivery == Delivery::Publication(span.last);
        let newest = self.publications.iter().rev().find(is_newest)?;
        let tag = Tag::Publications(Span {
            first: span.last,
            ..span
        });
        Some((&newest.frame, tag))
    }

    /// The publications before the newest, if there are any.
    pub(crate) fn older_than_newest(&self) -> Option<Span> {
        match self.tag {
            Tag::Publications(span) if span.first < span.last => Some(Span {
                last: span.last - 1,
                ..span
            }),
            _ => None,
        }
    }
}

/// What a buffer of these holds. An event that must arrive makes the whole of it firm.
fn tag_of(publications: &[Pending], room: RoomId) -> Tag {
    let mut span: Option<Span> = None;
    for pending in publications {
        match pending.delivery {
            Delivery::Event(EventKind::Lasting) => return Tag::Firm,
            Delivery::Event(EventKind::Passing) => {}
            Delivery::Publication(offset) => {
                let first = span.map_or(offset, |span| span.first);
                span = Some(Span {
                    room,
                    first,
                    last: offset,
                });
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
