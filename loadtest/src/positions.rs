//! Where each member is in its room's stream of publications, on a wire that says so.
//!
//! Offsets must rise by one: without holes but for those that the server announced, and without
//! repeats. A member that loses its connection remembers where it was, and what is sent to it again
//! when it is back must begin right there. It knows no sockets, and a publication in its place
//! costs a comparison.

use derive_more::AddAssign;
use serde::Serialize;

use crate::plan::{Home, MemberId, Plan, StreamId};
use crate::tally::First;
use crate::wire::Name;
use crate::wire::throng::{Joined, Position, Said};

/// What was heard of positions. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PositionTally {
    /// Members that came back and were told that nothing is missing.
    pub(crate) recovered: u64,
    /// Those that were told that something is.
    pub(crate) not_recovered: u64,
    /// Publications that were sent to members because they had missed them.
    pub(crate) replayed: u64,
    /// Publications that members were told to have missed for good.
    pub(crate) evicted: u64,
    /// Publications that members were told by a `gap` not to get.
    pub(crate) announced: u64,
    /// Publications that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Those of them that the server had had before.
    pub(crate) duplicates: u64,
    /// Those that never were.
    pub(crate) unacknowledged: u64,
    /// Offsets that were left out, and nobody said so.
    pub(crate) offsets_missing: u64,
    /// Offsets that came again, or after a later one.
    pub(crate) offsets_repeated: u64,
    /// Publications in somebody else's name.
    pub(crate) wrong_senders: u64,
    /// Messages that the protocol does not allow, or not there.
    pub(crate) wrong_messages: u64,
    /// The first of the last five.
    pub(crate) first_fault: First,
}

/// What members got of what they missed. The names are the JSON's.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    /// Members that were told that nothing is missing.
    recovered: u64,
    /// Those that were told that something is.
    not_recovered: u64,
    /// Publications, over all members, that were sent again.
    replayed: u64,
    /// Those that members were told to have missed for good.
    evicted: u64,
    /// Publications that a server had had already when they were sent again.
    duplicates: u64,
}

impl PositionTally {
    /// Returns whether the server broke the protocol. What it said that is missing is none of this:
    /// what was published and did not arrive is lost, whatever was said about it.
    pub(crate) fn is_faulty(&self) -> bool {
        let wrong = self.wrong_senders + self.wrong_messages + self.unacknowledged;
        wrong + self.offsets_missing + self.offsets_repeated > 0
    }

    /// Returns what members got of what they missed since another moment.
    pub(crate) fn since(&self, before: &Self) -> Recovery {
        Recovery {
            recovered: self.recovered - before.recovered,
            not_recovered: self.not_recovered - before.not_recovered,
            replayed: self.replayed - before.replayed,
            evicted: self.evicted - before.evicted,
            duplicates: self.duplicates - before.duplicates,
        }
    }
}

/// What is common to all members: names, epochs, what was found.
#[derive(Debug)]
pub(crate) struct PositionBook {
    /// Epochs by their number: there is one, and one more for each restart of a server.
    epochs: Vec<Box<str>>,
    /// What members' connections are called, and were before they came back.
    names: Vec<[Name; 2]>,
    /// Whose connection each stream is published on, if it is here.
    publishers: Vec<Option<MemberId>>,
    pub(crate) tally: PositionTally,
}

/// An epoch's place in the list of those that were heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct EpochId(u32);

/// One membership: where it is, and where the one before it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    /// The offset that must come next, or [`NOT_JOINED`].
    next: u64,
    /// What lies before this is sent again; it is not live.
    live_from: u64,
    /// The epoch and offset of the last publication before the connection was lost.
    left: Option<(EpochId, u64)>,
    epoch: EpochId,
    was_greeted: bool,
}

/// Offsets begin at 1.
const NOT_JOINED: u64 = 0;

/// What one publication is to its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes out now for the first time.
    Live,
    /// It was missed before.
    Replayed,
}

