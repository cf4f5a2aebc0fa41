//! Many lose their connections at once and come back: openings that are tried again until they
//! succeed.
//!
//! Either this program drops them, or the server ends what it has, as when it is restarted. A
//! member that is refused waits with exponential backoff and full jitter, and at least as long as
//! the server's `Retry-After` or the pause of its close frame says.
//!
//! On a wire with positions a member is *served* when it has joined and has everything that it
//! missed; on others when it has joined and received a publication: rooms are probed for that until
//! all of their members have one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use derive_more::AddAssign;
use serde::Serialize;

use super::deadlines::Deadlines;
use super::messages::Goodbye;
use super::{Driver, TICK, URGENT_EVERY};
use crate::clock::to_ns;
use crate::connection::State;
use crate::opening::{OpeningTally, Refusal};
use crate::plan::{MemberId, StreamId};
use crate::tally::{Counts, Latency, Most};

/// How often rooms of which not everybody is served are published to, and once more when everybody
/// is connected. More often would be a load of its own: each goes to all who are served already.
const SERVE_INTERVAL: Duration = Duration::from_millis(100);

/// An attempt without an answer for so long is given up and counted.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(10);

/// The first retry comes after up to this, the next after up to twice that, and so on.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// No retry waits longer of its own accord: clients of real life use 5 to 30 s.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Of what was missed, so many publications are under way at a time, to the few who stayed.
const MISSED_UNDER_WAY_MAX: usize = 1024;

/// Who keeps the connection when the others lose theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staying {
    /// The first members of each room of a group, publishers first; at least so many in each. They
    /// are read before the others.
    First { group: usize, members: u32 },
    /// Nobody.
    Nobody,
    /// Those who publish.
    Publishers,
}

/// How connections are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The server ends those that are open.
    ByServer,
    /// They were [dropped](Driver::drop_away).
    Dropped,
}

/// What those do who are away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturnPlan<'a> {
    pub(crate) loss: Loss,
    /// How many of a thread may be on their way at a time.
    pub(crate) together: u32,
    /// From when on those come who were dropped.
    pub(crate) from_ns: u64,
    /// The time over which they come, spread evenly.
    pub(crate) within_ns: u64,
    /// When they are not waited for any longer.
    pub(crate) end_ns: u64,
    /// Whether the pauses that a server asks for are kept; otherwise whoever was closed comes at
    /// once.
    pub(crate) keeps_pauses: bool,
    /// Set by whoever knows that there is nothing to wait for.
    pub(crate) is_hopeless: Option<&'a AtomicBool>,
}

/// How they came back. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
pub(crate) struct Returned {
    /// From the beginning until the last was served: it had joined and received a publication, or
    /// had everything that it missed.
    all_served_seconds: Most,
    /// Members that were not served when patience ended.
    pub(crate) not_served: u64,
    #[serde(flatten)]
    opening: OpeningTally,
    /// How the server ended connections.
    ended_by: Counts,
    /// From when each member lost its connection, or was due to come, until it was served. Without
    /// positions, whoever was not last waited for a round of publications, of which there are ten a
    /// second.
    served_us: Latency,
}

/// Members on their way back; nobody most of the time.
#[derive(Debug, Default)]
pub(super) struct Returns {
    from_ns: u64,
    together: u32,
    keeps_pauses: bool,
    under_way: u32,
    /// When each member may try, and who.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// All members, by their number.
    members: Vec<Returning>,
    deadlines: Deadlines,
    returned: Returned,
}

/// One member.
#[derive(Clone, Copy, Debug, Default)]
struct Returning {
    way: Way,
    /// From when on it is not served.
    lost_ns: u64,
    began_ns: u64,
    attempts: u32,
    /// Whether others wait for what it publishes, so that it does not wait itself.
    publishes: bool,
    /// How long the server asked it to stay away, before it ended the connection.
    pause: Option<Duration>,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// It has lost its connection.
    Away,
    /// It keeps its connection.
    #[default]
    Stays,
    /// The server has not ended its connection yet.
    There,
}

