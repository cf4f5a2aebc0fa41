//! When each publisher publishes next.
//!
//! In a closed loop a publisher has as many credits as its window; publishing takes one, the end of
//! a publication gives it back. In an open loop publications are due at fixed times, whatever
//! became of the earlier ones, and the publishers take turns: all threads know all turns, and each
//! takes those of its own publishers.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::clock::to_ns;
use crate::plan::{Plan, Publisher, StreamId};
use crate::scenario::Pacing;

/// All publishers of a run.
#[derive(Debug)]
pub(crate) struct Pace {
    groups: Vec<PacedGroup>,
    publishers: Vec<PacedPublisher>,
    /// The publisher of each stream.
    publisher_of: Vec<usize>,
    /// Publishers with credits, each once.
    ready: VecDeque<usize>,
}

#[derive(Debug)]
struct PacedGroup {
    publishers: Range<usize>,
    publishing: bool,
    /// None in a closed loop.
    open: Option<OpenLoop>,
}

#[derive(Debug)]
struct OpenLoop {
    interval_ns: u64,
    next_due_ns: u64,
    /// Whose turn it is, counted from the group's first publisher.
    turn: usize,
}

#[derive(Debug)]
struct PacedPublisher {
    group: usize,
    /// Those that it still publishes on, if it publishes here.
    streams: Vec<StreamId>,
    turn: usize,
    window: u32,
    credits: u32,
    is_here: bool,
}

impl Pace {
    /// Makes publishers that do not publish yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let groups = plan.groups.iter().map(|group| PacedGroup {
            publishers: group.publishers.clone(),
            publishing: false,
            open: match group.pacing {
                Pacing::Closed { .. } => None,
                Pacing::Open { per_second } => Some(OpenLoop {
                    interval_ns: interval_ns(per_second),
                    next_due_ns: 0,
                    turn: 0,
                }),
            },
        });
        let group_of = |place| plan.groups.partition_point(|it| it.publishers.end <= place);
        let paced = |(place, publisher): (usize, &Publisher)| PacedPublisher {
            group: group_of(place),
            streams: publisher.streams.clone(),
            turn: 0,
            window: publisher.window,
            credits: 0,
            is_here: publisher.is_here,
        };
        Self {
            groups: groups.collect(),
            publishers: plan.publishers.iter().enumerate().map(paced).collect(),
            publisher_of: plan.streams.iter().map(|stream| stream.publisher).collect(),
            ready: VecDeque::new(),
        }
    }

    /// Lets a group begin to publish.
    pub(crate) fn start(&mut self, group: usize, now_ns: u64) {
        let paced = &mut self.groups[group];
        let publishers = &mut self.publishers[paced.publishers.clone()];
        paced.publishing = publishers.iter().any(|publisher| publisher.is_here);
        if let Some(open) = &mut paced.open {
            open.next_due_ns = now_ns;
            open.turn = 0;
            return open.pass_others(publishers);
        }
        for (index, publisher) in paced.publishers.clone().zip(publishers) {
            if publisher.is_here {
                publisher.credits = publisher.window;
                self.ready.push_back(index);
            }
        }
    }

    /// Gives publications of an open loop another distance from the next one on.
    pub(crate) fn set_rate(&mut self, group: usize, per_second: f64) {
        if let Some(open) = &mut self.groups[group].open {
            open.interval_ns = interval_ns(per_second);
        }
    }

    /// Lets nobody publish any more.
    pub(crate) fn stop(&mut self) {
        self.ready.clear();
        for group in &mut self.groups {
            group.publishing = false;
        }
        for publisher in &mut self.publishers {
            publisher.credits = 0;
        }
    }

    /// Gives back a credit: a publication of this stream ended.
    pub(crate) fn credit(&mut self, stream: StreamId) {
        let index = self.publisher_of[stream.index()];
        let publisher = &mut self.publishers[index];
        let group = &self.groups[publisher.group];
        if !group.publishing || group.open.is_some() {
            return;
        }
        publisher.credits += 1;
        if publisher.credits == 1 {
            self.ready.push_back(index);
        }
    }

    /// Takes the stream that a credit lets publish now, if there is one.
    pub(crate) fn take_credit(&mut self) -> Option<StreamId> {
        while let Some(index) = self.ready.pop_front() {
            let publisher = &mut self.publishers[index];
            let Some(stream) = publisher.next_stream() else {
                continue;
            };
            publisher.credits -= 1;
            if publisher.credits > 0 {
                self.ready.push_back(index);
            }
            return Some(stream);
        }
        None
    }

    /// Takes the stream whose turn it is in an open loop, with when that was due, if that is not
    /// after `now_ns`.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<(StreamId, u64)> {
        for group in self.groups.iter_mut().filter(|group| group.publishing) {
            let publishers = &mut self.publishers[group.publishers.clone()];
            let Some(open) = &mut group.open else {
                continue;
            };
            for _ in 0..publishers.len() {
                if open.next_due_ns > now_ns {
                    break;
                }
                let due_ns = open.next_due_ns;
                let stream = publishers[open.turn].next_stream();
                open.turn = (open.turn + 1) % publishers.len();
                // Whoever publishes nothing any more has no turn.
                if let Some(stream) = stream {
                    open.next_due_ns += open.interval_ns;
                    open.pass_others(publishers);
                    return Some((stream, due_ns));
                }
                open.pass_others(publishers);
            }
            group.publishing = open.next_due_ns > now_ns;
        }
        None
    }

    /// Returns when the next publication of an open loop is due.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let due_ns =
            |it: &PacedGroup| Some(it.open.as_ref().filter(|_| it.publishing)?.next_due_ns);
        self.groups.iter().filter_map(due_ns).min()
    }

    /// Returns whether any group publishes by the clock.
    pub(crate) fn is_open(&self) -> bool {
        self.next_due_ns().is_some()
    }

    /// Publishes nothing on this stream any more: its room or its connection is gone.
    pub(crate) fn retire(&mut self, stream: StreamId) {
        let publisher = &mut self.publishers[self.publisher_of[stream.index()]];
        publisher.streams.retain(|other| *other != stream);
        publisher.turn = 0;
    }
}

