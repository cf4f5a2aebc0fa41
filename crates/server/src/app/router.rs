//! Events to handlers.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use rooms::{ConnectionId, Disconnect, Slots};

use crate::app::application::{Application, Checking, CoreApplication, State};
use crate::app::connection::{Connection, Peer};
use crate::app::data::{Data, RawMessage};
use crate::app::handler::{Handler, Reply};
use crate::app::refusal::Refusal;
use crate::app::request::{Rejection, Request};
use crate::code::Code;
use crate::panics::{self, Panicked};
use crate::wire::Spoken as _;
use crate::wire::languages::Languages;
use crate::wire::protocol::Protocol;
use crate::wire::request::Action;

/// Which function handles which event, and what else the application does for its connections.
///
/// `S` is the type of what is kept for each connection: see [`with_state`](Self::with_state).
///
/// What a handler needs is read off its signature:
///
/// - `Fn(&Connection<S>)`: no data; whatever came is ignored.
/// - `Fn(&Connection<S>, T)`, `T: DeserializeOwned`: the data as a `T`.
/// - `Fn(&Connection<S>, T)`, `T:` [`FromData`](crate::FromData): the data as `T` reads it.
/// - `Fn(&Connection<S>, Data<'_>)`: the data, to be [parsed](Data::parse) into types that borrow,
///   or taken as it is.
/// - `Fn(Connection<S>) -> Fut`, `Fn(Connection<S>, T) -> Fut`: the same, for handlers that are
///   async.
///
/// Each may return nothing, or a `Result`. Its value answers a request of throng.v1 that has an
/// `id`; its [`Refusal`] is sent back as an `error` event.
/// Data that is not what the handler takes is answered the same way, with code `bad_data`.
///
/// A handler runs on the thread of its connection's core. One that is not async must not block: it
/// would hold up every connection there. One that is async may wait; meanwhile nothing more is read
/// from its connection, so that its events are handled in order and at most one at a time, and
/// everybody else goes on. It is dropped where it waits if the connection is closed by the server;
/// that the client has gone is noticed when it is done, so what may take for ever should have a
/// timeout of its own. It runs in tokio's runtime.
///
/// If a handler panics, its connection is closed with 1011, and the log says which event it was.
///
/// # Examples
///
/// ```
/// use serde::Deserialize;
/// use throng::{Connection, Data, Refusal, Router};
///
/// #[derive(Deserialize)]
/// struct Dice { sides: u32 }
///
/// #[derive(Deserialize)]
/// struct Say<'a> { text: &'a str }
///
/// let mut router = Router::new();
/// router.on("hello", |conn: &Connection| conn.emit("hello", "yourself"));
/// router.on("roll", |conn: &Connection, dice: Dice| conn.emit("rolled", &(dice.sides / 2)));
/// router.on("say", |conn: &Connection, data: Data<'_>| {
///     let say: Say<'_> = data.parse()?;
///     if say.text.is_empty() {
///         return Err(Refusal::new("refused", "say something"));
///     }
///     conn.emit("said", say.text).map_err(Refusal::from)
/// });
/// router.on("later", |conn: Connection| async move {
///     tokio::time::sleep(std::time::Duration::from_millis(100)).await;
///     conn.emit("now", &())
/// });
/// ```
pub struct Router<S = ()> {
    handlers: HashMap<Box<str>, Box<Dispatch<S>>>,
    before: Vec<Box<BeforeHook<S>>>,
    connect: Option<Box<ConnectHook<S>>>,
    close: Option<Box<CloseHook<S>>>,
    message: Option<Box<MessageHook<S>>>,
    states: StateSource<S>,
    languages: Languages,
}

