//! The connections of one client, one after the other.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::record::SharedRecord;

use super::Options;
use super::backoff::{Backoff, Return, after_close};
use super::session::Session;
use super::wire::{Event, read};

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It broke.
    Broken,
    /// The server closed it.
    Closed { code: u16, reason: String },
    /// The server has no place for it, and asks to come back after this.
    Full(Duration),
    /// Nothing was heard.
    Silent,
}

impl Ended {
    /// Whether to come back.
    pub(crate) fn asks_for(&self) -> Return {
        match self {
            Self::Broken | Self::Silent => Return::After(Duration::ZERO),
            Self::Full(pause) => Return::After(*pause),
            Self::Closed { code, reason } => after_close(*code, reason),
        }
    }
}

/// Opens a WebSocket.
///
/// # Errors
///
/// If that does not work, or takes longer than `patience`.
pub(crate) async fn connect(
    address: SocketAddr,
    protocol: Option<&'static str>,
    patience: Duration,
) -> Result<WebSocketStream<TcpStream>, Ended> {
    let opening = async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        if let Some(protocol) = protocol {
            let protocol = HeaderValue::from_static(protocol);
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol);
        }
        Ok(client_async(request, socket).await?.0)
    };
    match timeout(patience, opening).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(not_opened(&error)),
        Err(_) => Err(Ended::Silent),
    }
}

fn not_opened(error: &Error) -> Ended {
    let Error::Http(response) = error else {
        return Ended::Broken;
    };
    let retry_after = response.headers().get("retry-after");
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(Ended::Broken, |seconds| {
        Ended::Full(Duration::from_secs(seconds))
    })
}

/// The next text that is heard; none for anything else that shows that somebody is there.
///
/// # Errors
///
/// If the connection is over.
pub(crate) async fn heard(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
) -> Result<Option<String>, Ended> {
    match stream.next().await {
        Some(Ok(Message::Text(text))) => Ok(Some(text.to_string())),
        Some(Ok(Message::Close(Some(frame)))) => Err(Ended::Closed {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        }),
        Some(Ok(Message::Close(None)) | Err(_)) | None => Err(Ended::Broken),
        Some(Ok(_)) => Ok(None),
    }
}

/// Answers the server's close frame, if it was that: the answer goes out with the next read, and then the
/// server ends the connection.
pub(crate) async fn say_goodbye(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    ended: &Ended,
) {
    if matches!(ended, Ended::Closed { .. }) {
        _ = timeout(GOODBYE_TIME_MAX, stream.next()).await;
    }
}

/// How long the server may take to end a connection that it has closed.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// A client from its first attempt to its end.
#[derive(Debug)]
pub(super) struct Life {
    options: Options,
    session: Arc<Mutex<Session>>,
    record: SharedRecord,
    /// There may be something to send.
    wake: Arc<Notify>,
    backoff: Backoff,
    rng: fastrand::Rng,
}

