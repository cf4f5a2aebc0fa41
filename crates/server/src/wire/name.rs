//! What a connection is called on the wire.

use std::fmt;

use ahash::RandomState;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use rooms::ConnectionId;

/// Eleven characters for a connection: who published something, as others see it.
///
/// Different for every connection of this process, and by a key drawn at random different from
/// those of the process before: what is kept from then must not look as if it came from whoever has
/// the same slot now. It hides nothing that could not be known; it proves nothing either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionName([u8; NAME_LEN]);

/// Length of 64 bits in base64.
const NAME_LEN: usize = 11;

impl ConnectionName {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key that ids are turned into names with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    key: u64,
    factor: u64,
}

impl Naming {
    /// Draws a key.
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self {
            key: random.hash_one(0),
            factor: random.hash_one(1) | 1,
        }
    }

    /// Returns the name of a connection. Each step can be undone (an odd factor has an inverse, and
    /// so has a shift that is folded in), so no two ids have one name.
    pub(crate) fn name(&self, id: ConnectionId) -> ConnectionName {
        let mut mixed = id.as_u64() ^ self.key;
        for _ in 0..2 {
            mixed = mixed.wrapping_mul(self.factor);
            mixed ^= mixed >> 32;
        }
        let mut name = [0; NAME_LEN];
        let len = URL_SAFE_NO_PAD.encode_slice(mixed.to_le_bytes(), &mut name);
        debug_assert_eq!(len, Ok(NAME_LEN));
        ConnectionName(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rooms::{CoreId, LocalLimits, LocalRooms};

    use super::*;

    #[test]
    fn every_connection_has_a_name_of_its_own_and_the_next_process_other_ones() {
        let mut names = HashSet::new();
        for naming in [Naming::new(), Naming::new()] {
            for core in [CoreId(0), CoreId(7)] {
                let mut rooms = LocalRooms::new(core, LocalLimits::default());
                for _ in 0..1000 {
                    let id = rooms.open().unwrap();
                    names.insert(naming.name(id).as_str().to_owned());
                }
            }
        }
        assert_eq!(names.len(), 4000);
        assert!(names.iter().all(|name| name.len() == NAME_LEN));
    }
}
