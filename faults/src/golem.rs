//! A client on golem's wire, which recovers nothing: it comes back and joins again, and what was
//! published meanwhile is lost to it. What most servers without histories can give, to compare
//! with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::json;
use throng_client::{Backoff, Closed};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::Options;
use crate::record::{Content, room_name};
use crate::verdict::Plain;

/// A client on its own task. It ends when dropped.
#[derive(Debug)]
pub struct GolemClient {
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// What its task and the run share.
#[derive(Debug)]
struct State {
    rooms: Vec<u32>,
    /// The room that it hears itself in: golem's wire does not answer a join, but what is sent
    /// behind it comes back behind it.
    echo: String,
    given: Mutex<Plain>,
    has_joined: Notify,
}

impl GolemClient {
    /// Starts a client of this number, which is to be in these rooms.
    pub fn start(number: u32, rooms: Vec<u32>, options: Options) -> Self {
        let given = rooms.iter().map(|room| (*room, HashMap::new())).collect();
        let state = Arc::new(State {
            rooms,
            echo: format!("echo:{number}"),
            given: Mutex::new(given),
            has_joined: Notify::new(),
        });
        Self {
            task: tokio::spawn(live(state.clone(), options)),
            state,
        }
    }

    /// Waits until it is a member of its rooms.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, but only one may wait.
    pub async fn joined(&self) {
        self.state.has_joined.notified().await;
    }

    /// What it was given so far.
    pub fn given(&self) -> Plain {
        self.state.given.lock().clone()
    }
}

impl Drop for GolemClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(state: Arc<State>, options: Options) {
    let mut backoff = Backoff::new(options.pauses, options.seed);
    loop {
        let opening = timeout(options.patience, connect(options.address));
        let (lasted, closed) = match opening.await {
            Ok(Some(mut socket)) => {
                let opened_at = Instant::now();
                let closed = converse(&state, &mut socket, &options)
                    .await
                    .err()
                    .flatten();
                (opened_at.elapsed(), closed)
            }
            Ok(None) | Err(_) => (Duration::ZERO, None),
        };
        let pause = closed.map_or(Some(Duration::ZERO), |closed| closed.comes_back_after());
        let Some(pause) = pause else { return };
        sleep(pause + backoff.next(lasted)).await;
    }
}

async fn connect(address: SocketAddr) -> Option<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (socket, _) = client_async(format!("ws://{address}/ws"), stream)
        .await
        .ok()?;
    Some(socket)
}

/// A connection that is over; how the server closed it, if it did.
type Over = Option<Closed>;

/// Joins the rooms and listens, until the connection is over.
async fn converse(
    state: &State,
    socket: &mut WebSocketStream<TcpStream>,
    options: &Options,
) -> Result<(), Over> {
    let names = state.rooms.iter().map(|room| room_name(*room));
    for name in names.chain([state.echo.clone()]) {
        say(socket, options, format!("join {}", json!({ "name": name }))).await?;
    }
    let echo = format!("msg {}", json!({ "to": state.echo, "msg": state.echo }));
    say(socket, options, echo.clone()).await?;
    loop {
        let heard = match timeout(options.keepalive, socket.next()).await {
            Ok(heard) => heard,
            // It asks with the message that it is the only one to hear.
            Err(_) => {
                say(socket, options, echo.clone()).await?;
                timeout(options.patience, socket.next())
                    .await
                    .map_err(|_| None)?
            }
        };
        match heard {
            Some(Ok(Message::Text(text))) => state.take(&text),
            Some(Ok(Message::Close(Some(frame)))) => {
                // The answer goes out with the next read, and then the server ends the connection.
                _ = timeout(options.patience, socket.next()).await;
                let (code, reason) = (frame.code.into(), frame.reason.to_string());
                return Err(Some(Closed { code, reason }));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(None),
        }
    }
}

async fn say(
    socket: &mut WebSocketStream<TcpStream>,
    options: &Options,
    text: String,
) -> Result<(), Over> {
    let sent = timeout(options.patience, socket.send(Message::text(text))).await;
    sent.ok().and_then(Result::ok).ok_or(None)
}

impl State {
    fn take(&self, text: &str) {
        let data = text.strip_prefix("msg ").unwrap_or_default();
        if serde_json::from_str(data).is_ok_and(|echo: &str| echo == self.echo) {
            self.has_joined.notify_one();
        } else if let Ok(Content { key, room, .. }) = serde_json::from_str(data)
            && let Some(given) = self.given.lock().get_mut(&room)
        {
            *given.entry(key).or_default() += 1;
        }
    }
}
