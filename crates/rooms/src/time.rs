//! The clock by which histories age.

/// A moment of the clock by which histories and keys age, in milliseconds.
///
/// It is not the time of day: that clock may be set, and everything would expire at once, or
/// nothing ever. This clock only moves forward, from one process to the next too. A type of its
/// own, so that neither is taken for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than all other moments.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Returns the moment so many milliseconds later.
    #[inline]
    pub(crate) const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
