//! What is spoken with whom.

use std::fmt;
use std::sync::Arc;

use rooms::{WIRE_COUNT_MAX, Wire};

use super::golem::Golem;
use super::protocol::{AnyProtocol, Foreign, Protocol};
use super::throng_v1::ThrongV1;
use super::{AnyWire, GOLEM, OWN, THRONG, THRONG_PROTOCOL};

/// The languages in use: which wire for which subprotocol.
#[derive(Clone)]
pub(crate) struct Languages {
    /// With those who ask for none of the others.
    pub(crate) default: Wire,
    /// By the names that clients ask for.
    pub(crate) named: Vec<(&'static str, Wire)>,
    /// golem's wire, if it is spoken.
    pub(crate) golem: Golem,
    /// The protocols of the application, from the first wire that is not the engine's own on.
    pub(crate) protocols: Vec<Arc<dyn AnyProtocol>>,
}

/// Maximum protocols that an application can bring.
pub(crate) const PROTOCOL_COUNT_MAX: usize = WIRE_COUNT_MAX - OWN.len();

impl fmt::Debug for Languages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Languages")
            .field("default", &self.default)
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

impl Languages {
    /// Returns golem's wire for everybody, until something else is said.
    pub(crate) const fn new() -> Self {
        Self {
            default: GOLEM,
            named: Vec::new(),
            golem: Golem {
                has_requests: false,
            },
            protocols: Vec::new(),
        }
    }

    /// Speaks throng.v1 with those who ask for it.
    pub(crate) fn add_throng_v1(&mut self) {
        self.name(THRONG_PROTOCOL, THRONG);
    }

    /// Takes golem's `join`, `leave` and `msg` as requests.
    pub(crate) const fn add_golem_requests(&mut self) {
        self.golem.has_requests = true;
    }

    /// Takes in a protocol.
    ///
    /// # Panics
    ///
    /// If there are more than wires.
    pub(crate) fn add(&mut self, protocol: impl Protocol) -> Wire {
        let count = self.protocols.len();
        assert!(
            count < PROTOCOL_COUNT_MAX,
            "at most {PROTOCOL_COUNT_MAX} protocols can be served"
        );
        self.protocols.push(Arc::new(protocol));
        // Checked above: below 16.
        Wire(u8::try_from(OWN.len() + count).unwrap_or_default())
    }

    /// Speaks on a wire with those who ask for this name, in place of an earlier one.
    pub(crate) fn name(&mut self, name: &'static str, wire: Wire) {
        self.named.retain(|(named, _)| *named != name);
        self.named.push((name, wire));
    }

    /// Returns the wires of the application's protocols.
    pub(crate) fn wires(&self) -> impl Iterator<Item = Wire> {
        let first = u8::try_from(OWN.len()).unwrap_or(u8::MAX);
        (first..).map(Wire).take(self.protocols.len())
    }

    /// Returns what a wire is. A number that is none is golem's wire, as the default is.
    pub(crate) fn wire(&self, wire: Wire) -> AnyWire<'_> {
        let index = usize::from(wire.0);
        match index
            .checked_sub(OWN.len())
            .and_then(|index| self.protocols.get(index))
        {
            Some(protocol) => AnyWire::Protocol(Foreign(&**protocol)),
            None if wire == THRONG => AnyWire::Throng(ThrongV1),
            None => AnyWire::Golem(self.golem),
        }
    }

    /// Returns the numbers of the wires that anybody may speak.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Wire> {
        let own = OWN.into_iter().filter(|wire| self.has(*wire));
        own.chain(self.wires())
    }

    /// Returns the wires that anybody may speak.
    pub(crate) fn spoken(&self) -> impl Iterator<Item = AnyWire<'_>> {
        self.numbers().map(|wire| self.wire(wire))
    }

    /// Returns whether anybody may speak on this wire.
    pub(crate) fn has(&self, wire: Wire) -> bool {
        self.default == wire || self.named.iter().any(|(_, named)| *named == wire)
    }

    /// Returns the wire for a client that offers these names, and the name to answer: its first
    /// that is spoken.
    pub(crate) fn choose<'a>(
        &self,
        mut offered: impl Iterator<Item = &'a str>,
    ) -> (Wire, Option<&'static str>) {
        let named = offered.find_map(|offer| self.named.iter().find(|(name, _)| *name == offer));
        named.map_or((self.default, None), |(name, wire)| (*wire, Some(*name)))
    }
}
