//! Frames for one connection that wait for the end of the turn.

use proto::SharedFrame;

use crate::id::ConnectionId;

/// Frames for one connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: ConnectionId,
    pub(super) frame: SharedFrame,
}

/// All answers, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: Vec<Answer>,
    /// The answers that came before the fan-out under way began.
    due: Vec<Answer>,
}

impl Answers {
    /// Appends an answer.
    pub(super) fn push(&mut self, answer: Answer) {
        self.waiting.push(answer);
    }

    /// Begins a fan-out: when it is over, the answers that wait now are due.
    pub(super) fn begin_pass(&mut self) {
        std::mem::swap(&mut self.due, &mut self.waiting);
    }

    /// Makes all answers due.
    pub(super) fn make_due(&mut self) {
        self.due.append(&mut self.waiting);
    }

    /// Returns whether answers are due.
    pub(super) const fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes the answers that are due.
    pub(super) fn take_due(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.due)
    }

    /// Keeps the memory of answers that were taken, for the next ones.
    pub(super) fn reuse(&mut self, mut taken: Vec<Answer>) {
        taken.clear();
        taken.shrink_to(PLACES_KEPT_MAX);
        self.due = taken;
    }

    /// Takes the answers to one connection.
    pub(super) fn take_of(&mut self, connection: ConnectionId) -> Vec<Answer> {
        let mut own = Vec::new();
        for answers in [&mut self.due, &mut self.waiting] {
            own.extend(answers.extract_if(.., |answer| answer.to == connection));
        }
        own
    }
}

/// The places for answers that are kept between turns.
const PLACES_KEPT_MAX: usize = 1024;
