//! Pings, and the end of connections that are silent.

use std::time::{Duration, Instant};

use proto::{CloseCode, OpCode, frame};
use rooms::{Disconnect, FlushQueue, Slot};

use super::Core;
use super::lines::Waits;
use super::socket::Phase;
use crate::config::Timeouts;

/// The action for a connection now, or the time of the next look.
enum Verdict {
    Idle,
    LookIn(Duration),
    Ping,
    Silent,
}

/// Returns how late a deadline may be noticed: a tenth of the shortest, at most a second.
pub(super) fn granularity(timeouts: &Timeouts) -> Duration {
    let Timeouts {
        ping_interval,
        pong_timeout,
        idle,
        ..
    } = *timeouts;
    let set = [ping_interval, pong_timeout, idle]
        .into_iter()
        .filter(|time| !time.is_zero());
    let shortest = set.min().unwrap_or(Duration::from_secs(10));
    (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

impl Core {
    /// Looks at the connections whose time has come.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        self.end_overdue(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for slot in due.drain(..) {
            self.check(slot, now);
        }
        self.due = due;
    }

    /// Asks for the first look at a new connection.
    pub(super) fn schedule_keepalive(&mut self, slot: Slot, now: Instant) {
        if let Some(first) = self.first_look() {
            self.wheel.schedule(slot, now + first);
        }
    }

    /// Returns the time after which a new connection is looked at, if it ever is.
    fn first_look(&self) -> Option<Duration> {
        let Timeouts {
            ping_interval,
            idle,
            ..
        } = self.config.timeouts;
        [ping_interval, idle]
            .into_iter()
            .filter(|time| !time.is_zero())
            .min()
    }

    fn check(&mut self, slot: Slot, now: Instant) {
        let mut verdict = self.verdict(slot, now);
        if matches!(verdict, Some(Verdict::Ping)) {
            self.ping(slot, now);
            verdict = self.verdict(slot, now);
        }
        let look_in = match verdict {
            None | Some(Verdict::Ping) => return,
            Some(Verdict::LookIn(time)) => time,
            Some(Verdict::Idle) => {
                self.metrics.closed.idle.add(1);
                let disconnect = Disconnect::new(CloseCode::GOING_AWAY, "idle for too long");
                return self.begin_close(slot, disconnect, now);
            }
            Some(Verdict::Silent) => {
                self.metrics.closed.keepalive.add(1);
                return self.end_silent(slot, now);
            }
        };
        // Never later than a newcomer's first look: one may inherit the slot with this entry, and
        // a pong that comes soon makes the next ping due before its timeout.
        let look_in = self
            .first_look()
            .map_or(look_in, |first| look_in.min(first));
        self.wheel.schedule(slot, now + look_in);
    }

    /// Returns the action for the connection; none if it is gone or closing.
    fn verdict(&mut self, slot: Slot, now: Instant) -> Option<Verdict> {
        let Timeouts {
            ping_interval,
            pong_timeout,
            idle,
            ..
        } = self.config.timeouts;
        let now = self.stamp(now);
        let socket = self
            .socket(slot)
            .filter(|socket| socket.phase == Phase::Open)?;
        // Who waits to be read from is silent because we do not listen.
        let held_back = !matches!(socket.waits, Waits::Not | Waits::Unread);
        let mut next = Duration::from_secs(3600);
        if !idle.is_zero() {
            let quiet = now.since(socket.message_at);
            if quiet >= idle && !held_back {
                return Some(Verdict::Idle);
            }
            next = next.min(idle.saturating_sub(quiet));
        }
        if !ping_interval.is_zero() {
            let left = match socket.asked_at {
                Some(asked_at) => pong_timeout.saturating_sub(now.since(asked_at)),
                None => ping_interval.saturating_sub(now.since(socket.alive_at)),
            };
            match (left.is_zero(), socket.asked_at) {
                (true, Some(_)) if !held_back => return Some(Verdict::Silent),
                (true, None) => return Some(Verdict::Ping),
                _ => next = next.min(left),
            }
        }
        Some(Verdict::LookIn(next))
    }

    /// Asks for a sign of life. What waits for a full socket asks already: there will be room if
    /// the peer takes some of what it was sent, and a ping would have to wait behind all of it.
    fn ping(&mut self, slot: Slot, now: Instant) {
        let stamp = self.stamp(now);
        if let Some(socket) = self.socket(slot) {
            socket.asked_at = Some(stamp);
        }
        if self.local.is_blocked(slot) {
            return;
        }
        self.metrics.pings.add(1);
        self.local
            .push(slot, &frame::encode(OpCode::Ping, b""), FlushQueue::Prompt);
        self.resolve_overflow_of(slot, now);
    }
}
