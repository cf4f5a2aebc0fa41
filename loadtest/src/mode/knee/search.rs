//! Which rate to try next: doubling until one does not hold, then halving what is unknown.
//!
//! It measures nothing and asks for nothing: it is told what held.

/// The search for the highest rate that holds.
#[derive(Debug)]
pub(super) struct Search {
    first: f64,
    /// The highest rate that held.
    pub(super) held: Option<f64>,
    /// The lowest rate that broke; without one there is no limit, only an end of the search.
    pub(super) broke: Option<f64>,
}

/// The knee is known when the unknown is so much of it.
const PRECISION: f64 = 0.05;

/// A first rate that breaks is halved so often: to a thousandth.
const HALVINGS_MAX: i32 = 10;

/// More than the generator can do.
const RATE_MAX: f64 = 1_000_000.0;

impl Search {
    /// Begins at this rate.
    pub(super) fn new(first: f64) -> Self {
        Self {
            first,
            held: None,
            broke: None,
        }
    }

    /// Returns the rate to try; none if the knee is known.
    pub(super) fn next(&self) -> Option<f64> {
        match (self.held, self.broke) {
            (None, None) => Some(self.first),
            (Some(held), None) => Some(held * 2.0).filter(|rate| *rate <= RATE_MAX),
            (None, Some(broke)) => {
                Some(broke / 2.0).filter(|rate| *rate >= self.first * 0.5_f64.powi(HALVINGS_MAX))
            }
            (Some(held), Some(broke)) => {
                (broke - held > held * PRECISION).then(|| f64::midpoint(held, broke))
            }
        }
    }

    /// Tells what became of a rate.
    pub(super) fn tell(&mut self, rate: f64, held: bool) {
        if held {
            self.held = Some(self.held.map_or(rate, |other| other.max(rate)));
        } else {
            self.broke = Some(self.broke.map_or(rate, |other| other.min(rate)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that holds up to `limit`; the knee, and the rates that were tried.
    fn search(first: f64, limit: f64) -> (Option<f64>, Vec<f64>) {
        let mut search = Search::new(first);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.tell(rate, rate <= limit);
            assert!(tried.len() < 100, "it does not end: {tried:?}");
        }
        (search.held, tried)
    }

    #[test]
    fn it_doubles_until_a_rate_breaks_and_then_bisects() {
        let (knee, tried) = search(10.0, 137.0);
        assert_eq!(tried[..6], [10.0, 20.0, 40.0, 80.0, 160.0, 120.0]);
        let knee = knee.unwrap();
        assert!((137.0 / 1.05..=137.0).contains(&knee), "{knee}");
    }

    #[test]
    fn every_knee_is_found_to_five_percent() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..1000 {
            let limit = 10.0 * (1.0 + 9000.0 * random.f64());
            let (knee, tried) = search(10.0, limit);
            let knee = knee.unwrap();
            assert!(
                (limit / 1.05..=limit).contains(&knee),
                "{knee} of {limit}, seed {seed}"
            );
            assert!(tried.len() <= 25, "{tried:?}, seed {seed}");
        }
    }

    #[test]
    fn a_first_rate_that_breaks_is_halved() {
        let (knee, tried) = search(100.0, 30.0);
        assert_eq!(tried[..3], [100.0, 50.0, 25.0]);
        assert!((30.0 / 1.05..=30.0).contains(&knee.unwrap()));
    }

    #[test]
    fn a_server_that_holds_nothing_and_one_that_holds_everything_end_the_search() {
        let (knee, tried) = search(10.0, 0.0);
        assert_eq!((knee, tried.len()), (None, 11));
        let mut endless = Search::new(10.0);
        assert!(endless.broke.is_none());
        while let Some(rate) = endless.next() {
            endless.tell(rate, true);
        }
        assert!(endless.broke.is_none() && endless.held.is_some());
        endless.tell(RATE_MAX, false);
        assert!(endless.broke.is_some());
        let (knee, tried) = search(10.0, f64::INFINITY);
        assert!(knee.unwrap() > 500_000.0 && tried.len() < 20);
    }
}
