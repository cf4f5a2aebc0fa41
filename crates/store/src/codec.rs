//! What of a room is an entry of the log: keys, and values without padding.
//!
//! ```text
//! key           room: u64 │ kind: u8 │ offset: u64
//!
//! Head          epoch: u64, ancestors: u16 × (epoch: u64, last: u64, complete: u8), name
//! Bounds        first publication held: u64, first key remembered: u64
//! Publications  from the offset in the key on: (at_ms: u64, length: u32, frame) …
//! Keys          (offset: u64, at_ms: u64, length: u16, key) …; the offset in the key is the first
//! ```
//!
//! Numbers are little-endian. What reads here takes any bytes and panics at none.

use std::sync::Arc;

use crate::record::Ancestor;

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EntryKey {
    /// The room's number.
    pub(crate) room: u64,
    pub(crate) kind: Kind,
    /// The first offset in the entry; 0 for those that have none.
    pub(crate) offset: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Head = 1,
    Bounds = 2,
    Publications = 3,
    Keys = 4,
}

impl EntryKey {
    pub(crate) fn encode(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..8].copy_from_slice(&self.room.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes[9..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (room, rest) = bytes.split_first_chunk()?;
        let (kind, offset) = rest.split_first()?;
        Some(Self {
            room: u64::from_le_bytes(*room),
            kind: Kind::decode(*kind)?,
            offset: u64::from_le_bytes(offset.try_into().ok()?),
        })
    }
}

impl Kind {
    fn decode(byte: u8) -> Option<Self> {
        [Self::Head, Self::Bounds, Self::Publications, Self::Keys]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a room is called, and in which epoch it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
    pub(crate) lineage: Vec<Ancestor>,
    pub(crate) name: Arc<str>,
}

impl Head {
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let epoch = u64::from_le_bytes(take(&mut bytes)?);
        let ancestors = u16::from_le_bytes(take(&mut bytes)?);
        let ancestor = |_| decode_ancestor(&mut bytes);
        let lineage = (0..ancestors).map(ancestor).collect::<Option<_>>()?;
        let name = Arc::from(std::str::from_utf8(bytes).ok()?);
        Some(Self {
            epoch,
            lineage,
            name,
        })
    }
}

/// Appends a [`Head`]. There are at most 65,535 ancestors; the caller has looked.
pub(crate) fn encode_head(epoch: u64, lineage: &[Ancestor], name: &str, out: &mut Vec<u8>) {
    out.extend(epoch.to_le_bytes());
    let ancestors = u16::try_from(lineage.len()).expect("checked before the batch was planned");
    out.extend(ancestors.to_le_bytes());
    for ancestor in lineage {
        out.extend(ancestor.epoch.to_le_bytes());
        out.extend(ancestor.last_offset.to_le_bytes());
        out.push(u8::from(ancestor.complete));
    }
    out.extend(name.as_bytes());
}

fn decode_ancestor(bytes: &mut &[u8]) -> Option<Ancestor> {
    Some(Ancestor {
        epoch: u64::from_le_bytes(take(bytes)?),
        last_offset: u64::from_le_bytes(take(bytes)?),
        complete: match take(bytes)? {
            [0] => false,
            [1] => true,
            [_] => return None,
        },
    })
}

/// Where a room's histories begin, if that is not where their first entries do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The first offset that is held.
    pub(crate) first: u64,
    /// The first offset whose key is remembered.
    pub(crate) first_key: u64,
}

impl Bounds {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.first.to_le_bytes());
        out.extend(self.first_key.to_le_bytes());
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let first = u64::from_le_bytes(take(&mut bytes)?);
        let first_key = u64::from_le_bytes(take(&mut bytes)?);
        bytes.is_empty().then_some(Self { first, first_key })
    }
}

/// Appends one publication; its offset is one above that of the one before it.
pub(crate) fn encode_publication(at_ms: u64, frame: &[u8], out: &mut Vec<u8>) {
    out.extend(at_ms.to_le_bytes());
    let len = u32::try_from(frame.len()).expect("batches are smaller than 4 GiB");
    out.extend(len.to_le_bytes());
    out.extend(frame);
}

