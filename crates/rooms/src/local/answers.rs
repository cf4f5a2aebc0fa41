//! Answers, which wait for the end of the turn.
//!
//! Invariant: answers wait for what rooms are sent before them, and keep their order with other
//! frames to the same connection.

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::MemberState;
use super::waiting::Answer;
use crate::batch;
use crate::id::{ConnectionId, Slot};

impl LocalRooms {
    /// Keeps a frame for one connection until the end of the turn.
    pub(super) fn answer(&mut self, to: ConnectionId, frame: SharedFrame) {
        let connections = &mut self.outboxes.connections;
        if let Some(slot) = connections.slot_of(to) {
            let state = &mut connections[slot].state;
            state.replace(MemberState::ANSWERED, true);
            self.answers.push(Answer { to, frame });
        }
    }

    /// Queues the answers that are due, those to one connection as one buffer.
    pub(super) fn push_due_answers(&mut self) {
        if !self.answers.has_due() {
            return;
        }
        let mut answers = self.answers.take_due();
        // Stable: a connection's answers keep their order. Mostly sorted already, by a publisher
        // each.
        answers.sort_by_key(|answer| answer.to.as_u64());
        for of_one in answers.chunk_by(|a, b| a.to == b.to) {
            self.push_merged(of_one);
        }
        self.answers.reuse(answers);
    }

    /// Queues the answers to one connection, so that what follows for it comes behind them.
    pub(super) fn push_answers_of(&mut self, slot: Slot) {
        let own = self.take_answers_of(slot);
        self.push_merged(&own);
    }

    /// Takes out the answers to one connection.
    pub(super) fn take_answers_of(&mut self, slot: Slot) -> Vec<Answer> {
        let connections = &mut self.outboxes.connections;
        let state = &mut connections[slot].state;
        if !state.replace(MemberState::ANSWERED, false) {
            return Vec::new();
        }
        self.answers.take_of(connections.id_of(slot))
    }

    fn push_merged(&mut self, answers: &[Answer]) {
        let first = answers.first();
        let Some(slot) = first.and_then(|answer| self.slot_of(answer.to)) else {
            return;
        };
        let state = &mut self.outboxes.connections[slot].state;
        state.replace(MemberState::ANSWERED, false);
        let mut rest = answers;
        while let Some((frame, count)) =
            batch::merge(&mut self.scratch, rest.iter().map(|answer| &answer.frame))
        {
            self.outboxes.push(slot, &frame, FlushQueue::Prompt);
            rest = &rest[count..];
        }
    }
}
