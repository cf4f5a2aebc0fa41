//! Which pages may open a WebSocket: the `Origin` header of the request, held against rules.
//!
//! A browser lets a page of any site open WebSockets to any other, with that other's cookies, and
//! says in `Origin` where the page is from. So whoever does not look at it serves every page that
//! its users visit. What is no browser sends no such header, or whatever it likes: these rules keep
//! out pages, not programs.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderValue, header};
use thiserror::Error;

use crate::accept::authority::{Authority, Host, default_port};
use crate::accept::rules::{Rules, is_one};

/// Which pages may open a WebSocket, by the `Origin` header that browsers send.
///
/// - `same`: pages from the host and port that the request is sent to, by its `Host` header; `http`
///   or `https`, for TLS may end at a proxy.
/// - `https://chat.example.com`: pages from there; without a port it is the scheme's own.
/// - `https://chat.example.com:8443`: the same, of another port; `:*` is every port.
/// - `https://*.example.com`: pages from hosts with one label or more before that, not from
///   `example.com`.
/// - `chat.example.com`: pages from there, whatever the scheme; all of the above may go without
///   one.
/// - `null`: pages whose origin the browser keeps to itself: files, sandboxed frames.
/// - `file://`: files, in what says so of them: some frames of apps, not browsers.
/// - `*`: all; the header is not looked at.
///
/// A request without the header is from no page, and is allowed always. One with several, or with
/// one that is no origin, is allowed by `*` alone. Names are compared without regard to case, in
/// ASCII as browsers send them: `xn--bcher-kva.example`.
///
/// Costs a comparison for each rule when a connection is opened, and nothing afterwards.
///
/// # Examples
///
/// ```
/// use throng::{Config, Origins};
///
/// assert_eq!(Config::default().origins, Origins::same());
///
/// let origins = Origins::list(["same", "https://*.example.com", "http://localhost:*"])?;
/// assert_eq!(origins, "same,https://*.example.com,http://localhost:*".parse()?);
///
/// let error = Origins::list(["https://example.com/chat"]).unwrap_err();
/// assert!(error.to_string().contains("https://example.com/chat"));
/// # Ok::<(), throng::OriginsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    rules: Rules<Rule>,
}

/// A rule for origins that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{pattern}\" is not an origin: use same, https://chat.example.com, https://*.example.com, \
     http://localhost:*, null, file:// or *"
)]
pub struct OriginsError {
    pattern: String,
}

impl Origins {
    /// Pages from the host that the request is sent to; the default.
    pub fn same() -> Self {
        Self {
            rules: Rules::one(Rule::Same),
        }
    }

    /// Returns the rules that allow every page.
    pub fn any() -> Self {
        Self {
            rules: Rules::one(Rule::Any),
        }
    }

    /// Pages that one of these rules allows; without a rule, no page at all.
    ///
    /// # Errors
    ///
    /// [`OriginsError`] with the first text that is no rule.
    pub fn list<T: AsRef<str>>(rules: impl IntoIterator<Item = T>) -> Result<Self, OriginsError> {
        Rules::list(rules).map(|rules| Self { rules })
    }

    /// Checks the headers of a request to open a WebSocket.
    pub(crate) fn check<'h>(&self, headers: &'h HeaderMap) -> Result<(), Forbidden<'h>> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(());
        };
        if self.rules.contains(&Rule::Any) {
            return Ok(());
        }
        if origins.next().is_some() {
            return Err(Forbidden::Several);
        }
        let is_allowed = origin.to_str().is_ok_and(|text| {
            let origin = Origin::parse(text);
            let mut rules = self.rules.iter();
            rules.any(|rule| rule.allows(text, origin.as_ref(), headers))
        });
        if is_allowed {
            Ok(())
        } else {
            Err(Forbidden::One(origin))
        }
    }
}

impl Default for Origins {
    /// Returns [`Origins::same`].
    fn default() -> Self {
        Self::same()
    }
}

impl FromIterator<Self> for Origins {
    /// Pages that any of them allows.
    fn from_iter<I: IntoIterator<Item = Self>>(several: I) -> Self {
        let rules = Rules::of_all(several.into_iter().map(|origins| origins.rules));
        Self { rules }
    }
}

impl FromStr for Origins {
    type Err = OriginsError;