impl Returns {
    fn new(plan: &ReturnPlan<'_>, all: u32, away: &[MemberId]) -> Self {
        let mut members = vec![Returning::default(); all as usize];
        let mut due = BinaryHeap::new();
        for (nth, member) in (0_u64..).zip(away) {
            let returning = &mut members[member.index()];
            if plan.loss == Loss::ByServer {
                returning.way = Way::There;
                continue;
            }
            returning.way = Way::Away;
            returning.lost_ns = plan.from_ns + plan.within_ns * nth / away.len() as u64;
            due.push(Reverse((returning.lost_ns, member.0)));
        }
        let not_served = away.len() as u64;
        Self {
            from_ns: plan.from_ns,
            together: plan.together,
            keeps_pauses: plan.keeps_pauses,
            due,
            members,
            returned: Returned {
                not_served,
                ..Returned::default()
            },
            ..Self::default()
        }
    }

    /// Returns whether anybody is expected back now.
    pub(super) fn are_expected(&self) -> bool {
        !self.members.is_empty()
    }

    /// Takes the next member that may try now.
    fn take_due(&mut self, now_ns: u64) -> Option<MemberId> {
        let Reverse((due_ns, member)) = *self.due.peek()?;
        if self.under_way >= self.together || due_ns > now_ns {
            return None;
        }
        self.due.pop();
        self.under_way += 1;
        let returning = &mut self.members[member as usize];
        returning.began_ns = now_ns;
        returning.attempts += 1;
        self.returned.opening.attempts += 1;
        let deadline_ns = now_ns + to_ns(ATTEMPT_PATIENCE);
        let (member, attempt) = (MemberId(member), returning.attempts);
        self.deadlines.push(deadline_ns, member, attempt);
        Some(member)
    }

    /// Takes those whose newest attempt has run out of time.
    fn take_overdue(&mut self, now_ns: u64) -> Vec<MemberId> {
        let attempt = |member: MemberId| self.members[member.index()].attempts;
        self.deadlines.take_overdue(now_ns, attempt)
    }

    /// Counts a handshake that succeeded.
    pub(super) fn open(&mut self, member: MemberId, now_ns: u64) {
        self.under_way -= 1;
        let after_ns = now_ns - self.members[member.index()].began_ns;
        self.returned.opening.open(after_ns);
    }

    /// Counts a member that has what proves that it is back.
    pub(super) fn serve(&mut self, member: MemberId, now_ns: u64) {
        let returned = &mut self.returned;
        let after_ns = now_ns.saturating_sub(self.members[member.index()].lost_ns);
        returned.served_us.record(after_ns);
        returned.all_served_seconds += Most(now_ns.saturating_sub(self.from_ns) as f64 / 1e9);
        returned.not_served -= 1;
    }

    /// Notes how long the server asks a member to stay away when it will have ended the connection.
    pub(super) fn note_pause(&mut self, member: MemberId, pause: Duration) {
        if let Some(returning) = self.members.get_mut(member.index()) {
            returning.pause = Some(pause);
        }
    }

    /// Counts a connection that the server ended as was expected of it; its member comes when it
    /// may.
    fn lose(&mut self, member: MemberId, goodbye: &Goodbye, now_ns: u64) {
        let code = goodbye.code.map(|code| format!("code_{code}"));
        let by = code.as_deref().unwrap_or("cut_off");
        self.returned.ended_by.count(by);
        let returning = &mut self.members[member.index()];
        returning.way = Way::Away;
        returning.lost_ns = now_ns;
        let wait_ns = match goodbye.pause.or(returning.pause) {
            _ if !self.keeps_pauses || returning.publishes => 0,
            Some(pause) => to_ns(pause),
            None => fastrand::u64(0..=to_ns(BACKOFF_MIN)),
        };
        self.due.push(Reverse((now_ns + wait_ns, member.0)));
    }

