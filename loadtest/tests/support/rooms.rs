//! A server of rooms in this process that speaks whatever a test wants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tungstenite::Message;

use crate::server::{Event, Events, Socket, Welcome, Writer, listen};

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

/// Serves until the test's process ends.
pub(crate) fn start(speech: impl Speech) -> SocketAddr {
    let (events, inbox) = channel();
    let rooms = speech.clone();
    thread::spawn(move || serve_rooms(&rooms, &inbox));
    let hear = move |socket: &mut Socket, text: &str| match speech.understand(text) {
        Heard::Answer(text) => {
            let _ = socket.send(Message::text(text));
            None
        }
        Heard::Nothing => None,
        heard => Some(heard),
    };
    listen(events, |_| Welcome::Accept, hear)
}

fn serve_rooms(speech: &impl Speech, inbox: &Receiver<Events<Heard>>) {
    let mut writers: HashMap<u64, Writer> = HashMap::new();
    let mut rooms: HashMap<String, Vec<Writer>> = HashMap::new();
    for (id, event) in inbox {
        match event {
            Event::Connected(mut writer) => {
                if let Some(greeting) = speech.greeting() {
                    let _ = writer.send(Message::text(greeting));
                }
                writers.insert(id, writer);
            }
            Event::Heard(Heard::Join(room)) => {
                let writer = writers.remove(&id);
                rooms.entry(room).or_default().extend(writer);
            }
            Event::Heard(Heard::Publish { room, payload }) => {
                let members = rooms.get_mut(&room).into_iter().flatten();
                for (index, member) in members.enumerate() {
                    if let Some(delivery) = speech.delivery(&room, index, &payload) {
                        // A driver that has ended does not read; that is not this thread's
                        // business.
                        let _ = member.send(Message::text(delivery));
                    }
                }
            }
            // Of whoever is no member, this was the last hold on the socket.
            Event::Gone => drop(writers.remove(&id)),
            Event::Heard(_) => {}
        }
    }
}
