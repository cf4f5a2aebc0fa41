//! Which faults a link meets by chance, and at which byte: the same for the same seed.

use std::time::Duration;

use super::fault::{Direction, Directions, Fault, Side, Then};

/// How often links fail, and how badly.
#[derive(Clone, Copy, Debug)]
pub struct Chances {
    /// How many bytes a link forwards to the client between two faults on that way, on average.
    pub down_bytes_mean: u64,
    /// How many it forwards to the server between two faults on that way, on average.
    pub up_bytes_mean: u64,
    /// One of so many connections is refused; 0 refuses none.
    pub refused_one_in: u32,
    /// The longest time that a link stalls or is slow.
    pub time_max: Duration,
    /// The rate of a link that is slow, in bytes a second.
    pub slow_bytes_per_second: u32,
}

/// A fault and where it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Bytes of which direction count.
    pub direction: Direction,
    /// After how many more of them.
    pub after_bytes: u64,
    /// What happens then.
    pub fault: Fault,
}

/// The faults of one link, one after the other.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use faults::network::{Chances, Script};
///
/// let chances = Chances {
///     down_bytes_mean: 65_536,
///     up_bytes_mean: 4096,
///     refused_one_in: 20,
///     time_max: Duration::from_secs(2),
///     slow_bytes_per_second: 4096,
/// };
/// let plan = |seed| Script::new(chances, (seed, 0, 0)).next_fault();
/// assert_eq!(plan(1), plan(1));
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    rng: fastrand::Rng,
    chances: Chances,
}

impl Script {
    /// The faults of one link: the seed, the number of its line, and its own there.
    pub fn new(chances: Chances, (seed, line, link): (u64, u32, u32)) -> Self {
        // Neighbouring seeds must not make neighbouring links alike: each number goes through the
        // generator once.
        let mut rng = fastrand::Rng::with_seed(seed);
        for number in [line, link] {
            rng = fastrand::Rng::with_seed(rng.u64(..) ^ u64::from(number));
        }
        Self { rng, chances }
    }

    /// Whether the connection is refused instead.
    pub fn refuses(&mut self) -> bool {
        match self.chances.refused_one_in {
            0 => false,
            count => self.rng.u32(..count) == 0,
        }
    }

    /// The next fault.
    pub fn next_fault(&mut self) -> Planned {
        let (direction, mean) = if self.rng.bool() {
            (Direction::Down, self.chances.down_bytes_mean)
        } else {
            (Direction::Up, self.chances.up_bytes_mean)
        };
        Planned {
            direction,
            after_bytes: self.distance(mean),
            fault: self.fault(direction),
        }
    }

    /// What happens to the link when the whole line is dropped for so long.
    pub fn when_dropped(&mut self, time: Duration) -> Fault {
        match self.rng.u32(..4) {
            0 => Fault::Cut,
            1 => Fault::Reset,
            2 => stall(Directions::Both, time, Then::Continue),
            _ => stall(Directions::Both, time, Then::Reset),
        }
    }

    /// Exponential, so that where the next is does not depend on where the last was; up to eight
    /// times the mean, so that there is a next one.
    fn distance(&mut self, mean: u64) -> u64 {
        let share = -(1.0 - self.rng.f64()).ln();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "not negative, and a byte more or less is no matter"
        )]
        let bytes = (mean as f64 * share.min(8.0)) as u64;
        bytes
    }

    fn fault(&mut self, direction: Direction) -> Fault {
        let time = self.time();
        let then = self.then();
        match self.rng.u32(..12) {
            0 | 1 => Fault::Cut,
            2 | 3 => Fault::Reset,
            4 => stall(Directions::Both, time, then),
            5 => stall(Directions::One(Direction::Down), time, then),
            6 => stall(Directions::One(Direction::Up), time, then),
            7 | 8 => Fault::Halve {
                direction,
                time,
                then,
            },
            9 => Fault::Slow {
                bytes_per_second: self.chances.slow_bytes_per_second,
                time,
            },
            10 => orphan(Side::Client, time),
            _ => orphan(Side::Server, time),
        }
    }

    fn time(&mut self) -> Duration {
        self.chances.time_max.mul_f64(self.rng.f64())
    }

    fn then(&mut self) -> Then {
        match self.rng.u32(..3) {
            0 => Then::Continue,
            1 => Then::Cut,
            _ => Then::Reset,
        }
    }
}

const fn stall(directions: Directions, time: Duration, then: Then) -> Fault {
    Fault::Stall {
        directions,
        time,
        then,
    }
}

const fn orphan(side: Side, time: Duration) -> Fault {
    Fault::Orphan { side, time }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCES: Chances = Chances {
        down_bytes_mean: 10_000,
        up_bytes_mean: 1000,
        refused_one_in: 10,
        time_max: Duration::from_secs(2),
        slow_bytes_per_second: 1000,
    };

    fn plan(of: (u64, u32, u32)) -> Vec<Planned> {
        let mut script = Script::new(CHANCES, of);
        (0..100).map(|_| script.next_fault()).collect()
    }

    #[test]
    fn the_seed_decides_and_each_link_has_faults_of_its_own() {
        assert_eq!(plan((7, 1, 2)), plan((7, 1, 2)));
        for other in [(8, 1, 2), (7, 2, 2), (7, 1, 3), (7, 2, 1)] {
            assert_ne!(plan((7, 1, 2)), plan(other), "{other:?}");
        }
    }

    #[test]
    fn every_kind_of_fault_comes_and_none_lasts_longer_than_it_may() {
        let mut script = Script::new(CHANCES, (1, 0, 0));
        let mut seen = [false; 6];
        for _ in 0..1000 {
            let (kind, time) = match script.next_fault().fault {
                Fault::Cut => (0, Duration::ZERO),
                Fault::Reset => (1, Duration::ZERO),
                Fault::Stall { time, .. } => (2, time),
                Fault::Halve { time, .. } => (3, time),
                Fault::Slow { time, .. } => (4, time),
                Fault::Orphan { time, .. } => (5, time),
            };
            seen[kind] = true;
            assert!(time <= CHANCES.time_max);
        }
        assert_eq!(seen, [true; 6]);
    }

    #[test]
    fn faults_are_about_as_far_apart_as_was_said() {
        let mut script = Script::new(CHANCES, (1, 0, 0));
        let plans: Vec<_> = (0..10_000).map(|_| script.next_fault()).collect();
        let mean = |direction| {
            let of = plans.iter().filter(|plan| plan.direction == direction);
            let bytes: Vec<u64> = of.map(|plan| plan.after_bytes).collect();
            bytes.iter().sum::<u64>() / bytes.len() as u64
        };
        assert!((9000..11_000).contains(&mean(Direction::Down)));
        assert!((900..1100).contains(&mean(Direction::Up)));
    }

    #[test]
    fn one_in_so_many_connections_is_refused_and_none_if_none_is_to_be() {
        let count = |chances| {
            let refused = |link| Script::new(chances, (1, 0, link)).refuses();
            (0..10_000).filter(|link| refused(*link)).count()
        };
        assert!((800..1200).contains(&count(CHANCES)));
        let never = Chances {
            refused_one_in: 0,
            ..CHANCES
        };
        assert_eq!(count(never), 0);
    }
}
