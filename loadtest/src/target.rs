//! Whom to load: the address in `--url`, the rule that it is this machine's, and what it speaks.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Uri;
use http::uri::Authority;

use crate::wire::Wire;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it was given.
    pub(crate) url: String,
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// What to send as `Host`.
    pub(crate) authority: String,
    /// What to ask for.
    pub(crate) path: String,
    /// What to say there.
    pub(crate) wire: Wire,
}

impl Target {
    /// Reads `ws://host:port/path`, and looks up the host.
    ///
    /// # Errors
    ///
    /// That this is no address, or none of this machine, unless the server is said to be the
    /// caller's own.
    pub(crate) fn resolve(url: &str, own_server: bool, wire: Wire) -> Result<Self> {
        let (authority, path) = parse(url).map_err(|reason| {
            anyhow!("{url} is not an address to connect to: {reason}; try ws://127.0.0.1:8080/ws")
        })?;
        let host = authority.host().trim_matches(['[', ']']);
        let address = look_up(host, authority.port_u16().unwrap_or(80))?;
        ensure!(
            own_server || address.ip().is_loopback(),
            "{host} is not this machine; only load a server that is yours, and say so with \
             --i-own-this-server"
        );
        Ok(Self {
            url: url.to_owned(),
            address,
            authority: authority.to_string(),
            path,
            wire,
        })
    }

    /// Returns the address to connect the `index`th connection from, where it matters.
    ///
    /// On loopback, every 12,000 connections have the next address of 127.0.0.0/8. The first have
    /// none given, and on other networks nobody has.
    pub(crate) fn source(&self, index: u32) -> Option<SocketAddr> {
        let IpAddr::V4(address) = self.address.ip() else {
            return None;
        };
        let block = index / CONNECTIONS_PER_SOURCE;
        if !address.is_loopback() || block == 0 {
            return None;
        }
        let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + block);
        Some(SocketAddr::new(source.into(), 0))
    }
}

/// An address has 28,232 ports for outgoing connections by default. The kernel tries every second
/// one first, and when these 14,116 are taken it looks through them all at each `connect`: 20,000
/// connections from one address opened at 3,000 per second, and from two at 30,000.
const CONNECTIONS_PER_SOURCE: u32 = 12_000;

/// Takes an address apart into host and port, and what to ask for there.
fn parse(url: &str) -> Result<(Authority, String), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it cannot be read")?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err("TLS is not spoken here"),
        _ => return Err("it does not begin with ws://"),
    }
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("names and passwords are not sent");
    }
    let path = uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    Ok((authority.clone(), path))
}

fn look_up(host: &str, port: u16) -> Result<SocketAddr> {
    let hint =
        |reason: &dyn Display| format!("no address was found for {host} ({reason}); try 127.0.0.1");
    let found = (host, port).to_socket_addrs();
    let addresses: Vec<_> = found.map_err(|error| anyhow!(hint(&error)))?.collect();
    // `localhost` is often both, and servers more often listen on the older one.
    let best = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| addresses.first());
    best.copied().with_context(|| hint(&"none is known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, own_server: bool) -> Result<Target> {
        Target::resolve(url, own_server, Wire::named("golem").unwrap())
    }

    #[test]
    fn an_address_is_taken_apart() {
        let target = resolve("ws://127.0.0.1:8080/ws?a=b", false).unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            (&*target.authority, &*target.path),
            ("127.0.0.1:8080", "/ws?a=b")
        );
        let short = resolve("ws://[::1]", false).unwrap();
        assert_eq!(
            (short.address, &*short.path),
            ("[::1]:80".parse().unwrap(), "/")
        );
    }

    #[test]
    fn other_machines_are_refused_unless_they_are_ones_own() {
        let refused = resolve("ws://192.0.2.1/ws", false).unwrap_err().to_string();
        assert!(
            refused.starts_with("192.0.2.1 is not this machine"),
            "{refused}"
        );
        assert!(resolve("ws://192.0.2.1/ws", true).is_ok());
    }

    #[test]
    fn what_is_not_a_websocket_address_is_refused() {
        for url in [
            "",
            "127.0.0.1:8080",
            "http://127.0.0.1/",
            "wss://127.0.0.1/",
            "ws://a@127.0.0.1/",
        ] {
            let refused = resolve(url, false).unwrap_err().to_string();
            assert!(
                refused.contains("is not an address to connect to"),
                "{url}: {refused}"
            );
        }
    }

    #[test]
    fn sources_are_spread_over_loopback() {
        let target = resolve("ws://127.0.0.1:8080/ws", false).unwrap();
        assert_eq!((target.source(0), target.source(11_999)), (None, None));
        assert_eq!(target.source(12_000), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(
            target.source(999_999),
            Some("127.0.0.84:0".parse().unwrap())
        );
        assert_eq!(
            resolve("ws://192.0.2.1/", true).unwrap().source(99_999),
            None
        );
    }
}
