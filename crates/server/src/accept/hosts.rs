//! Which hosts are served: the `Host` header of a request, held against rules.
//!
//! A page's origin is compared with the host that its browser believes it is talking to. Whoever
//! owns a name can let it resolve to this machine's loopback (DNS rebinding). Then the browser
//! sends that name as `Host` and in `Origin`, and a server that only this machine can reach is open
//! to that page. So where only this machine can connect, the name itself must be known.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use thiserror::Error;

use crate::accept::authority::{self, Authority, Host};
use crate::accept::rules::{Rules, is_one};

/// Which hosts are served, by the `Host` header of requests.
///
/// | rule | which `Host` it allows |
/// |---|---|
/// | `chat.example.com`, `192.0.2.1`, `[2001:db8::1]` | this one, with any port or none |
/// | `chat.example.com:8443` | this one with this port |
/// | `*.example.com` | hosts with one label or more before that, not `example.com` |
/// | `*` | all |
///
/// The names of this machine's loopback are always allowed: `localhost`, names below it,
/// 127.0.0.0/8 and `[::1]`. Without a rule, a listener on a loopback address serves no other host,
/// and every other listener serves all. Unix sockets serve every host, for no browser can be led
/// there. So does `/healthz`, which says nothing of anybody.
///
/// Costs a comparison for each rule when a request is answered, and nothing on a WebSocket.
///
/// # Examples
///
/// ```
/// use throng::{Config, Hosts};
///
/// assert_eq!(Config::default().allowed_hosts, Hosts::default());
///
/// let hosts = Hosts::list(["chat.example.com", "*.example.org"])?;
/// assert_eq!(hosts, "chat.example.com,*.example.org".parse()?);
///
/// let error = Hosts::list(["https://example.com"]).unwrap_err();
/// assert!(error.to_string().contains("https://example.com"));
/// # Ok::<(), throng::HostsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    rules: Rules<Rule>,
}

/// A text that is no rule for hosts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{pattern}\" is not a host: use chat.example.com, chat.example.com:8443, *.example.com, \
     192.0.2.1, [2001:db8::1] or *"
)]
pub struct HostsError {
    pattern: String,
}

/// The origin of a request, as far as it decides which hosts the request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A TCP listener that only this machine can connect to. A browser on it can be led there.
    Loopback,
    /// A listener that others can connect to, or one of another server, which knows its own.
    Network,
    /// A Unix socket. Browsers cannot be led there.
    Unix,
}

impl Reach {
    /// Returns the reach of a listener on this address.
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Network
        }
    }
}

impl Hosts {
    /// Returns the hosts that one of these rules allows.
    ///
    /// # Errors
    ///
    /// [`HostsError`] with the first text that is no rule.
    pub fn list<T: AsRef<str>>(rules: impl IntoIterator<Item = T>) -> Result<Self, HostsError> {
        Rules::list(rules).map(|rules| Self { rules })
    }

    /// Checks the headers of a request whose host is well-formed.
    pub(crate) fn check<'h>(
        &'h self,
        reach: Reach,
        headers: &'h HeaderMap,
    ) -> Result<(), Unserved<'h>> {
        // Without a host it is HTTP/1.0, which no browser speaks.
        let Some((host, port)) = authority::host_of(headers) else {
            return Ok(());
        };
        let is_open = self.rules.is_empty() && reach == Reach::Network;
        if is_open || reach == Reach::Unix || self.allows(host, port) {
            return Ok(());
        }
        Err(Unserved { host, rules: self })
    }

    fn allows(&self, host: &str, port: Option<u16>) -> bool {
        if self.rules.contains(&Rule::Any) {
            return true;
        }
        let Some(Authority { host, .. }) = Authority::parse(host) else {
            return false;
        };
        is_loopback(host) || self.rules.iter().any(|rule| rule.allows(host, port))
    }
}

/// Returns whether a host is a name of this machine's loopback, whoever asks.
fn is_loopback(host: Host<'_>) -> bool {
    match host {
        Host::V6(address) => address.to_canonical().is_loopback(),
        Host::Name(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let host = Host::Name(name);
            host.is(LOCALHOST, false)
                || host.is(LOCALHOST, true)
                || name
                    .parse()
                    .is_ok_and(|address: Ipv4Addr| address.is_loopback())
        }
    }
}

/// The name that browsers and resolvers keep for the loopback (RFC 6761 section 6.3).
const LOCALHOST: &str = "localhost";

