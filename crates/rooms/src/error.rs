//! Requests that the table rejects.

use thiserror::Error;

use crate::id::{CoreId, WireSet};
use crate::publication::KEY_LEN_MAX;

/// A join that was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// No room can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core is overloaded; only for callers that cannot pause.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A name that no room can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a room's name must not be empty")]
    Empty,
    /// The name is over the limit.
    #[error("a room's name has at most {name_len_max} bytes, not {name_len}")]
    TooLong {
        /// The length of the name, in bytes.
        name_len: usize,
        /// The limit, in bytes.
        name_len_max: usize,
    },
}

/// A publication that was rejected. Nobody received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The key is empty or over [`KEY_LEN_MAX`] bytes.
    #[error("a key has 1 to {KEY_LEN_MAX} bytes, not {key_len}")]
    Key {
        /// The length of the key, in bytes.
        key_len: usize,
    },
    /// The publication lacks a frame for a wire that needs one.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// No room can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core is overloaded; only for callers that cannot pause.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The journal cannot be written to at present, and rooms with a history wait for it.
    #[error("the disk does not take it at present")]
    Storage,
    /// The memory for histories is full of publications that wait for the journal.
    #[error("the memory for histories is full at present")]
    NoMemory,
    /// The payload is larger than the room's class allows.
    #[error("a publication to this room has at most {payload_len_max} bytes, not {payload_len}")]
    TooLarge {
        /// The length of the payload, in bytes.
        payload_len: usize,
        /// The limit, in bytes.
        payload_len_max: u32,
    },
}

/// An event that was rejected. Nobody received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmitError {
    /// The event lacks a frame for a wire that needs one.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// A core is overloaded; only for callers that cannot pause.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A publication [has no frame](crate::Publication::wires) for these wires, and members need one.
///
/// Nothing was done, and nobody received anything. Encode those frames and try again; by then,
/// members may speak one more wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no frame for {} of the wires that need one", .0.len())]
pub struct Lacks(pub WireSet);

impl Lacks {
    /// Returns an error unless `lacking` is empty.
    pub(crate) fn check(lacking: WireSet) -> Result<(), Self> {
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Self(lacking))
    }
}

/// The mailbox of a core is full, and the caller cannot be held back by backpressure.
///
/// Nothing was done, and nobody received anything. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the mailbox of core {} is full", core.0)]
pub struct Overloaded {
    /// The core whose mailbox is full.
    pub core: CoreId,
}
