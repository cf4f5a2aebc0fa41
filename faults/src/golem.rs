//! A client on golem's wire, which recovers nothing: it comes back and joins again, and what was
//! published meanwhile is lost to it. What most servers without histories can give, to compare with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Backoff, Ended, Options, Return, connect, heard, say_goodbye};
use crate::record::{Key, room_name};
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
    /// The room that it hears itself in: golem's wire does not answer a join, but what is sent behind it
    /// comes back behind it.
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
    let mut backoff = Backoff::new(options.pauses);
    let mut rng = fastrand::Rng::with_seed(options.seed);
    loop {
        let (lasted, ended) = connect_once(&state, &options).await;
        let Return::After(pause) = ended.asks_for() else {
            return;
        };
        sleep(pause + backoff.next(lasted, &mut rng)).await;
    }
}

async fn connect_once(state: &State, options: &Options) -> (Duration, Ended) {
    let mut socket = match connect(options.address, None, options.patience).await {
        Ok(socket) => socket,
        Err(ended) => return (Duration::ZERO, ended),
    };
    let opened_at = Instant::now();
    let ended = converse(state, &mut socket, options).await;
    say_goodbye(&mut socket, &ended).await;
    (opened_at.elapsed(), ended)
}

async fn converse(
    state: &State,
    socket: &mut WebSocketStream<TcpStream>,
    options: &Options,
) -> Ended {
    let names = state.rooms.iter().map(|room| room_name(*room));
    for name in names.chain([state.echo.clone()]) {
        let join = format!("join {}", json!({ "name": name }));
        if socket.send(Message::text(join)).await.is_err() {
            return Ended::Broken;
        }
    }
    let echo = format!("msg {}", json!({ "to": state.echo, "msg": state.echo }));
    if socket.send(Message::text(echo.clone())).await.is_err() {
        return Ended::Broken;
    }
    loop {
        let text = match timeout(options.keepalive, heard(socket)).await {
            Ok(Ok(text)) => text,
            Ok(Err(ended)) => return ended,
            // It asks with the message that it is the only one to hear.
            Err(_) => {
                let asking = socket.send(Message::text(echo.clone()));
                if timeout(options.patience, asking).await.is_err() {
                    return Ended::Silent;
                }
                match timeout(options.patience, heard(socket)).await {
                    Ok(Ok(text)) => text,
                    Ok(Err(ended)) => return ended,
                    Err(_) => return Ended::Silent,
                }
            }
        };
        if let Some(text) = text {
            state.take(&text);
        }
    }
}

impl State {
    fn take(&self, text: &str) {
        let data = text.strip_prefix("msg ").map(serde_json::from_str);
        let Some(Ok(data)) = data else { return };
        let data: serde_json::Value = data;
        if data == *self.echo {
            self.has_joined.notify_one();
            return;
        }
        let key = data["key"].as_str().and_then(|key| key.parse::<Key>().ok());
        let room = data["room"]
            .as_u64()
            .and_then(|room| u32::try_from(room).ok());
        let mut given = self.given.lock();
        if let (Some(key), Some(room)) = (key, room)
            && let Some(given) = given.get_mut(&room)
        {
            *given.entry(key).or_default() += 1;
        }
    }
}
