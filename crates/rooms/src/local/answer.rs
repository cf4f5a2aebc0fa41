//! Answers, which wait for the end of the turn.

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::MemberState;
use crate::batch;
use crate::id::ConnectionId;

impl LocalRooms {
    /// Keeps a frame for one connection until the end of the turn.
    pub(super) fn answer(&mut self, connection: ConnectionId, frame: SharedFrame) {
        if let Some(slot) = self.slot_of(connection) {
            self.members[slot as usize]
                .state
                .replace(MemberState::ANSWERED, true);
            self.answers.push((connection, frame));
        }
    }

    /// Queues the answers that are due, those to one connection as one buffer.
    pub(super) fn push_answers(&mut self) {
        if self.due_answers.is_empty() {
            return;
        }
        let mut answers = std::mem::take(&mut self.due_answers);
        // Stable: a connection's answers keep their order. Mostly sorted already, by a publisher each.
        answers.sort_by_key(|(connection, _)| connection.as_u64());
        for of_one in answers.chunk_by(|(a, _), (b, _)| a == b) {
            self.push_merged(of_one);
        }
        answers.clear();
        answers.shrink_to(ANSWERS_KEPT_MAX);
        self.due_answers = answers;
    }

    /// Queues the answers to one connection, so that what follows for it comes behind them.
    pub(super) fn push_answers_of(&mut self, slot: u32) {
        let own = self.take_answers_of(slot);
        self.push_merged(&own);
    }

    /// Takes out the answers to one connection.
    pub(super) fn take_answers_of(&mut self, slot: u32) -> Vec<(ConnectionId, SharedFrame)> {
        let mut own = Vec::new();
        let state = &mut self.members[slot as usize].state;
        if state.replace(MemberState::ANSWERED, false) {
            let connection = self.id_of(slot);
            for answers in [&mut self.due_answers, &mut self.answers] {
                own.extend(answers.extract_if(.., |(to, _)| *to == connection));
            }
        }
        own
    }

    fn push_merged(&mut self, answers: &[(ConnectionId, SharedFrame)]) {
        let Some(slot) = answers.first().and_then(|(to, _)| self.slot_of(*to)) else {
            return;
        };
        self.members[slot as usize]
            .state
            .replace(MemberState::ANSWERED, false);
        let mut scratch = std::mem::take(&mut self.merged);
        let mut rest = answers;
        while let Some((frame, count)) = batch::merge(&mut scratch, rest.iter().map(|(_, f)| f)) {
            self.push(slot, &frame, FlushQueue::Prompt);
            rest = &rest[count..];
        }
        self.merged = scratch;
    }
}

/// How many places for answers are kept between turns.
const ANSWERS_KEPT_MAX: usize = 1024;