impl PositionBook {
    /// Begins the book of all members of a plan, of whom nothing was heard yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let publishers = plan.streams.iter().map(|stream| match stream.home {
            Home::Here(member) => Some(member),
            Home::Thread(_) => None,
        });
        Self {
            epochs: Vec::new(),
            names: vec![[Name::default(); 2]; plan.connections() as usize],
            publishers: publishers.collect(),
            tally: PositionTally::default(),
        }
    }

    /// Notes the name that a member's connection was given.
    pub(crate) fn name(&mut self, member: MemberId, name: Name) {
        if let Some([now, before]) = self.names.get_mut(member.index()) {
            *before = std::mem::replace(now, name);
        }
    }

    /// Returns whether a stream's publication is in the name of who published it, as far as that is
    /// known here.
    #[inline]
    pub(crate) fn is_from(&self, stream: StreamId, from: Option<Name>) -> bool {
        let Some(from) = from else { return false };
        match self.publishers.get(stream.index()) {
            Some(Some(member)) => {
                // What was published on a connection may arrive when that has ended.
                let [now, before] = self.names[member.index()];
                from == now || from == before
            }
            _ => from.is_usual(),
        }
    }

    /// Books that a publication was in the wrong name.
    #[cold]
    pub(crate) fn add_wrong_sender(&mut self) {
        self.tally.wrong_senders += 1;
        self.tally
            .first_fault
            .note(|| "a publication in somebody else's name".to_owned());
    }

    /// Books a message that the protocol does not allow.
    #[cold]
    pub(crate) fn add_wrong(&mut self, what: &str, message: &[u8]) {
        self.tally.wrong_messages += 1;
        let start = String::from_utf8_lossy(message);
        let start = || start.chars().take(BEGINNING_MAX).collect::<String>();
        self.tally
            .first_fault
            .note(|| format!("{what}: {}", start()));
    }

    fn epoch_id(&mut self, epoch: &str) -> EpochId {
        let known = self.epochs.iter().position(|known| **known == *epoch);
        let place = known.unwrap_or_else(|| {
            self.epochs.push(epoch.into());
            self.epochs.len() - 1
        });
        EpochId(u32::try_from(place).unwrap_or(u32::MAX))
    }
}

/// A line has room for so many characters of a message.
const BEGINNING_MAX: usize = 200;

impl Seat {
    /// Forgets the connection, which is lost, or there is another: nothing was said on it yet.
    pub(crate) fn lose(&mut self) {
        if self.next != NOT_JOINED {
            self.left = Some((self.epoch, self.next - 1));
        }
        self.next = NOT_JOINED;
        self.was_greeted = false;
    }

