//! What all fake servers have in common: connections are accepted and read on threads of their
//! own, and one thread, which is the test's, owns everything else, so that every room has one
//! order.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;

use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// A connection's end to write to.
pub(crate) type Writer = Box<Socket>;

pub(crate) type Socket = WebSocket<TcpStream>;

/// What a connection did, by its number.
pub(crate) type Events<T> = (u64, Event<T>);

pub(crate) enum Event<T> {
    Connected(Writer),
    Heard(T),
    Gone,
}

/// What becomes of a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// Agrees to the subprotocol that is asked for.
    Accept,
    /// Agrees, and never answers a close frame.
    AcceptForGood,
    /// Agrees to no subprotocol.
    AcceptWithout,
    /// Ends the connection without an answer.
    Hang,
    /// Says 503, come back in a second.
    Refuse,
}

/// Serves until the test's process ends. `welcome` decides by the number of connections before;
/// `hear` takes a message on the connection's own thread, and returns what is for the owner.
pub(crate) fn listen<T: Send + 'static>(
    events: Sender<Events<T>>,
    welcome: impl Fn(u64) -> Welcome + Send + 'static,
    hear: impl Fn(&mut Socket, &str) -> Option<T> + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (id, stream) in (0..).zip(listener.incoming()) {
            let (events, welcome, hear) = (events.clone(), welcome(id), hear.clone());
            // A driver that ends early takes its connection with it, handshake or not.
            thread::spawn(move || serve(id, stream.unwrap(), welcome, hear, &events));
        }
    });
    address
}

fn serve<T>(
    id: u64,
    stream: TcpStream,
    welcome: Welcome,
    hear: impl Fn(&mut Socket, &str) -> Option<T>,
    events: &Sender<Events<T>>,
) -> Option<()> {
    if welcome == Welcome::Hang {
        return None;
    }
    stream.set_nodelay(true).ok()?;
    let writer = stream.try_clone().ok()?;
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let answer = |request: &Request, mut response: Response| {
        if welcome == Welcome::Refuse {
            let mut refusal = ErrorResponse::new(Some("full".to_owned()));
            *refusal.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            let second = http::HeaderValue::from_static("1");
            refusal.headers_mut().insert("retry-after", second);
            return Err(refusal);
        }
        let name = "Sec-WebSocket-Protocol";
        let wanted = request.headers().get(name).cloned();
        if let Some(wanted) = wanted.filter(|_| welcome != Welcome::AcceptWithout) {
            response.headers_mut().insert(name, wanted);
        }
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, answer).ok()?;
    let writer = Box::new(WebSocket::from_raw_socket(writer, Role::Server, None));
    events.send((id, Event::Connected(writer))).ok()?;
    while let Ok(Message::Text(text)) = socket.read() {
        if let Some(heard) = hear(&mut socket, &text) {
            events.send((id, Event::Heard(heard))).ok()?;
        }
    }
    // The answer to a close frame is queued by reading it.
    if welcome != Welcome::AcceptForGood {
        let _ = socket.flush();
    }
    events.send((id, Event::Gone)).ok()
}
