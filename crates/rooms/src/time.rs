//! The clock that what rooms keep ages by.

/// A moment of the clock that histories and keys age by, in milliseconds.
///
/// It is not the time of day: that clock may be set, and everything would expire at once, or nothing ever. Whoever
/// has this one lets it move on only, from one process to the next too. A type of its own, so that neither is taken
/// for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than all others.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment so many milliseconds later.
    #[inline]
    pub(crate) const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
