//! Questions for a room's history. They only read, so after a lost connection they are asked again.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::exchange::{Asked, Exchange};
use crate::membership::Start;
use crate::position::Position;
use crate::publication::{Publication, Recovery};
use crate::refused::{Closed, Refused};
use crate::wire::{HistoryFields, Request};

/// A part of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Of the last publication here, or of the room if there is none: ask with it as `since` to go
    /// on. `None` if the room does not exist.
    pub position: Option<Position>,
    /// In order. The first one's `gap` says what is missing since the position that was asked for.
    pub publications: Vec<Publication>,
    /// The server has later ones.
    pub has_more: bool,
    /// Nothing is missing since the position that was asked for; `None` if none was.
    pub recovered: Option<bool>,
}

/// The reason why a history was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HistoryError {
    /// The connection is closed and does not come back by itself.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// 128 questions wait for their answers, over all rooms.
    #[error("{max} questions for history wait already")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The server does not answer such a question.
    #[error(transparent)]
    Refused(#[from] Refused),
}

pub(crate) type Answer = Result<History, HistoryError>;

/// The most questions that wait: they are small, and more than this is a mistake.
pub(crate) const QUESTIONS_MAX: usize = 128;

#[derive(Debug)]
struct Question {
    room: Arc<str>,
    start: Start,
    limit: Option<u64>,
    answer: oneshot::Sender<Answer>,
    put_off_until: Option<Instant>,
}

/// The questions of one connection, by number.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    questions: BTreeMap<u64, Question>,
    last_number: u64,
}

impl Histories {
    pub(crate) fn ask(
        &mut self,
        room: Arc<str>,
        (start, limit): (Start, Option<u64>),
        exchange: &mut Exchange,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        if self.questions.len() >= QUESTIONS_MAX {
            // The receiver is here.
            _ = answer.send(Err(HistoryError::Full { max: QUESTIONS_MAX }));
            return answered;
        }
        self.last_number += 1;
        let question = Question {
            room,
            start,
            limit,
            answer,
            put_off_until: None,
        };
        self.questions.insert(self.last_number, question);
        self.send(self.last_number, exchange);
        answered
    }

    fn send(&mut self, number: u64, exchange: &mut Exchange) {
        let Some(question) = self
            .questions
            .get_mut(&number)
            .filter(|_| exchange.is_open())
        else {
            return;
        };
        question.put_off_until = None;
        let (since, last) = match &question.start {
            Start::Last(count) => (None, Some(*count)),
            Start::Now => (None, None),
            Start::Since(position) => (Some(position), None),
        };
        let request = Request {
            room: Some(&question.room),
            since,
            last,
            limit: question.limit,
            ..Request::default()
        };
        if let Err(refused) = exchange.ask(Asked::History(number), "history", request) {
            self.settle(number, Err(refused.into()));
        }
    }

    /// Begins with a connection: asks everything.
    pub(crate) fn open(&mut self, exchange: &mut Exchange) {
        let numbers: Vec<u64> = self.questions.keys().copied().collect();
        numbers
            .into_iter()
            .for_each(|number| self.send(number, exchange));
    }

    /// Asks again what was put off until now.
    pub(crate) fn resume(&mut self, now: Instant, exchange: &mut Exchange) {
        let is_due = |question: &Question| question.put_off_until.is_some_and(|at| at <= now);
        let due = self
            .questions
            .iter()
            .filter(|(_, question)| is_due(question));
        let numbers: Vec<u64> = due.map(|(number, _)| *number).collect();
        numbers
            .into_iter()
            .for_each(|number| self.send(number, exchange));
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.questions
            .values()
            .filter_map(|question| question.put_off_until)
            .min()
    }

    pub(crate) fn answer(&mut self, number: u64, fields: HistoryFields<'_>) {
        let Some(question) = self.questions.get(&number) else {
            return;
        };
        let history = question.read(fields);
        self.settle(number, Ok(history));
    }

    pub(crate) fn refuse(&mut self, number: u64, refused: Refused, now: Instant) {
        match (self.questions.get_mut(&number), refused.retry_after) {
            (Some(question), Some(pause)) => question.put_off_until = Some(now + pause),
            _ => self.settle(number, Err(refused.into())),
        }
    }

    pub(crate) fn close(&mut self, closed: &Closed) {
        for (_, question) in std::mem::take(&mut self.questions) {
            // Nobody may wait any more.
            _ = question.answer.send(Err(closed.clone().into()));
        }
    }

    fn settle(&mut self, number: u64, answer: Answer) {
        if let Some(question) = self.questions.remove(&number) {
            // Nobody may wait any more.
            _ = question.answer.send(answer);
        }
    }
}

impl Question {
    fn read(&self, fields: HistoryFields<'_>) -> History {
        let since = match &self.start {
            Start::Since(position) => Some(position),
            _ => None,
        };
        let Some(position) = fields.position else {
            return History {
                position: None,
                publications: Vec::new(),
                has_more: false,
                recovered: None,
            };
        };
        let publications = fields.publications.iter();
        let publications =
            publications.map(|msg| Publication::new(&self.room, &position.epoch, msg, None));
        let mut publications: Vec<_> = publications.collect();
        let recovered = since.map(|_| fields.recovered.unwrap_or(false));
        if let (Some(since), Some(recovered)) = (since, recovered) {
            let end = position.offset.saturating_add(1);
            let first = fields.first.unwrap_or(end);
            let recovery = Recovery {
                position: &position,
                recovered,
                first,
            };
            if let Some(publication) = publications.first_mut() {
                publication.gap = recovery.missing(&self.room, since);
            }
        }
        History {
            position: Some(position),
            publications,
            has_more: fields.more,
            recovered,
        }
    }
}
