//! Why something was not sent to a room, or a connection did not join it.

use proto::event::EncodeError;
use rooms::{KEY_LEN_MAX, NameError, Overloaded};
use thiserror::Error;

use crate::code::Code;

/// A join that was not accepted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// No room can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The engine has more to do than it may keep: try again later. Only outside of handlers.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The manager has been [stopped](crate::RoomManager::stop).
    #[error("the rooms of this manager were stopped")]
    Stopped,
}

/// An event that did not go out. Nobody got it.
#[derive(Debug, Error)]
pub enum EmitError {
    /// The data or the name cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The engine has more to do than it may keep: try again later. Only outside of handlers; a
    /// connection whose handler publishes too fast is not read from instead.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The name is one of throng.v1's own, and clients may speak that: take another, or
    /// [publish](crate::RoomManager::publish).
    #[error("throng.v1 reserves the event's name")]
    Reserved,
}

/// A publication that did not go out. Nobody got it.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The data cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key is empty or too long.
    #[error("a key has 1 to {KEY_LEN_MAX} bytes, not {key_len}")]
    Key {
        /// The length of the key, in bytes.
        key_len: usize,
    },
    /// No room can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The memory for histories is full of publications that wait for the disk: try again later.
    #[error("the memory for histories is full; try again later")]
    NoMemory,
    /// The engine has more to do than it may keep: try again later. Only outside of handlers.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The disk takes no histories at present, and publications are
    /// [refused](crate::History) until it does.
    #[error("the disk does not take publications at present; try again later")]
    Storage,
    /// The data is larger than the room's [class](crate::RoomClass) allows.
    #[error("a publication to this room has at most {payload_len_max} bytes, not {payload_len}")]
    TooLarge {
        /// The length of the data, in bytes.
        payload_len: usize,
        /// The limit, in bytes.
        payload_len_max: u32,
    },
}

impl JoinError {
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Name(_) => Code::BadRoom,
            Self::Overloaded(_) => Code::Overloaded,
            Self::Stopped => Code::Stopped,
        }
    }
}

impl From<rooms::JoinError> for JoinError {
    fn from(error: rooms::JoinError) -> Self {
        match error {
            rooms::JoinError::Name(error) => error.into(),
            rooms::JoinError::Overloaded(error) => error.into(),
        }
    }
}

impl EmitError {
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Encode(_) => Code::NotEncodable,
            Self::Overloaded(_) => Code::Overloaded,
            Self::Reserved => Code::ReservedEvent,
        }
    }
}

impl PublishError {
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Encode(_) => Code::NotEncodable,
            Self::Key { .. } => Code::BadKey,
            Self::Name(_) => Code::BadRoom,
            Self::NoMemory | Self::Overloaded(_) => Code::Overloaded,
            Self::Storage => Code::Storage,
            Self::TooLarge { .. } => Code::TooLarge,
        }
    }

    /// Takes over the table's refusal; a lack of frames is none, for they can be added.
    pub(crate) const fn of_table(error: rooms::PublishError) -> Result<Self, rooms::Lacks> {
        use rooms::PublishError as Table;
        Ok(match error {
            Table::Key { key_len } => Self::Key { key_len },
            Table::Lacks(lacks) => return Err(lacks),
            Table::Name(error) => Self::Name(error),
            Table::NoMemory => Self::NoMemory,
            Table::Overloaded(error) => Self::Overloaded(error),
            Table::Storage => Self::Storage,
            Table::TooLarge {
                payload_len,
                payload_len_max,
            } => Self::TooLarge {
                payload_len,
                payload_len_max,
            },
        })
    }
}
