//! Whether clients were given what throng.v1 promises, from what all of them recorded.
//!
//! The promise, for each room: there is one order of publications, and each member was handed all
//! of it from its first `joined` on, each once, or was told what is missing. What was acknowledged
//! is in that order, once. When something may be missing, [`Promises`] says.

mod timeline;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::{Entry, Key, Record};

use timeline::Timeline;
use walk::Walk;

/// What was promised in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// What becomes of rooms when the server is started anew.
    pub epochs: Epochs,
    /// Whether slow members may be told that publications are missing.
    pub may_skip: bool,
}

/// What becomes of rooms when the server is started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epochs {
    /// Everything goes on: histories and keys are on disk before anybody sees them.
    Carried,
    /// Everything is forgotten: rooms begin anew, members are told that an unknown number is
    /// missing, and what was not acknowledged may be published once more.
    Forgotten,
    /// It is never started anew.
    One,
    /// The last publications may be forgotten: they were on their way to the disk.
    TailForgotten,
}

/// One client of throng.v1 and what it recorded.
#[derive(Clone, Copy, Debug)]
pub struct Witness<'a> {
    /// What it is, as the table calls it.
    pub kind: &'static str,
    /// Its number.
    pub number: u32,
    /// What it recorded.
    pub record: &'a Record,
}

/// What a client was given that recovers nothing: how often each publication, by room.
pub type Plain = HashMap<u32, HashMap<Key, u64>>;

/// How much of what it should have been given a group of clients was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// How many clients.
    pub client_count: u64,
    /// What they should have been given.
    pub expected: u64,
    /// Given once and in order.
    pub in_order: u64,
    /// Given again, or sent again and kept from the application.
    pub repeated: u64,
    /// Given after something that is behind it.
    pub reordered: u64,
    /// Not given, and nobody was told.
    pub missing: u64,
    /// Not given, and the client was told.
    pub announced: u64,
    /// Connections, the first one of each client too.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Connections that a client gave up, since nothing was heard.
    pub silences: u64,
    /// Close codes of the server, and how often each came.
    pub closes: BTreeMap<u16, u64>,
    /// Rooms that were joined again and nothing was missing.
    pub recovered: u64,
    /// Rooms that were joined again and something was missing.
    pub not_recovered: u64,
}

impl Deliveries {
    /// How many percent were given once and in order; none if nothing was expected.
    pub fn percent(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
        let share = self.in_order as f64 * 100.0 / self.expected as f64;
        (self.expected > 0).then_some(share)
    }
}

/// What is wrong: how much, and the first of it in words.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first [`FINDINGS_MAX`].
    pub first: Vec<String>,
    /// How many there are.
    pub count: u64,
}

/// How many findings are kept in words.
pub const FINDINGS_MAX: usize = 20;

