//! What is answered over HTTP: the upgrade, pages, health, metrics.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use proto::handshake::{self, OpeningError};

use crate::accept::{Acceptor, Caller, Stream};
use crate::admission::Refused;
use crate::exposition::Format;
use crate::fallback::{Failed, Fallback, Paced};
use crate::hosts::Reach;
use crate::opening;

/// An answer with its whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer with its whole body, or one of the application's service.
type AnyAnswer = Response<Either<Full<Bytes>, Paced>>;

/// A page that is served as it is.
#[derive(Clone, Debug)]
pub struct Page {
    /// The path, such as `/`.
    pub path: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The bytes; cloning them costs a reference count.
    pub body: Bytes,
}

impl Page {
    /// A page of any kind, with the value of its `Content-Type`.
    pub fn new(path: &'static str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            path,
            content_type,
            body,
        }
    }

    /// An HTML page.
    pub fn html(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/html; charset=utf-8", body)
    }

    /// A script, or a module of one.
    pub fn script(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/javascript; charset=utf-8", body)
    }

    /// A style sheet.
    pub fn style(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/css; charset=utf-8", body)
    }
}

/// What pages may do: load what this server serves, and open WebSockets.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// After how many seconds a refused peer is told to come back.
pub(crate) const RETRY_AFTER_S: &str = "2";

/// Answers one request.
pub(crate) async fn answer<S: Stream>(
    acceptor: Arc<Acceptor>,
    request: http::Request<Incoming>,
    caller: Caller,
) -> Result<AnyAnswer, Infallible> {
    let visit = caller.visit.clone();
    visit.note_request();
    let has_body = handshake::has_body(request.headers());
    let mut answer = match choose(&acceptor, &request, &caller).await {
        Choice::Answer(answer) => *answer,
        Choice::WebSocket => upgrade::<S>(&acceptor, request, &caller).await,
        Choice::Service(fallback) => {
            return Ok(fall_back(&acceptor, &fallback, request, caller).await);
        }
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        visit.note_answer();
        if has_body {
            // Nobody reads it, and what follows it is not looked for.
            answer = closing(answer);
        }
    }
    Ok(answer.map(Either::Left))
}

/// What answers a request.
enum Choice {
    Answer(Box<Answer>),
    WebSocket,
    Service(Fallback),
}

/// Checks what is so of every request, and finds out by its path what answers it.
async fn choose(acceptor: &Acceptor, request: &http::Request<Incoming>, caller: &Caller) -> Choice {
    let (gate, refused) = (&acceptor.gate, &acceptor.metrics.refused);
    let path = request.uri().path();
    let reach = match path {
        // It says nothing of anybody, and whoever asks for it often knows an address and no name.
        HEALTH => Reach::Unix,
        _ => caller.reach,
    };
    if let Err(answer) = gate.check_host(request, reach, refused) {
        return Choice::Answer(answer);
    }
    if !expects_what_is_known(request) {
        let answer = text(
            StatusCode::EXPECTATION_FAILED,
            "only 100-continue is known\n",
        );
        return Choice::Answer(Box::new(answer));
    }
    if let Some(limit) = caller.refused {
        let answer = match path {
            HEALTH | METRICS => own(acceptor, request).await,
            _ => None,
        };
        let answer = answer.unwrap_or_else(|| opening::refuse(limit, refused));
        return Choice::Answer(Box::new(answer));
    }
    if is_for_websocket(acceptor, request) {
        return Choice::WebSocket;
    }
    if let Some(answer) = own(acceptor, request).await {
        return Choice::Answer(Box::new(answer));
    }
    if let Some(fallback) = acceptor.fallback.clone() {
        return Choice::Service(fallback);
    }
    match path {
        // Asked of the server as a whole (RFC 9110 section 9.3.7).
        "*" if request.method() == Method::OPTIONS => Choice::Answer(Box::new(allowed())),
        _ if acceptor.gate.config.get().path.is_none() => Choice::WebSocket,
        _ => {
            let answer = text(StatusCode::NOT_FOUND, "there is nothing here\n");
            Choice::Answer(Box::new(answer))
        }
    }
}

