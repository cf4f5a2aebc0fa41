//! Which publications of one stream are under way, and when each has reached its last member.
//!
//! A member *settles* a publication once: by receiving it, by receiving a later one first, or by
//! being disconnected. The publication ends when all members have settled it, or when nothing of
//! the stream moved for so long that it is given up. So a server that loses deliveries slows a
//! closed loop down and does not stop it.

use std::collections::VecDeque;
use std::ops::Range;

/// The publications of one stream that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// How many were published: the next one's number.
    published: u32,
    /// For each number from `published - unsettled.len()` on, who has not settled it. The first is
    /// never ended.
    unsettled: VecDeque<Unsettled>,
    /// When the stream last moved: one was published while none was under way, or one was settled.
    moved_ns: u64,
}

/// One publication that is under way, or that ended before an older one did.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    members: u32,
    /// Whether a member settled it without receiving it.
    missed: bool,
    /// When a member last received it.
    last_ns: u64,
}

/// What became of a publication when a member settled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    /// It was the last member, and all of them received it, the last at this time.
    Complete { last_ns: u64 },
    /// It was the last member, and some did not receive it.
    Incomplete,
    /// Others have not settled it; or it had ended, and stays ended.
    NotYet,
}

impl UnderWay {
    /// Returns the number of the next publication.
    #[inline]
    pub(crate) fn published(&self) -> u32 {
        self.published
    }

    /// Returns how many publications some member has not settled.
    pub(crate) fn len(&self) -> usize {
        self.unsettled
            .iter()
            .filter(|publication| publication.members > 0)
            .count()
    }

    /// Begins a publication to `members`; returns its number. One to nobody has ended.
    pub(crate) fn publish(&mut self, members: u32, now_ns: u64) -> u32 {
        if self.unsettled.is_empty() {
            self.moved_ns = now_ns;
            if members == 0 {
                self.published += 1;
                return self.published - 1;
            }
        }
        self.unsettled.push_back(Unsettled {
            members,
            missed: false,
            last_ns: now_ns,
        });
        self.published += 1;
        self.published - 1
    }

    /// Settles one publication, for one member, who received it.
    #[inline]
    pub(crate) fn settle(&mut self, number: u32, now_ns: u64) -> Settling {
        let Some(publication) = self.unsettled_by(number) else {
            return Settling::NotYet;
        };
        publication.members -= 1;
        publication.last_ns = now_ns;
        let ended = *publication;
        self.moved_ns = now_ns;
        if ended.members > 0 {
            return Settling::NotYet;
        }
        self.forget_ended();
        if ended.missed {
            Settling::Incomplete
        } else {
            Settling::Complete { last_ns: now_ns }
        }
    }

    /// Settles one publication for the members on another thread, which count as one and received
    /// it, the last of them at `last_ns`.
    pub(crate) fn settle_part(&mut self, number: u32, last_ns: u64, now_ns: u64) -> Settling {
        let Some(publication) = self.unsettled_by(number) else {
            return Settling::NotYet;
        };
        // What was said took its time, and members here may have received it since.
        let last_ns = publication.last_ns.max(last_ns);
        let settling = self.settle(number, now_ns);
        if let Some(publication) = self.unsettled_by(number) {
            publication.last_ns = last_ns;
        }
        match settling {
            Settling::Complete { .. } => Settling::Complete { last_ns },
            other => other,
        }
    }

    /// Settles several, for one member, who did not receive them; tells which of them ended.
    pub(crate) fn miss_all(
        &mut self,
        numbers: Range<u32>,
        now_ns: u64,
        mut ended: impl FnMut(u32),
    ) {
        for number in numbers {
            if let Some(publication) = self.unsettled_by(number) {
                publication.missed = true;
            }
            if self.settle(number, now_ns) != Settling::NotYet {
                ended(number);
            }
        }
    }

    /// Does not count a time in which this program stood still.
    pub(crate) fn excuse(&mut self, stood_still_ns: u64) {
        self.moved_ns += stood_still_ns;
    }

    /// Ends everything under way if the stream has not moved for `patience_ns`; returns how many
    /// publications that was.
    pub(crate) fn give_up(&mut self, now_ns: u64, patience_ns: u64) -> u32 {
        if self.unsettled.is_empty() || now_ns.saturating_sub(self.moved_ns) < patience_ns {
            return 0;
        }
        let given_up = self.len();
        self.unsettled.clear();
        u32::try_from(given_up).unwrap_or(u32::MAX)
    }

    /// Ends everything below a number; nobody is told.
    pub(crate) fn forget_before(&mut self, number: u32) {
        let first = self.published - u32::try_from(self.unsettled.len()).unwrap_or(u32::MAX);
        let forgotten = number.saturating_sub(first) as usize;
        self.unsettled.drain(..forgotten.min(self.unsettled.len()));
        self.forget_ended();
    }