impl Findings {
    /// Notes one.
    pub fn add(&mut self, finding: String) {
        self.count += 1;
        if self.first.len() < FINDINGS_MAX {
            self.first.push(finding);
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Publications that are in the rooms' orders.
    pub publications: u64,
    /// Of those, how many a server that forgot them published once more.
    pub republished: u64,
    /// Publications that clients have an acknowledgement of.
    pub acknowledged: u64,
    /// Of those, how many were known by their key.
    pub duplicates: u64,
    /// By kind of client, in the order in which they first came.
    pub by_kind: Vec<(&'static str, Deliveries)>,
    /// Clients that recover nothing.
    pub plain: Deliveries,
    /// What is wrong. Nothing: the promise was kept.
    pub findings: Findings,
}

/// Reaches a verdict.
///
/// `plain` are clients that were in the rooms that they name from before the first publication on.
pub fn judge(witnesses: &[Witness<'_>], plain: &[Plain], promises: Promises) -> Verdict {
    let mut verdict = Verdict::default();
    let records: Vec<&Record> = witnesses.iter().map(|witness| witness.record).collect();
    let rooms: BTreeSet<u32> = records
        .iter()
        .flat_map(|of| of.rooms.keys().copied())
        .collect();
    for witness in witnesses {
        verdict.hear(witness);
    }
    for room in rooms {
        let timeline = Timeline::of(room, &records, promises.epochs, &mut verdict.findings);
        verdict.publications += timeline.len() as u64;
        verdict.republished += timeline.republished_count;
        for witness in witnesses
            .iter()
            .filter(|of| of.record.rooms.contains_key(&room))
        {
            verdict.follow(witness, room, &timeline, promises);
        }
        for plain in plain.iter().filter_map(|of| of.get(&room)) {
            verdict.compare(plain, &timeline);
        }
    }
    verdict.plain.client_count = plain.len() as u64;
    verdict
}

impl Verdict {
    /// Takes over what a client says of itself.
    fn hear(&mut self, witness: &Witness<'_>) {
        let Witness { number, record, .. } = *witness;
        for complaint in &record.complaints {
            self.findings.add(format!("client {number}: {complaint}"));
        }
        self.findings.count += record.complaint_count - record.complaints.len() as u64;
        let unanswered = record.unanswered_count();
        if unanswered > 0 {
            self.findings.add(format!(
                "client {number}: {unanswered} of its publications were never acknowledged"
            ));
        }
        for of in record
            .acknowledged
            .iter()
            .filter(|of| of.position.is_none())
        {
            self.findings
                .add(format!("{} was acknowledged without a place", of.key));
        }
        self.acknowledged += record.acknowledged.len() as u64;
        let duplicates = record.acknowledged.iter().filter(|of| of.duplicate);
        self.duplicates += duplicates.count() as u64;
        let deliveries = self.of_kind(witness.kind);
        deliveries.client_count += 1;
        deliveries.connections += record.connection_count;
        deliveries.failed_attempts += record.failed_attempt_count;
        deliveries.silences += record.silent_count;
        for (code, count) in &record.closes {
            *deliveries.closes.entry(*code).or_default() += count;
        }
    }

    fn of_kind(&mut self, kind: &'static str) -> &mut Deliveries {
        let known = self.by_kind.iter().position(|(of, _)| *of == kind);
        let index = known.unwrap_or_else(|| {
            self.by_kind.push((kind, Deliveries::default()));
            self.by_kind.len() - 1
        });
        &mut self.by_kind[index].1
    }

    /// Follows a member through the order of a room.
    fn follow(
        &mut self,
        witness: &Witness<'_>,
        room: u32,
        timeline: &Timeline,
        promises: Promises,
    ) {
        let name = format!(
            "client {} ({}) in room {room}",
            witness.number, witness.kind
        );
        let Some(record) = witness.record.rooms.get(&room) else {
            return;
        };
        let Some(mut walk) = Walk::begin(&record.entries, timeline) else {
            self.findings.add(format!("{name} was never joined"));
            return;
        };
        for entry in &record.entries {
            walk.handle(entry, timeline);
        }
        let walked = walk.end(timeline);
        for index in &walked.missing {
            let key = timeline.key(*index).map(|key| key.to_string());
            let key = key.as_deref().unwrap_or("a publication");
            self.findings
                .add(format!("{name}: {key} is missing, and it was not told"));
        }
        let repeated = walked.repeated + record.repeated_count;
        let announced = walked.announced.len() as u64;
        let may_miss = promises.may_skip
            || matches!(promises.epochs, Epochs::Forgotten | Epochs::TailForgotten);
        for (count, what) in [
            (repeated, "came twice"),
            (walked.reordered, "came too late"),
            (
                if may_miss { 0 } else { announced },
                "are missing, as it was told",
            ),
        ] {
            if count > 0 {
                self.findings.add(format!("{name}: {count} {what}"));
            }
        }
        self.check_recoveries(&name, &record.entries, promises);
        let deliveries = self.of_kind(witness.kind);
        deliveries.expected += walked.expected;
        deliveries.in_order += walked.in_order;
        deliveries.repeated += repeated;
        deliveries.reordered += walked.reordered;
        deliveries.missing += walked.missing.len() as u64;
        deliveries.announced += announced;
        let recovered = |wanted| {
            let entries = record.entries.iter();
            let joined = entries.filter(|entry| {
                matches!(entry, Entry::Joined { recovered, .. } if *recovered == Some(wanted))
            });
            joined.count() as u64
        };
        deliveries.recovered += recovered(true);
        deliveries.not_recovered += recovered(false);
    }

    /// Recovery over a restart is what the promise says it is.
    fn check_recoveries(&mut self, name: &str, entries: &[Entry], promises: Promises) {
        let mut before = None;
        for entry in entries {
            let Entry::Joined {
                position,
                recovered,
                ..
            } = entry
            else {
                continue;
            };
            let is_new = before
                .replace(&position.epoch)
                .is_some_and(|of| *of != position.epoch);
            let is_wrong = match promises.epochs {
                Epochs::Forgotten => is_new && *recovered == Some(true),
                Epochs::Carried | Epochs::One => *recovered == Some(false),
                Epochs::TailForgotten => false,
            };
            if is_wrong {
                let said = if *recovered == Some(true) {
                    "all"
                } else {
                    "not all"
                };
                self.findings
                    .add(format!("{name} was told that {said} was recovered"));
            }
        }
    }

    /// Counts what a client was given that recovers nothing.
    fn compare(&mut self, plain: &HashMap<Key, u64>, timeline: &Timeline) {
        let published: BTreeSet<Key> = timeline.keys().collect();
        let given = published.iter().filter_map(|key| plain.get(key));
        let (count, sum) = given.fold((0, 0), |(count, sum), times| (count + 1, sum + times));
        self.plain.expected += published.len() as u64;
        self.plain.in_order += count;
        self.plain.repeated += sum - count;
        self.plain.missing += published.len() as u64 - count;
    }
}

#[cfg(test)]
mod tests;