    /// Lets a member try again.
    fn retry(&mut self, member: MemberId, refusal: Refusal, pause: Option<Duration>, now_ns: u64) {
        self.returned.opening.refusals.count(refusal);
        let attempts = self.members[member.index()].attempts;
        let pause = pause.filter(|_| self.keeps_pauses).unwrap_or_default();
        let wait_ns = to_ns(pause) + backoff_ns(attempts);
        self.due.push(Reverse((now_ns + wait_ns, member.0)));
    }
}

/// Returns up to twice as much for each attempt before: full jitter, so that those who were refused
/// together do not come back together.
fn backoff_ns(attempts: u32) -> u64 {
    let doubled = to_ns(BACKOFF_MIN) << attempts.saturating_sub(1).min(16);
    fastrand::u64(0..=doubled.min(to_ns(BACKOFF_MAX)))
}

impl Driver<'_> {
    /// Decides, before anybody connects, who will lose the connection and come back.
    pub(crate) fn choose_away(&mut self, staying: Staying) {
        self.away = match staying {
            Staying::First { group, members } => {
                self.stayers_are_urgent = true;
                let rooms = self.plan.rooms.iter().filter(|room| room.group == group);
                let beyond = rooms.flat_map(|room| {
                    let here = members.div_ceil(1 + room.other_parts);
                    (room.members.start + here..room.members.end).map(MemberId)
                });
                let publishes = self.plan.publishing_members();
                beyond.filter(|member| !publishes[member.index()]).collect()
            }
            Staying::Nobody => (0..self.members).map(MemberId).collect(),
            Staying::Publishers => self.silent_members(),
        };
    }

    /// Returns whether a member will lose its connection.
    pub(super) fn goes_away(&self, member: MemberId) -> bool {
        self.away.binary_search(&member).is_ok()
    }

    /// Returns whether a member is one of those who are expected back now.
    pub(super) fn comes_back(&self, member: MemberId) -> bool {
        let returning = self.returns.members.get(member.index());
        returning.is_some_and(|returning| returning.way != Way::Stays)
    }

    /// Resets the connections of those who will come back, all at once.
    pub(crate) fn drop_away(&mut self) {
        for member in self.away.clone() {
            self.abort(member);
        }
    }

    /// Ends the connection of a member who will come back.
    fn abort(&mut self, member: MemberId) {
        let connection = &mut self.connections[member.index()];
        self.opened -= u32::from(connection.has_joined);
        self.received -= u32::from(connection.has_received);
        connection.abort();
        if let Some(seat) = self.seats.get_mut(member.index()) {
            seat.lose();
            self.ledger.go_away(member, self.clock.now_ns());
        }
    }

    /// Publishes so many times in each room of a group, as fast as those have it who are there.
    pub(crate) fn publish_in_each_room(&mut self, group: usize, count: u32) -> Result<()> {
        for nth in 0..count {
            for room in self.plan.rooms.iter().filter(|room| room.group == group) {
                let lanes = room.streams.end - room.streams.start;
                let stream = StreamId(room.streams.start + nth % lanes);
                let now_ns = self.clock.now_ns();
                self.publish(stream, now_ns, now_ns);
            }
            self.flush()?;
            while self.ledger.under_way() > MISSED_UNDER_WAY_MAX && !self.shared.must_stop() {
                self.turn(TICK)?;
                self.check_alive()?;
            }
        }
        Ok(())
    }

    /// Brings everybody back who is away, or will be, until all are served or patience ends.
    ///
    /// Before it, [`Shared::begin_waiting`](crate::shared::Shared::begin_waiting): a thread whose
    /// members are back goes on for the others, for its own may publish to theirs.
    pub(crate) fn come_back(&mut self, plan: &ReturnPlan<'_>) -> Result<Returned> {
        self.returns = Returns::new(plan, self.members, &self.away);
        let publishes = self.plan.publishing_members();
        for (returning, publishes) in self.returns.members.iter_mut().zip(publishes) {
            returning.publishes = publishes;
        }
        let is_set = |it: &AtomicBool| it.load(Ordering::Relaxed);
        let is_hopeless = || plan.is_hopeless.is_some_and(is_set);
        let probes = self.seats.is_empty();
        let mut is_done = false;
        let mut serve_ns = plan.from_ns;
        let mut all_were_open = false;
        while !self.shared.are_all_done() && !self.shared.must_stop() {
            let now_ns = self.clock.now_ns();
            if now_ns >= plan.end_ns || is_hopeless() {
                break;
            }
            if !is_done && self.returns.returned.not_served == 0 {
                self.shared.note_done();
                is_done = true;
                continue;
            }
            self.try_again(now_ns)?;
            // The last to come is not to wait for a round: it would be measured.
            let all_are_open = self.opened == self.members;
            if probes && (now_ns >= serve_ns || all_are_open && !all_were_open) {
                self.probe_rooms(|_| true)?;
                serve_ns = now_ns + to_ns(SERVE_INTERVAL);
            }
            all_were_open = all_are_open;
            self.turn(self.until_retry(now_ns))?;
        }
        let returns = std::mem::take(&mut self.returns);
        self.forget_missing();
        Ok(returns.returned)
    }

    /// Returns how long nothing is due, if that is shorter than a tick.
    fn until_retry(&self, now_ns: u64) -> Duration {
        let returns = &self.returns;
        let may_try = returns.under_way < returns.together;
        let next = returns.due.peek().filter(|_| may_try);
        next.map_or(TICK, |Reverse((due_ns, _))| {
            Duration::from_nanos(due_ns.saturating_sub(now_ns)).clamp(MILLISECOND, TICK)
        })
    }

    fn try_again(&mut self, now_ns: u64) -> Result<()> {
        for member in self.returns.take_overdue(now_ns) {
            let connection = &self.connections[member.index()];
            if !connection.has_joined && !matches!(connection.state, State::Closed) {
                self.retry(member, Refusal::TimedOut, None);
            }
        }
        let mut opened = 0;
        while let Some(member) = self.returns.take_due(now_ns) {
            opened += 1;
            if self.stayers_are_urgent && opened % URGENT_EVERY == 0 {
                self.urgent_turn()?;
            }
            self.open(member)?;
        }
        Ok(())
    }

    /// Takes the end of the connection of somebody who comes back: as was expected of the server,
    /// or before it was of use.
    pub(super) fn lose(&mut self, member: MemberId, goodbye: &Goodbye) {
        if self.returns.members[member.index()].way != Way::There {
            return self.retry(member, Refusal::ClosedAtOnce, goodbye.pause);
        }
        self.returns.lose(member, goodbye, self.clock.now_ns());
        self.abort(member);
    }

    /// Lets a returning member try again whose connection was refused, or broke before it was of
    /// use.
    pub(super) fn retry(&mut self, member: MemberId, refusal: Refusal, pause: Option<Duration>) {
        let now_ns = self.clock.now_ns();
        let connection = &self.connections[member.index()];
        self.returns.under_way -= u32::from(!connection.has_joined);
        self.returns.returned.not_served += u64::from(connection.has_received);
        self.abort(member);
        self.returns.retry(member, refusal, pause, now_ns);
    }

    /// Waits no longer for those who were not served.
    fn forget_missing(&mut self) {
        let now_ns = self.clock.now_ns();
        for member in self.away.clone() {
            if self.connections[member.index()].has_received {
                continue;
            }
            self.abort(member);
            if self.shared.is_interrupted() {
                self.ledger.dismiss(member);
                continue;
            }
            for stream in self.ledger.disconnect(member, now_ns) {
                self.pace.retire(stream);
            }
        }
    }
}

