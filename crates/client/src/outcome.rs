//! What becomes of a publication.

use std::sync::Arc;

use thiserror::Error;

use crate::position::Position;
use crate::refused::{Closed, Refused};

/// The server has taken a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The key that it was sent with.
    pub key: Arc<str>,
    /// Its place in the room; `None` if nobody was there and the room keeps no history.
    pub position: Option<Position>,
    /// The server had it already from an earlier sending, and did not deliver it again.
    pub is_duplicate: bool,
}

/// The reason why a publication failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The connection is closed and does not come back by itself. The publication was not sent.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The data cannot be written as JSON. The publication was not sent.
    #[error("the data cannot be written as JSON: {message}")]
    Data {
        /// The message of serde_json.
        message: String,
    },
    /// As many bytes wait for their acknowledgement as may. The publication was not sent.
    #[error("publications with {max} bytes wait for their acknowledgement already")]
    FullBytes {
        /// [`Options::publish_bytes_max`](crate::Options::publish_bytes_max).
        max: usize,
    },
    /// As many publications wait for their acknowledgement as may. The publication was not sent.
    #[error("{max} publications wait for their acknowledgement already")]
    FullCount {
        /// [`Options::publishes_max`](crate::Options::publishes_max).
        max: usize,
    },
    /// The server does not take it: nobody got it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was sent and no answer came: members may have it, now or soon, or never. Publishing the
    /// same again with this key is safe for as long as the server remembers it, which is five
    /// minutes from the first sending unless its operator chose otherwise.
    #[error("it is unknown whether the publication with key {key:?} was delivered")]
    Unknown {
        /// The key that it was sent with.
        key: Arc<str>,
    },
    /// The application withdrew it before it was sent.
    #[error("the publication was withdrawn")]
    Withdrawn,
}

/// A publication that failed while nobody waited for its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// Its room.
    pub room: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// Why.
    pub error: PublishError,
}

pub(crate) type Outcome = Result<Ack, PublishError>;
