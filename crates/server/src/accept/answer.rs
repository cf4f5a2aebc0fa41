//! Answers over HTTP, and the pages that are served as they are.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::admission::Limit;

/// An answer with its whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

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
    /// Returns a page of any kind, with the value of its `Content-Type`.
    pub fn new(path: &'static str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            path,
            content_type,
            body,
        }
    }

    /// Returns an HTML page.
    pub fn html(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/html; charset=utf-8", body)
    }

    /// Returns a script, or a module of one.
    pub fn script(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/javascript; charset=utf-8", body)
    }

    /// Returns a style sheet.
    pub fn style(path: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(path, "text/css; charset=utf-8", body)
    }
}

/// Permissions of pages: to load what this server serves, and to open WebSockets.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// After how many seconds a refused peer is told to come back.
pub(crate) const RETRY_AFTER_S: &str = "2";

/// Returns the answer at a limit.
pub(crate) fn overloaded(refused: Limit) -> Answer {
    let mut answer = text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{}\n", refused.sentence()),
    );
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    closing(answer)
}

/// Methods for pages, health and metrics.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

pub(super) fn method_not_allowed() -> Answer {
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed: use GET\n",
    );
    answer.headers_mut().insert(header::ALLOW, ALLOWED);
    answer
}

pub(super) fn allowed() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, ALLOWED);
    answer
}

/// Returns the answer as the connection's last.
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

pub(super) fn page(content_type: &'static str, body: Bytes) -> Answer {
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
