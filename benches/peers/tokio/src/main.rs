//! A chat over golem's wire as a Rust programmer writes it first: tokio, a task for each connection,
//! tokio-tungstenite, and a `broadcast` channel for each room.
//!
//! A member that falls [`ROOM_CAPACITY`] publications behind loses the oldest: that is what
//! `broadcast` does with receivers that lag, and most programs of this kind go on as this one does.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use dashmap::DashMap;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Publications that a room keeps for its slowest member.
const ROOM_CAPACITY: usize = 1024;

type Rooms = Arc<DashMap<String, broadcast::Sender<Utf8Bytes>>>;

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

/// A connection, from its handshake to its end, which is nobody else's business.
async fn serve(stream: TcpStream, rooms: Rooms) {
    let _ = stream.set_nodelay(true);
    let Ok(socket) = accept_async(stream).await else {
        return;
    };
    let mut connection = Connection {
        socket,
        rooms,
        joined: StreamMap::new(),
    };
    let _ = connection.run().await;
    connection.leave_all();
}

struct Connection {
    socket: WebSocketStream<TcpStream>,
    rooms: Rooms,
    /// What is published in the rooms that it is in.
    joined: StreamMap<String, BroadcastStream<Utf8Bytes>>,
}

impl Connection {
    async fn run(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.handle(&text).await?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                    Some(Ok(_)) => {}
                },
                Some((_, delivery)) = self.joined.next() => match delivery {
                    Ok(text) => self.socket.send(Message::Text(text)).await?,
                    Err(BroadcastStreamRecvError::Lagged(_)) => {}
                },
            }
        }
    }

    async fn handle(&mut self, text: &str) -> Result<()> {
        if let Err(error) = self.dispatch(text) {
            let reason = json!({ "reason": error.to_string() });
            let text = format!("error {reason}");
            self.socket.send(Message::text(text)).await?;
        }
        Ok(())
    }

    fn dispatch(&mut self, text: &str) -> Result<()> {
        let (event, data) = text.split_once(' ').unwrap_or((text, ""));
        match event {
            "join" => self.join(serde_json::from_str::<Membership>(data)?.name),
            "leave" => self.leave(&serde_json::from_str::<Membership>(data)?.name),
            "msg" => self.publish(&serde_json::from_str(data)?)?,
            _ => anyhow::bail!("unknown event"),
        }
        Ok(())
    }

    fn join(&mut self, name: String) {
        if self.joined.contains_key(&name) {
            return;
        }
        let room = self.rooms.entry(name.clone());
        let members = room.or_insert_with(|| broadcast::Sender::new(ROOM_CAPACITY));
        let deliveries = BroadcastStream::new(members.subscribe());
        drop(members);
        self.joined.insert(name, deliveries);
    }

    fn leave(&mut self, name: &str) {
        self.joined.remove(name);
        self.rooms
            .remove_if(name, |_, members| members.receiver_count() == 0);
    }

    fn leave_all(&mut self) {
        let names: Vec<String> = self.joined.keys().cloned().collect();
        names.iter().for_each(|name| self.leave(name));
    }

    fn publish(&self, publication: &Publication) -> Result<()> {
        if let Some(members) = self.rooms.get(&publication.to) {
            let msg = serde_json::to_string(&publication.msg)?;
            // That nobody is there any more is no error.
            let _ = members.send(format!("msg {msg}").into());
        }
        Ok(())
    }
}
