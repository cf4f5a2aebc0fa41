//! Everybody drops at once and comes back at once: openings that are tried again until they succeed.
//!
//! A member that is refused waits with exponential backoff and full jitter, and at least as long as
//! the server's `Retry-After` says. It is *served* when it has joined and received a publication;
//! rooms are probed for that until all of their members have one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Driver, TICK};
use crate::clock::to_ns;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::latencies::latency_histogram;
use crate::opening::{OpeningTally, Refusal};
use crate::plan::MemberId;

/// How often rooms of which not everybody is served are published to, and once more when everybody is
/// connected. More often would be a load of its own: each goes to all who are served already.
const SERVE_INTERVAL: Duration = Duration::from_millis(100);

/// An attempt without an answer for so long is given up and counted.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(10);

/// The first retry comes after up to this, the next after up to twice that, and so on.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// No retry waits longer of its own accord: clients of real life use 5 to 30 s.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One storm, as one thread saw it.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) opening: OpeningTally,
    /// Nanoseconds from the drop until each member was served.
    pub(crate) served_ns: Histogram<u64>,
    /// How long the one took that was served last.
    pub(crate) last_ns: u64,
    /// Members that were not served when patience ended.
    pub(crate) missing: u32,
}

/// Members on their way back.
#[derive(Debug)]
pub(super) struct Returns {
    dropped_ns: u64,
    together: u32,
    under_way: u32,
    /// When each member may try, and who.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    members: Vec<Returning>,
    /// Attempts in the order in which they run out of time, with their numbers.
    deadlines: VecDeque<(u64, MemberId, u32)>,
    returned: Returned,
}

#[derive(Clone, Copy, Debug, Default)]
struct Returning {
    began_ns: u64,
    attempts: u32,
}

impl Returns {
    fn new(members: u32, together: u32, dropped_ns: u64) -> Self {
        Self {
            dropped_ns,
            together,
            under_way: 0,
            due: (0..members).map(|it| Reverse((dropped_ns, it))).collect(),
            members: vec![Returning::default(); members as usize],
            deadlines: VecDeque::new(),
            returned: Returned {
                opening: OpeningTally::new(),
                served_ns: latency_histogram(),
                last_ns: 0,
                missing: members,
            },
        }
    }

    /// The next member that may try now.
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
        self.deadlines
            .push_back((deadline_ns, MemberId(member), returning.attempts));
        Some(MemberId(member))
    }

    /// An attempt that has run out of time, if it is still the member's newest.
    fn take_overdue(&mut self, now_ns: u64) -> Option<MemberId> {
        while let Some(&(deadline_ns, member, attempt)) = self.deadlines.front() {
            if deadline_ns > now_ns {
                return None;
            }
            self.deadlines.pop_front();
            if self.members[member.index()].attempts == attempt {
                return Some(member);
            }
        }
        None
    }

    /// A member's handshake succeeded.
    pub(super) fn open(&mut self, member: MemberId, now_ns: u64) {
        self.under_way -= 1;
        let after_ns = now_ns - self.members[member.index()].began_ns;
        self.returned.opening.open(after_ns);
    }

    /// A member received a publication for the first time.
    pub(super) fn serve(&mut self, now_ns: u64) {
        let after_ns = now_ns - self.dropped_ns;
        self.returned.served_ns.saturating_record(after_ns);
        self.returned.last_ns = self.returned.last_ns.max(after_ns);
        self.returned.missing -= 1;
    }

    /// A member is to try again.
    fn retry(
        &mut self,
        member: MemberId,
        refusal: Refusal,
        retry_after: Option<Duration>,
        now_ns: u64,
    ) {
        self.returned.opening.refuse(refusal);
        let attempts = self.members[member.index()].attempts;
        let wait_ns = to_ns(retry_after.unwrap_or_default()) + backoff_ns(attempts);
        self.due.push(Reverse((now_ns + wait_ns, member.0)));
    }
}

/// Up to twice as much for each attempt before: full jitter, so that those who were refused together
/// do not come back together.
fn backoff_ns(attempts: u32) -> u64 {
    let doubled = to_ns(BACKOFF_MIN) << attempts.saturating_sub(1).min(16);
    fastrand::u64(0..=doubled.min(to_ns(BACKOFF_MAX)))
}

