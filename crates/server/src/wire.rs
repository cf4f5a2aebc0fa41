//! What is spoken: the wires, and what frames look like on each.

pub(crate) mod draft;
pub(crate) mod encode;
#[cfg(feature = "messagepack")]
pub(crate) mod messagepack;
pub(crate) mod name;
pub(crate) mod protocol;
pub(crate) mod throng_v1;

use rooms::Wire;

/// golem's wire: spoken with whoever asks for no subprotocol.
pub(crate) const GOLEM: Wire = Wire(0);

/// `throng.v1`: positions, answers and recovery. Histories are kept in its frames.
pub(crate) const THRONG: Wire = Wire(1);

/// The engine's own; those of the application's protocols come behind them.
pub(crate) const OWN: [Wire; 2] = [GOLEM, THRONG];

/// The subprotocol that a client asks for to speak [`THRONG`].
pub(crate) const THRONG_PROTOCOL: &str = "throng.v1";

/// The name under which publications go to members.
pub(crate) const PUBLICATION: &str = "msg";
