//! Lists of rules that are written with commas between them.

use std::fmt;
use std::str::FromStr;

/// Rules, any of which may allow something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules<R>(Vec<R>);

impl<R> Default for Rules<R> {
    /// Returns no rules.
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R> Rules<R> {
    /// Returns one rule.
    pub(super) fn one(rule: R) -> Self {
        Self(vec![rule])
    }

    /// Returns the rules of several lists.
    pub(super) fn of_all(lists: impl IntoIterator<Item = Self>) -> Self {
        Self(lists.into_iter().flat_map(|list| list.0).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &R> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<R: PartialEq> Rules<R> {
    pub(super) fn contains(&self, rule: &R) -> bool {
        self.0.contains(rule)
    }
}

impl<R: FromStr> Rules<R> {
    /// Reads each rule.
    ///
    /// # Errors
    ///
    /// The error of the first text that is no rule.
    pub(super) fn list<T: AsRef<str>>(rules: impl IntoIterator<Item = T>) -> Result<Self, R::Err> {
        let rules = rules.into_iter().map(|rule| rule.as_ref().parse());
        rules.collect::<Result<_, _>>().map(Self)
    }
}

impl<R: FromStr> FromStr for Rules<R> {
    type Err = R::Err;

    /// Reads rules that are separated by commas.
    fn from_str(text: &str) -> Result<Self, R::Err> {
        Self::list(text.split(',').map(str::trim))
    }
}

impl<R: fmt::Display> fmt::Display for Rules<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{rule}")?;
        }
        Ok(())
    }
}

/// Returns whether a text of a peer's would be one rule, if any: not `*` and not several, which
/// would let more in than the peer itself, and not longer than what it may name.
pub(super) fn is_one(text: &str, len_max: usize) -> bool {
    text.len() <= len_max && !text.contains(['*', ','])
}
