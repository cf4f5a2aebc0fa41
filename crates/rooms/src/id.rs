//! Ids of cores, wires, connections and rooms inside one process.

/// A core: an index from zero, at most 256 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u8);

impl CoreId {
    /// Returns the index in tables that have one entry for each core.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A way to write frames: an index below [`WIRE_COUNT_MAX`] that the encoder gives a meaning.
///
/// A publication is encoded once for each wire that has members in its room, however many those
/// are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wire(pub u8);

/// The number of wires that four bits of a [`ConnectionId`] can tell apart.
pub const WIRE_COUNT_MAX: usize = 16;

/// A set of wires.
///
/// # Examples
///
/// ```
/// use throng_rooms::{Wire, WireSet};
///
/// let mut wires = WireSet::default();
/// wires.insert(Wire(9));
/// wires.insert(Wire(2));
/// assert!(wires.contains(Wire(2)) && !wires.contains(Wire(3)));
/// assert!(wires.iter().eq([Wire(2), Wire(9)]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireSet(pub u16);

impl WireSet {
    /// All wires.
    pub const ALL: Self = Self(u16::MAX);

    /// Returns whether the wire is in the set.
    pub const fn contains(self, wire: Wire) -> bool {
        self.0 & Self::bit(wire) != 0
    }

    /// Adds a wire, unless it is over the [limit](WIRE_COUNT_MAX).
    pub const fn insert(&mut self, wire: Wire) {
        self.0 |= Self::bit(wire);
    }

    /// Returns the wires that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the wires that are not in `others`.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many wires the set has.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns the wires, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = Wire> + Clone {
        (0..16).map(Wire).filter(move |wire| self.contains(*wire))
    }

    const fn bit(Wire(wire): Wire) -> u16 {
        match 1_u16.checked_shl(wire as u32) {
            Some(bit) => bit,
            None => 0,
        }
    }
}

impl FromIterator<Wire> for WireSet {
    fn from_iter<I: IntoIterator<Item = Wire>>(wires: I) -> Self {
        let mut set = Self::default();
        wires.into_iter().for_each(|wire| set.insert(wire));
        set
    }
}

/// One connection, for as long as it lives: `core` (8 bits), `slot` (24), `wire` (4), `generation`
/// (28).
///
/// The slot is reused after the connection ends. The generation tells the two apart, so that an id
/// that is kept too long reaches nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// The place of a connection in the tables of its core. Reused when the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// Creates the slot of an index, which is below [`SLOT_COUNT_MAX`].
    #[inline]
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Returns the index in tables that have one entry for each slot.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of connections that one core can have.
pub const SLOT_COUNT_MAX: usize = 1 << 24;

/// The generations that one slot can tell apart.
const GENERATION_MASK: u32 = (1 << 28) - 1;

impl ConnectionId {
    /// Creates an id. Only the low 24 bits of `slot`, 4 of `wire` and 28 of `generation` count.
    pub(crate) const fn new(core: CoreId, slot: Slot, wire: Wire, generation: u32) -> Self {
        let slot = slot.0 as u64 & (SLOT_COUNT_MAX as u64 - 1);
        let wire = wire.0 as u64 & (WIRE_COUNT_MAX as u64 - 1);
        let generation = (generation & GENERATION_MASK) as u64;
        Self((core.0 as u64) << 56 | slot << 32 | wire << 28 | generation)
    }

    /// Returns the core that owns the connection.
    pub const fn core(self) -> CoreId {
        CoreId(self.0.to_be_bytes()[0])
    }

    /// Returns the place of the connection in its core's tables.
    pub const fn slot(self) -> Slot {
        let [_, a, b, c, ..] = self.0.to_be_bytes();
        Slot(u32::from_be_bytes([0, a, b, c]))
    }

    /// Returns the wire that the connection speaks.
    pub const fn wire(self) -> Wire {
        let [_, _, _, _, first, ..] = self.0.to_be_bytes();
        Wire(first >> 4)
    }

    /// Returns how many connections had the slot before, modulo 2^28.
    pub const fn generation(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d]) & GENERATION_MASK
    }

    /// Returns the id as one number, for logs and tables.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// The receivers on one core of what is sent to a room: all members that speak a wire, or all of
