//! A bounded number of places for HTTP connections, and who makes way when all are taken.
//!
//! A connection that the server waits for may have to make way for a newcomer: one that has sent
//! nothing since it was accepted or answered, or a part of a request. One that waits for the server
//! never has to. So nobody can hold places by saying nothing, or little at a time.
//!
//! Silent connections and those with a part of a request stand in two queues, by when the server
//! began to wait. The longer queue gives up its oldest. So a crowd of either kind turns itself over
//! and leaves the other kind alone, and everybody has the time that as many newcomers take to come
//! as the queue is long.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places. Cheap to clone, and shared by the cores. Each call takes one lock for as many steps
/// as the logarithm of the places.
#[derive(Clone, Debug)]
pub(crate) struct Crowd(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    count_max: usize,
    /// The number of the next wait.
    next: u64,
    silent: BTreeMap<u64, Arc<Notify>>,
    speaking: BTreeMap<u64, Arc<Notify>>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    crowd: Crowd,
    state: State,
    /// Of this wait, for the order among others.
    number: u64,
    make_way: Arc<Notify>,
}

/// The activity of a connection with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the server.
    Busy,
    /// Is waited for, and has sent nothing yet.
    Silent,
    /// Is waited for, and has sent a part of a request.
    Speaking,
    /// Had to make way.
    Gone,
}

impl Crowd {
    /// Returns a crowd with so many places; `usize::MAX` is no limit.
    pub(crate) fn new(count_max: usize) -> Self {
        let places = Mutex::new(Places {
            count_max,
            ..Places::default()
        });
        Self(Arc::new(Shared { places }))
    }

    /// Sets another number of places. Whoever has one over a lower number keeps it.
    pub(crate) fn set_count_max(&self, count_max: usize) {
        self.0.places.lock().count_max = count_max;
    }

    /// Takes a place for a connection that has sent nothing yet. If none is free, another
    /// connection makes way: it is notified, and must end. Nothing if all others wait for the
    /// server.
    pub(crate) fn enter(&self, make_way: &Arc<Notify>) -> Option<Seat> {
        let mut place = self.enter_busy(make_way)?;
        place.set(State::Silent);
        Some(place)
    }

    /// Takes a place likewise, for a connection that waits for the server.
    pub(crate) fn enter_busy(&self, make_way: &Arc<Notify>) -> Option<Seat> {
        let mut places = self.0.places.lock();
        let evicted = if places.taken < places.count_max {
            places.taken += 1;
            None
        } else {
            Some(places.take_oldest()?)
        };
        drop(places);
        if let Some(evicted) = evicted {
            evicted.notify_one();
        }
        Some(Seat {
            crowd: self.clone(),
            state: State::Busy,
            number: 0,
            make_way: make_way.clone(),
        })
    }

    /// Returns whether the next to enter needs the place of another.
    pub(crate) fn is_full(&self) -> bool {
        let places = self.0.places.lock();
        places.taken >= places.count_max
    }

    /// Ends one connection, for nobody in particular, if one may end.
    pub(crate) fn make_way(&self) {
        let mut places = self.0.places.lock();
        let evicted = places.take_oldest();
        places.taken -= usize::from(evicted.is_some());
        drop(places);
        if let Some(evicted) = evicted {
            evicted.notify_one();
        }
    }
}

impl Places {
    /// Takes the oldest out of the longer queue. Its place is still taken.
    fn take_oldest(&mut self) -> Option<Arc<Notify>> {
        let queue = if self.silent.len() >= self.speaking.len() {
            &mut self.silent
        } else {
            &mut self.speaking
        };
        queue.pop_first().map(|(_, make_way)| make_way)
    }

    /// Takes a connection out of its queue; false if it had to make way.
    fn remove(&mut self, state: State, number: u64) -> bool {
        match state {
            State::Busy => true,
            State::Silent => self.silent.remove(&number).is_some(),
            State::Speaking => self.speaking.remove(&number).is_some(),
            State::Gone => false,
        }
    }
}

impl Seat {
    /// Notes that the connection waits for the server: it need not make way.
    pub(crate) fn note_request(&mut self) {
        self.set(State::Busy);
    }

    /// Notes that the server begins to wait for a request.
    pub(crate) fn note_answer(&mut self) {
        self.set(State::Silent);
    }