    /// Reads rules that are separated by commas.
    fn from_str(text: &str) -> Result<Self, OriginsError> {
        text.parse().map(|rules| Self { rules })
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// An origin that no rule allows.
#[derive(Debug)]
pub(crate) enum Forbidden<'h> {
    One(&'h HeaderValue),
    /// Browsers send one; who sends several is not one.
    Several,
}

impl<'h> Forbidden<'h> {
    /// Returns the rule that would let the page in and no other; none if that is no origin of a
    /// page.
    pub(crate) fn rule(&self) -> Option<&'h str> {
        let Self::One(origin) = self else { return None };
        let text = origin.to_str().ok()?;
        let is_of_a_page = text == "null" || text.contains("://");
        (is_of_a_page && is_one(text, SHOWN_LEN_MAX) && text.parse::<Origins>().is_ok())
            .then_some(text)
    }
}

/// Maximum bytes of an origin that are repeated: a host's name has at most 253.
const SHOWN_LEN_MAX: usize = 300;

impl fmt::Display for Forbidden<'_> {
    /// Writes the origin in visible ASCII and bounded, whatever was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::One(origin) = self else {
            return f.write_str("several origins");
        };
        let origin = origin.as_bytes();
        let shown = &origin[..origin.len().min(SHOWN_LEN_MAX)];
        let rest = if shown.len() < origin.len() {
            "..."
        } else {
            ""
        };
        write!(f, "the origin \"{}{rest}\"", shown.escape_ascii())
    }
}

/// The pages that one rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Any,
    /// Files, which have no host that a pattern could name.
    File,
    Null,
    Pattern(Pattern),
    Same,
}

impl Rule {
    /// Returns whether the rule allows the page. `origin` is what `text` says, if that is an
    /// origin.
    fn allows(&self, text: &str, origin: Option<&Origin<'_>>, headers: &HeaderMap) -> bool {
        match self {
            Self::Any => true,
            Self::File => text.eq_ignore_ascii_case(FILE),
            Self::Null => text == NULL,
            Self::Pattern(pattern) => origin.is_some_and(|origin| pattern.matches(origin)),
            Self::Same => origin.is_some_and(|origin| origin.is_of_host(headers)),
        }
    }
}

/// The value that browsers send for an origin that they keep to themselves.
const NULL: &str = "null";
const SAME: &str = "same";
/// The value that some frames of apps send for pages that are files.
const FILE: &str = "file://";

impl FromStr for Rule {
    type Err = OriginsError;

    fn from_str(text: &str) -> Result<Self, OriginsError> {
        if text == "*" {
            Ok(Self::Any)
        } else if text.eq_ignore_ascii_case(FILE) {
            Ok(Self::File)
        } else if text.eq_ignore_ascii_case(NULL) {
            Ok(Self::Null)
        } else if text.eq_ignore_ascii_case(SAME) {
            Ok(Self::Same)
        } else {
            let pattern = Pattern::parse(text).ok_or_else(|| OriginsError {
                pattern: text.to_owned(),
            })?;
            Ok(Self::Pattern(pattern))
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::File => f.write_str(FILE),
            Self::Null => f.write_str(NULL),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Same => f.write_str(SAME),
        }
    }
}

/// Origins that are allowed by how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// In lower case; none is any.
    scheme: Option<Box<str>>,
    /// True if there must be more labels before the host.
    is_below: bool,
    /// In lower case.
    host: Box<str>,
    port: PortRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortRule {
    Any,
    /// The one that the origin's scheme has by default.
    Default,
    One(u16),
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        if !scheme.is_none_or(is_scheme) {
            return None;
        }
        let (port, rest) = match rest.strip_suffix(":*") {
            Some(rest) => (Some(PortRule::Any), rest),
            None => (None, rest),
        };
        let (is_below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let authority = Authority::parse(rest)?;
        let port = match (port, authority.port) {
            (Some(_), Some(_)) => return None,
            (Some(any), None) => any,
            (None, Some(port)) => PortRule::One(port),
            (None, None) => PortRule::Default,
        };
        if is_below && !matches!(authority.host, Host::Name(_)) {
            return None;
        }
        Some(Self {
            scheme: scheme.map(|scheme| scheme.to_ascii_lowercase().into()),
            is_below,
            host: authority.host.to_string().to_ascii_lowercase().into(),
            port,
        })
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        let scheme = self.scheme.as_deref();
        scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme))
            && self.port.matches(origin)
            && origin.authority.host.is(&self.host, self.is_below)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        if self.is_below {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        match self.port {
            PortRule::Any => f.write_str(":*"),
            PortRule::Default => Ok(()),
            PortRule::One(port) => write!(f, ":{port}"),
        }
    }
}