    /// Finds a publication that is under way.
    #[inline]
    fn unsettled_by(&mut self, number: u32) -> Option<&mut Unsettled> {
        // What is older than the window is so far "behind" it that the index is out of range.
        let back = self.published.wrapping_sub(number) as usize;
        let index = self.unsettled.len().wrapping_sub(back);
        self.unsettled
            .get_mut(index)
            .filter(|publication| publication.members > 0)
    }

    fn forget_ended(&mut self) {
        while let Some(Unsettled { members: 0, .. }) = self.unsettled.front() {
            self.unsettled.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settling::*;
    use super::*;

    #[test]
    fn a_publication_is_under_way_until_its_last_member_has_it() {
        let mut stream = UnderWay::default();
        assert_eq!(stream.publish(3, 0), 0);
        assert_eq!(stream.settle(0, 1), NotYet);
        assert_eq!(stream.settle(0, 2), NotYet);
        assert_eq!(stream.len(), 1);
        assert_eq!(stream.settle(0, 3), Complete { last_ns: 3 });
        assert_eq!(stream.len(), 0);
        assert_eq!(stream.settle(0, 4), NotYet, "it does not end twice");
    }

    #[test]
    fn a_publication_to_nobody_has_ended() {
        let mut stream = UnderWay::default();
        assert_eq!((stream.publish(0, 0), stream.len()), (0, 0));
        assert_eq!(stream.publish(1, 0), 1);
        assert_eq!((stream.publish(0, 0), stream.len()), (2, 1));
        assert_eq!(stream.settle(2, 1), NotYet);
        assert_eq!(stream.settle(1, 1), Complete { last_ns: 1 });
        assert_eq!((stream.len(), stream.publish(1, 2)), (0, 3));
        assert_eq!(stream.settle(3, 3), Complete { last_ns: 3 });
    }

    #[test]
    fn publications_may_end_in_any_order() {
        let mut stream = UnderWay::default();
        for number in 0..4 {
            assert_eq!(stream.publish(1, 0), number);
        }
        assert_eq!(stream.settle(2, 1), Complete { last_ns: 1 });
        assert_eq!(stream.settle(0, 1), Complete { last_ns: 1 });
        assert_eq!(stream.len(), 2);
        assert_eq!(stream.settle(1, 1), Complete { last_ns: 1 });
        assert_eq!(stream.settle(2, 1), NotYet);
        assert_eq!(stream.settle(3, 1), Complete { last_ns: 1 });
        assert_eq!((stream.len(), stream.publish(1, 2)), (0, 4));
        assert_eq!(stream.settle(9, 2), NotYet, "not published yet");
    }

    #[test]
    fn what_a_member_missed_does_not_hold_the_window_back() {
        let mut stream = UnderWay::default();
        for _ in 0..3 {
            stream.publish(2, 0);
        }
        let mut ended = Vec::new();
        stream.miss_all(0..3, 1, |number| ended.push(number));
        assert!(ended.is_empty());
        stream.miss_all(0..2, 2, |number| ended.push(number));
        assert_eq!((&ended[..], stream.len()), (&[0, 1][..], 1));
        assert_eq!(stream.settle(2, 3), Incomplete, "one did not receive it");
    }

    #[test]
    fn the_last_member_may_be_on_another_thread_or_here() {
        let mut stream = UnderWay::default();
        stream.publish(2, 0);
        stream.publish(2, 0);
        assert_eq!(stream.settle(0, 7), NotYet);
        assert_eq!(stream.settle_part(0, 5, 9), Complete { last_ns: 7 });
        assert_eq!(stream.settle_part(1, 11, 12), NotYet);
        assert_eq!(stream.settle_part(1, 15, 16), Complete { last_ns: 15 });
        assert_eq!(stream.settle_part(1, 15, 16), NotYet, "it has ended");
    }

    #[test]
    fn what_is_forgotten_is_ended() {
        let mut stream = UnderWay::default();
        for _ in 0..4 {
            stream.publish(1, 0);
        }
        stream.settle(2, 1);
        stream.forget_before(2);
        assert_eq!((stream.len(), stream.settle(1, 1)), (1, NotYet));
        stream.forget_before(1);
        assert_eq!(stream.len(), 1, "that was forgotten already");
        stream.forget_before(99);
        assert_eq!((stream.len(), stream.publish(1, 2)), (0, 4));
    }

    #[test]
    fn a_stream_that_does_not_move_is_given_up() {
        let mut stream = UnderWay::default();
        assert_eq!(stream.give_up(100, 10), 0, "nothing is under way");
        stream.publish(2, 100);
        stream.publish(2, 105);
        stream.settle(0, 108);
        assert_eq!(stream.give_up(117, 10), 0, "it moved at 108");
        stream.excuse(50);
        assert_eq!(stream.give_up(167, 10), 0, "50 of these are excused");
        assert_eq!(stream.give_up(168, 10), 2);
        assert_eq!((stream.len(), stream.settle(0, 169)), (0, NotYet));
        assert_eq!(stream.publish(1, 200), 2);
        assert_eq!(stream.settle(2, 201), Complete { last_ns: 201 });
    }
}
