//! A network that fails: TCP proxies between clients and a server.
//!
//! Each [`Network`] has a few lines, which are addresses to connect to; what connects to one
//! becomes a link to the server. Faults come at bytes that the seed chooses, while the network is
//! [stormy](Network::storm), and when the run says so. What is forwarded is never changed: a link
//! delivers a prefix of what was sent, and then more of it, or nothing any more.
//!
//! Bounds: [`LINKS_MAX`] links, and [`CHUNK_BYTES`] in each direction of one.

mod fault;
mod link;
mod pump;
mod script;
mod socket;
mod weather;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use fault::{Direction, Directions, Fault, Side, Then};
pub use script::{Chances, Planned, Script};

use link::Link;
use weather::Weather;

/// The most links of a network at a time. More wait to be accepted.
pub const LINKS_MAX: usize = 4096;

/// The most that waits in one direction of a link, in bytes.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// What a network is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many lines it has, at least one.
    pub lines: u32,
    /// Decides when which link fails, and how.
    pub seed: u64,
    /// How often.
    pub chances: Chances,
    /// What sockets hold in each direction, in bytes, as far as the kernel lets us choose; none is
    /// the kernel's own choice, which on loopback is megabytes. Little makes a link that stalls
    /// felt by whoever sends.
    pub socket_bytes: Option<u32>,
}

/// How often what happened to links.
#[derive(Debug, Default)]
pub struct Counts {
    /// Links that were made.
    pub links: AtomicU64,
    /// Connections that were refused.
    pub refused: AtomicU64,
    /// Links that were ended by FIN.
    pub cut: AtomicU64,
    /// Links that were ended by RST.
    pub reset: AtomicU64,
    /// Links of which one side heard nothing of the end.
    pub orphaned: AtomicU64,
    /// Times that a link forwarded nothing for a while.
    pub stalled: AtomicU64,
    /// Chunks of which only half was delivered at first.
    pub halved: AtomicU64,
    /// Times that a link became slow.
    pub slowed: AtomicU64,
    /// Bytes that were forwarded, both ways.
    pub bytes: AtomicU64,
}

impl Counts {
    fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }

    /// How often links failed, one way or another.
    pub fn faults(&self) -> u64 {
        let all = [
            &self.refused,
            &self.cut,
            &self.reset,
            &self.orphaned,
            &self.stalled,
            &self.halved,
            &self.slowed,
        ];
        all.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A network. It ends when dropped: its links are gone then, without a sign.
#[derive(Debug)]
pub struct Network {
    lines: Vec<Line>,
    shared: Arc<Shared>,
}

/// One address to connect to.
#[derive(Debug)]
struct Line {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepting: JoinHandle<()>,
}

/// What all lines know.
#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    counts: Counts,
    places: Arc<Semaphore>,
    options: Options,
}

impl Network {
    /// A network to a server, calm at first, on free ports of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub fn start(upstream: SocketAddr, options: Options) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            counts: Counts::default(),
            places: Arc::new(Semaphore::new(LINKS_MAX)),
            options,
        });
        let lines = (0..options.lines.max(1)).map(|number| Line::start(number, &shared));
        Ok(Self {
            lines: lines.collect::<io::Result<_>>()?,
            shared,
        })
    }

    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Where to connect, for the line of this number; they go round.
    pub fn address(&self, line: usize) -> SocketAddr {
        self.line(line).address
    }

    /// Where new links lead to from now on.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock() = upstream;
    }

    /// Lets links fail by chance from now on.
    pub fn storm(&self) {
        self.change_all(|weather| weather.is_calm = false);
    }

    /// Ends every fault that is under way, and lets none happen any more.
    pub fn calm(&self) {
        self.change_all(|weather| {
            weather.is_calm = true;
            weather.calmed_count += 1;
            weather.outage_until = None;
        });
    }

    /// Drops a line for so long: each of its links is ended, or stalls and may be ended then, and
    /// new ones are refused.
    pub fn drop_line(&self, line: usize, time: Duration) {
        let until = Instant::now() + time;
        self.line(line)
            .weather
            .send_modify(|weather| weather.outage_until = Some(until));
    }

    /// Does this to every link of a line, now. Of two within the same moment, links may see the
    /// later alone.
    pub fn inflict(&self, line: usize, fault: Fault) {
        self.line(line).weather.send_modify(|weather| {
            weather.inflicted_count += 1;
            weather.inflicted = Some(fault);
        });
    }

    /// How often what happened.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn line(&self, number: usize) -> &Line {
        &self.lines[number % self.lines.len()]
    }

    fn change_all(&self, change: impl Fn(&mut Weather)) {
        for line in &self.lines {
            line.weather.send_modify(&change);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for line in &self.lines {
            line.accepting.abort();
        }
    }
}

impl Line {
    fn start(number: u32, shared: &Arc<Shared>) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = socket::listen(address, shared.options.socket_bytes)?;
        let address = listener.local_addr()?;
        let (weather, observed) = watch::channel(Weather::default());
        let accepting = accept_all(listener, number, observed, shared.clone());
        Ok(Self {
            address,
            weather,
            accepting: tokio::spawn(accepting),
        })
    }
}

/// Makes a link of each connection, or refuses it, if the line is down or chance wills it.
async fn accept_all(
    listener: TcpListener,
    line: u32,
    weather: watch::Receiver<Weather>,
    shared: Arc<Shared>,
) {
    let Options { seed, chances, .. } = shared.options;
    for number in 0_u32.. {
        // It is never closed.
        let Ok(place) = shared.places.clone().acquire_owned().await else {
            return;
        };
        let Ok((client, _)) = listener.accept().await else {
            // The connection was gone before we came to it, or there are no file descriptors: those
            // of links that end are had back.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let mut script = Script::new(chances, (seed, line, number));
        let is_refused = {
            let weather = weather.borrow();
            let is_down = !weather.outage_left(Instant::now()).is_zero();
            is_down || (!weather.is_calm && script.refuses())
        };
        if is_refused {
            Counts::add(&shared.counts.refused, 1);
            socket::reset(client);
            continue;
        }
        Counts::add(&shared.counts.links, 1);
        let link = Link::new(script, weather.clone(), shared.clone());
        tokio::spawn(async move {
            link.run(client).await;
            drop(place);
        });
    }
}

/// How long to wait for file descriptors before the next attempt to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
