//! What frames for rooms are put together from.

/// The parts of a frame for a room.
pub(super) struct Parts<'a> {
    /// The room's name, as JSON.
    pub(super) room: &'a [u8],
    /// The data, as JSON.
    pub(super) data: &'a [u8],
    /// The name of the connection that sent it; none is the application.
    pub(super) from: Option<&'a str>,
    /// When it was sent, in milliseconds of the Unix epoch.
    pub(super) at_ms: u64,
}