/// Whether a request expects nothing, or what hyper does (RFC 9110 section 10.1.1). HTTP/1.0 had no
/// expectations.
fn expects_what_is_known(request: &http::Request<Incoming>) -> bool {
    let mut expected = request.headers().get_all(header::EXPECT).iter();
    request.version() < Version::HTTP_11
        || expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether the WebSocket's rules are what a request is held against.
fn is_for_websocket(acceptor: &Acceptor, request: &http::Request<Incoming>) -> bool {
    let path = request.uri().path();
    match &acceptor.gate.config.get().path {
        Some(websocket) => websocket == path,
        // On every path that is no page: then what asks for none is the service's.
        None => {
            acceptor.fallback.is_some() && !is_own(acceptor, path) && asks_for_websocket(request)
        }
    }
}

fn asks_for_websocket(request: &http::Request<Incoming>) -> bool {
    use OpeningError::{HttpVersion, Method, NoUpgrade};
    let opening = handshake::open(request.method(), request.version(), request.headers());
    !matches!(opening, Err(HttpVersion | Method | NoUpgrade))
}

const HEALTH: &str = "/healthz";
const METRICS: &str = "/metrics";

fn is_own(acceptor: &Acceptor, path: &str) -> bool {
    path == HEALTH || path == METRICS || acceptor.pages.iter().any(|page| page.path == path)
}

/// Health, metrics or a page, if the request is for one of them.
async fn own(acceptor: &Acceptor, request: &http::Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path();
    if !is_own(acceptor, path) {
        return None;
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        // With a Content-Length beside it, that is how requests are smuggled (RFC 9112 section
        // 6.1).
        let answer = text(StatusCode::BAD_REQUEST, "this takes no body in chunks\n");
        return Some(closing(answer));
    }
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Some(allowed()),
        _ => return Some(method_not_allowed()),
    }
    match path {
        HEALTH => Some(text(StatusCode::OK, "ok\n")),
        METRICS => Some(metrics(acceptor, request).await),
        path => {
            let mut pages = acceptor.pages.iter();
            let found = pages.find(|page| page.path == path)?;
            Some(page(found.content_type, found.body.clone()))
        }
    }
}

/// The metrics, in the format that is asked for.
async fn metrics(acceptor: &Acceptor, request: &http::Request<Incoming>) -> Answer {
    let format = Format::asked_for(request.headers());
    let exposition = acceptor.exposition.render().await;
    let mut answer = page(format.content_type(), format.write(exposition).into());
    let vary = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(header::VARY, vary);
    answer
}

/// Has a request answered by the application's service.
async fn fall_back(
    acceptor: &Acceptor,
    fallback: &Fallback,
    mut request: http::Request<Incoming>,
    caller: Caller,
) -> AnyAnswer {
    let Caller { peer, visit, .. } = caller;
    if let Err(refused) = visit.begin_service(&acceptor.gate.admission) {
        visit.note_answer();
        return opening::refuse(refused, &acceptor.metrics.refused).map(Either::Left);
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    match fallback.answer(request, visit.clone()).await {
        Ok(answer) => answer.map(Either::Right),
        Err(Failed) => {
            visit.restart_clock();
            visit.note_answer();
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            text(status, "something went wrong here\n").map(Either::Left)
        }
    }
}

/// Answers a request for a WebSocket; its socket goes to the core once the answer is sent.
async fn upgrade<S: Stream>(
    acceptor: &Arc<Acceptor>,
    mut request: http::Request<Incoming>,
    caller: &Caller,
) -> Answer {
    let Caller { peer, visit, .. } = caller;
    let gate = &acceptor.gate;
    let refused = &acceptor.metrics.refused;
    let visitor = match gate.look_at(&request, *peer, refused) {
        Ok(visitor) => visitor,
        Err(answer) => return *answer,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    // The application has a clock of its own.
    visit.stop_clock();
    let admitted = gate.admit(visitor, refused).await;
    visit.restart_clock();
    let (answer, newcomer) = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let acceptor = acceptor.clone();
    tokio::spawn(async move {
        // A peer that is gone before the answer was sent is nobody's loss; its place is free again.
        let Ok(upgraded) = upgrade.await else { return };
        acceptor.hand_over::<S>(upgraded, newcomer).await;
    });
    answer
}

/// The answer at a limit.
pub(crate) fn overloaded(refused: Refused) -> Answer {
    let mut answer = text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{}\n", refused.sentence()),
    );
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    closing(answer)
}

/// What may be done with pages, health and metrics.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
    answer.headers_mut().insert(header::ALLOW, ALLOWED);
    answer
}

fn allowed() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, ALLOWED);
    answer
}

/// The same answer, the connection's last.
pub(crate) fn closing(mut answer: Answer) -> Answer {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(header::CONNECTION, close);
    answer
}

pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = page("text/plain; charset=utf-8", body.into());
    *answer.status_mut() = status;
    answer
}

fn page(content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let headers: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        // Served from memory and small; a new version is seen at once.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
