//! Who may come in: connections in all, by IP address, and handshakes under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::accept::crowd::{Crowd, Seat};
use crate::config::Limits;

/// Counts who is in. Shared by all cores; touched when connections come and go.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    connections_max: AtomicUsize,
    /// HTTP connections that have had nothing to do with the application's service.
    pub(crate) handshakes: Crowd,
    /// Those that have.
    guests: Crowd,
    by_ip: ByIp,
}

/// Connections by address; empty while there is no such limit.
#[derive(Debug, Default)]
struct ByIp {
    counts: Mutex<HashMap<IpAddr, usize>>,
    /// 0 is no limit.
    count_max: AtomicUsize,
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    ConnectionsPerIp,
    FallbackConnections,
    Handshakes,
    /// The process has no file descriptor left but some that are kept back.
    OpenFiles,
    /// A server that is mounted in another, which still listens.
    Stopping,
}

impl Limit {
    /// Returns the text that the peer gets.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Connections => "too many connections",
            Self::ConnectionsPerIp => "too many connections from your address",
            Self::FallbackConnections => "too many HTTP clients",
            Self::Handshakes => "too many handshakes in progress",
            Self::OpenFiles => "too many open files",
            Self::Stopping => "the server is stopping",
        }
    }
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// Boxed, for most servers do not count by address.
    ip: Option<Box<IpAddr>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(ip) = &self.ip {
            self.admission.by_ip.release(**ip);
        }
    }
}

impl Admission {
    /// Returns an admission with nobody in it. `connections_max` is the effective limit; none is no
    /// limit.
    pub(crate) fn new(limits: &Limits, connections_max: Option<usize>) -> Self {
        let admission = Self {
            connections: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(0),
            handshakes: Crowd::new(0),
            guests: Crowd::new(0),
            by_ip: ByIp::default(),
        };
        admission.set_limits(limits, connections_max);
        admission
    }

    /// Sets other limits. Whoever is in over a lower one stays.
    pub(crate) fn set_limits(&self, limits: &Limits, connections_max: Option<usize>) {
        let no_limit = |max: usize| if max == 0 { usize::MAX } else { max };
        let connections_max = connections_max.unwrap_or(usize::MAX);
        self.connections_max
            .store(connections_max, Ordering::Relaxed);
        self.handshakes
            .set_count_max(no_limit(limits.handshakes_max));
        self.guests
            .set_count_max(no_limit(limits.fallback_connections_max));
        let per_ip = limits.connections_per_ip_max;
        self.by_ip.count_max.store(per_ip, Ordering::Relaxed);
    }

    /// Lets a handshake begin that another server has heard.
    pub(crate) fn begin_handshake(&self) -> Result<Seat, Limit> {
        let seat = self.handshakes.enter_busy(&Arc::default());
        seat.ok_or(Limit::Handshakes)
    }

    /// Lets an HTTP connection have to do with the application's service.
    pub(crate) fn admit_guest(&self, make_way: &Arc<Notify>) -> Result<Seat, Limit> {
        let seat = self.guests.enter_busy(make_way);
        seat.ok_or(Limit::FallbackConnections)
    }

    /// Closes an HTTP connection that the server waits for: its file descriptor is needed.
    pub(crate) fn free_a_descriptor(&self) {
        self.handshakes.make_way();
        self.guests.make_way();
    }

    /// Lets a handshake become a connection.
    pub(crate) fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<Permit, Limit> {
        if !take(&self.connections, &self.connections_max) {
            return Err(Limit::Connections);
        }
        // From here on dropping the place gives back what was taken.
        let mut permit = Permit {
            admission: self.clone(),
            ip: None,
        };
        let count_max = self.by_ip.count_max.load(Ordering::Relaxed);
        if let Some(ip) = ip.filter(|_| count_max > 0) {
            if !self.by_ip.take(ip, count_max) {
                return Err(Limit::ConnectionsPerIp);
            }
            permit.ip = Some(Box::new(ip));
        }
        Ok(permit)
    }
}

impl ByIp {
    fn take(&self, ip: IpAddr, count_max: usize) -> bool {
        let mut counts = self.counts.lock();
        let count = counts.entry(ip).or_insert(0);
        let free = *count < count_max;
        if free {
            *count += 1;
        }
        free
    }

    fn release(&self, ip: IpAddr) {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(&ip) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(&ip);
        }
    }
}

/// Adds one unless that is over the limit.
fn take(count: &AtomicUsize, max: &AtomicUsize) -> bool {
    let max = max.load(Ordering::Relaxed);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < max).then_some(now + 1)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections_max: Option<usize>, connections_per_ip_max: usize) -> Arc<Admission> {
        let limits = Limits {
            connections_per_ip_max,
            handshakes_max: 1,
            ..Limits::default()
        };
        Arc::new(Admission::new(&limits, connections_max))
    }

    #[test]
    fn a_place_that_is_given_back_can_be_taken_again() {
        let admission = admission(Some(1), 0);
        let place = admission.admit(None).unwrap();
        assert_eq!(admission.admit(None).unwrap_err(), Limit::Connections);
        drop(place);
        assert!(admission.admit(None).is_ok());
    }

    #[test]
    fn a_refusal_by_address_takes_no_place() {
        let admission = admission(Some(2), 1);
        let ip = Some(IpAddr::from([127, 0, 0, 1]));
        let first = admission.admit(ip).unwrap();
        assert_eq!(admission.admit(ip).unwrap_err(), Limit::ConnectionsPerIp);
        let other = admission.admit(Some(IpAddr::from([127, 0, 0, 2]))).unwrap();
        drop((first, other));
        assert!(admission.admit(ip).is_ok());
    }

    #[test]
    fn limits_change_for_those_who_come_and_nobody_who_is_in_is_counted_twice_or_never() {
        let admission = admission(None, 0);
        let limit = |connections_max, connections_per_ip_max| {
            let limits = Limits {
                connections_per_ip_max,
                ..Limits::default()
            };
            admission.set_limits(&limits, Some(connections_max));
        };
        let ip = Some(IpAddr::from([127, 0, 0, 1]));
        let before = admission.admit(ip).unwrap();
        limit(3, 1);
        let counted = admission.admit(ip).unwrap();
        assert_eq!(admission.admit(ip).unwrap_err(), Limit::ConnectionsPerIp);
        drop(before);
        assert_eq!(admission.admit(ip).unwrap_err(), Limit::ConnectionsPerIp);
        limit(1, 0);
        assert_eq!(admission.admit(ip).unwrap_err(), Limit::Connections);
        drop(counted);
        limit(1, 1);
        assert!(admission.admit(ip).is_ok());
    }

    #[test]
    fn handshakes_have_their_own_limit() {
        let admission = admission(None, 0);
        let first = admission.begin_handshake().unwrap();
        assert_eq!(admission.begin_handshake().unwrap_err(), Limit::Handshakes);
        drop(first);
        assert!(admission.begin_handshake().is_ok());
    }
}
