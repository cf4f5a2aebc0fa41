//! Requests that the table does not accept.

use thiserror::Error;

use crate::id::{CoreId, WireSet};
use crate::publication::KEY_LEN_MAX;

/// A join that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// A name that no room can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A name that no room can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The empty name.
    #[error("a room's name must not be empty")]
    Empty,
    /// A name over the limit.
    #[error("a room's name has at most {name_len_max} bytes, not {name_len}")]
    TooLong {
        /// The length of the name, in bytes.
        name_len: usize,
        /// The limit, in bytes.
        name_len_max: usize,
    },
}

/// A publication that was not accepted: nobody got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The key is empty or over [`KEY_LEN_MAX`] bytes.
    #[error("a key has 1 to {KEY_LEN_MAX} bytes, not {key_len}")]
    Key {
        /// The length of the key, in bytes.
        key_len: usize,
    },
    /// It lacks the frame of a wire that needs one.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// A name that no room can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// It cannot be written down at present, and is not accepted before it can.
    #[error("the disk does not take it at present")]
    Storage,
    /// The memory for histories is full of what waits to be written down.
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

/// An event that was not accepted: nobody got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmitError {
    /// It lacks the frame of a wire that needs one.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A publication [has no frame](crate::Publication::wires) for these wires, which somebody needs: nothing was
/// done, nobody got anything. Write those and try again; by then there may be members on one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no frame for {} of the wires that need one", .0.len())]
pub struct Lacks(pub WireSet);

impl Lacks {
    /// Whether it is none that are lacking and needed.
    pub(crate) fn check(lacking: WireSet) -> Result<(), Self> {
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Self(lacking))
    }
}

/// A core has more to do than it may keep, and the caller cannot be held back otherwise: nothing
/// was done, nobody got anything; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the mailbox of core {} is full", core.0)]
pub struct Overloaded {
    /// The core whose mailbox is full.
    pub core: CoreId,
}
