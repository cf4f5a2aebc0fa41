//! Why a run has nothing to report: one sentence of what happened and what to try.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// The end of a run without a report; the exit code is then 2.
///
/// The sentences are for the person at the terminal, so a cause stands in the text and not in
/// `source()`.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("flags do not fit together: {0}")]
    Arguments(&'static str),
    #[error(
        "the server closed a connection before the run began ({reason}); look at its log, or try \
         fewer --members"
    )]
    Closed { reason: String },
    #[error(
        "the server closed all {connections} connections during the run ({reason}); look at its log"
    )]
    ClosedAll { connections: u64, reason: String },
    #[error(
        "no connection was opened for 10 s, after {opened} of {connections}; is the server at \
         {address} busy, or does something else listen there?"
    )]
    ConnectStalled {
        opened: u64,
        connections: u64,
        address: SocketAddr,
    },
    #[error("{path} cannot be used: {reason}")]
    File { path: String, reason: String },
    #[error(
        "{connections} connections need {needed} open files and {allowed} are allowed; raise the \
         hard limit (ulimit -Hn), or try fewer --members"
    )]
    FileLimit {
        connections: u64,
        needed: u64,
        allowed: u64,
    },
    #[error(
        "the server at {address} answered the handshake with what is not HTTP ({reason}); is it \
         a WebSocket server?"
    )]
    HandshakeMalformed { address: SocketAddr, reason: String },
    #[error(
        "the server at {address} refused the handshake with {status}{body}; try another path in \
         --url"
    )]
    HandshakeRefused {
        address: SocketAddr,
        status: String,
        body: String,
    },
    #[error(
        "the server at {address} answered 101 with a wrong Sec-WebSocket-Accept; it does not \
         follow RFC 6455, or a proxy stands between"
    )]
    HandshakeUnproved { address: SocketAddr },
    #[error("--{flag} stands in the wrong place: {reason}; see `loadtest --help`")]
    Misplaced { flag: String, reason: &'static str },
    #[error("no address was found for {host} ({error}); try 127.0.0.1")]
    HostUnknown { host: String, error: io::Error },
    #[error(
        "no member received a publication for 10 s ({received} of {members} members had one \
         before); does the server speak the wire {wire}?"
    )]
    NoDeliveries {
        received: u64,
        members: u64,
        wire: String,
    },
    #[error(
        "{host} is not this machine; only load a server that is yours, and say so with \
         --i-own-this-server"
    )]
    NotLoopback { host: String },
    #[error(
        "the server took no bytes for a while and {pending_bytes} wait for one connection; try a \
         lower --rate or --window"
    )]
    NotReading { pending_bytes: usize },
    #[error("the driver could not be pinned to CPU {cpu} ({error}); see `nproc` for what there is")]
    Pin { cpu: usize, error: io::Error },
    #[error(
        "process {pid} is not running; give --server-pid the id of the server, and see its log if it ended"
    )]
    ProcessGone { pid: u32 },
    #[error("the restart command ended with {status}; try it by hand: {command}")]
    Restart { command: String, status: String },
    #[error(
        "scenario {name}, line {line}: {reason}; `loadtest scenarios NAME` prints one that works"
    )]
    Scenario {
        name: String,
        line: usize,
        reason: String,
    },
    #[error(
        "the scenario {path} cannot be read ({error}); a name without .toml is one of `loadtest scenarios`"
    )]
    ScenarioFile { path: String, error: io::Error },
    #[error("there is no scenario {name}; there are {}, and files that end in .toml", known.join(", "))]
    ScenarioUnknown {
        name: String,
        known: Vec<&'static str>,
    },
    #[error("the server answered {text}; does it speak the wire {wire}?")]
    ServerError { text: String, wire: String },
    #[error(
        "the server was asked for {wanted} in Sec-WebSocket-Protocol and agreed to {agreed}; try \
         another --sub-protocol"
    )]
    SubProtocol { wanted: String, agreed: String },
    #[error("the operating system refused something needed: {0}")]
    System(io::Error),
    #[error("there is no {kind} {name}; there are {known}")]
    Unknown {
        kind: &'static str,
        name: String,
        known: String,
    },
    #[error(
        "{address} could not be reached after {opened} connections ({error}); start the server \
         there, or say where it is with --url"
    )]
    Unreachable {
        address: SocketAddr,
        opened: u64,
        error: io::Error,
    },
    #[error(
        "for 10 s the server did not say `{greeting}`, after which members join; does it speak \
         the wire {wire}?"
    )]
    Unwelcome { greeting: String, wire: String },
    #[error("{} could not be written ({error}); give --html a file in a folder that is yours", path.display())]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("{url} is not an address to connect to: {reason}; try ws://127.0.0.1:8080/ws")]
    Url { url: String, reason: &'static str },
}
