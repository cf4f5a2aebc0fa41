//! Finds the id of a request in its JSON without reading the rest.

/// Returns the whole number that is the field `id` of an object, among its first fields.
///
/// What stands behind the id need not be JSON, so a request whose data is broken can still be
/// answered. Costs one pass up to the id. Returns none if there is no such field, if it is not a
/// whole number from 0 to 2^53 - 1, or if what stands before it is not JSON.
///
/// # Examples
///
/// ```
/// use throng_proto::event::find_id;
///
/// assert_eq!(find_id(br#"{"id":7,"room":}"#, 1), Some(7));
/// assert_eq!(find_id(br#"{"to":{"id":1},"id":7}"#, usize::MAX), Some(7));
/// assert_eq!(find_id(br#"{"id":"seven"}"#, 1), None);
/// ```
pub fn find_id(json: &[u8], fields_max: usize) -> Option<u64> {
    let mut rest = Rest(json);
    rest.take(b'{')?;
    for _ in 0..fields_max {
        let is_id = rest.string()? == b"id";
        rest.take(b':')?;
        if is_id {
            return rest.whole_number();
        }
        rest.skip_value()?;
        rest.take(b',')?;
    }
    None
}

/// The largest whole number that JavaScript's numbers hold exactly.
const WHOLE_NUMBER_MAX: u64 = (1 << 53) - 1;

/// The text that is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Takes this byte, and the space before it.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// Takes a string, and returns what stands between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let mut is_escaped = false;
        let end = self.0.iter().position(|&byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(string)
    }

    fn whole_number(&mut self) -> Option<u64> {
        self.skip_space();
        let len = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.0.split_at(len);
        let goes_on = matches!(rest.first(), Some(b'.' | b'e' | b'E'));
        let has_zeros = len > 1 && digits[0] == b'0';
        if goes_on || has_zeros {
            return None;
        }
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number <= WHOLE_NUMBER_MAX).then_some(number)
    }

    /// Skips a value, up to what separates it from the next or ends the object.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.skip_space();
            match self.0.first()? {
                b'"' => _ = self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.0 = &self.0[1..];
                }
                b',' if depth == 0 => return Some(()),
                b'}' | b']' => {
                    // The end of the object itself: there is no other field.
                    depth = depth.checked_sub(1)?;
                    self.0 = &self.0[1..];
                }
                _ => self.0 = &self.0[1..],
            }
        }
    }
}
