//! The client's side of the opening handshake (RFC 6455 section 4.1), over bytes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::failure::Failure;
use crate::target::Target;

/// A refusal's body is shown up to here.
const BODY_SHOWN_MAX: usize = 200;

/// A response head longer than this is not one.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

const HEADERS_MAX: usize = 64;

/// The request for a connection, with a key from [`proto::handshake::request_key`].
pub(crate) fn request(target: &Target, key: &str) -> Vec<u8> {
    let mut request = String::with_capacity(256);
    let Target {
        path,
        authority,
        wire,
        ..
    } = target;
    write!(
        request,
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {}\r\n",
        proto::handshake::VERSION
    )
    .expect("a string takes everything");
    if let Some(sub_protocol) = &wire.sub_protocol {
        write!(request, "Sec-WebSocket-Protocol: {sub_protocol}\r\n")
            .expect("a string takes everything");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// What the bytes received so far are.
#[derive(Debug)]
pub(crate) enum Response {
    /// A connection; frames begin behind this many bytes.
    Accepted { head_bytes: usize },
    /// Not a whole answer yet.
    Incomplete,
    /// An answer, but no connection.
    Refused {
        failure: Failure,
        /// The status, if it was HTTP and another than 101.
        status: Option<u16>,
        /// When to come back, if the server says so in seconds.
        retry_after: Option<Duration>,
        /// Whether the whole body is there to be shown.
        complete: bool,
    },
}

/// Reads the answer to the request that had this key.
pub(crate) fn read(bytes: &[u8], key: &str, target: &Target) -> Response {
    let address = target.address;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let malformed = |reason: String| Response::Refused {
        failure: Failure::HandshakeMalformed { address, reason },
        status: None,
        retry_after: None,
        complete: true,
    };
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() < RESPONSE_BYTES_MAX => {
            return Response::Incomplete;
        }
        Ok(httparse::Status::Partial) => return malformed("endless header".to_owned()),
        Err(error) => return malformed(error.to_string()),
    };
    let code = response.code.unwrap_or_default();
    if code != 101 {
        return refusal(&response, code, &bytes[head_bytes..], address);
    }
    let accept = proto::handshake::accept_key(key.as_bytes());
    if header(&response, "sec-websocket-accept") != Some(&accept) {
        let failure = Failure::HandshakeUnproved { address };
        return Response::Refused {
            failure,
            status: None,
            retry_after: None,
            complete: true,
        };
    }
    let (wanted, agreed) = (
        target.wire.sub_protocol.as_deref(),
        header(&response, "sec-websocket-protocol"),
    );
    if wanted.is_some() && wanted != agreed {
        let failure = Failure::SubProtocol {
            wanted: wanted.unwrap_or_default().to_owned(),
            agreed: agreed.unwrap_or("none").to_owned(),
        };
        return Response::Refused {
            failure,
            status: Some(code),
            retry_after: None,
            complete: true,
        };
    }
    Response::Accepted { head_bytes }
}

/// What an answer says that the server is.
pub(crate) fn server_name(bytes: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(bytes).ok()?;
    header(&response, "server").map(str::to_owned)
}

fn refusal(
    response: &httparse::Response<'_, '_>,
    code: u16,
    body: &[u8],
    address: SocketAddr,
) -> Response {
    let length: Option<usize> =
        header(response, "content-length").and_then(|text| text.parse().ok());
    let complete = length.is_some_and(|length| body.len() >= length.min(BODY_SHOWN_MAX));
    let retry_after = header(response, "retry-after").and_then(|text| text.parse().ok());
    let shown = String::from_utf8_lossy(&body[..body.len().min(BODY_SHOWN_MAX)]);
    let words: Vec<_> = shown.split_whitespace().collect();
    let body = if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(" "))
    };
    let status = format!("{code} {}", response.reason.unwrap_or_default());
    let status = status.trim_end().to_owned();
    Response::Refused {
        failure: Failure::HandshakeRefused {
            address,
            status,
            body,
        },
        status: Some(code),
        retry_after: retry_after.map(Duration::from_secs),
        complete,
    }
}

fn header<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a str> {
    let header = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    /// The key and its proof of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x00";

    fn target() -> Target {
        let wire = Wire::named("golem").unwrap();
        Target::resolve("ws://127.0.0.1:1/ws", false, wire).unwrap()
    }

    fn refusal_of(bytes: &[u8]) -> (String, bool) {
        match read(bytes, KEY, &target()) {
            Response::Refused {
                failure, complete, ..
            } => (failure.to_string(), complete),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_acceptance_is_read_at_any_cut() {
        let head = ACCEPTED.len() - 2;
        for end in 0..head {
            assert!(matches!(
                read(&ACCEPTED[..end], KEY, &target()),
                Response::Incomplete
            ));
        }
        for end in head..=ACCEPTED.len() {
            let response = read(&ACCEPTED[..end], KEY, &target());
            assert!(matches!(response, Response::Accepted { head_bytes } if head_bytes == head));
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_status_and_body() {
        let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno\n room\n";
        let (text, complete) = refusal_of(bytes);
        assert!(
            text.contains("refused the handshake with 404 Not Found: no room;"),
            "{text}"
        );
        assert!(complete);
        assert!(!refusal_of(&bytes[..bytes.len() - 1]).1);
    }

    #[test]
    fn a_sub_protocol_is_asked_for_and_has_to_be_agreed_to() {
        let mut target = target();
        target.wire.sub_protocol = Some("chat.v2".to_owned());
        let request = String::from_utf8(request(&target, KEY)).unwrap();
        assert!(
            request.ends_with("\r\nSec-WebSocket-Protocol: chat.v2\r\n\r\n"),
            "{request}"
        );
        let Response::Refused { failure, .. } = read(ACCEPTED, KEY, &target) else {
            panic!("nothing was agreed to");
        };
        assert!(failure.to_string().contains("asked for chat.v2"));
        let agreed = String::from_utf8_lossy(ACCEPTED).replace(
            "sec-websocket-accept",
            "Sec-WebSocket-Protocol: chat.v2\r\nsec-websocket-accept",
        );
        let response = read(agreed.as_bytes(), KEY, &target);
        assert!(matches!(response, Response::Accepted { .. }));
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 3\r\n\r\n";
        match read(bytes, KEY, &target()) {
            Response::Refused {
                status,
                retry_after,
                ..
            } => {
                assert_eq!(status, Some(503));
                assert_eq!(retry_after, Some(Duration::from_secs(3)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nonsense_and_a_wrong_proof_are_refused() {
        assert!(refusal_of(b"SSH-2.0-hello\r\n").0.contains("not HTTP"));
        let wrong = String::from_utf8_lossy(ACCEPTED).replace("s3pP", "AAAA");
        assert!(
            refusal_of(wrong.as_bytes())
                .0
                .contains("wrong Sec-WebSocket-Accept")
        );
    }

    #[test]
    fn a_server_may_say_what_it_is() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nSERVER: bun/1.4\r\n\r\n";
        assert_eq!(server_name(answer).as_deref(), Some("bun/1.4"));
        assert_eq!(server_name(ACCEPTED), None);
    }
}
