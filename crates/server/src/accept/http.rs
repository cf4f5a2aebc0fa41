//! What is answered over HTTP: the upgrade, pages, health, metrics.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::handshake::{self, OpeningError};
use tokio::sync::mpsc;

use super::admission::Limit;
use super::answer::{Answer, Page, allowed, closing, method_not_allowed, page, text};
use super::fallback::{Failed, Fallback, Paced};
use super::hosts::Reach;
use super::line::Line;
use super::opening::{self, Gate, Newcomer};
use super::stream::Stream;
use super::visit::Visit;
use crate::core::NewSocket;
use crate::metrics::format::Format;
use crate::metrics::{CoreMetrics, Exposition};

/// The answers that one core's listeners have.
pub(crate) struct Site {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pages: Arc<[Page]>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) exposition: Arc<Exposition>,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) new_sockets: mpsc::Sender<NewSocket>,
}

/// The sender of a request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// None of a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) reach: Reach,
    /// Why there is no place for it: then only health and metrics are answered.
    pub(crate) refused: Option<Limit>,
    pub(crate) visit: Arc<Visit>,
}

impl Site {
    /// Takes an upgraded socket out of the runtime and gives it to the core.
    async fn hand_over<S: Stream>(&self, upgraded: Upgraded, newcomer: Newcomer) {
        let Ok(parts) = upgraded.downcast::<TokioIo<Line<S>>>() else {
            return;
        };
        let stream = parts.io.into_inner().into_stream();
        let Some(Ok(stream)) = stream.map(S::into_socket) else {
            return;
        };
        let new = newcomer.on(stream, parts.read_buf);
        // Fails only when the core has ended; then the socket closes, as it should.
        _ = self.new_sockets.send(new).await;
    }
}

/// An answer with its whole body, or one of the application's service.
type AnyAnswer = Response<Either<Full<Bytes>, Paced>>;

/// Answers one request.
pub(crate) async fn answer<S: Stream>(
    site: Arc<Site>,
    request: http::Request<Incoming>,
    caller: Caller,
) -> Result<AnyAnswer, Infallible> {
    let visit = caller.visit.clone();
    visit.note_request();
    let has_body = handshake::has_body(request.headers());
    let mut answer = match choose(&site, &request, &caller).await {
        Choice::Answer(answer) => *answer,
        Choice::WebSocket => upgrade::<S>(&site, request, &caller).await,
        Choice::Service(fallback) => {
            return Ok(fall_back(&site, &fallback, request, caller).await);
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

/// The part of the server that answers a request.
enum Choice {
    Answer(Box<Answer>),
    WebSocket,
    Service(Fallback),
}

/// Checks what is so of every request, and finds out by its path what answers it.
async fn choose(site: &Site, request: &http::Request<Incoming>, caller: &Caller) -> Choice {
    let (gate, refused) = (&site.gate, &site.metrics.refused);
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
            HEALTH | METRICS => own(site, request).await,
            _ => None,
        };
        let answer = answer.unwrap_or_else(|| opening::refuse(limit, refused));
        return Choice::Answer(Box::new(answer));
    }
    if is_for_websocket(site, request) {
        return Choice::WebSocket;
    }
    if let Some(answer) = own(site, request).await {
        return Choice::Answer(Box::new(answer));
    }
    if let Some(fallback) = site.fallback.clone() {
        return Choice::Service(fallback);
    }
    match path {
        // Asked of the server as a whole (RFC 9110 section 9.3.7).
        "*" if request.method() == Method::OPTIONS => Choice::Answer(Box::new(allowed())),
        _ if site.gate.config.get().path.is_none() => Choice::WebSocket,
        _ => {
            let answer = text(StatusCode::NOT_FOUND, "not found\n");
            Choice::Answer(Box::new(answer))
        }
    }
}

/// Returns whether a request expects nothing, or what hyper does (RFC 9110 section 10.1.1).
/// HTTP/1.0 had no expectations.
fn expects_what_is_known(request: &http::Request<Incoming>) -> bool {
    let mut expected = request.headers().get_all(header::EXPECT).iter();
    request.version() < Version::HTTP_11
        || expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Returns whether a request is held against the WebSocket's rules.
fn is_for_websocket(site: &Site, request: &http::Request<Incoming>) -> bool {
    let path = request.uri().path();
    match &site.gate.config.get().path {
        Some(websocket) => websocket == path,
        // On every path that is no page: then what asks for none is the service's.
        None => site.fallback.is_some() && !is_own(site, path) && asks_for_websocket(request),
    }
}

fn asks_for_websocket(request: &http::Request<Incoming>) -> bool {
    use OpeningError::{HttpVersion, Method, NoUpgrade};
    let opening = handshake::open(request.method(), request.version(), request.headers());
    !matches!(opening, Err(HttpVersion | Method | NoUpgrade))
}

const HEALTH: &str = "/healthz";
const METRICS: &str = "/metrics";

fn is_own(site: &Site, path: &str) -> bool {
    path == HEALTH || path == METRICS || site.pages.iter().any(|page| page.path == path)
}

/// Returns health, metrics or a page, if the request is for one of them.
async fn own(site: &Site, request: &http::Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path();
    if !is_own(site, path) {
        return None;
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        // With a Content-Length beside it, that is how requests are smuggled (RFC 9112 section
        // 6.1).
        let answer = text(
            StatusCode::BAD_REQUEST,
            "chunked bodies are not supported\n",
        );
        return Some(closing(answer));
    }
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Some(allowed()),
        _ => return Some(method_not_allowed()),
    }
    match path {
        HEALTH => Some(text(StatusCode::OK, "ok\n")),
        METRICS => Some(metrics(site, request).await),
        path => {
            let mut pages = site.pages.iter();
            let found = pages.find(|page| page.path == path)?;
            Some(page(found.content_type, found.body.clone()))
        }
    }
}

/// Returns the metrics, in the format that is asked for.
async fn metrics(site: &Site, request: &http::Request<Incoming>) -> Answer {
    let format = Format::asked_for(request.headers());
    let exposition = site.exposition.render().await;
    let mut answer = page(format.content_type(), format.write(exposition).into());
    let vary = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(header::VARY, vary);
    answer
}

/// Answers a request with the application's service.
async fn fall_back(
    site: &Site,
    fallback: &Fallback,
    mut request: http::Request<Incoming>,
    caller: Caller,
) -> AnyAnswer {
    let Caller { peer, visit, .. } = caller;
    if let Err(refused) = visit.begin_service(&site.gate.admission) {
        visit.note_answer();
        return opening::refuse(refused, &site.metrics.refused).map(Either::Left);
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
            text(status, "internal error\n").map(Either::Left)
        }
    }
}

/// Answers a request for a WebSocket; its socket goes to the core once the answer is sent.
async fn upgrade<S: Stream>(
    site: &Arc<Site>,
    mut request: http::Request<Incoming>,
    caller: &Caller,
) -> Answer {
    let Caller { peer, visit, .. } = caller;
    let gate = &site.gate;
    let refused = &site.metrics.refused;
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
    let site = site.clone();
    tokio::spawn(async move {
        // A peer that is gone before the answer was sent is nobody's loss; its place is free again.
        let Ok(upgraded) = upgrade.await else { return };
        site.hand_over::<S>(upgraded, newcomer).await;
    });
    answer
}