    /// Returns where the membership before ended, if there was one.
    pub(crate) fn since<'b>(&self, book: &'b PositionBook) -> Option<(&'b str, u64)> {
        let (EpochId(epoch), offset) = self.left?;
        Some((book.epochs.get(epoch as usize)?, offset))
    }

    /// Returns the offset that must come next; none before it has joined.
    #[cfg(test)]
    fn next(&self) -> Option<u64> {
        Some(self.next).filter(|&next| next != NOT_JOINED)
    }

    /// Returns whether all that was published before the membership began is there.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.next != NOT_JOINED && self.next >= self.live_from
    }

    /// Returns whether it has had a connection in this room before.
    #[inline]
    pub(crate) fn was_away(&self) -> bool {
        self.left.is_some()
    }

    /// Returns whether a publication has come before now; none if it is of another epoch.
    pub(crate) fn has_passed(&self, position: &Position, book: &PositionBook) -> Option<bool> {
        let EpochId(epoch) = self.epoch;
        let epoch = book.epochs.get(epoch as usize);
        let is_here = epoch.is_some_and(|epoch| **epoch == *position.epoch);
        is_here.then_some(self.next != NOT_JOINED && position.offset < self.next)
    }

    /// Takes what the server said beside publications, as far as it is about the membership.
    pub(crate) fn hear(&mut self, said: &Said, message: &[u8], book: &mut PositionBook) {
        if !self.was_greeted && !matches!(said, Said::Hello(_)) {
            book.add_wrong("a message before hello", message);
        }
        let understood = match said {
            Said::Gap { first, last } => self.pass_over((*first, *last), book),
            Said::Hello(_) => self.greet(),
            Said::Joined(joined) => self.join(joined, book),
            Said::Wrong(what) => Err(*what),
            _ => Ok(()),
        };
        if let Err(what) = understood {
            book.add_wrong(what, message);
        }
    }

    /// Takes the server's `hello`, which must come before anything else.
    fn greet(&mut self) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.was_greeted, true) {
            return Err("a second hello");
        }
        Ok(())
    }

    /// Begins the membership.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer; the membership begins nonetheless.
    fn join(&mut self, joined: &Joined, book: &mut PositionBook) -> Result<(), &'static str> {
        if self.next != NOT_JOINED || joined.already {
            return Err("a second joined");
        }
        let epoch = book.epoch_id(&joined.position.epoch);
        let end = joined.position.offset + 1;
        let answer = (self.left, joined.recovered, joined.first);
        self.epoch = epoch;
        self.live_from = end;
        self.next = joined.first.unwrap_or(end);
        match answer {
            (None, None, None) => Ok(()),
            (Some((left_epoch, left)), Some(recovered), Some(first)) => {
                let tally = &mut book.tally;
                tally.recovered += u64::from(recovered);
                tally.not_recovered += u64::from(!recovered);
                if epoch != left_epoch {
                    return Ok(());
                }
                if recovered && first != left + 1 {
                    return Err("recovered, and not from where it was left");
                }
                tally.evicted += first.saturating_sub(left + 1);
                Ok(())
            }
            (None, ..) => Err("a recovery that nobody asked for"),
            (Some(_), ..) => Err("a joined that does not say whether something is missing"),
        }
    }

    /// Takes a publication with this offset.
    #[inline]
    pub(crate) fn take(&mut self, offset: u64, book: &mut PositionBook) -> Standing {
        if offset == self.next {
            self.next += 1;
        } else {
            self.take_misplaced(offset, book);
        }
        if offset >= self.live_from {
            Standing::Live
        } else {
            Standing::Replayed
        }
    }

    #[cold]
    fn take_misplaced(&mut self, offset: u64, book: &mut PositionBook) {
        let next = self.next;
        if next == NOT_JOINED {
            return book.add_wrong("a publication before joined", b"msg");
        }
        if offset > next {
            book.tally.offsets_missing += offset - next;
            self.next = offset + 1;
        } else {
            book.tally.offsets_repeated += 1;
        }
        let fault = || format!("offset {offset} where {next} was due");
        book.tally.first_fault.note(fault);
    }

    /// Takes a gap: the server will not send these, from the first to the last.
    ///
    /// # Errors
    ///
    /// What is wrong with that.
    fn pass_over(
        &mut self,
        (first, last): (u64, u64),
        book: &mut PositionBook,
    ) -> Result<(), &'static str> {
        if self.next == NOT_JOINED {
            return Err("a gap before joined");
        }
        book.tally.announced += (last + 1).saturating_sub(first.max(self.next));
        let (next, hole) = (self.next, first.saturating_sub(self.next));
        self.next = next.max(last + 1);
        if first < next {
            return Err("a gap of what was sent");
        }
        if hole > 0 {
            book.tally.offsets_missing += hole;
            let fault = || format!("a gap from {first} on where {next} was due");
            book.tally.first_fault.note(fault);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Group, Pacing};

    fn book() -> PositionBook {
        let group = Group::alike(1, 3, 2, Pacing::Closed { window: 2 });
        PositionBook::new(&Plan::new(&[group], 0))
    }

    fn joined(epoch: &str, offset: u64) -> Joined {
        Joined {
            position: Position {
                epoch: epoch.to_owned(),
                offset,
            },
            recovered: None,
            first: None,
            already: false,
        }
    }

    fn back(epoch: &str, offset: u64, recovered: bool, first: u64) -> Joined {
        Joined {
            recovered: Some(recovered),
            first: Some(first),
            ..joined(epoch, offset)
        }
    }

    /// A member that joined at offset 10 of epoch `a` and left at 12.
    fn left(book: &mut PositionBook) -> Seat {
        let mut seat = Seat::default();
        seat.greet().unwrap();
        seat.join(&joined("a", 10), book).unwrap();
        assert!(seat.is_caught_up());
        for offset in [11, 12] {
            assert_eq!(seat.take(offset, book), Standing::Live);
        }
        seat.lose();
        assert_eq!((seat.next(), seat.since(book)), (None, Some(("a", 12))));
        seat
    }

    #[test]
    fn who_comes_back_takes_what_was_missed_and_then_what_is_live() {
        let mut book = book();
        let mut seat = left(&mut book);
        seat.join(&back("a", 14, true, 13), &mut book).unwrap();
        assert!(!seat.is_caught_up());
        assert_eq!(seat.take(13, &mut book), Standing::Replayed);
        assert_eq!(seat.take(14, &mut book), Standing::Replayed);
        assert!(seat.is_caught_up());
        assert_eq!(seat.take(15, &mut book), Standing::Live);
        assert_eq!((book.tally.recovered, book.tally.is_faulty()), (1, false));
    }

    #[test]
    fn a_connection_lost_during_the_replay_goes_on_where_it_was() {
        let mut book = book();
        let mut seat = left(&mut book);
        seat.join(&back("a", 20, true, 13), &mut book).unwrap();
        seat.take(13, &mut book);
        seat.lose();
        assert_eq!(seat.since(&book), Some(("a", 13)));
        seat.lose();
        assert_eq!(
            seat.since(&book),
            Some(("a", 13)),
            "it never joined between"
        );
    }

    #[test]
    fn what_is_evicted_is_told_and_another_epoch_begins_anywhere() {
        let mut book = book();
        let mut seat = left(&mut book);
        seat.join(&back("a", 30, false, 21), &mut book).unwrap();
        assert_eq!((book.tally.not_recovered, book.tally.evicted), (1, 8));
        assert_eq!(seat.take(21, &mut book), Standing::Replayed);
        seat.lose();
        seat.join(&back("b", 2, true, 2), &mut book).unwrap();
        assert_eq!(seat.take(2, &mut book), Standing::Replayed);
        seat.lose();
        assert_eq!(seat.since(&book), Some(("b", 2)));
        assert_eq!((book.tally.recovered, book.tally.evicted), (1, 8));
        assert!(!book.tally.is_faulty());
    }

    #[test]
    fn answers_that_do_not_fit_the_question_are_wrong() {
        let mut book = book();
        for answer in [
            back("a", 14, true, 14),
            back("a", 14, true, 12),
            joined("a", 14),
        ] {
            let mut seat = left(&mut book);
            assert!(seat.join(&answer, &mut book).is_err(), "{answer:?}");
        }
        let mut seat = Seat::default();
        assert!(seat.join(&back("a", 1, true, 1), &mut book).is_err());
        assert!(
            seat.join(&joined("a", 1), &mut book).is_err(),
            "joined already"
        );
        seat.greet().unwrap();
        assert!(seat.greet().is_err());
    }

    #[test]
    fn holes_and_repeats_are_counted_exactly() {
        let mut book = book();
        let mut seat = Seat::default();
        seat.take(1, &mut book);
        assert_eq!(book.tally.wrong_messages, 1, "it has not joined");
        seat.join(&joined("a", 0), &mut book).unwrap();
        for offset in [1, 2, 4, 3, 4, 7, 8] {
            seat.take(offset, &mut book);
        }
        let tally = &book.tally;
        assert_eq!((tally.offsets_missing, tally.offsets_repeated), (1 + 2, 2));
        let first = tally.first_fault.0.as_deref().unwrap();
        assert!(first.contains("before joined"), "{first}");
    }

    #[test]
    fn what_is_announced_is_not_missing_unless_something_else_is() {
        let mut book = book();
        let mut seat = Seat::default();
        assert!(seat.pass_over((1, 2), &mut book).is_err());
        seat.join(&joined("a", 0), &mut book).unwrap();
        seat.pass_over((1, 5), &mut book).unwrap();
        seat.take(6, &mut book);
        assert_eq!((book.tally.announced, book.tally.is_faulty()), (5, false));
        seat.pass_over((9, 10), &mut book).unwrap();
        assert_eq!((book.tally.announced, book.tally.offsets_missing), (7, 2));
        assert!(
            seat.pass_over((10, 12), &mut book).is_err(),
            "10 was passed"
        );
        assert_eq!((book.tally.announced, seat.next()), (9, Some(13)));
    }

    #[test]
    fn a_publication_is_in_its_publishers_name_or_the_one_before() {
        let mut book = book();
        let [old, new, other] = ["Xk3qTz9bA_w", "Yk3qTz9bA_w", "Zk3qTz9bA_w"].map(Name::parse);
        book.name(MemberId(1), old.unwrap());
        let stream = StreamId(1);
        assert!(book.is_from(stream, old) && !book.is_from(stream, other));
        book.name(MemberId(1), new.unwrap());
        assert!(book.is_from(stream, old) && book.is_from(stream, new));
        assert!(
            !book.is_from(stream, None),
            "the application says nothing here"
        );
        assert!(!book.is_from(StreamId(0), new), "that is another member's");
    }
}
