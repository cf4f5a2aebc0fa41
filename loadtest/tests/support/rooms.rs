//! A server of rooms in this process that speaks whatever a test wants.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// What a server says and understands, by the text of a message.
pub(crate) trait Speech: Clone + Send + 'static {
    /// Said to whoever connected.
    fn greeting(&self) -> Option<String> {
        None
    }
    /// What to do about a message.
    fn understand(&self, text: &str) -> Heard;
    /// How a publication is delivered to a member, by its place in the room; none if it is lost.
    fn delivery(&self, room: &str, member: usize, payload: &str) -> Option<String>;
}

/// What a message wanted.
pub(crate) enum Heard {
    Join(String),
    Publish { room: String, payload: String },
    Answer(String),
    Nothing,
}

type Writer = WebSocket<TcpStream>;
type Requests = (Heard, Option<Writer>);

/// Serves until the test's process ends.
pub(crate) fn start(speech: impl Speech) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, inbox) = channel();
    let rooms = speech.clone();
    thread::spawn(move || serve_rooms(&rooms, &inbox));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (speech, requests) = (speech.clone(), requests.clone());
            // A driver that ends early takes its connection with it, handshake or not.
            thread::spawn(move || serve_connection(&speech, stream.unwrap(), &requests));
        }
    });
    address
}

fn serve_connection(
    speech: &impl Speech,
    stream: TcpStream,
    requests: &Sender<Requests>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let writer = stream.try_clone().ok()?;
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let agree = |request: &Request, mut response: Response| {
        let name = "Sec-WebSocket-Protocol";
        if let Some(wanted) = request.headers().get(name) {
            response.headers_mut().insert(name, wanted.clone());
        }
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, agree).ok()?;
    let mut writer = Some(WebSocket::from_raw_socket(writer, Role::Server, None));
    if let Some(greeting) = speech.greeting() {
        socket.send(Message::text(greeting)).ok()?;
    }
    while let Ok(Message::Text(text)) = socket.read() {
        match speech.understand(&text) {
            Heard::Answer(text) => socket.send(Message::text(text)).ok()?,
            Heard::Nothing => {}
            join @ Heard::Join(_) => requests.send((join, writer.take())).ok()?,
            publish @ Heard::Publish { .. } => requests.send((publish, None)).ok()?,
        }
    }
    Some(())
}

/// Owns all members, so that every room has one order.
fn serve_rooms(speech: &impl Speech, inbox: &Receiver<Requests>) {
    let mut rooms: HashMap<String, Vec<Writer>> = HashMap::new();
    for request in inbox {
        match request {
            (Heard::Join(room), Some(writer)) => rooms.entry(room).or_default().push(writer),
            (Heard::Publish { room, payload }, _) => {
                let members = rooms.get_mut(&room).into_iter().flatten();
                for (index, member) in members.enumerate() {
                    if let Some(delivery) = speech.delivery(&room, index, &payload) {
                        // A driver that has ended does not read; that is not this thread's business.
                        let _ = member.send(Message::text(delivery));
                    }
                }
            }
            _ => {}
        }
    }
}