/// them but one.
///
/// The mailbox implies the core, so the id of the excepted connection need not name it. That leaves
/// a bit to say whether there is an exception, and no command is larger for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience(u64);

/// The bit from which on an id has its core.
const CORE_SHIFT: u32 = 56;

/// Set if a connection is excepted, in place of the core.
const EXCEPTION: u64 = 1 << CORE_SHIFT;

impl Audience {
    /// Creates the audience of members on a core that speak a wire, without `except` if it is one.
    #[inline]
    pub(crate) fn new(core: CoreId, wire: Wire, except: Option<ConnectionId>) -> Self {
        match except {
            Some(except) if except.core() == core && except.wire() == wire => {
                let low = except.0 & (EXCEPTION - 1);
                Self(low | EXCEPTION)
            }
            _ => Self(ConnectionId::new(CoreId(0), Slot(0), wire, 0).0),
        }
    }

    /// Returns the wire that all of them speak.
    #[inline]
    pub const fn wire(self) -> Wire {
        ConnectionId(self.0).wire()
    }

    /// Returns the connection that is excepted, on the core that it was sent to.
    #[inline]
    pub const fn exception(self, core: CoreId) -> Option<ConnectionId> {
        if self.0 & EXCEPTION == 0 {
            return None;
        }
        let low = self.0 & (EXCEPTION - 1);
        Some(ConnectionId((core.0 as u64) << CORE_SHIFT | low))
    }
}

/// One life of a room. A room that is removed and created again has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(u64);

/// The number of shards that a table may have. The rest of a [`RoomId`] is a count of rooms, which
/// lasts for 30 years of a thousand new rooms a second in each shard.
pub const SHARD_COUNT_MAX: usize = 1 << 20;

impl RoomId {
    /// Creates the id of the `created_count`th room of a shard.
    pub(crate) const fn new(created_count: u64, shard_index: usize) -> Self {
        Self(created_count * SHARD_COUNT_MAX as u64 + shard_index as u64)
    }

    /// Hashes the id for tables keyed by room. No peer chooses ids, so it is enough to spread the
    /// bits by a multiplication (Fibonacci hashing).
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
        let id = ConnectionId::new(CoreId(200), Slot(0xABCDEF), Wire(9), 0xEADBEEF);
        assert_eq!(
            (id.core(), id.slot(), id.wire(), id.generation()),
            (CoreId(200), Slot(0xABCDEF), Wire(9), 0xEADBEEF)
        );
        let next = ConnectionId::new(CoreId(200), Slot(0xABCDEF), Wire(9), 0xEADBEEF + (1 << 28));
        assert_eq!(next, id, "what does not fit is forgotten");
    }

    #[test]
    fn an_audience_excepts_nobody_but_who_is_on_its_core_and_wire() {
        let (core, wire) = (CoreId(200), Wire(9));
        let everybody = Audience::new(core, wire, None);
        assert_eq!((everybody.wire(), everybody.exception(core)), (wire, None));
        for slot in [0, 0xABCDEF].map(Slot) {
            let one = ConnectionId::new(core, slot, wire, 0xEADBEEF);
            let others = Audience::new(core, wire, Some(one));
            assert_eq!((others.wire(), others.exception(core)), (wire, Some(one)));
            assert_eq!(Audience::new(CoreId(201), wire, Some(one)), everybody);
            let elsewhere = Audience::new(core, Wire(8), Some(one));
            assert_eq!(
                (elsewhere.wire(), elsewhere.exception(core)),
                (Wire(8), None)
            );
        }
    }

    #[test]
    fn a_wire_that_cannot_be_is_in_no_set() {
        let mut wires = WireSet::default();
        wires.insert(Wire(16));
        wires.insert(Wire(255));
        assert!(wires.is_empty() && !wires.contains(Wire(16)));
        wires.insert(Wire(15));
        wires.insert(Wire(15));
        assert_eq!((wires.0, wires.len()), (1 << 15, 1));
    }

    #[test]
    fn the_rooms_of_one_shard_spread_over_a_table() {
        let bucket = |created_count| RoomId::new(created_count, 3).spread() & 0x3FF;
        let buckets: HashSet<u64> = (1..=1024).map(bucket).collect();
        // Thrown at random they would hit 647.
        assert!(buckets.len() > 400, "{} of 1024", buckets.len());
    }
}