impl Life {
    pub(super) fn new(
        options: Options,
        session: Arc<Mutex<Session>>,
        record: SharedRecord,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            backoff: Backoff::new(options.pauses),
            rng: fastrand::Rng::with_seed(options.seed),
            options,
            session,
            record,
            wake,
        }
    }

    /// Connects again and again, until the server says not to.
    pub(super) async fn run(mut self) {
        loop {
            let (lasted, ended) = self.connect_once().await;
            self.session.lock().lose();
            self.note(&ended);
            let Return::After(pause) = ended.asks_for() else {
                return;
            };
            sleep(pause + self.backoff.next(lasted, &mut self.rng)).await;
        }
    }

    fn note(&self, ended: &Ended) {
        let mut record = self.record.lock();
        match ended {
            Ended::Closed { code, .. } => *record.closes.entry(*code).or_default() += 1,
            Ended::Silent => record.silent_count += 1,
            Ended::Broken | Ended::Full(_) => {}
        }
        if ended.asks_for() == Return::Never {
            record.complain(format!("told not to come back: {ended:?}"));
        }
    }

    /// One connection from the attempt to its end, and how long it lasted after the greeting.
    async fn connect_once(&self) -> (Duration, Ended) {
        let Options {
            address, patience, ..
        } = self.options;
        let attempt = async {
            let mut socket = connect(address, Some("throng.v1"), patience).await?;
            self.greeted(&mut socket).await?;
            Ok(socket)
        };
        let socket = match attempt.await {
            Ok(socket) => socket,
            Err(ended) => {
                self.record.lock().failed_attempt_count += 1;
                return (Duration::ZERO, ended);
            }
        };
        let opened_at = Instant::now();
        self.session.lock().open();
        let ended = self.converse(socket).await;
        (opened_at.elapsed(), ended)
    }

    async fn greeted(&self, socket: &mut WebSocketStream<TcpStream>) -> Result<(), Ended> {
        let greeting = timeout(self.options.patience, async {
            loop {
                if let Some(text) = heard(socket).await? {
                    return Ok(text);
                }
            }
        });
        let text = greeting.await.unwrap_or(Err(Ended::Silent))?;
        if !matches!(read(&text), Ok(Event::Hello(_))) {
            self.record.lock().complain(format!("no greeting: {text}"));
        }
        Ok(())
    }

    /// Reads, writes and watches at the same time: a socket that takes nothing must not keep us from
    /// reading, nor from noticing that nobody is there.
    async fn converse(&self, socket: WebSocketStream<TcpStream>) -> Ended {
        let (sink, mut stream) = socket.split();
        let alive = Alive::default();
        let ended = tokio::select! {
            ended = self.read(&mut stream, &alive) => ended,
            ended = self.write(sink, &alive) => ended,
            ended = self.watch(&alive) => ended,
        };
        say_goodbye(&mut stream, &ended).await;
        ended
    }

    async fn read(
        &self,
        stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
        alive: &Alive,
    ) -> Ended {
        loop {
            let text = match heard(stream).await {
                Ok(text) => text,
                Err(ended) => return ended,
            };
            let now = Instant::now();
            alive.heard(now);
            // `pong` is for the watch alone, and it has heard.
            if let Some(text) = text {
                self.session.lock().handle(&text, now);
                self.wake.notify_one();
                self.options.progress.notify_one();
            }
        }
    }

    async fn write(
        &self,
        mut sink: impl Sink<Message, Error = Error> + Unpin,
        alive: &Alive,
    ) -> Ended {
        loop {
            let now = Instant::now();
            let (request, due) = {
                let mut session = self.session.lock();
                (session.next_request(now), session.next_due())
            };
            // What is due and cannot be sent waits for an answer, and that wakes us.
            let due = due.filter(|due| *due > now);
            let request = request.or_else(|| alive.take_question());
            if let Some(request) = request {
                if sink.send(Message::text(request)).await.is_err() {
                    // What the server said before it went, such as when to come back, is still read.
                    return pending().await;
                }
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = alive.asked.notified() => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    /// Asks when nothing was heard for a while, and ends if nobody answers.
    async fn watch(&self, alive: &Alive) -> Ended {
        let Options {
            keepalive,
            patience,
            ..
        } = self.options;
        loop {
            let heard_at = *alive.heard_at.lock();
            sleep_until(heard_at + keepalive).await;
            if *alive.heard_at.lock() > heard_at {
                continue;
            }
            alive.ask();
            sleep(patience).await;
            if *alive.heard_at.lock() == heard_at {
                return Ended::Silent;
            }
        }
    }
}

/// When something was last heard of a connection, and whether it is to be asked.
#[derive(Debug)]
struct Alive {
    heard_at: Mutex<Instant>,
    has_question: Mutex<bool>,
    asked: Notify,
}

impl Default for Alive {
    fn default() -> Self {
        Self {
            heard_at: Mutex::new(Instant::now()),
            has_question: Mutex::new(false),
            asked: Notify::new(),
        }
    }
}

impl Alive {
    fn heard(&self, now: Instant) {
        *self.heard_at.lock() = now;
    }

    fn ask(&self) {
        *self.has_question.lock() = true;
        self.asked.notify_one();
    }

    fn take_question(&self) -> Option<String> {
        std::mem::take(&mut *self.has_question.lock()).then(|| "ping {}".to_owned())
    }
}