impl FromIterator<Self> for Hosts {
    /// Hosts that any of them allows.
    fn from_iter<I: IntoIterator<Item = Self>>(several: I) -> Self {
        let rules = Rules::of_all(several.into_iter().map(|hosts| hosts.rules));
        Self { rules }
    }
}

impl FromStr for Hosts {
    type Err = HostsError;

    /// Reads rules that are separated by commas; an empty text has none.
    fn from_str(text: &str) -> Result<Self, HostsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.parse().map(|rules| Self { rules })
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// A host that no rule allows.
#[derive(Debug)]
pub(crate) struct Unserved<'h> {
    host: &'h str,
    rules: &'h Hosts,
}

/// The longest host that is said again, in bytes: a name has at most 253.
const SHOWN_LEN_MAX: usize = 253;

impl Unserved<'_> {
    /// Returns what was asked for, for the log: visible ASCII, and bounded.
    pub(crate) fn host(&self) -> String {
        let shown = &self.host[..self.host.len().min(SHOWN_LEN_MAX)];
        format!("the host \"{shown}\" is not served")
    }

    /// Returns the rules that would serve the host too and no other, if there can be such.
    pub(crate) fn wanted(&self) -> Option<Hosts> {
        if !is_one(self.host, SHOWN_LEN_MAX) {
            return None;
        }
        let host = Hosts::list([self.host]).ok()?;
        Some([self.rules.clone(), host].into_iter().collect())
    }
}

impl fmt::Display for Unserved<'_> {
    /// Says which line of the settings would let it in, but not which other hosts there are. In
    /// visible ASCII and bounded, whatever was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wanted().is_none() {
            return f.write_str("the Host header is not a valid host name");
        }
        let others = if self.rules.rules.is_empty() {
            ""
        } else {
            "...,"
        };
        write!(
            f,
            "the host \"{host}\" is not served here; to serve it, set \
             THRONG_ALLOWED_HOSTS={others}{host} (Config::allowed_hosts)",
            host = self.host,
        )
    }
}

/// Which hosts one rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Any,
    Pattern {
        /// True if there must be more labels before the host.
        is_below: bool,
        /// In lower case.
        host: Box<str>,
        /// None is any.
        port: Option<u16>,
    },
}

impl Rule {
    fn allows(&self, found: Host<'_>, found_port: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Pattern {
                is_below,
                host,
                port,
            } => found.is(host, *is_below) && port.is_none_or(|port| found_port == Some(port)),
        }
    }
}