/// The readiness set's own resolution.
const MILLISECOND: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_is_spread() {
        let longest = |attempts| (0..2000).map(|_| backoff_ns(attempts)).max().unwrap();
        for (attempts, bound_ms) in [(1, 100), (2, 200), (4, 800), (10, 5000), (1000, 5000)] {
            let (longest_ns, bound_ns) = (longest(attempts), bound_ms * 1_000_000);
            assert!(longest_ns <= bound_ns, "{attempts}: {longest_ns}");
            assert!(longest_ns > bound_ns / 2, "{attempts}: {longest_ns}");
        }
    }

    fn returns(loss: Loss, keeps_pauses: bool, within_ns: u64) -> Returns {
        let plan = ReturnPlan {
            loss,
            together: 2,
            from_ns: 1000,
            within_ns,
            end_ns: u64::MAX,
            keeps_pauses,
            is_hopeless: None,
        };
        Returns::new(&plan, 3, &[0, 1, 2].map(MemberId))
    }

    fn closed(after_ms: Option<u64>) -> Goodbye {
        Goodbye {
            code: Some(4100),
            reason: String::new(),
            pause: after_ms.map(Duration::from_millis),
        }
    }

    /// When each of them is due, in milliseconds after the loss.
    fn due_ms(returns: &Returns, lost_ns: u64) -> Vec<(u32, u64)> {
        let due = returns.due.iter();
        let due = due.map(|Reverse((due_ns, member))| (*member, (due_ns - lost_ns) / 1_000_000));
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn who_is_closed_stays_away_as_long_as_the_server_says_unless_others_wait_for_it() {
        let mut there = returns(Loss::ByServer, true, 0);
        assert!(there.due.is_empty());
        there.members[0].publishes = true;
        there.note_pause(MemberId(2), Duration::from_millis(900));
        there.lose(MemberId(0), &closed(Some(700)), 5000);
        there.lose(MemberId(1), &closed(Some(700)), 5000);
        there.lose(MemberId(2), &closed(None), 5000);
        assert_eq!(due_ms(&there, 5000), [(0, 0), (1, 700), (2, 900)]);
        let ended_by = serde_json::to_value(&there.returned.ended_by).unwrap();
        assert_eq!(ended_by["code_4100"], 3);
        let mut worst = returns(Loss::ByServer, false, 0);
        worst.lose(MemberId(1), &closed(Some(700)), 5000);
        assert_eq!(due_ms(&worst, 5000), [(1, 0)]);
        worst.serve(MemberId(1), 9000);
        let Returned {
            all_served_seconds,
            not_served,
            ..
        } = worst.returned;
        assert_eq!(
            (all_served_seconds.0, not_served),
            (8e-6, 2),
            "from the beginning on"
        );
    }

    #[test]
    fn those_who_come_within_a_time_are_spread_over_it() {
        let spread = returns(Loss::Dropped, true, 3_000_000);
        assert_eq!(due_ms(&spread, 1000), [(0, 0), (1, 1), (2, 2)]);
    }

    #[test]
    fn only_so_many_try_together_and_the_refused_wait() {
        let mut returns = returns(Loss::Dropped, true, 0);
        assert_eq!(returns.take_due(999), None);
        let first: Vec<_> = std::iter::from_fn(|| returns.take_due(1000)).collect();
        assert_eq!(first, [MemberId(0), MemberId(1)]);
        returns.under_way -= 1;
        let second = Duration::from_secs(1);
        returns.retry(MemberId(0), Refusal::Status(503), Some(second), 2000);
        assert_eq!(returns.take_due(2000), Some(MemberId(2)));
        returns.open(MemberId(1), 3000);
        assert_eq!(returns.take_due(1_000_001_999), None, "Retry-After holds");
        assert_eq!(returns.take_due(1_100_002_000), Some(MemberId(0)));
        assert_eq!(returns.returned.opening.attempts, 4);
    }

    #[test]
    fn an_attempt_runs_out_of_time_unless_a_newer_one_was_made() {
        let mut returns = returns(Loss::Dropped, true, 0);
        while returns.take_due(1000).is_some() {}
        let late_ns = 1000 + to_ns(ATTEMPT_PATIENCE);
        assert_eq!(returns.take_overdue(late_ns - 1), []);
        returns.members[0].attempts += 1;
        assert_eq!(returns.take_overdue(late_ns), [MemberId(1)]);
        assert_eq!(returns.take_overdue(late_ns), []);
    }
}
