//! Stopping: everybody is told, then closed at a bounded rate, so that they do not all come back at
//! once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rooms::{ConnectionId, FlushQueue};

use super::Core;
use super::socket::Phase;
use crate::wire::Spoken as _;

/// Progress of a drain.
#[derive(Debug)]
pub(super) struct Draining {
    /// When it ends, whoever is left.
    pub(super) deadline: Instant,
    began: Instant,
    /// When the next connections are closed.
    step_at: Instant,
    /// Connections that are not closed yet, each with the pause after which it is to reconnect, in
    /// milliseconds.
    waiting: VecDeque<(ConnectionId, u64)>,
    closed_count: u64,
    /// Connections that are closed per second; none is no limit.
    rate: Option<u64>,
}

/// Time between two steps that close some connections.
const STEP: Duration = Duration::from_millis(5);

impl Draining {
    /// Returns the time at which something is to be done next.
    pub(super) fn next_step(&self) -> Instant {
        if self.waiting.is_empty() {
            self.deadline
        } else {
            self.step_at
        }
    }

    /// Returns the number of connections that should be closed by now.
    fn quota(&self, now: Instant) -> u64 {
        let Some(rate) = self.rate else {
            return u64::MAX;
        };
        let elapsed_us = now.saturating_duration_since(self.began).as_micros();
        let quota = u128::from(rate) * elapsed_us / 1_000_000;
        // One at least, so that a few connections do not wait for anything.
        u64::try_from(quota).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Core {
    /// Tells everybody that the server stops, and begins to close them.
    pub(super) fn begin_drain(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        let open: Vec<ConnectionId> = self
            .local
            .slots()
            .map(|slot| self.local.id_of(slot))
            .collect();
        let waiting: VecDeque<_> = open.into_iter().map(|id| (id, self.pause())).collect();
        for (id, after_ms) in &waiting {
            self.announce_drain(*id, *after_ms);
        }
        let draining = Draining {
            deadline: now + self.config.timeouts.drain,
            began: now,
            step_at: now,
            rate: self.drain_rate(waiting.len()),
            waiting,
            closed_count: 0,
        };
        self.draining = Some(draining);
        self.drain_some(now);
    }

    /// Returns the milliseconds after which a client is to reconnect: at any time within the
    /// spread.
    fn pause(&self) -> u64 {
        let spread_ms = u64::try_from(self.config.drain.spread.as_millis()).unwrap_or(u64::MAX);
        fastrand::u64(..=spread_ms)
    }

    /// Returns the connections that this core closes per second: its part of what is set, or what
    /// it takes to have sent all their close frames in time for them to be read.
    fn drain_rate(&self, count: usize) -> Option<u64> {
        let set = u64::from(self.config.drain.rate);
        if set == 0 {
            return None;
        }
        let timeouts = &self.config.timeouts;
        let time_ms = timeouts
            .drain
            .saturating_sub(timeouts.close)
            .as_millis()
            .max(1);
        let needed = count as u128 * 1000 / time_ms;
        let own = set.div_ceil(self.config.core_count() as u64);
        Some(own.max(u64::try_from(needed).unwrap_or(u64::MAX)))
    }

    fn announce_drain(&mut self, id: ConnectionId, after_ms: u64) {
        let is_open = self
            .socket(id.slot())
            .is_some_and(|socket| socket.phase == Phase::Open);
        if is_open && let Some(frame) = self.engine.wire(id.wire()).drain(after_ms) {
            self.local.push(id.slot(), &frame, FlushQueue::Bulk);
        }
    }

    /// Closes as many as it is time for.
    pub(super) fn drain_some(&mut self, now: Instant) {
        while let Some(draining) = &mut self.draining
            && draining.closed_count < draining.quota(now)
            && let Some((id, after_ms)) = draining.waiting.pop_front()
        {
            draining.closed_count += 1;
            if self.local.slot_of(id).is_some() && !self.handlers.drain_later(id.slot(), after_ms) {
                self.close_drained(id, after_ms, now);
            }
        }
        if let Some(draining) = &mut self.draining {
            draining.step_at = now + STEP;
        }
    }

    /// Closes a connection that came while the server stops.
    pub(super) fn drain_one(&mut self, id: ConnectionId, now: Instant) {
        let after_ms = self.pause();
        self.announce_drain(id, after_ms);
        self.close_drained(id, after_ms, now);
    }

    pub(super) fn close_drained(&mut self, id: ConnectionId, after_ms: u64, now: Instant) {
        let slot = id.slot();
        if self
            .socket(slot)
            .is_some_and(|socket| socket.phase == Phase::Open)
        {
            self.metrics.closed.drained.add(1);
        }
        let disconnect = self.engine.wire(id.wire()).drained(after_ms);
        self.begin_close(slot, disconnect, now);
    }
}
