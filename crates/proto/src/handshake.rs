//! The opening handshake's rules as functions of headers (RFC 6455 section 4).
//!
//! Reading and writing the HTTP around them is the server's task.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use sha1::{Digest, Sha1};
use thiserror::Error;

/// The only version of the protocol there is (RFC 6455 section 4.1).
pub const VERSION: &str = "13";

/// The constant with which the server proves that it understood the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A valid request to open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The value for `Sec-WebSocket-Accept`.
    pub accept: String,
}

/// A violation in a request to open a connection. The text is for the person who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// The `Connection` header does not say upgrade.
    #[error("the Connection header must contain \"Upgrade\"")]
    ConnectionHeader,
    /// The request has a body, whose bytes would be taken for frames.
    #[error("a WebSocket opens with a request without a body")]
    Body,
    /// HTTP/1.0 or older.
    #[error("a WebSocket opens with HTTP/1.1")]
    HttpVersion,
    /// The key is missing, given twice, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be given once, 16 bytes in base64")]
    Key,
    /// Not a GET.
    #[error("a WebSocket opens with GET")]
    Method,
    /// Not a WebSocket request at all.
    #[error("this address speaks WebSocket: send Upgrade: websocket")]
    NoUpgrade,
    /// The version is given twice.
    #[error("Sec-WebSocket-Version must be given once")]
    RepeatedVersion,
    /// Another version than 13.
    #[error("only version 13 is spoken: send Sec-WebSocket-Version: 13")]
    ProtocolVersion,
}

impl OpeningError {
    /// Returns the status to answer with. 426 needs `Upgrade: websocket` and
    /// `Sec-WebSocket-Version: 13` beside it (RFC 6455 section 4.4).
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Body
            | Self::ConnectionHeader
            | Self::HttpVersion
            | Self::Key
            | Self::RepeatedVersion => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade | Self::ProtocolVersion => StatusCode::UPGRADE_REQUIRED,
        }
    }
}

/// Checks a request to open a connection.
///
/// # Errors
///
/// The first violation, in the order in which a person would fix them.
pub fn open(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Opening, OpeningError> {
    if method != Method::GET {
        return Err(OpeningError::Method);
    }
    if version < Version::HTTP_11 {
        return Err(OpeningError::HttpVersion);
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(OpeningError::NoUpgrade);
    }
    if has_body(headers) {
        return Err(OpeningError::Body);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(OpeningError::ConnectionHeader);
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    let version = versions.next();
    if versions.next().is_some() {
        return Err(OpeningError::RepeatedVersion);
    }
    if version.is_none_or(|version| version.as_bytes() != VERSION.as_bytes()) {
        return Err(OpeningError::ProtocolVersion);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(OpeningError::Key);
    };
    let mut decoded = [0; 18];
    match BASE64.decode_slice(key.as_bytes(), &mut decoded) {
        Ok(16) => Ok(Opening {
            accept: accept_key(key.as_bytes()),
        }),
        _ => Err(OpeningError::Key),
    }
}

/// Returns whether a body follows these headers (RFC 9112 section 6). After `Content-Length: 0`
/// none does.
pub fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_zero = |len: &HeaderValue| {
        let len = len.as_bytes();
        !len.is_empty() && len.iter().all(|digit| *digit == b'0')
    };
    headers.contains_key(header::TRANSFER_ENCODING) || !lengths.all(is_zero)
}

/// Returns the `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`.
///
/// ```
/// // The example of RFC 6455 section 1.3.
/// let accept = throng_proto::handshake::accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &[u8]) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Returns the `Sec-WebSocket-Key` for 16 bytes that a client picked at random.
pub fn request_key(nonce: [u8; 16]) -> String {
    BASE64.encode(nonce)
}

/// Returns the subprotocols that a client offers, in its order of preference.
pub fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

/// Returns whether a comma-separated header has this token, in any case of letters.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// Returns the tokens of a comma-separated header that may be given several times.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> Result<Opening, OpeningError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        open(&Method::GET, Version::HTTP_11, &map)
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
    const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
    const VERSION_13: (&str, &str) = ("sec-websocket-version", "13");

    #[test]
    fn a_browsers_request_is_accepted() {
        let opening = request(&[UPGRADE, CONNECTION, VERSION_13, KEY]).unwrap();
        assert_eq!(opening.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_missing_header_has_its_own_answer() {
        assert_eq!(
            request(&[CONNECTION, VERSION_13, KEY]),
            Err(OpeningError::NoUpgrade)
        );
        assert_eq!(
            request(&[UPGRADE, VERSION_13, KEY]),
            Err(OpeningError::ConnectionHeader)
        );
        assert_eq!(
            request(&[UPGRADE, CONNECTION, KEY]),
            Err(OpeningError::ProtocolVersion)
        );
        assert_eq!(
            request(&[UPGRADE, CONNECTION, VERSION_13]),
            Err(OpeningError::Key)
        );
    }

    #[test]
    fn two_keys_a_short_key_and_a_long_key_are_refused() {
        let with = |keys: &[(&'static str, &str)]| {
            request(&[&[UPGRADE, CONNECTION, VERSION_13], keys].concat())
        };
        assert_eq!(with(&[KEY, KEY]), Err(OpeningError::Key));
        assert_eq!(
            with(&[("sec-websocket-key", "c2hvcnQ=")]),
            Err(OpeningError::Key)
        );
        let long = "A".repeat(400);
        assert_eq!(
            with(&[("sec-websocket-key", &long)]),
            Err(OpeningError::Key)
        );
    }

    #[test]
    fn a_request_with_a_body_and_two_versions_are_refused() {
        let with = |more: &[(&'static str, &str)]| {
            request(&[&[UPGRADE, CONNECTION, VERSION_13, KEY], more].concat())
        };
        for body in [
            ("content-length", "1"),
            ("content-length", "10"),
            ("content-length", ""),
            ("content-length", "0, 1"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(with(&[body]), Err(OpeningError::Body), "{body:?}");
            let zero = ("content-length", "0");
            assert_eq!(with(&[zero, body]), Err(OpeningError::Body), "{body:?}");
        }
        assert!(with(&[("content-length", "0")]).is_ok());
        assert_eq!(with(&[VERSION_13]), Err(OpeningError::RepeatedVersion));
    }

    #[test]
    fn the_method_and_the_http_version_are_checked() {
        let headers = HeaderMap::new();
        let post = open(&Method::POST, Version::HTTP_11, &headers);
        assert_eq!(post.unwrap_err().status(), StatusCode::METHOD_NOT_ALLOWED);
        let old = open(&Method::GET, Version::HTTP_10, &headers);
        assert_eq!(old.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn offered_protocols_keep_their_order_over_several_headers() {
        let mut headers = HeaderMap::new();
        headers.append("sec-websocket-protocol", "a, b".parse().unwrap());
        headers.append("sec-websocket-protocol", "c".parse().unwrap());
        assert_eq!(
            offered_protocols(&headers).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
    }
}
