//! What is spoken with whom.

use std::fmt;
use std::sync::Arc;

use proto::event::EncodeError;
use rooms::{WIRE_COUNT_MAX, Wire, WireSet};
use serde::Serialize;

use super::draft::{Broadcast, Message};
use super::golem::Golem;
use super::protocol::{AnyProtocol, Foreign, Protocol};
use super::throng_v1::ThrongV1;
use super::{AnyWire, GOLEM, OWN, Spoken as _, THRONG, THRONG_PROTOCOL};

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
    pub(crate) fn new() -> Self {
        Self {
            default: GOLEM,
            named: Vec::new(),
            golem: Golem::default(),
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

    /// Returns the wires that anybody may speak.
    pub(crate) fn spoken(&self) -> impl Iterator<Item = AnyWire<'_>> {
        let own = OWN.into_iter().filter(|wire| self.has(*wire));
        own.chain(self.wires()).map(|wire| self.wire(wire))
    }

    /// Returns whether anybody may speak a wire of the engine's own.
    pub(crate) fn has_own(&self) -> bool {
        OWN.into_iter().any(|wire| self.has(wire))
    }

    fn has(&self, wire: Wire) -> bool {
        self.default == wire || self.named.iter().any(|(_, named)| *named == wire)
    }

    /// Writes an event for every connection, on all wires.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], if the data cannot be written on one of them or the name is none.
    pub(crate) fn broadcast<T>(&self, event: &str, data: &T) -> Result<Broadcast, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let wires = OWN.into_iter().chain(self.wires());
        let frame = |wire| Ok((wire, self.wire(wire).application_event(event, data)?));
        wires.map(frame).collect::<Result<_, _>>().map(Broadcast)
    }

    /// Writes what a message lacks for these wires. This may call the application: not under a
    /// lock.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], if the data cannot be written on one of them.
    pub(crate) fn write_lacking<T>(
        &self,
        wires: WireSet,
        message: &mut Message<'_>,
        (room, data): (&str, &T),
    ) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let is_own = |wire: &Wire| OWN.contains(wire);
        if wires.iter().any(|wire| is_own(&wire)) {
            message.write(room, data)?;
        }
        for wire in wires.iter().filter(|wire| !is_own(wire)) {
            let frame = self.wire(wire).event(message.event(), data)?;
            message.add(wire, frame);
        }
        Ok(())
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
