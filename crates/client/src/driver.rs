//! The task that has the sockets: one connection after the other, until nobody wants one.

use std::convert::Infallible;
use std::future::pending;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::backoff::Backoff;
use crate::notice::{Notice, Violation};
use crate::options::{Direction, Options, Transport};
use crate::refused::Closed;
use crate::shared::Shared;
use crate::status::{End, State, Status};
use crate::wire::{Event, Hello, SUBPROTOCOL, read};

type Socket = WebSocketStream<Box<dyn Transport>>;

/// A client from its first attempt to its end.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) url: String,
    pub(crate) options: Options,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) backoff: Backoff,
}

impl Drop for Driver {
    /// Settles everything: without its task, as when the runtime ends, nothing comes back.
    fn drop(&mut self) {
        self.shared.session.lock().end();
        self.become_state(State::Closed, Some(End::Closed(Closed::by_application())));
        self.shared.session.lock().notices.end();
    }
}

impl Driver {
    /// Connects again and again, until the application closes the connection.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        while !shared.session.lock().is_over() {
            let before = self.status.borrow().end.clone();
            self.become_state(State::Connecting, before);
            let (lasted, end) = self.connect_once().await;
            let drain_pause = shared.session.lock().lose();
            if shared.session.lock().is_over() {
                return;
            }
            match end.pause() {
                Some(pause) => {
                    let until = Instant::now() + pause.max(drain_pause) + self.backoff.next(lasted);
                    self.become_state(State::Waiting { until }, Some(end));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = shared.reconnect.notified() => {}
                        () = shared.over() => {}
                        never = self.expire() => match never {},
                    }
                }
                None => {
                    shared.session.lock().close(&end.as_closed());
                    self.become_state(State::Closed, Some(end));
                    tokio::select! {
                        () = shared.reconnect.notified() => shared.session.lock().reopen(),
                        () = shared.over() => {}
                    }
                }
            }
        }
    }

    /// Gives up publications that have waited too long, while there is no connection on which
    /// others could be sent.
    async fn expire(&self) -> Infallible {
        loop {
            let due = self.shared.session.lock().expiry();
            match due {
                Some(due) => sleep_until(due).await,
                None => return pending().await,
            }
            self.shared.session.lock().expire(Instant::now());
        }
    }

    fn become_state(&self, state: State, end: Option<End>) {
        let status = Status { state, end };
        self.shared
            .session
            .lock()
            .notices
            .tell(&Notice::Status(status.clone()));
        self.status.send_replace(status);
    }

    /// Lives one connection, from the attempt to its end. Returns how long it lasted after the
    /// greeting, and how it ended.
    async fn connect_once(&self) -> (Duration, End) {
        let attempt = timeout(self.options.connect_timeout, async {
            let mut socket = self.dial().await?;
            let hello = self.greeted(&mut socket).await?;
            Ok((socket, hello))
        });
        let (socket, hello) = tokio::select! {
            attempt = attempt => match attempt.unwrap_or(Err(End::Silent)) {
                Ok(opened) => opened,
                Err(end) => return (Duration::ZERO, end),
            },
            () = self.shared.over() => return (Duration::ZERO, End::Broken(None)),
            never = self.expire() => match never {},
        };
        let opened_at = Instant::now();
        let keepalive = self.keepalive(&hello);
        self.shared.session.lock().open(hello, opened_at);
        self.become_state(State::Open, None);
        let end = self.converse(socket, keepalive).await;
        (opened_at.elapsed(), end)
    }

    fn keepalive(&self, hello: &Hello) -> Duration {
        let said = match hello.keepalive_ms {
            0 => KEEPALIVE,
            ms => Duration::from_millis(ms),
        };
        self.options.keepalive.unwrap_or(said)
    }

    async fn dial(&self) -> Result<Socket, End> {
        let mut request = self.url.as_str().into_client_request()?;
        let stream: Box<dyn Transport> = match &self.options.connector {
            Some(connector) => connector.connect().await.map_err(Error::Io)?,
            None => {
                let uri = request.uri();
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let address = (host, uri.port_u16().unwrap_or(80));
                let stream = TcpStream::connect(address).await.map_err(Error::Io)?;
                stream.set_nodelay(true).map_err(Error::Io)?;
                Box::new(stream)
            }
        };
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        Ok(client_async(request, stream).await?.0)
    }

    /// Waits for the greeting. Whoever comes while the server stops gets `drain` and the close
    /// instead.
    async fn greeted(&self, socket: &mut Socket) -> Result<Hello, End> {
        loop {
            let heard = match socket.next().await {
                Some(Ok(message)) => self.heard(message),
                Some(Err(error)) => Err(error.into()),
                None => Err(End::Broken(None)),
            };
            let text = match heard {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(end) => {
                    say_goodbye(socket).await;
                    return Err(end);
                }
            };
            match read(&text) {
                Some(Event::Hello(hello)) => return Ok(hello),
                Some(Event::Drain(_)) => self.shared.session.lock().handle(&text, Instant::now()),
                Some(Event::Unknown) => {}
                _ => {
                    let mut session = self.shared.session.lock();
                    session.notices.violated(Violation::Greeting, &text);
                    return Err(End::Broken(None));
                }
            }
        }
    }

    /// Takes a message: its text, or nothing but that somebody is there.
    fn heard(&self, message: Message) -> Result<Option<String>, End> {
        match message {
            Message::Text(text) => {
                if let Some(tap) = &self.options.tap {
                    tap.show(Direction::Received, &text);
                }
                Ok(Some(text.to_string()))
            }
            Message::Binary(_) => {
                self.shared
                    .session
                    .lock()
                    .notices
                    .violated(Violation::Binary, "");
                Ok(None)
            }
            Message::Close(Some(frame)) => Err(End::Closed(Closed {
                code: frame.code.into(),
                reason: frame.reason.to_string(),
            })),
            Message::Close(None) => Err(End::Broken(None)),
            _ => Ok(None),
        }
    }

    /// Reads, writes and watches at the same time: a socket that takes nothing must not keep us
    /// from reading, nor from noticing that nobody is there.
    async fn converse(&self, socket: Socket, keepalive: Duration) -> End {
        let (mut sink, mut stream) = socket.split();
        let liveness = Liveness::new();
        let end = tokio::select! {
            end = self.read(&mut stream, &liveness) => end,
            end = self.write(&mut sink, &liveness) => end,
            end = self.watch(keepalive, &liveness) => end,
            () = async { self.shared.over().await; sleep(GOODBYE_TIME_MAX).await } => End::Silent,
        };
        if matches!(end, End::Closed(_)) {
            say_goodbye(&mut stream).await;
        }
        end
    }

    async fn read(&self, stream: &mut SplitStream<Socket>, liveness: &Liveness) -> End {
        loop {
            let text = match stream.next().await {
                Some(Ok(message)) => match self.heard(message) {
                    Ok(text) => text,
                    Err(end) => return end,
                },
                Some(Err(error)) => return error.into(),
                None => return End::Broken(None),
            };
            let now = Instant::now();
            liveness.heard(now);
            if let Some(text) = text {
                self.shared.session.lock().handle(&text, now);
                self.shared.wake.notify_one();
            }
        }
    }

    async fn write(&self, sink: &mut SplitSink<Socket, Message>, liveness: &Liveness) -> End {
        loop {
            match self.write_once(sink, liveness).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(closed)) => return End::Closed(closed),
                // What the server said before it went, such as when to come back, is still read.
                Err(_) => return pending().await,
            }
        }
    }

    /// Writes what there is to write, then waits for more. Breaks after a close frame of ours.
    async fn write_once(
        &self,
        sink: &mut SplitSink<Socket, Message>,
        liveness: &Liveness,
    ) -> Result<ControlFlow<Closed>, Error> {
        while let Some(text) = self.next_outgoing() {
            if let Some(tap) = &self.options.tap {
                tap.show(Direction::Sent, &text);
            }
            sink.feed(Message::text(text)).await?;
        }
        if std::mem::take(&mut *liveness.is_to_ask.lock()) {
            sink.feed(Message::Ping(Bytes::new())).await?;
        }
        if self.shared.session.lock().is_over() {
            let closed = Closed::by_application();
            let frame = CloseFrame {
                code: closed.code.into(),
                reason: "".into(),
            };
            sink.send(Message::Close(Some(frame))).await?;
            return Ok(ControlFlow::Break(closed));
        }
        sink.flush().await?;
        let due = self.shared.session.lock().due();
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.shared.session.lock().resume(Instant::now());
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_outgoing(&self) -> Option<String> {
        self.shared.session.lock().next_outgoing()
    }

    /// Asks when nothing was heard for a while, and ends if nobody answers.
    async fn watch(&self, keepalive: Duration, liveness: &Liveness) -> End {
        loop {
            let heard_at = *liveness.heard_at.lock();
            sleep_until(heard_at + keepalive).await;
            if *liveness.heard_at.lock() > heard_at {
                continue;
            }
            *liveness.is_to_ask.lock() = true;
            self.shared.wake.notify_one();
            sleep(self.options.pong_timeout).await;
            if *liveness.heard_at.lock() == heard_at {
                return End::Silent;
            }
        }
    }
}

/// Answers the close frame: the answer goes out with the next read, and then the other side ends
/// the connection.
async fn say_goodbye<S>(stream: &mut S)
where
    S: futures_util::Stream<Item = Result<Message, Error>> + Unpin,
{
    // A peer that takes longer is not waited for.
    _ = timeout(GOODBYE_TIME_MAX, async {
        while let Some(Ok(_)) = stream.next().await {}
    })
    .await;
}

/// The time that the other side may take to end a connection that was closed.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// After how much silence to ask if the server does not say.
const KEEPALIVE: Duration = Duration::from_secs(25);

/// The last sign of life, and the question for the next.
#[derive(Debug)]
struct Liveness {
    heard_at: Mutex<Instant>,
    is_to_ask: Mutex<bool>,
}

impl Liveness {
    fn new() -> Self {
        Self {
            heard_at: Mutex::new(Instant::now()),
            is_to_ask: Mutex::new(false),
        }
    }

    fn heard(&self, now: Instant) {
        *self.heard_at.lock() = now;
    }
}