impl FromStr for Rule {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Self, HostsError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let error = || HostsError {
            pattern: text.to_owned(),
        };
        // Rules for origins have it too; here every port goes without saying.
        let rest = text.strip_suffix(":*").unwrap_or(text);
        let (is_below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let Authority { host, port } = Authority::parse(rest).ok_or_else(error)?;
        if (is_below && matches!(host, Host::V6(_))) || (port.is_some() && text.ends_with(":*")) {
            return Err(error());
        }
        Ok(Self::Pattern {
            is_below,
            host: host.to_string().to_ascii_lowercase().into(),
            port,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Pattern {
                is_below,
                host,
                port,
            } => {
                f.write_str(if *is_below { "*." } else { "" })?;
                f.write_str(host)?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use proptest::prelude::*;

    use super::*;

    fn headers(host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        headers
    }

    fn is_served(rules: &str, reach: Reach, host: &str) -> bool {
        let rules: Hosts = rules.parse().unwrap();
        rules.check(reach, &headers(host)).is_ok()
    }

    #[test]
    fn the_names_of_the_loopback_are_served_everywhere() {
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost",
            "localhost.",
            "chat.localhost",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.0.0.1.",
            "127.0.0.1:8080",
            "127.255.255.254",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
        ] {
            for reach in [Reach::Loopback, Reach::Network, Reach::Unix] {
                assert!(is_served("", reach, host), "{host} on {reach:?}");
                assert!(is_served("a.example", reach, host), "{host} on {reach:?}");
            }
        }
    }

    #[test]
    fn no_host_that_is_made_up_is_said_as_a_rule_that_lets_more_in() {
        let rules = Hosts::default();
        for host in ["*", "*.com", "*:*", "a.example,*", "a.example,b.example"] {
            let headers = headers(host);
            if let Err(unserved) = rules.check(Reach::Loopback, &headers) {
                assert_eq!(unserved.wanted(), None, "{host}");
                assert!(!unserved.to_string().contains('='), "{host}");
            }
        }
        let headers = headers("a.example");
        let unserved = rules.check(Reach::Loopback, &headers).unwrap_err();
        assert_eq!(unserved.wanted(), Some("a.example".parse().unwrap()));
    }

    #[test]
    fn without_a_rule_only_a_loopback_listener_refuses_other_hosts() {
        for host in [
            "chat.example.com",
            "192.168.0.1:8080",
            "0.0.0.0:8080",
            "128.0.0.1",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            ".localhost",
            "127.1",
            "127.0.0.01",
            "[::2]",
            "a,localhost",
            "%6c%6f%63alhost",
        ] {
            assert!(!is_served("", Reach::Loopback, host), "{host}");
            assert!(is_served("", Reach::Network, host), "{host}");
            assert!(is_served("", Reach::Unix, host), "{host}");
            assert!(is_served("*", Reach::Loopback, host), "{host}");
        }
    }

    #[test]
    fn a_rule_allows_what_it_says() {
        for (rules, host, wanted) in [
            ("a.example", "a.example", true),
            ("a.example", "A.EXAMPLE:8443", true),
            ("a.example", "b.a.example", false),
            ("a.example", "a.example.evil", false),
            ("a.example:*", "a.example:1", true),
            ("a.example:8443", "a.example:8443", true),
            ("a.example:8443", "a.example", false),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "c.b.a.example:1", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", "ba.example", false),
            ("192.0.2.1", "192.0.2.1:80", true),
            ("[2001:DB8::1]", "[2001:db8:0::1]:80", true),
            ("b.example, a.example", "a.example", true),
        ] {
            for reach in [Reach::Loopback, Reach::Network] {
                assert_eq!(is_served(rules, reach, host), wanted, "{rules}: {host}");
            }
            assert!(is_served(rules, Reach::Unix, host));
        }
    }

    #[test]
    fn a_refusal_says_the_line_that_would_serve_the_host() {
        let said = |rules: &str, host: &str| {
            let rules: Hosts = rules.parse().unwrap();
            let headers = headers(host);
            let refused = rules.check(Reach::Loopback, &headers).unwrap_err();
            let wanted = refused.wanted().map(|rules| rules.to_string());
            (refused.to_string(), wanted.unwrap_or_default())
        };
        let (text, wanted) = said("", "chat.example.com");
        assert!(
            text.contains(" THRONG_ALLOWED_HOSTS=chat.example.com "),
            "{text}"
        );
        assert_eq!(wanted, "chat.example.com");
        let (text, wanted) = said("a.example:80,*.b.example", "chat.example.com:8080");
        assert!(
            text.contains(" THRONG_ALLOWED_HOSTS=...,chat.example.com "),
            "{text}"
        );
        assert_eq!(wanted, "a.example:80,*.b.example,chat.example.com");
        for host in ["a,b", "%20", &"a".repeat(5000)] {
            let (text, wanted) = said("", host);
            assert!(!text.contains("THRONG") && text.len() < 100, "{text}");
            assert_eq!(wanted, "");
        }
    }

    #[test]
    fn a_rule_that_is_none_is_named() {
        for rule in [
            "https://a.example",
            "a.example/",
            "*a.example",
            "a.*.example",
            "*.",
            "*.[::1]",
            "a.example:80:*",
            "a.example:65536",
            "a b",
            "u@a.example",
            "[::1",
            "::1",
            "",
        ] {
            let error = Hosts::list(["a.example", rule]).unwrap_err();
            let wanted = format!("\"{rule}\" is not a host: ");
            assert!(error.to_string().starts_with(&wanted), "{error}");
        }
        assert_eq!("".parse(), Ok(Hosts::default()));
    }

    proptest! {
        #[test]
        fn rules_are_read_as_they_are_written(
            rules in prop::collection::vec("(\\*|(\\*\\.)?[a-cA-C]\\.[a-c](:[0-9]{1,4})?)", 1..4)
        ) {
            let hosts = Hosts::list(&rules).unwrap();
            prop_assert_eq!(&hosts, &hosts.to_string().parse().unwrap());
        }

        #[test]
        fn no_header_harms(host in "\\PC{0,40}") {
            let rules: Hosts = "*.a,[::1],b:80".parse().unwrap();
            let mut headers = HeaderMap::new();
            if let Ok(host) = HeaderValue::from_str(&host) {
                headers.append(header::HOST, host);
            }
            if let Err(unserved) = rules.check(Reach::Loopback, &headers) {
                prop_assert!(unserved.to_string().is_ascii());
            }
        }
    }
}