    /// Notes that bytes have come, which are a part of a request if one is waited for.
    pub(crate) fn note_bytes(&mut self) {
        if self.state == State::Silent {
            self.set(State::Speaking);
        }
    }

    fn set(&mut self, state: State) {
        let mut places = self.crowd.0.places.lock();
        if !places.remove(self.state, self.number) {
            self.state = State::Gone;
            return;
        }
        self.state = state;
        match state {
            State::Silent => {
                self.number = places.next;
                places.next += 1;
                places.silent.insert(self.number, self.make_way.clone());
            }
            // The wait goes on: who sends a byte at a time gets no younger.
            State::Speaking => {
                places.speaking.insert(self.number, self.make_way.clone());
            }
            State::Busy | State::Gone => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut places = self.crowd.0.places.lock();
        let has_place = places.remove(self.state, self.number);
        places.taken -= usize::from(has_place);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// A connection, and what tells it to end.
    struct Peer {
        place: Seat,
        make_way: Arc<Notify>,
    }

    impl Peer {
        fn enter(crowd: &Crowd) -> Option<Self> {
            let make_way = Arc::default();
            let place = crowd.enter(&make_way)?;
            Some(Self { place, make_way })
        }

        /// Returns whether the connection was told to end since the last call.
        fn must_go(&self) -> bool {
            let notified = pin!(self.make_way.notified());
            let mut cx = Context::from_waker(Waker::noop());
            notified.poll(&mut cx).is_ready()
        }
    }

    fn taken(crowd: &Crowd) -> usize {
        crowd.0.places.lock().taken
    }

    #[test]
    fn the_oldest_of_the_silent_makes_way_and_its_place_counts_once() {
        let crowd = Crowd::new(2);
        let first = Peer::enter(&crowd).unwrap();
        let second = Peer::enter(&crowd).unwrap();
        let third = Peer::enter(&crowd).unwrap();
        assert!(first.must_go() && !second.must_go() && !third.must_go());
        assert_eq!(taken(&crowd), 2);
        drop(first);
        assert_eq!(taken(&crowd), 2);
        drop((second, third));
        assert_eq!(taken(&crowd), 0);
    }

    #[test]
    fn who_waits_for_the_server_does_not_make_way() {
        let crowd = Crowd::new(2);
        let mut busy = Peer::enter(&crowd).unwrap();
        busy.place.note_request();
        let silent = Peer::enter(&crowd).unwrap();
        let mut next = Peer::enter(&crowd).unwrap();
        assert!(silent.must_go() && !busy.must_go());
        next.place.note_request();
        next.place.note_bytes();
        assert!(Peer::enter(&crowd).is_none());
        assert!(crowd.enter_busy(&Arc::default()).is_none());
        crowd.make_way();
        assert!(!busy.must_go() && !next.must_go());
        busy.place.note_answer();
        let last = Peer::enter(&crowd).unwrap();
        assert!(busy.must_go() && !last.must_go());
    }

    #[test]
    fn the_longer_queue_makes_way_and_a_trickle_makes_nobody_younger() {
        let crowd = Crowd::new(3);
        let mut peers: Vec<Peer> = (0..3).map(|_| Peer::enter(&crowd).unwrap()).collect();
        peers[1].place.note_bytes();
        peers[0].place.note_bytes();
        peers[0].place.note_bytes();
        let fourth = Peer::enter(&crowd).unwrap();
        assert!(peers[0].must_go(), "the older of two that speak");
        let _fifth = Peer::enter(&crowd).unwrap();
        assert!(peers[2].must_go(), "the older of two that are silent");
        assert!(!peers[1].must_go() && !fourth.must_go());
    }

    #[test]
    fn who_had_to_make_way_has_no_place_whatever_it_does_next() {
        let crowd = Crowd::new(1);
        let mut first = Peer::enter(&crowd).unwrap();
        let second = Peer::enter(&crowd).unwrap();
        first.place.note_bytes();
        first.place.note_request();
        first.place.note_answer();
        assert!(first.must_go());
        drop(first);
        assert_eq!(taken(&crowd), 1);
        crowd.make_way();
        assert!(second.must_go());
        assert_eq!(taken(&crowd), 0);
        drop(second);
        assert_eq!(taken(&crowd), 0);
    }
}
