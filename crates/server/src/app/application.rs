//! The application as the engine sees it: without its types.
//!
//! A [`Router`](crate::Router) has the type of the state of its connections; a core has many things
//! to do and knows no types of the application's. So each core has one object that does, and calls
//! it.

use std::any::Any;
use std::sync::Arc;

use rooms::{ConnectionId, Disconnect};

use crate::app::connection::Peer;
use crate::app::data::Data;
use crate::app::data::RawMessage;
use crate::app::handler::Reply;
use crate::app::refusal::Refusal;
use crate::app::request::{Rejection, Request};
use crate::panics::Panicked;
use crate::wire::languages::Languages;
use crate::wire::request::Action;

/// State that the application keeps for a connection, its type forgotten.
pub(crate) type State = Arc<dyn Any + Send + Sync>;

/// A look at a request that may wait, and comes to a state or a refusal.
pub(crate) type Checking = std::pin::Pin<Box<dyn Future<Output = Result<State, Rejection>> + Send>>;

/// The part of the application that all cores share.
pub(crate) trait Application: Send + Sync {
    /// Returns the part of one core, which gets a handle that is nobody's.
    fn on_core(self: Arc<Self>, peer: Peer) -> Box<dyn CoreApplication>;

    /// Returns the protocols in use, and with whom.
    fn languages(&self) -> Languages;

    /// Returns whether messages are taken as they come, and not read as events.
    fn takes_messages(&self) -> bool;

    /// Returns whether [`check`](Self::check) or [`CoreApplication::open`] needs the request.
    fn wants_request(&self) -> bool;

    /// Begins to look at a request, if requests are looked at.
    fn check(&self, request: &Request) -> Option<Checking>;
}

/// One core's part of the application. Nothing that it is asked to do panics: what the application
/// does is caught and logged.
pub(crate) trait CoreApplication {
    /// Takes in a connection.
    fn open(
        &mut self,
        id: ConnectionId,
        state: Option<State>,
        request: Option<&Request>,
    ) -> Result<(), Panicked>;

    /// Asks the hooks that come before handlers.
    fn before(
        &mut self,
        id: ConnectionId,
        action: Action<'_>,
    ) -> Result<Result<(), Refusal>, Panicked>;

    /// Gives an event to its handler.
    fn event(&mut self, id: ConnectionId, event: &str, data: Data<'_>) -> Result<Reply, Panicked>;

    /// Gives a message to the hook for messages.
    fn message(&mut self, id: ConnectionId, message: RawMessage<'_>) -> Result<(), Panicked>;

    /// Tells the hook for ends.
    fn closed(&mut self, id: ConnectionId, disconnect: &Disconnect);

    /// Forgets a connection that is gone.
    fn forget(&mut self, id: ConnectionId);

    /// Returns the state of a connection that is open.
    fn state(&self, id: ConnectionId) -> Option<State>;
}
