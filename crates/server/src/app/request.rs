//! The request that opens a connection, and how it is refused.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

/// The request that opens a connection: its head, and from where it came. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Request(Arc<Opening>);

#[derive(Debug)]
struct Opening {
    head: Parts,
    peer: Option<IpAddr>,
}

impl Request {
    pub(crate) fn new<B>(request: &http::Request<B>, peer: Option<IpAddr>) -> Self {
        let mut head = http::Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        Self(Arc::new(Opening {
            head: head.into_parts().0,
            peer,
        }))
    }

    /// Returns the method, which is GET.
    pub fn method(&self) -> &Method {
        &self.0.head.method
    }

    /// Returns the target of the request.
    pub fn uri(&self) -> &Uri {
        &self.0.head.uri
    }

    /// Returns the path of the target, percent-encoded as it came.
    pub fn path(&self) -> &str {
        self.uri().path()
    }

    /// Returns the query of the target, behind its `?`, percent-encoded as it came.
    pub fn query(&self) -> Option<&str> {
        self.uri().query()
    }

    /// Returns all headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.head.headers
    }

    /// Returns the first header with this name, in any case; none if there is none or it is not
    /// visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the first cookie with this name (RFC 6265, section 4.2.1), as it came, without
    /// quotes around it.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie(self.headers(), name)
    }

    /// Returns the address that the connection came from: a proxy's, if there is one before the
    /// server. None for a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.peer
    }
}

/// Returns the first cookie with this name among some headers, as [`Request::cookie`] finds it: for
/// answers to other requests.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let headers = headers.get_all(header::COOKIE).iter();
    let pairs = headers.filter_map(|header| header.to_str().ok());
    let mut pairs = pairs.flat_map(|header| header.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found.trim() == name).then(|| unquoted(value.trim()))
    })
}

fn unquoted(value: &str) -> &str {
    let inner = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// A request that does not become a connection, and what it is answered over HTTP.
///
/// A browser's `WebSocket` shows nothing of it to the page: there, a refusal looks like close code
/// 1006.
///
/// # Examples
///
/// ```
/// use throng::Rejection;
///
/// let rejection = Rejection::new(http::StatusCode::TOO_MANY_REQUESTS, "come back later\n")
///     .header(http::header::RETRY_AFTER, http::HeaderValue::from_static("30"));
/// assert_eq!(rejection.status(), 429);
/// ```
#[derive(Clone, Debug)]
pub struct Rejection {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Rejection {
    /// Returns a refusal with a status, and a body of plain text for people. A status below 400 is
    /// answered as 403, for it would not say that there is no connection.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let says_no = status.is_client_error() || status.is_server_error();
        Self {
            status: if says_no {
                status
            } else {
                StatusCode::FORBIDDEN
            },
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    /// Returns a refusal with 401: it is not known who asks.
    pub fn unauthorized(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, body)
    }

    /// Returns a refusal with 403: it is known who asks, and that one may not.
    pub fn forbidden(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::FORBIDDEN, body)
    }

    /// Adds a header, such as `WWW-Authenticate` or `Set-Cookie`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Returns the status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_parts(self) -> (StatusCode, HeaderMap, Bytes) {
        (self.status, self.headers, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookies: &[&str]) -> Request {
        let mut request = http::Request::get("/ws?room=1");
        for cookie in cookies {
            request = request.header("cookie", *cookie);
        }
        Request::new(&request.body(()).unwrap(), None)
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let request = request(&["a=1; sid=x=y; asid=2", r#"quoted="3""#]);
        assert_eq!(request.cookie("a"), Some("1"));
        assert_eq!(request.cookie("sid"), Some("x=y"));
        assert_eq!(request.cookie("quoted"), Some("3"));
        assert_eq!(request.cookie("id"), None);
        assert_eq!(request.query(), Some("room=1"));
    }

    #[test]
    fn a_refusal_never_says_yes() {
        assert_eq!(Rejection::new(StatusCode::OK, "").status(), 403);
        assert_eq!(Rejection::unauthorized("").status(), 401);
    }
}
