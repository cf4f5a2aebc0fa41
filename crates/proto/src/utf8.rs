//! UTF-8 checked across the cuts of a message (RFC 6455 section 8.1).

/// Checks text that arrives in pieces. Fails at the first byte that no continuation can make valid.
///
/// Keeps at most the 3 bytes of an incomplete character.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8Validator {
    pending: [u8; 3],
    pending_len: u8,
}

/// The text is not UTF-8, whatever may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

impl Utf8Validator {
    /// Checks the next piece.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while self.pending_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.push_byte(byte)?;
            piece = rest;
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                let tail = &piece[error.valid_up_to()..];
                self.keep(tail);
                Ok(())
            }
        }
    }

    /// Returns whether the text may end here: no character is incomplete.
    pub(crate) fn is_complete(&self) -> bool {
        self.pending_len == 0
    }

    /// Adds one byte to the incomplete character.
    fn push_byte(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let pending_len = usize::from(self.pending_len);
        let mut character = [0; 4];
        character[..pending_len].copy_from_slice(&self.pending[..pending_len]);
        character[pending_len] = byte;
        let character = &character[..=pending_len];
        match std::str::from_utf8(character) {
            Ok(_) => self.pending_len = 0,
            Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
            Err(_) => self.keep(character),
        }
        Ok(())
    }

    /// Keeps the start of a character: at most 3 bytes, because a 4th would have ended it.
    fn keep(&mut self, start: &[u8]) {
        self.pending[..start.len()].copy_from_slice(start);
        self.pending_len = u8::try_from(start.len()).unwrap_or(u8::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_text_is_accepted() {
        let text = "aß€😀z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut validator = Utf8Validator::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    assert_eq!(validator.push(piece), Ok(()));
                }
                assert!(validator.is_complete());
            }
        }
    }

    #[test]
    fn a_wrong_second_byte_fails_before_the_character_could_end() {
        // U+110000 and above: F4 must be followed by 80..=8F.
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.push(b"\xF4"), Ok(()));
        assert_eq!(validator.push(b"\x90"), Err(InvalidUtf8));
    }

    #[test]
    fn half_a_character_is_not_complete() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.push(b"\xE2\x82"), Ok(()));
        assert!(!validator.is_complete());
    }
}
