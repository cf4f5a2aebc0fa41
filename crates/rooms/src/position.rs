//! Positions in the stream of a room's publications.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The life of a room's stream that an offset belongs to.
///
/// Offsets of different epochs cannot be compared. A room that was removed and created again begins
/// at zero; a client that remembers offset 40 of the old room must not be told that nothing
/// happened since, when the new room has reached 40. On the wire an epoch is 1 to 13 characters of
/// `0-9a-z`, a number to base 36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// An epoch that no room has, for text that is not an epoch.
    pub const UNKNOWN: Self = Self(0);
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; EPOCH_LEN_MAX];
        let mut start = EPOCH_LEN_MAX;
        let mut rest = self.0;
        loop {
            start -= 1;
            digits[start] = DIGITS[usize::try_from(rest % 36).unwrap_or(0)];
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        f.write_str(std::str::from_utf8(&digits[start..]).unwrap_or_default())
    }
}

/// Text that is not an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an epoch is 1 to {EPOCH_LEN_MAX} characters of 0-9a-z")]
pub struct EpochError;

impl FromStr for Epoch {
    type Err = EpochError;

    /// Reads text that [`Display`](fmt::Display) writes, and no other way to write the same number.
    fn from_str(text: &str) -> Result<Self, EpochError> {
        let padded = text.len() > 1 && text.starts_with('0');
        if padded || !text.bytes().all(|byte| DIGITS.contains(&byte)) {
            return Err(EpochError);
        }
        u64::from_str_radix(text, 36)
            .map(Self)
            .map_err(|_| EpochError)
    }
}

/// A position in a room's stream: behind the publication with this offset.
///
/// The first publication of an epoch has offset 1, and each later one the next, without holes.
/// Offset 0 is before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamPosition {
    /// The life of the stream.
    pub epoch: Epoch,
    /// The offset of the last publication before the position.
    pub offset: u64,
}

/// An epoch that a room had in an earlier process, from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: Epoch,
    /// The last offset that is known of it.
    pub last_offset: u64,
    /// True if there was certainly no publication after that.
    pub complete: bool,
}

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The digits of 64 bits to base 36.
const EPOCH_LEN_MAX: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_comes_back_from_its_text_and_from_no_other() {
        for number in [0, 1, 35, 36, 1_000_000, u64::MAX - 1, u64::MAX] {
            let text = Epoch(number).to_string();
            assert_eq!(text.parse(), Ok(Epoch(number)), "{text}");
            assert!(text.len() <= EPOCH_LEN_MAX);
        }
        assert_eq!(Epoch(46_656).to_string(), "1000");
        let strange = [
            "",
            "-1",
            "+1",
            "01",
            "A",
            "é",
            "3w5e11264sgsg",
            "zzzzzzzzzzzzzz",
        ];
        for text in strange {
            assert_eq!(text.parse::<Epoch>(), Err(EpochError), "{text}");
        }
    }
}