/// How many bytes [`encode_publication`] appends beside the frame's.
pub(crate) const PUBLICATION_OVERHEAD_BYTES: usize = 12;

/// Calls `each` with the offset, the time and the frame of each publication, the first of which has the
/// offset. None, if they are not whole.
pub(crate) fn decode_publications(
    mut offset: u64,
    mut bytes: &[u8],
    mut each: impl FnMut(u64, u64, &[u8]),
) -> Option<()> {
    while !bytes.is_empty() {
        let at_ms = u64::from_le_bytes(take(&mut bytes)?);
        let len = u32::from_le_bytes(take(&mut bytes)?);
        let frame = bytes.split_off(..usize::try_from(len).ok()?)?;
        each(offset, at_ms, frame);
        offset = offset.checked_add(1)?;
    }
    Some(())
}

/// Appends one key. It has at most 65,535 bytes; the caller has looked.
pub(crate) fn encode_key(offset: u64, at_ms: u64, key: &str, out: &mut Vec<u8>) {
    out.extend(offset.to_le_bytes());
    out.extend(at_ms.to_le_bytes());
    let len = u16::try_from(key.len()).expect("checked before the batch was planned");
    out.extend(len.to_le_bytes());
    out.extend(key.as_bytes());
}

/// Calls `each` with the offset and the time of each publication that has a key, and the key. None, if they
/// are not whole.
pub(crate) fn decode_keys(mut bytes: &[u8], mut each: impl FnMut(u64, u64, &str)) -> Option<()> {
    while !bytes.is_empty() {
        let offset = u64::from_le_bytes(take(&mut bytes)?);
        let at_ms = u64::from_le_bytes(take(&mut bytes)?);
        let len = u16::from_le_bytes(take(&mut bytes)?);
        let key = bytes.split_off(..usize::from(len))?;
        each(offset, at_ms, std::str::from_utf8(key).ok()?);
    }
    Some(())
}

/// The first bytes, which are taken away.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// How many bytes an [`EntryKey`] has.
pub(crate) const KEY_BYTES: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_key_is_read_as_it_was_written_and_not_if_its_kind_is_unknown() {
        for kind in [Kind::Head, Kind::Bounds, Kind::Publications, Kind::Keys] {
            let key = EntryKey {
                room: 1 << 40,
                kind,
                offset: 2,
            };
            let mut bytes = key.encode();

            assert_eq!(EntryKey::decode(&bytes), Some(key));
            bytes[8] = 0;
            assert_eq!(EntryKey::decode(&bytes), None);
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written_and_not_if_a_byte_is_missing() {
        let lineage = vec![Ancestor {
            epoch: 3,
            last_offset: 9,
            complete: true,
        }];
        let mut bytes = Vec::new();
        encode_head(7, &lineage, "lobby", &mut bytes);

        let head = Head::decode(&bytes).expect("it was just written");

        assert_eq!((head.epoch, &*head.name), (7, "lobby"));
        assert_eq!(head.lineage, lineage);
        assert_eq!(Head::decode(&bytes[..10 + 16]), None);
    }

    #[test]
    fn publications_and_keys_that_are_cut_are_refused() {
        let mut publications = Vec::new();
        encode_publication(5, b"a frame", &mut publications);
        let mut keys = Vec::new();
        encode_key(1, 5, "a key", &mut keys);

        for end in 1..publications.len() {
            assert_eq!(
                decode_publications(1, &publications[..end], |_, _, _| ()),
                None
            );
        }
        for end in 1..keys.len() {
            assert_eq!(decode_keys(&keys[..end], |_, _, _| ()), None);
        }
        assert_eq!(
            decode_publications(1, &publications, |_, _, _| ()),
            Some(())
        );
        assert_eq!(decode_keys(&keys, |_, _, _| ()), Some(()));
    }
}
