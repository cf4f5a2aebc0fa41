//! The client's side of the opening handshake (RFC 6455 section 4.1), over bytes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Error, anyhow};
use httparse::Status;

use crate::opening::Refusal;
use crate::target::Target;

/// A refusal's body is shown up to here.
const BODY_SHOWN_MAX: usize = 200;

/// A response head longer than this is not one.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

const HEADERS_MAX: usize = 64;

/// Returns the request for a connection, with a key from [`proto::handshake::request_key`].
pub(crate) fn request(target: &Target, key: &str) -> Vec<u8> {
    let Target {
        path,
        authority,
        wire,
        ..
    } = target;
    let sub_protocol = wire.sub_protocol.as_ref();
    let sub_protocol = sub_protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {}\r\n{}\r\n",
        proto::handshake::VERSION,
        sub_protocol.unwrap_or_default()
    )
    .into_bytes()
}

/// What the bytes received so far are.
#[derive(Debug)]
pub(crate) enum Response {
    /// A connection; frames begin behind this many bytes.
    Accepted {
        head_bytes: usize,
        /// What the answer says that the server is.
        server_name: Option<String>,
    },
    /// Not a whole answer yet.
    Incomplete,
    /// An answer, but no connection.
    Refused(Box<Refused>),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Refused {
    /// A sentence for a person.
    pub(crate) failure: Error,
    /// A word for a report.
    pub(crate) refusal: Refusal,
    /// When to come back, if the server says so in seconds.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the whole body is there to be shown.
    pub(crate) complete: bool,
}

impl Response {
    fn refused(failure: Error, refusal: Refusal) -> Self {
        Self::Refused(Box::new(Refused {
            failure,
            refusal,
            retry_after: None,
            complete: true,
        }))
    }
}

/// Reads the answer to the request that had this key.
pub(crate) fn read(bytes: &[u8], key: &str, target: &Target) -> Response {
    let address = target.address;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let unreadable =
        |reason: &str| Response::refused(malformed(address, reason), Refusal::Malformed);
    let head_bytes = match response.parse(bytes) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) if bytes.len() < RESPONSE_BYTES_MAX => return Response::Incomplete,
        Ok(Status::Partial) => return unreadable("endless header"),
        Err(error) => return unreadable(&error.to_string()),
    };
    let code = response.code.unwrap_or_default();
    if code != 101 {
        return refusal(&response, code, &bytes[head_bytes..], address);
    }
    let accept = proto::handshake::accept_key(key.as_bytes());
    if header(&response, "sec-websocket-accept") != Some(&accept) {
        let failure = anyhow!(
            "the server at {address} answered 101 with a wrong Sec-WebSocket-Accept; it does not \
             follow RFC 6455, or a proxy stands between"
        );
        return Response::refused(failure, Refusal::Malformed);
    }
    let agreed = header(&response, "sec-websocket-protocol");
    if let Some(wanted) = target.wire.sub_protocol.as_deref()
        && agreed != Some(wanted)
    {
        let failure = anyhow!(
            "the server was asked for {wanted} in Sec-WebSocket-Protocol and agreed to {}; try \
             another --sub-protocol",
            agreed.unwrap_or("none")
        );
        return Response::refused(failure, Refusal::Status(code));
    }
    let server_name = header(&response, "server").map(str::to_owned);
    Response::Accepted {
        head_bytes,
        server_name,
    }
}

/// Says that an answer is none.
pub(crate) fn malformed(address: SocketAddr, reason: &str) -> Error {
    anyhow!(
        "the server at {address} answered the handshake with what is not HTTP ({reason}); is it a \
         WebSocket server?"
    )
}

fn refusal(
    response: &httparse::Response<'_, '_>,
    code: u16,
    body: &[u8],
    address: SocketAddr,
) -> Response {
    let number = |name| header(response, name).and_then(|text| text.parse::<u64>().ok());
    let shown = &body[..body.len().min(BODY_SHOWN_MAX)];
    let words = String::from_utf8_lossy(shown);
    let words: Vec<_> = words.split_whitespace().collect();
    let separator = if words.is_empty() { "" } else { ": " };
    let status = format!("{code} {}", response.reason.unwrap_or_default());
    let failure = anyhow!(
        "the server at {address} refused the handshake with {}{separator}{}; try another path in \
         --url",
        status.trim_end(),
        words.join(" ")
    );
    Response::Refused(Box::new(Refused {
        failure,
        refusal: Refusal::Status(code),
        retry_after: number("retry-after").map(Duration::from_secs),
        complete: number("content-length")
            .is_some_and(|length| shown.len() as u64 >= length.min(BODY_SHOWN_MAX as u64)),
    }))
}

fn header<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a str> {
    let mut headers = response.headers.iter();
    let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
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
            Response::Refused(refused) => (refused.failure.to_string(), refused.complete),
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
            assert!(
                matches!(response, Response::Accepted { head_bytes, .. } if head_bytes == head)
            );
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
        let Response::Refused(refused) = read(ACCEPTED, KEY, &target) else {
            panic!("nothing was agreed to");
        };
        assert!(refused.failure.to_string().contains("asked for chat.v2"));
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
            Response::Refused(refused) => {
                assert_eq!(refused.refusal, Refusal::Status(503));
                assert_eq!(refused.retry_after, Some(Duration::from_secs(3)));
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
        let server_name = |answer: &str| match read(answer.as_bytes(), KEY, &target()) {
            Response::Accepted { server_name, .. } => server_name,
            other => panic!("{other:?}"),
        };
        let accepted = String::from_utf8_lossy(ACCEPTED);
        let named = accepted.replace("sec-", "SERVER: bun/1.4\r\nsec-");
        assert_eq!(server_name(&named).as_deref(), Some("bun/1.4"));
        assert_eq!(server_name(&accepted), None);
    }
}
