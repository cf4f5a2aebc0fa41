//! How much waits for connections, asked of the cores when somebody wants to know.
//!
//! Only connections whose sockets take nothing are looked at one by one: for all others nothing
//! waits longer than a flush takes to come round. So asking costs in proportion to what is slow.

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The bounds of the histogram, in bytes, and as labels; what is more is beyond the last.
pub(crate) const BOUNDS: [(u32, &str); 7] = [
    (0, "0"),
    (1 << 10, "1024"),
    (4 << 10, "4096"),
    (16 << 10, "16384"),
    (64 << 10, "65536"),
    (256 << 10, "262144"),
    (1 << 20, "1048576"),
];

/// The bytes queued for connections.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Connections with at most so many bytes queued, for each bound, and all of them.
    pub(crate) at_most: [u64; BOUNDS.len() + 1],
}

impl Survey {
    /// Counts connections for which nothing waits.
    pub(crate) fn add_idle(&mut self, count: u64) {
        self.at_most.iter_mut().for_each(|sum| *sum += count);
    }

    /// Counts a connection.
    pub(crate) fn add(&mut self, pending_bytes: u32) {
        let bounds = BOUNDS.iter();
        let fitting = bounds.filter(|(bound, _)| *bound < pending_bytes).count();
        self.at_most[fitting..].iter_mut().for_each(|sum| *sum += 1);
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (sum, more) in self.at_most.iter_mut().zip(other.at_most) {
            *sum += more;
        }
    }
}

/// The scrapers that wait for a core's answer.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Vec<oneshot::Sender<Survey>>>);

impl Asked {
    pub(super) fn ask(&self) -> oneshot::Receiver<Survey> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().push(sender);
        receiver
    }

    /// Answers all who asked. `survey` is made for each.
    pub(crate) fn answer(&self, survey: impl Fn() -> Survey) {
        let asked = std::mem::take(&mut *self.0.lock());
        for sender in asked {
            // Who asked may have gone.
            _ = sender.send(survey());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_up_to_each_bound() {
        let mut survey = Survey::default();
        survey.add_idle(100);
        for pending_bytes in [1, 1024, 1025, 2 << 20] {
            survey.add(pending_bytes);
        }
        let mut other = Survey::default();
        for pending_bytes in 5000..5020 {
            other.add(pending_bytes);
        }
        survey.merge(other);
        assert_eq!(survey.at_most, [100, 102, 103, 123, 123, 123, 123, 124]);
        for (bound, label) in BOUNDS {
            assert_eq!(bound.to_string(), label);
        }
    }
}
