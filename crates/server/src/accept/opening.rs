//! Opening a WebSocket: what a request must be, who may come in, and what it is answered.
//!
//! The same for the server's own listeners and for a server that it is [mounted](crate::Mount) in.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use proto::handshake::{self, Opening, OpeningError};
use rooms::Wire;

use crate::accept::admission::{Admission, Limit, Permit};
use crate::accept::answer::{Answer, RETRY_AFTER_S, closing, overloaded, text};
use crate::accept::authority;
use crate::accept::hosts::Reach;
use crate::accept::origin::Forbidden;
use crate::app::application::{Application, State};
use crate::app::request::{Rejection, Request};
use crate::core::NewSocket;
use crate::live::Live;
use crate::metrics::RefusedCounts;
use crate::panics;
use crate::said::Said;
use crate::wire::languages::Languages;

/// The rules that requests for a WebSocket are held against.
pub(crate) struct Gate {
    pub(crate) config: Arc<Live>,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) languages: Arc<Languages>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) said: Said,
}

/// A peer whose request is valid; the application has not examined it.
pub(crate) struct Visitor {
    place: Permit,
    /// The request, if the application wants it.
    request: Option<Request>,
    wire: Wire,
    subprotocol: Option<&'static str>,
    /// The proof that the request was understood.
    accept: String,
}

/// A connection without its socket.
pub(crate) struct Newcomer {
    place: Permit,
    request: Option<Request>,
    state: Option<State>,
    wire: Wire,
}

impl Newcomer {
    /// Returns the visitor with its socket, and what the peer has sent behind its request.
    pub(crate) fn on(self, stream: socket2::Socket, leftover: Bytes) -> NewSocket {
        NewSocket {
            stream,
            leftover,
            place: self.place,
            request: self.request,
            state: self.state,
            wire: self.wire,
        }
    }
}

impl Gate {
    /// Checks whom a request is for, whatever it asks; who is refused is counted.
    pub(crate) fn check_host<B>(
        &self,
        request: &http::Request<B>,
        reach: Reach,
        refused: &RefusedCounts,
    ) -> Result<(), Box<Answer>> {
        authority::check(request).map_err(|error| {
            refused.bad_handshake.count();
            let answer = text(StatusCode::BAD_REQUEST, format!("{error}\n"));
            Box::new(closing(answer))
        })?;
        let config = self.config.get();
        let checked = config.allowed_hosts.check(reach, request.headers());
        checked.map_err(|unserved| {
            refused.host.count();
            self.said.refused_host(&unserved);
            Box::new(text(StatusCode::FORBIDDEN, format!("{unserved}\n")))
        })
    }

    /// Looks at all but the host and what the application says, and takes a place; who is refused
    /// is counted.
    pub(crate) fn look_at<B>(
        &self,
        request: &http::Request<B>,
        peer: Option<IpAddr>,
        refused: &RefusedCounts,
    ) -> Result<Visitor, Box<Answer>> {
        let headers = request.headers();
        let opening = handshake::open(request.method(), request.version(), headers);
        let Opening { accept } = opening.map_err(|error| {
            refused.bad_handshake.count();
            Box::new(bad_handshake(error))
        })?;
        let config = self.config.get();
        config.origins.check(headers).map_err(|forbidden| {
            refused.origin.count();
            self.said.refused_origin(&forbidden, &config.origins);
            Box::new(other_origin(&forbidden))
        })?;
        let place = self.admission.admit(peer);
        let place = place.map_err(|limit| Box::new(refuse(limit, refused)))?;
        let (wire, subprotocol) = self.languages.choose(handshake::offered_protocols(headers));
        let wanted = self.application.wants_request();
        Ok(Visitor {
            place,
            request: wanted.then(|| Request::new(request, peer)),
            wire,
            subprotocol,
            accept,
        })
    }

    /// Lets the application look; then the answer is 101.
    ///
    /// # Cancel safety
    ///
    /// The visitor is gone, and its place is free again.
    pub(crate) async fn admit(
        &self,
        visitor: Visitor,
        refused: &RefusedCounts,
    ) -> Result<(Answer, Newcomer), Box<Answer>> {
        let checked = self.check(visitor.request.as_ref()).await;
        let state = checked.map_err(|rejection| {
            refused.application.count();
            Box::new(rejected(rejection))
        })?;
        let answer = switching(visitor.accept, visitor.subprotocol);
        let newcomer = Newcomer {
            place: visitor.place,
            request: visitor.request,
            state,
            wire: visitor.wire,
        };
        Ok((answer, newcomer))
    }

    /// Lets the application look at a request: it comes to what is kept for the connection, if
    /// anything is made already, or to a refusal.
    async fn check(&self, request: Option<&Request>) -> Result<Option<State>, Rejection> {
        const WHAT: &str = "the hook for handshakes";
        let failed = |_| Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
        let check = || self.application.check(request?);
        let Some(checking) = panics::catch(WHAT, None, check).map_err(failed)? else {
            return Ok(None);
        };
        let checking = panics::catch_in(WHAT, checking);
        let time = self.config.get().timeouts.handshake;
        match tokio::time::timeout(time, checking).await {
            Ok(checked) => checked.map_err(failed)?.map(Some),
            Err(_) => Err(Rejection::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the handshake timed out\n",
            )
            .header(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))),
        }
    }
}

/// Counts who met a limit, and tells it.
pub(crate) fn refuse(limit: Limit, refused: &RefusedCounts) -> Answer {
    match limit {
        Limit::Connections => &refused.connections,
        Limit::ConnectionsPerIp => &refused.connections_per_ip,
        Limit::FallbackConnections => &refused.fallback_connections,
        Limit::Handshakes => &refused.handshakes,
        Limit::OpenFiles => &refused.open_files,
        Limit::Stopping => &refused.stopping,
    }
    .count();
    overloaded(limit)
}

/// Returns the answer that makes a connection of a request.
fn switching(accept: String, subprotocol: Option<&'static str>) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept.try_into() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(name) = subprotocol {
        let name = HeaderValue::from_static(name);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    answer
}

/// Returns the answer to a request that the application refuses.
fn rejected(rejection: Rejection) -> Answer {
    let (status, headers, body) = rejection.into_parts();
    let mut answer = text(status, body);
    for (name, value) in &headers {
        answer.headers_mut().append(name, value.clone());
    }
    answer
}

fn bad_handshake(error: OpeningError) -> Answer {
    let mut answer = text(error.status(), format!("{error}\n"));
    match error.status() {
        StatusCode::UPGRADE_REQUIRED => {
            let version = HeaderValue::from_static(handshake::VERSION);
            answer
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_VERSION, version);
            let headers = answer.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            answer
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    if error == OpeningError::Body {
        // What follows is neither a frame nor a request.
        return closing(answer);
    }
    answer
}

/// Returns the answer to a page of another origin.
fn other_origin(forbidden: &Forbidden<'_>) -> Answer {
    let sentence = format!(
        "{forbidden} may not open a WebSocket here; the operator can allow it with \
         THRONG_ORIGINS (Config::origins)\n"
    );
    text(StatusCode::FORBIDDEN, sentence)
}