impl Driver<'_> {
    /// Resets all connections at once.
    pub(crate) fn drop_all(&mut self) {
        for connection in &mut self.connections {
            connection.abort();
        }
        self.opened = 0;
        self.received = 0;
    }

    /// Brings everybody back who was dropped at `dropped_ns`, `together` at a time, until all are
    /// served or `end_ns` has come.
    pub(crate) fn come_back(
        &mut self,
        together: u32,
        dropped_ns: u64,
        end_ns: u64,
    ) -> Result<Returned, Failure> {
        let members = self.plan.connections();
        self.returns = Some(Returns::new(members, together, dropped_ns));
        let mut serve_ns = dropped_ns;
        let mut all_were_open = false;
        while self.received < members && !self.shared.must_stop() {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns {
                break;
            }
            self.try_again(now_ns)?;
            // The last to come is not to wait for a round: it would be measured.
            let all_are_open = self.opened == members;
            if now_ns >= serve_ns || all_are_open && !all_were_open {
                self.probe_rooms(|_| true)?;
                serve_ns = now_ns + to_ns(SERVE_INTERVAL);
            }
            all_were_open = all_are_open;
            self.turn(self.until_retry(now_ns))?;
        }
        let returns = self.returns.take().expect("set at the beginning");
        self.forget_missing();
        Ok(returns.returned)
    }

    /// How long nothing is due, if that is shorter than a tick.
    fn until_retry(&self, now_ns: u64) -> Duration {
        let next = self.returns.as_ref().and_then(|returns| {
            let Reverse((due_ns, _)) = returns.due.peek()?;
            (returns.under_way < returns.together).then_some(*due_ns)
        });
        next.map_or(TICK, |due_ns| {
            Duration::from_nanos(due_ns.saturating_sub(now_ns)).clamp(MILLISECOND, TICK)
        })
    }

    fn try_again(&mut self, now_ns: u64) -> Result<(), Failure> {
        while let Some(member) = self.returns.as_mut().and_then(|it| it.take_overdue(now_ns)) {
            if !self.connections[member.index()].has_joined {
                self.retry(member, Refusal::TimedOut, None);
            }
        }
        while let Some(member) = self.returns.as_mut().and_then(|it| it.take_due(now_ns)) {
            let source = self.plan.connections_before + member.0;
            match Connection::open(self.target, source, None) {
                Ok(connection) => {
                    self.connections[member.index()] = connection;
                    self.register(member)?;
                }
                Err(error) => self.retry(member, Refusal::of(&error), None),
            }
        }
        Ok(())
    }

    /// A returning member's connection was refused, or broke before it was of use.
    pub(super) fn retry(
        &mut self,
        member: MemberId,
        refusal: Refusal,
        retry_after: Option<Duration>,
    ) {
        let now_ns = self.clock.now_ns();
        let connection = &mut self.connections[member.index()];
        let was_open = connection.has_joined;
        let was_served = connection.has_received;
        connection.abort();
        self.opened -= u32::from(was_open);
        self.received -= u32::from(was_served);
        let returns = self.returns.as_mut().expect("there is a storm");
        returns.under_way -= u32::from(!was_open);
        returns.returned.missing += u32::from(was_served);
        returns.retry(member, refusal, retry_after, now_ns);
    }

    /// Nobody waits any longer for those who were not served.
    fn forget_missing(&mut self) {
        let now_ns = self.clock.now_ns();
        for index in 0..self.plan.connections() {
            let connection = &mut self.connections[MemberId(index).index()];
            if !connection.has_received {
                connection.abort();
                for stream in self.ledger.disconnect(MemberId(index), now_ns) {
                    self.pace.retire(stream);
                }
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

    #[test]
    fn only_so_many_try_together_and_the_refused_wait() {
        let mut returns = Returns::new(3, 2, 1000);
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
        let mut returns = Returns::new(2, 2, 0);
        while returns.take_due(0).is_some() {}
        let late_ns = to_ns(ATTEMPT_PATIENCE);
        assert_eq!(returns.take_overdue(late_ns - 1), None);
        returns.members[0].attempts += 1;
        assert_eq!(returns.take_overdue(late_ns), Some(MemberId(1)));
        assert_eq!(returns.take_overdue(late_ns), None);
    }
}