type Dispatch<S> = dyn Fn(&Connection<S>, Data<'_>) -> Reply + Send + Sync;
type BeforeHook<S> = dyn Fn(&Connection<S>, Action<'_>) -> Result<(), Refusal> + Send + Sync;
type ConnectHook<S> = dyn Fn(&Connection<S>, &Request) + Send + Sync;
type CloseHook<S> = dyn Fn(&Connection<S>, &Disconnect) + Send + Sync;
type MessageHook<S> = dyn Fn(&Connection<S>, RawMessage<'_>) + Send + Sync;

/// The source of a connection's state.
enum StateSource<S> {
    /// All have the same, which is nothing.
    Shared(Arc<S>),
    /// It is made of the request, on the connection's core.
    Made(Box<dyn Fn(&Request) -> S + Send + Sync>),
    /// It is made of the request before that is answered.
    Checked(Box<dyn Fn(Request) -> Checking + Send + Sync>),
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("events", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// Returns a router that answers every event with an `error`, and keeps nothing for its
    /// connections.
    pub fn new() -> Self {
        Self::over(StateSource::Shared(Arc::new(())))
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// Returns a router that keeps something for each connection: what `make` returns for the
    /// request that opened it. Handlers have it as [`Connection::state`].
    ///
    /// It is called on a core's thread and must not block. If it panics, the connection is closed
    /// with 1011. Costs 40 bytes a connection, beside the state itself.
    pub fn with_state(make: impl Fn(&Request) -> S + Send + Sync + 'static) -> Self {
        Self::over(StateSource::Made(Box::new(make)))
    }

    /// Returns a router that looks at each request before it is answered: `check` returns the
    /// connection's state, or a refusal, which is answered over HTTP. It is async, so that a
    /// session can be looked up.
    ///
    /// It is called behind what costs nothing: when the request is one for a WebSocket, its origin
    /// is allowed and there is a place for it. It has as long as the
    /// [handshake](crate::Timeouts::handshake) has; who takes longer is answered 503, and so is who
    /// panics with 500. It is dropped if the client goes away.
    ///
    /// # Examples
    ///
    /// ```
    /// use throng::{Connection, Rejection, Request, Router};
    ///
    /// struct User { name: String }
    ///
    /// async fn look_up(session: &str) -> Option<User> {
    ///     // A query to a database, say.
    ///     (session == "s3cret").then(|| User { name: "Ada".to_owned() })
    /// }
    ///
    /// let mut router = Router::with_handshake(|request: Request| async move {
    ///     let session = request.cookie("sid").unwrap_or_default();
    ///     look_up(session).await.ok_or_else(|| Rejection::unauthorized("log in first\n"))
    /// });
    /// router.on("whoami", |conn: &Connection<User>| conn.emit("you", &conn.state().name));
    /// ```
    pub fn with_handshake<F, Fut>(check: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, Rejection>> + Send + 'static,
    {
        let check = move |request| -> Checking {
            let checking = check(request);
            Box::pin(async { checking.await.map(|state| Arc::new(state) as State) })
        };
        Self::over(StateSource::Checked(Box::new(check)))
    }

    fn over(states: StateSource<S>) -> Self {
        Self {
            handlers: HashMap::new(),
            before: Vec::new(),
            connect: None,
            close: None,
            message: None,
            states,
            languages: Languages::new(),
        }
    }

    /// Calls `handler` for each event with this name, in place of an earlier handler for it.
    pub fn on<Args>(&mut self, event: &str, handler: impl Handler<S, Args>) -> &mut Self {
        let dispatch = move |conn: &Connection<S>, data: Data<'_>| handler.call(conn, data);
        self.handlers.insert(event.into(), Box::new(dispatch));
        self
    }

    /// Calls `hook` before anything that a connection asks for is done, with the [`Action`] and
    /// the room that it is about: for rights, for limits of rate, for logs.
    ///
    /// Hooks are called in the order in which they were added, until one refuses; then the sender
    /// is told so, and nothing is done. They are asked on every wire: for the requests of
    /// [throng.v1](Self::serve_throng_v1) and of [golem](Self::serve_golem), and, as
    /// [`Action::Request`], for the application's own events, those without a handler too.
    ///
    /// # Examples
    ///
    /// Nobody but the host may enter or read the rooms of the staff:
    ///
    /// ```
    /// use throng::{Action, Connection, Refusal, Router};
    ///
    /// let mut router = Router::with_state(|request| request.cookie("role") == Some("host"));
    /// router.serve_throng_v1().serve_golem();
    /// router.before(|conn: &Connection<bool>, action: Action<'_>| match action.room() {
    ///     Some(room) if room.starts_with("staff:") && !conn.state() => {
    ///         Err(Refusal::new("forbidden", "this room is for the staff"))
    ///     }
    ///     _ => Ok(()),
    /// });
    /// ```
    pub fn before(
        &mut self,
        hook: impl Fn(&Connection<S>, Action<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> &mut Self {
        self.before.push(Box::new(hook));
        self
    }

    /// Speaks the subprotocol `throng.v1` with clients that ask for it: joining and leaving,
    /// publishing with acknowledgements, positions, recovery and histories
    ///.
    ///
    /// Its requests (`join`, `leave`, `msg`, `emit`, `history`, `ping`) are carried out by the
    /// server and do not come to handlers; all other events do. Any client may join any room and
    /// publish to any, unless [`before`](Self::before) refuses.
    pub fn serve_throng_v1(&mut self) -> &mut Self {
        self.languages.add_throng_v1();
        self
    }

    /// Carries out golem's `join {"name":..}`, `leave {"name":..}` and `msg {"to":..,"msg":..}` for
    /// clients that ask for no subprotocol, as [`rooms`](crate::Server::rooms) does.
    ///
    /// They do not come to handlers then. Any client may join any room and publish to any, unless
    /// [`before`](Self::before) refuses.
    pub fn serve_golem(&mut self) -> &mut Self {
        self.languages.add_golem_requests();
        self
    }

    /// Speaks a protocol of the application's own, instead of `event json`, with clients that ask
    /// for no subprotocol or for none that is served. The last one set counts.
    ///
    /// # Panics
    ///
    /// With more than 14 protocols.
    pub fn set_protocol(&mut self, protocol: impl Protocol) -> &mut Self {
        self.languages.default = self.languages.add(protocol);
        self
    }

    /// Speaks a protocol of the application's own with clients that ask for this subprotocol
    /// (`Sec-WebSocket-Protocol`). A client that asks for several gets the first that is served.
    ///
    /// # Panics
    ///
    /// With more than 14 protocols, or if the name is no token of HTTP (RFC 9110, section 5.6.2).
    pub fn serve_protocol(
        &mut self,
        subprotocol: &'static str,
        protocol: impl Protocol,
    ) -> &mut Self {
        let is_token = http::HeaderName::from_bytes(subprotocol.as_bytes()).is_ok();
        assert!(is_token, "{subprotocol:?} is no name of a subprotocol");
        let wire = self.languages.add(protocol);
        self.languages.name(subprotocol, wire);
        self
    }

    /// Calls `hook` for each connection, before its first message, with the request that opened it.
    ///
    /// If it panics, the connection is closed with 1011.
    pub fn on_connect(
        &mut self,
        hook: impl Fn(&Connection<S>, &Request) + Send + Sync + 'static,
    ) -> &mut Self {
        self.connect = Some(Box::new(hook));
        self
    }

    /// Calls `hook` once for each connection that ends, with the reason.
    ///
    /// The connection has left its rooms by then, and what is sent to it goes nowhere.
    pub fn on_close(
        &mut self,
        hook: impl Fn(&Connection<S>, &Disconnect) + Send + Sync + 'static,
    ) -> &mut Self {
        self.close = Some(Box::new(hook));
        self
    }

    /// Calls `hook` for each message, text or binary, instead of reading events out of them.
    ///
    /// This is the level below events: what is built on it has its own protocol.
    pub fn on_message(
        &mut self,
        hook: impl Fn(&Connection<S>, RawMessage<'_>) + Send + Sync + 'static,
    ) -> &mut Self {
        self.message = Some(Box::new(hook));
        self
    }

    /// Logs which handlers some clients never reach, since the event is a request that the server
    /// carries out itself: one that refuses something would not be asked.
    pub(crate) fn warn_of_shadowed(&self) {
        for event in self.handlers.keys() {
            if self
                .languages
                .spoken()
                .any(|wire| wire.request(event).is_some())
            {
                tracing::warn!(
                    "the handler of {event:?} is not called for clients whose {event:?} the server \
                     carries out itself (serve_throng_v1, serve_golem): refuse what they may not \
                     do in Router::before"
                );
            }
        }
    }

    fn dispatch(&self, connection: &Connection<S>, event: &str, data: Data<'_>) -> Reply {
        match self.handlers.get(event) {
            Some(handler) => handler(connection, data),
            None => Reply::refused(Refusal::new(Code::UnknownEvent, "no such event here")),
        }
    }
}

impl<S: Send + Sync + 'static> Application for Router<S> {
    fn on_core(self: Arc<Self>, peer: Peer) -> Box<dyn CoreApplication> {
        let connections = match self.shared_state() {
            Some(state) => Connections::Alike(Connection { peer, state }),
            None => Connections::Each {
                nobody: peer,
                open: Slots::new(),
            },
        };
        Box::new(CoreRouter {
            router: self,
            connections,
        })
    }

    fn languages(&self) -> Languages {
        self.languages.clone()
    }

    fn takes_messages(&self) -> bool {
        self.message.is_some()
    }

    fn wants_request(&self) -> bool {
        self.connect.is_some() || !matches!(self.states, StateSource::Shared(_))
    }

    fn check(&self, request: &Request) -> Option<Checking> {
        match &self.states {
            StateSource::Checked(check) => Some(check(request.clone())),
            StateSource::Made(_) | StateSource::Shared(_) => None,
        }
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// Returns the state that all connections share, if none has its own.
    fn shared_state(&self) -> Option<Arc<S>> {
        match &self.states {
            StateSource::Shared(state) => Some(state.clone()),
            StateSource::Made(_) => None,
            // Who only lets in or refuses keeps nothing.
            StateSource::Checked(_) => (Arc::new(()) as State).downcast().ok(),
        }
    }
}

/// One core's part of a router: its connections, as handlers are given them.
struct CoreRouter<S> {
    router: Arc<Router<S>>,
    connections: Connections<S>,
}

enum Connections<S> {
    /// One handle, whose id changes from call to call, for there is nothing else to tell them
    /// apart.
    Alike(Connection<S>),
    /// One for each that is open, by slot.
    Each {
        nobody: Peer,
        open: Slots<Option<Connection<S>>>,
    },
}

impl<S> Connections<S> {
    /// Returns the handle of a connection; none if nothing was kept for it.
    fn get(&mut self, id: ConnectionId) -> Option<&Connection<S>> {
        match self {
            Self::Alike(connection) => {
                connection.peer.id = id;
                Some(connection)
            }
            Self::Each { open, .. } => {
                let connection = open.get(id.slot())?.as_ref()?;
                (connection.peer.id == id).then_some(connection)
            }
        }
    }
}

impl<S: Send + Sync + 'static> CoreRouter<S> {
    /// Calls the application for a connection. One whose state could not be made is closing, and
    /// nobody asks for it any more.
    fn call<R: Default>(
        &mut self,
        id: ConnectionId,
        what: &str,
        call: impl FnOnce(&Router<S>, &Connection<S>) -> R,
    ) -> Result<R, Panicked> {
        let Some(connection) = self.connections.get(id) else {
            return Ok(R::default());
        };
        let router = &*self.router;
        panics::catch(what, Some(id), || call(router, connection))
    }

    /// Makes or takes what is kept for a new connection.
    fn keep(
        &mut self,
        id: ConnectionId,
        state: Option<State>,
        request: Option<&Request>,
    ) -> Result<(), Panicked> {
        let Connections::Each { nobody, open } = &mut self.connections else {
            return Ok(());
        };
        let state = match (&self.router.states, state, request) {
            (StateSource::Made(make), _, Some(request)) => {
                let make = || Arc::new(make(request));
                panics::catch("what makes a connection's state", Some(id), make)?
            }
            (_, Some(state), _) => state.downcast().map_err(|_| Panicked)?,
            _ => return Err(Panicked),
        };
        let peer = Peer {
            id,
            ..nobody.clone()
        };
        while open.len() <= id.slot().index() {
            open.push(None);
        }
        open[id.slot()] = Some(Connection { peer, state });
        Ok(())
    }
}

impl<S: Send + Sync + 'static> CoreApplication for CoreRouter<S> {
    fn open(
        &mut self,
        id: ConnectionId,
        state: Option<State>,
        request: Option<&Request>,
    ) -> Result<(), Panicked> {
        self.keep(id, state, request)?;
        self.call(id, "the hook for connections", |router, connection| {
            if let (Some(hook), Some(request)) = (&router.connect, request) {
                hook(connection, request);
            }
        })
    }

    fn before(
        &mut self,
        id: ConnectionId,
        action: Action<'_>,
    ) -> Result<Result<(), Refusal>, Panicked> {
        if self.router.before.is_empty() {
            return Ok(Ok(()));
        }
        let refused = self.call(id, action.name(), |router, connection| {
            let mut hooks = router.before.iter();
            hooks.find_map(|hook| hook(connection, action).err())
        });
        refused.map(|refused| refused.map_or(Ok(()), Err))
    }

    fn event(&mut self, id: ConnectionId, event: &str, data: Data<'_>) -> Result<Reply, Panicked> {
        self.call(id, event, |router, connection| {
            router.dispatch(connection, event, data)
        })
    }

    fn message(&mut self, id: ConnectionId, message: RawMessage<'_>) -> Result<(), Panicked> {
        self.call(id, "the hook for messages", |router, connection| {
            if let Some(hook) = &router.message {
                hook(connection, message);
            }
        })
    }

    fn closed(&mut self, id: ConnectionId, disconnect: &Disconnect) {
        // It is closed in any case.
        _ = self.call(id, "the hook for ends", |router, connection| {
            if let Some(hook) = &router.close {
                hook(connection, disconnect);
            }
        });
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Connections::Each { open, .. } = &mut self.connections
            && let Some(connection) = open.get_mut(id.slot())
        {
            let connection = connection.take();
            _ = panics::catch("the end of a connection's state", Some(id), || {
                drop(connection);
            });
        }
    }

    fn state(&self, id: ConnectionId) -> Option<State> {
        let state: Arc<dyn Any + Send + Sync> = match &self.connections {
            Connections::Alike(connection) => connection.state.clone(),
            Connections::Each { open, .. } => open.get(id.slot())?.as_ref()?.state.clone(),
        };
        Some(state)
    }
}