impl PortRule {
    fn matches(self, origin: &Origin<'_>) -> bool {
        let default = default_port(origin.scheme);
        let port = origin.authority.port.or(default);
        match self {
            Self::Any => true,
            Self::Default => port == default,
            Self::One(wanted) => port == Some(wanted),
        }
    }
}

/// The value of an `Origin` header, taken apart (RFC 6454 section 7).
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let authority = Authority::parse(rest)?;
        is_scheme(scheme).then_some(Self { scheme, authority })
    }

    /// Returns whether it is where the request is sent to. A page of the web, that is: what apps
    /// and extensions call their hosts is nobody's name.
    fn is_of_host(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let Some(host) = host.to_str().ok().and_then(Authority::parse) else {
            return false;
        };
        let Some(default) = default_port(self.scheme) else {
            return false;
        };
        let port_of = |authority: &Authority<'_>| authority.port.unwrap_or(default);
        self.authority.host == host.host && port_of(&self.authority) == port_of(&host)
    }
}

/// Returns whether the text is a scheme (RFC 3986 section 3.1).
fn is_scheme(text: &str) -> bool {
    let is_of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(is_of_a_scheme)
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::*;

    use super::*;

    fn headers(host: Option<&str>, origins: &[&str]) -> HeaderMap {
        let hosts = host.iter().map(|host| (header::HOST, *host));
        let origins = origins.iter().map(|origin| (header::ORIGIN, *origin));
        let pairs = hosts.chain(origins);
        pairs
            .map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    #[track_caller]
    fn assert_allows(rules: &str, host: &str, origin: &str, wanted: bool) {
        let rules: Origins = rules.parse().unwrap();
        let headers = headers(Some(host), &[origin]);
        let found = rules.check(&headers).is_ok();
        assert_eq!(found, wanted, "{rules}: {origin} at {host}");
    }

    #[test]
    fn a_page_is_of_the_same_origin_if_host_and_port_are() {
        for (host, origin) in [
            ("chat.example.com", "https://chat.example.com"),
            ("chat.example.com", "http://chat.example.com"),
            ("chat.example.com:443", "https://chat.example.com"),
            ("chat.example.com", "https://chat.example.com:443"),
            ("chat.example.com:80", "http://chat.example.com"),
            ("CHAT.example.com", "HTTPS://Chat.Example.COM"),
            ("localhost:8080", "http://localhost:8080"),
            ("localhost:8080", "https://localhost:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("[::FFFF:1.2.3.4]", "http://[::ffff:102:304]"),
        ] {
            assert_allows("same", host, origin, true);
        }
        for (host, origin) in [
            ("chat.example.com", "https://evil.example"),
            ("chat.example.com", "https://chat.example.com.evil.example"),
            ("chat.example.com", "https://example.com"),
            ("example.com", "https://chat.example.com"),
            ("chat.example.com", "https://chat.example.com:8443"),
            ("chat.example.com:8443", "https://chat.example.com"),
            ("chat.example.com:443", "http://chat.example.com"),
            ("chat.example.com:80", "https://chat.example.com"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("[::1]", "http://[::2]"),
            // What apps and extensions have for an origin.
            ("localhost", "app://localhost"),
            ("localhost", "moz-extension://localhost"),
        ] {
            assert_allows("same", host, origin, false);
        }
    }

    #[test]
    fn what_is_no_origin_is_of_no_host() {
        for origin in [
            "",
            "null",
            "chat.example.com",
            "//chat.example.com",
            "://chat.example.com",
            "https:chat.example.com",
            "https://chat.example.com/",
            "https://chat.example.com?",
            "https://chat.example.com#",
            "https://evil.example@chat.example.com",
            "https://chat.example.com:",
            "https://chat.example.com:+443",
            "https://chat.example.com:443443",
            "https://chat.example.com https://evil.example",
            "https://chat.example.com,https://evil.example",
            "1https://chat.example.com",
            "https://[chat.example.com]",
            "https://[::1",
            "https://[::1]443",
        ] {
            assert_allows("same", "chat.example.com", origin, false);
            assert_allows("chat.example.com:*,[::1]:*", "a", origin, false);
            assert_allows("*", "a", origin, true);
        }
        for host in ["null", "", "a b", "chat.example.com/", "u@chat.example.com"] {
            assert_allows("same", host, "null", false);
            assert_allows("same", host, "https://chat.example.com", false);
        }
    }

    #[test]
    fn a_rule_allows_what_it_says() {
        for (rules, origin, wanted) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:443", true),
            ("https://a.example:443", "https://a.example", true),
            ("HTTPS://A.Example", "https://a.EXAMPLE", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:444", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.", false),
            ("https://a.example:444", "https://a.example:444", true),
            ("https://a.example:444", "https://a.example", false),
            ("a.example", "https://a.example", true),
            ("a.example", "http://a.example", true),
            ("a.example", "app://a.example", true),
            ("a.example", "app://a.example:1", false),
            ("a.example:443", "https://a.example", true),
            ("a.example:443", "http://a.example", false),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "https://c.b.A.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://.a.example", false),
            ("https://*.a.example", "https://b..a.example", false),
            ("https://*.a.example", "https://ba.example", false),
            ("https://*.a.example", "https://b.a.example:1", false),
            ("*.a.example:*", "http://b.a.example:1", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "https://localhost:5173", false),
            ("http://[0::1]:*", "http://[::1]:3", true),
            ("[::1]", "http://[::1]", true),
            ("[::1]", "http://[::2]", false),
            ("moz-extension://1-2", "moz-extension://1-2", true),
            ("null", "null", true),
            ("null", "https://a.example", false),
            ("null", "file://", false),
            ("file://", "file://", true),
            ("File://", "FILE://", true),
            ("file://", "null", false),
            ("file://", "file:///", false),
            ("file://", "file://a.example", false),
            ("a.example", "file://", false),
            ("same", "file://", false),
            ("https://null", "null", false),
            ("https://a.example", "null", false),
            (
                "https://b.example, https://a.example",
                "https://a.example",
                true,
            ),
            ("https://b.example,same", "https://host.example:7", true),
            ("https://b.example", "https://host.example:7", false),
        ] {
            assert_allows(rules, "host.example:7", origin, wanted);
        }
    }

    #[test]
    fn a_request_from_no_page_is_allowed_and_one_with_several_origins_is_not() {
        let origin = "https://a.example";
        let any = Origins::any();
        for rules in [Origins::same(), Origins::list([origin]).unwrap()] {
            assert!(rules.check(&headers(None, &[])).is_ok());
            let several = headers(Some("a.example"), &[origin, origin]);
            assert!(rules.check(&several).is_err());
            assert!(any.check(&several).is_ok());
        }
        let none = Origins::list::<&str>([]).unwrap();
        assert!(none.check(&headers(Some("a.example"), &[])).is_ok());
        assert!(none.check(&headers(Some("a.example"), &[origin])).is_err());
    }

    #[test]
    fn without_one_host_there_is_no_same_origin() {
        let same = Origins::same();
        let mut request = headers(None, &["https://a.example"]);
        assert!(same.check(&request).is_err());
        request.append(header::HOST, HeaderValue::from_static("a.example"));
        assert!(same.check(&request).is_ok());
        request.append(header::HOST, HeaderValue::from_static("a.example"));
        assert!(same.check(&request).is_err());
    }

    #[test]
    fn what_is_refused_is_said_in_visible_ascii_and_bounded() {
        let mut request = HeaderMap::new();
        let mut bytes = b"https://\xff\"\t".to_vec();
        bytes.extend(vec![b'a'; 5000]);
        request.append(header::ORIGIN, HeaderValue::from_bytes(&bytes).unwrap());
        let said = Origins::same().check(&request).unwrap_err().to_string();
        let begin = r#"the origin "https://\xff\"\taaa"#;
        assert!(said.starts_with(begin), "{said}");
        assert!(said.ends_with("aaa...\""), "{said}");
        assert!(said.len() < 2 * SHOWN_LEN_MAX, "{}", said.len());
        assert!(said.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(Origins::any().check(&request).is_ok());
    }

    #[test]
    fn a_rule_that_is_none_is_named() {
        for rule in [
            "",
            "https://",
            "https://*",
            "*:80",
            "**.a.example",
            "*a.example",
            "a.*.example",
            "*.",
            "*.[::1]",
            "https://a.example/",
            "https://a.example/chat",
            "https://u@a.example",
            "https://a.example:",
            "https://a.example:65536",
            "https://a.example:80:*",
            "a b",
            "1a://b",
            "https://bücher.example",
            "[::1",
            "[::1]80",
            "::1",
        ] {
            let error = Origins::list(["same", rule]).unwrap_err();
            let wanted = format!("\"{rule}\" is not an origin: ");
            assert!(error.to_string().starts_with(&wanted), "{error}");
        }
        let error = "same,a/b,c/d".parse::<Origins>().unwrap_err();
        assert!(error.to_string().starts_with("\"a/b\" "), "{error}");
        assert!("".parse::<Origins>().is_err());
    }

    /// Answers the question with hyper's parser of URIs, and lists of labels.
    fn naive(rule: &str, host: &str, origin: &str) -> bool {
        let ports = |uri: &Uri| {
            let default = match uri.scheme_str() {
                Some("https") => 443,
                _ => 80,
            };
            uri.port_u16().unwrap_or(default)
        };
        let labels = |uri: &Uri| -> Vec<String> {
            let host = uri.host().unwrap().to_lowercase();
            host.split('.').map(str::to_owned).collect()
        };
        let origin: Uri = origin.parse().unwrap();
        let scheme = origin.scheme_str().unwrap();
        if rule == "same" {
            let host: Uri = format!("{scheme}://{host}").parse().unwrap();
            return labels(&host) == labels(&origin) && ports(&host) == ports(&origin);
        }
        let with_scheme = if rule.contains("://") {
            rule.to_owned()
        } else {
            format!("{scheme}://{rule}")
        };
        let any_port = with_scheme.ends_with(":*");
        let below = with_scheme.contains("://*.");
        let plain = with_scheme.replace(":*", "").replace("*.", "");
        let wanted: Uri = plain.parse().unwrap();
        let (wanted_labels, found) = (labels(&wanted), labels(&origin));
        let hosts = if below {
            found.len() > wanted_labels.len() && found.ends_with(&wanted_labels)
        } else {
            found == wanted_labels
        };
        hosts
            && wanted.scheme_str() == origin.scheme_str()
            && (any_port || ports(&wanted) == ports(&origin))
    }

    /// Returns few labels, schemes and ports, so that much of it agrees.
    fn host() -> impl Strategy<Value = String> {
        prop::collection::vec("[abAB]", 1..4).prop_map(|labels| labels.join("."))
    }

    fn port() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", ":80", ":443", ":8080"])
    }

    fn scheme() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["http://", "https://"])
    }

    fn rule() -> impl Strategy<Value = String> {
        let scheme = prop_oneof![Just(""), scheme()];
        let below = prop::sample::select(vec!["", "*."]);
        let port = prop_oneof![port(), Just(":*")];
        let pattern = (scheme, below, host(), port);
        let pattern = pattern.prop_map(|(s, b, h, p)| format!("{s}{b}{h}{p}"));
        prop_oneof![1 => Just("same".to_owned()), 3 => pattern]
    }

    proptest! {
        #[test]
        fn rules_decide_as_a_naive_reading_of_them_does(
            rule in rule(),
            host in (host(), port()).prop_map(|(host, port)| format!("{host}{port}")),
            origin in (scheme(), host(), port()).prop_map(|(s, h, p)| format!("{s}{h}{p}")),
        ) {
            let wanted = naive(&rule, &host, &origin);
            let origins: Origins = rule.parse().unwrap();
            let request = headers(Some(&host), &[&origin]);
            prop_assert_eq!(origins.check(&request).is_ok(), wanted);
        }

        #[test]
        fn rules_are_read_as_they_are_written(rules in prop::collection::vec(rule(), 1..4)) {
            let origins = Origins::list(&rules).unwrap();
            prop_assert_eq!(&origins, &origins.to_string().parse().unwrap());
            let merged: Origins = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            prop_assert_eq!(origins, merged);
        }

        #[test]
        fn no_header_harms(
            host in "\\PC{0,40}",
            origin in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut request = HeaderMap::new();
            if let Ok(host) = HeaderValue::from_str(&host) {
                request.append(header::HOST, host);
            }
            if let Ok(origin) = HeaderValue::from_bytes(&origin) {
                request.append(header::ORIGIN, origin);
            }
            let rules = Origins::list(["same", "*.a:*", "[::1]", "null"]).unwrap();
            if let Err(forbidden) = rules.check(&request) {
                prop_assert!(forbidden.to_string().len() < 5 * SHOWN_LEN_MAX);
            }
        }
    }
}
