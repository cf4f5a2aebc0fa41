//! A chat over golem's wire as a Rust programmer writes it first: tokio, tokio-tungstenite, a task
//! that reads and one that writes for each connection, and a `broadcast` channel for each room.
//!
//! One task that selects over both takes two to four times the CPU for a delivery, too much for a
//! fair comparison.
//!
//! A member that falls [`ROOM_CAPACITY`] publications behind loses the oldest: that is what
//! `broadcast` does with receivers that lag, and most programs of this kind go on as this one does.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use dashmap::DashMap;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Publications that a room keeps for its slowest member.
const ROOM_CAPACITY: usize = 1024;

type Rooms = Arc<DashMap<String, broadcast::Sender<Utf8Bytes>>>;

type Outgoing = SplitSink<WebSocketStream<TcpStream>, Message>;

/// The data of `join` and of `leave`.
#[derive(Deserialize)]
struct Membership {
    name: String,
}

/// The data of `msg`.
#[derive(Deserialize)]
struct Publication {
    to: String,
    msg: Value,
}

#[tokio::main]
async fn main() -> Result<()> {
    let port = match std::env::var("PORT") {
        Ok(port) => port.parse()?,
        Err(_) => 8080,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, Arc::clone(&rooms)));
    }
}

/// Reads a connection from its handshake to its end, which is nobody else's business.
async fn serve(stream: TcpStream, rooms: Rooms) {
    let _ = stream.set_nodelay(true);
    let Ok(socket) = accept_async(stream).await else {
        return;
    };
    let (outgoing, mut incoming) = socket.split();
    let (commands, inbox) = mpsc::channel(16);
    let writer = tokio::spawn(write(outgoing, inbox, Arc::clone(&rooms)));
    let mut connection = Connection {
        rooms,
        joined: HashSet::new(),
        commands,
    };
    while let Some(Ok(message)) = incoming.next().await {
        let handled = match message {
            Message::Text(text) => connection.handle(&text).await,
            // A goodbye is answered by reading on.
            _ => continue,
        };
        if handled.is_err() {
            break;
        }
    }
    // The writer has the receivers, without which the rooms may be empty.
    writer.abort();
    let _ = writer.await;
    for name in &connection.joined {
        remove_if_empty(&connection.rooms, name);
    }
}

fn remove_if_empty(rooms: &Rooms, name: &str) {
    rooms.remove_if(name, |_, members| members.receiver_count() == 0);
}

/// A command to a connection's writer.
enum Command {
    Join(String, BroadcastStream<Utf8Bytes>),
    Leave(String),
    Say(Message),
}

/// Writes what is published in the rooms that the connection is in.
async fn write(
    mut outgoing: Outgoing,
    mut inbox: mpsc::Receiver<Command>,
    rooms: Rooms,
) -> Result<()> {
    let mut joined = StreamMap::new();
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Join(name, deliveries)) => {
                    joined.insert(name, deliveries);
                }
                Some(Command::Leave(name)) => {
                    joined.remove(&name);
                    remove_if_empty(&rooms, &name);
                }
                Some(Command::Say(message)) => outgoing.send(message).await?,
                None => return Ok(()),
            },
            Some((_, delivery)) = joined.next() => match delivery {
                Ok(text) => outgoing.send(Message::Text(text)).await?,
                Err(BroadcastStreamRecvError::Lagged(_)) => {}
            },
        }
    }
}

struct Connection {
    rooms: Rooms,
    joined: HashSet<String>,
    commands: mpsc::Sender<Command>,
}

impl Connection {
    async fn handle(&mut self, text: &str) -> Result<()> {
        match self.dispatch(text) {
            Ok(Some(command)) => self.commands.send(command).await?,
            Ok(None) => {}
            Err(error) => {
                let reason = json!({ "reason": error.to_string() });
                let text = Message::text(format!("error {reason}"));
                self.commands.send(Command::Say(text)).await?;
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, text: &str) -> Result<Option<Command>> {
        let (event, data) = text.split_once(' ').unwrap_or((text, ""));
        match event {
            "join" => Ok(self.join(serde_json::from_str::<Membership>(data)?.name)),
            "leave" => Ok(self.leave(serde_json::from_str::<Membership>(data)?.name)),
            "msg" => self.publish(&serde_json::from_str(data)?),
            _ => anyhow::bail!("unknown event"),
        }
    }

    fn join(&mut self, name: String) -> Option<Command> {
        if !self.joined.insert(name.clone()) {
            return None;
        }
        let room = self.rooms.entry(name.clone());
        let members = room.or_insert_with(|| broadcast::Sender::new(ROOM_CAPACITY));
        let deliveries = BroadcastStream::new(members.subscribe());
        Some(Command::Join(name, deliveries))
    }

    fn leave(&mut self, name: String) -> Option<Command> {
        self.joined.remove(&name).then_some(Command::Leave(name))
    }

    fn publish(&self, publication: &Publication) -> Result<Option<Command>> {
        if let Some(members) = self.rooms.get(&publication.to) {
            let msg = serde_json::to_string(&publication.msg)?;
            // That nobody is there any more is no error.
            let _ = members.send(format!("msg {msg}").into());
        }
        Ok(None)
    }
}
