//! What is answered over HTTP: the upgrade, pages, health, metrics.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use proto::handshake::{self, OpeningError};

use crate::accept::{Acceptor, Stream};
use crate::admission::Refused;
use crate::fallback::{Failed, Fallback, Paced};
use crate::metrics;
use crate::opening;
use crate::visit::Visit;

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
    peer: Option<IpAddr>,
    visit: Arc<Visit>,
) -> Result<AnyAnswer, Infallible> {
    visit.note_request();
    if is_for_websocket(&acceptor, &request) {
        return Ok(upgrade::<S>(&acceptor, request, peer, &visit)
            .await
            .map(Either::Left));
    }
    if let Some(answer) = own(&acceptor, &request).await {
        return Ok(answer.map(Either::Left));
    }
    Ok(match acceptor.fallback.clone() {
        Some(fallback) => fall_back(&acceptor, &fallback, request, peer, visit).await,
        None if acceptor.gate.config.get().path.is_none() => {
            upgrade::<S>(&acceptor, request, peer, &visit)
                .await
                .map(Either::Left)
        }
        None => text(StatusCode::NOT_FOUND, "there is nothing here\n").map(Either::Left),
    })
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
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(method_not_allowed());
    }
    match path {
        HEALTH => Some(text(StatusCode::OK, "ok\n")),
        METRICS => {
            let exposition = acceptor.exposition.render().await;
            Some(page(metrics::CONTENT_TYPE, exposition.into()))
        }
        path => {
            let mut pages = acceptor.pages.iter();
            let found = pages.find(|page| page.path == path)?;
            Some(page(found.content_type, found.body.clone()))
        }
    }
}

/// Has a request answered by the application's service.
async fn fall_back(
    acceptor: &Acceptor,
    fallback: &Fallback,
    mut request: http::Request<Incoming>,
    peer: Option<IpAddr>,
    visit: Arc<Visit>,
) -> AnyAnswer {
    if let Err(refused) = visit.begin_service(&acceptor.gate.admission) {
        return opening::refuse(refused, &acceptor.metrics.refused).map(Either::Left);
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    match fallback.answer(request, visit.clone()).await {
        Ok(answer) => answer.map(Either::Right),
        Err(Failed) => {
            visit.restart_clock();
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            text(status, "something went wrong here\n").map(Either::Left)
        }
    }
}

/// Answers a request for a WebSocket; its socket goes to the core once the answer is sent.
async fn upgrade<S: Stream>(
    acceptor: &Arc<Acceptor>,
    mut request: http::Request<Incoming>,
    peer: Option<IpAddr>,
    visit: &Visit,
) -> Answer {
    let gate = &acceptor.gate;
    let refused = &acceptor.metrics.refused;
    let visitor = match gate.look_at(&request, peer, refused) {
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
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The same for a socket that nothing is read from.
pub(crate) fn overloaded_bytes(refused: Refused) -> String {
    let body = refused.sentence();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_S}\r\n\
         Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}\n",
        body.len() + 1
    )
}

fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
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
