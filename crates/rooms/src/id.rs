//! The names of things inside one process.

/// Which core: an index from zero, at most 256 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u8);

impl CoreId {
    /// The index of the core in tables that have one entry a core.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How frames are written for a connection: an index below [`WIRE_COUNT_MAX`] that whoever encodes
/// gives a meaning to.
///
/// A publication is encoded once for each wire that has members in its room, however many those are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wire(pub u8);

/// How many wires there may be: what four bits of a [`ConnectionId`] can say.
pub const WIRE_COUNT_MAX: usize = 16;

/// One connection, for as long as it lives: `core` (8 bits), `slot` (24), `wire` (4), `generation`
/// (28).
///
/// The slot is reused after the connection ends; the generation tells the two apart, so that a
/// handle that is kept too long reaches nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// How many connections one core can have.
pub const SLOT_COUNT_MAX: usize = 1 << 24;

/// How many connections one slot can tell apart.
const GENERATION_MASK: u32 = (1 << 28) - 1;

impl ConnectionId {
    /// Puts an id together. Only the low 24 bits of `slot`, 4 of `wire` and 28 of `generation` count.
    pub(crate) const fn new(core: CoreId, slot: u32, wire: Wire, generation: u32) -> Self {
        let slot = slot as u64 & (SLOT_COUNT_MAX as u64 - 1);
        let wire = wire.0 as u64 & (WIRE_COUNT_MAX as u64 - 1);
        let generation = (generation & GENERATION_MASK) as u64;
        Self((core.0 as u64) << 56 | slot << 32 | wire << 28 | generation)
    }

    /// The core that owns the connection.
    pub const fn core(self) -> CoreId {
        CoreId(self.0.to_be_bytes()[0])
    }

    /// The place of the connection in its core's tables.
    pub const fn slot(self) -> u32 {
        let [_, a, b, c, ..] = self.0.to_be_bytes();
        u32::from_be_bytes([0, a, b, c])
    }

    /// How frames are written for the connection.
    pub const fn wire(self) -> Wire {
        let [_, _, _, _, first, ..] = self.0.to_be_bytes();
        Wire(first >> 4)
    }

    /// How many connections had the slot before, modulo 2^28.
    pub const fn generation(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d]) & GENERATION_MASK
    }

    /// The id as one number, for logs and tables.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// One life of a room. A room that is forgotten and made anew has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(u64);

/// How many shards a table may have: what is left of a [`RoomId`] beside a count of rooms that
/// lasts for 30 years of a thousand new rooms a second in each shard.
pub const SHARD_COUNT_MAX: usize = 1 << 20;

impl RoomId {
    /// The id of the `created_count`th room of a shard.
    pub(crate) const fn new(created_count: u64, shard_index: usize) -> Self {
        Self(created_count * SHARD_COUNT_MAX as u64 + shard_index as u64)
    }

    /// A hash for tables keyed by room. Ids are ours and not a peer's choice, so spreading the
    /// bits by a multiplication (Fibonacci hashing) is enough.
    ///
    /// A multiplication only carries upwards: the low bits of the product know nothing but the
    /// shard, and hashbrown takes its bucket from them. So the high half is folded in.
    pub(crate) const fn spread(self) -> u64 {
        let product = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        product ^ product >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_parts_of_a_connection_id_come_back() {
        let id = ConnectionId::new(CoreId(200), 0xABCDEF, Wire(9), 0xEADBEEF);
        assert_eq!(
            (id.core(), id.slot(), id.wire(), id.generation()),
            (CoreId(200), 0xABCDEF, Wire(9), 0xEADBEEF)
        );
        let next = ConnectionId::new(CoreId(200), 0xABCDEF, Wire(9), 0xEADBEEF + (1 << 28));
        assert_eq!(next, id, "what does not fit is forgotten");
    }

    #[test]
    fn the_rooms_of_one_shard_spread_over_a_table() {
        let bucket = |created_count| RoomId::new(created_count, 3).spread() & 0x3FF;
        let buckets: HashSet<u64> = (1..=1024).map(bucket).collect();
        // Thrown at random they would hit 647.
        assert!(buckets.len() > 400, "{} of 1024", buckets.len());
    }
}