fn interval_ns(per_second: f64) -> u64 {
    to_ns(Duration::from_secs_f64(1.0 / per_second))
}

impl OpenLoop {
    /// Passes over the turns of other threads.
    fn pass_others(&mut self, publishers: &[PacedPublisher]) {
        let (passed, next) = publishers.split_at(self.turn);
        let others = next.iter().chain(passed).take_while(|it| !it.is_here);
        let others = others.count();
        self.turn = (self.turn + others) % publishers.len();
        self.next_due_ns += self.interval_ns * others as u64;
    }
}

impl PacedPublisher {
    fn next_stream(&mut self) -> Option<StreamId> {
        let stream = *self.streams.get(self.turn)?;
        self.turn = (self.turn + 1) % self.streams.len();
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Group;

    const NONE: [u32; 0] = [];

    fn pace(rooms: u32, publishers: u32, pacing: Pacing) -> Pace {
        let group = Group::alike(rooms, 10, publishers, pacing);
        let mut pace = Pace::new(&Plan::new(&[group], 0));
        pace.start(0, 1000);
        pace
    }

    fn credits(pace: &mut Pace) -> Vec<u32> {
        std::iter::from_fn(|| pace.take_credit())
            .map(|stream| stream.0)
            .collect()
    }

    #[test]
    fn a_closed_loop_publishes_its_window_and_then_one_for_each_that_ends() {
        let mut pace = pace(1, 2, Pacing::Closed { window: 5 });
        assert_eq!(credits(&mut pace), [0, 1, 0, 1, 0]);
        assert_eq!(credits(&mut pace), NONE);
        pace.credit(StreamId(1));
        pace.credit(StreamId(1));
        assert_eq!(credits(&mut pace), [1, 1]);
        pace.stop();
        pace.credit(StreamId(0));
        assert_eq!(credits(&mut pace), NONE);
    }

    #[test]
    fn a_publisher_with_many_rooms_takes_them_in_turn() {
        let mut pace = pace(3, 1, Pacing::Closed { window: 2 });
        assert_eq!(credits(&mut pace), [0, 1]);
        pace.credit(StreamId(0));
        pace.credit(StreamId(1));
        assert_eq!(credits(&mut pace), [2, 0]);
        pace.retire(StreamId(1));
        pace.credit(StreamId(2));
        pace.credit(StreamId(0));
        assert_eq!(credits(&mut pace), [0, 2]);
    }

    #[test]
    fn an_open_loop_says_when_each_was_due_however_late_it_is_asked() {
        let mut pace = pace(1, 2, Pacing::Open { per_second: 1e6 });
        assert_eq!((pace.take_due(999), pace.next_due_ns()), (None, Some(1000)));
        assert_eq!(pace.take_due(3500), Some((StreamId(0), 1000)));
        assert_eq!(pace.take_due(3500), Some((StreamId(1), 2000)));
        assert_eq!(pace.take_due(3500), Some((StreamId(0), 3000)));
        assert_eq!(
            (pace.take_due(3500), pace.next_due_ns()),
            (None, Some(4000))
        );
        pace.set_rate(0, 2e6);
        assert_eq!(pace.take_due(4500), Some((StreamId(1), 4000)));
        assert_eq!(pace.take_due(4500), Some((StreamId(0), 4500)));
        pace.retire(StreamId(0));
        pace.retire(StreamId(1));
        assert_eq!((pace.take_due(5000), pace.next_due_ns()), (None, None));
    }

    #[test]
    fn the_threads_of_an_open_loop_have_its_times_between_them() {
        let group = Group::alike(1, 10, 3, Pacing::Open { per_second: 1e6 });
        let parts = Plan::new(&[group], 0).split(2);
        let mut due = Vec::new();
        for part in &parts {
            let mut pace = Pace::new(part);
            pace.start(0, 1000);
            due.extend(std::iter::from_fn(|| pace.take_due(6999)));
        }
        due.sort_unstable_by_key(|&(_, due_ns)| due_ns);
        let expected = (0..6).map(|turn| (StreamId(turn % 3), 1000 + 1000 * u64::from(turn)));
        assert!(due.iter().copied().eq(expected), "{due:?}");
    }
}
