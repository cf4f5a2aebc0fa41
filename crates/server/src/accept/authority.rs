//! Whom a request is for: the `Host` header, which every rule about hosts and origins relies on.
//!
//! A request that leaves it open, names several or contradicts itself is refused before anything
//! else looks at it (RFC 9112 section 3.2), so that a proxy and this server never take it for
//! different hosts.

use std::fmt;
use std::net::Ipv6Addr;

use http::uri::Uri;
use http::{HeaderMap, Request, Version, header};
use thiserror::Error;

/// A fault in the host of a request. The text is for the person who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum HostError {
    #[error("the request line names another host than the Host header")]
    Contradiction,
    #[error("the Host header must be a host, with or without a port")]
    Malformed,
    #[error("a request must have a Host header")]
    Missing,
    #[error("a request must have one Host header, not several")]
    Several,
}

/// Checks that a request is for one host, well-formed and the same wherever it is named. Only
/// HTTP/1.0 may name none.
///
/// # Errors
///
/// [`HostError`], to be answered with 400.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), HostError> {
    let target = target_of(request.uri())?;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if request.version() < Version::HTTP_11 => return Ok(()),
        (None, _) => return Err(HostError::Missing),
        (Some(_), Some(_)) => return Err(HostError::Several),
    };
    let host = host.to_str().map_err(|_| HostError::Malformed)?;
    let host = split(host).ok_or(HostError::Malformed)?;
    let Some((target, default)) = target else {
        return Ok(());
    };
    let port = |(_, port): (&str, Option<u16>)| port.unwrap_or(default);
    let is_same = host.0.eq_ignore_ascii_case(target.0) && port(host) == port(target);
    is_same.then_some(()).ok_or(HostError::Contradiction)
}

/// A host, with its port if one is written.
type HostPort<'a> = (&'a str, Option<u16>);

/// Returns the host in a request line with a whole address, and the port that goes without saying.
fn target_of(uri: &Uri) -> Result<Option<(HostPort<'_>, u16)>, HostError> {
    let Some(scheme) = uri.scheme_str() else {
        return Ok(None);
    };
    let host = uri.authority().and_then(|host| split(host.as_str()));
    let target = host.zip(default_port(scheme));
    target.map(Some).ok_or(HostError::Malformed)
}

/// Returns the host of a request that was [checked](check); none only of HTTP/1.0.
pub(crate) fn host_of(headers: &HeaderMap) -> Option<HostPort<'_>> {
    split(headers.get(header::HOST)?.to_str().ok()?)
}

/// Splits `host [":" port]` as RFC 3986 section 3.2 has it; nothing if it is not of that form.
fn split(text: &str) -> Option<HostPort<'_>> {
    let (host, rest) = if text.starts_with('[') {
        let end = text.find(']')?;
        text[1..end].parse::<Ipv6Addr>().ok()?;
        text.split_at(end + 1)
    } else {
        let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        is_reg_name(host).then_some((host, rest))?
    };
    let port = match rest {
        "" | ":" => None,
        rest => Some(port(rest.strip_prefix(':')?)?),
    };
    Some((host, port))
}

/// Returns whether the text is a reg-name (RFC 3986 section 3.2.2) that is not empty: HTTP has no
/// empty host (RFC 9110 section 4.2.1).
fn is_reg_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_in_order = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|hex| hex.is_ascii_hexdigit())),
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_in_order {
            return false;
        }
    }
    !text.is_empty()
}

/// A host, and a port if one is written, in the letters that names of hosts are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    pub(crate) host: Host<'a>,
    pub(crate) port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            return Some(Self {
                host: Host::V6(address.parse().ok()?),
                port: match rest {
                    "" => None,
                    rest => Some(port(rest.strip_prefix(':')?)?),
                },
            });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, digits)) => (name, Some(port(digits)?)),
            None => (text, None),
        };
        is_name(name).then_some(Self {
            host: Host::Name(name),
            port,
        })
    }
}

/// A host's name or address. An IPv4 address is a name, for it is written in one way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl Host<'_> {
    /// Returns whether it is `wanted`, or with `is_below` a host with more labels before that.
    /// `wanted` is in lower case, and an IPv6 address as it is displayed.
    pub(crate) fn is(&self, wanted: &str, is_below: bool) -> bool {
        let name = match self {
            Host::Name(name) => name,
            // Written in one way only, however it came.
            Host::V6(_) => return !is_below && *self.to_string() == *wanted,
        };
        if !is_below {
            return name.eq_ignore_ascii_case(wanted);
        }
        // A name is ASCII: it can be cut anywhere.
        let Some(len) = name.len().checked_sub(wanted.len()) else {
            return false;
        };
        let (labels, host) = name.split_at(len);
        host.eq_ignore_ascii_case(wanted)
            && labels.strip_suffix('.').is_some_and(|labels| {
                let mut labels = labels.split('.');
                labels.all(|label| !label.is_empty())
            })
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::V6(one), Self::V6(other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Returns the default port of a scheme.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

/// Reads a port in digits alone; `u16` would take a sign too.
fn port(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// Returns whether a browser may send the text as the name of a host that it has found.
fn is_name(text: &str) -> bool {
    let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_a_name)
}
