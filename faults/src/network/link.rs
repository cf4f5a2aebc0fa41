//! One connection through the network, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::fault::{Direction, Directions, Fault, Side, Then};
use super::pump::{Pump, Step};
use super::script::{Planned, Script};
use super::weather::Weather;
use super::{Counts, Shared, socket};

/// A link before and while it forwards.
#[derive(Debug)]
pub(super) struct Link {
    script: Script,
    weather: watch::Receiver<Weather>,
    shared: Arc<Shared>,
    up: Pump,
    down: Pump,
    /// What happens when a pump has delivered what it may.
    due: Option<Due>,
    /// When what is under way ends, and how the link goes on then.
    then: Option<(Instant, Then)>,
    /// The weather that was acted on.
    seen: Weather,
}

/// What comes when a pump has delivered what it may.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// A fault of the script.
    Fault(Fault),
    /// A chunk of this direction is to be halved when one comes.
    Half(Direction, Duration, Then),
    /// A chunk is half delivered.
    Halved(Duration, Then),
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cut,
    Finished,
    Orphaned(Side, Duration),
    Reset,
}

impl Link {
    pub(super) fn new(
        script: Script,
        weather: watch::Receiver<Weather>,
        shared: Arc<Shared>,
    ) -> Self {
        // What was done to other links before is not done to this one.
        let seen = Weather {
            is_calm: true,
            ..weather.borrow().clone()
        };
        Self {
            script,
            weather,
            shared,
            up: Pump::new(Direction::Up),
            down: Pump::new(Direction::Down),
            due: None,
            then: None,
            seen,
        }
    }

    /// Connects to the server and forwards until the link ends.
    pub(super) async fn run(mut self, client: TcpStream) {
        let upstream = *self.shared.upstream.lock();
        let connecting = socket::connect(upstream, self.shared.options.socket_bytes);
        let Ok(Ok(server)) = timeout(CONNECT_TIME_MAX, connecting).await else {
            return socket::reset(client);
        };
        // Small writes must not wait for each other: that would be a fault that nobody asked for.
        _ = (client.set_nodelay(true), server.set_nodelay(true));
        let counts = self.shared.clone();
        let counts = &counts.counts;
        match self.forward(&client, &server).await {
            End::Finished => {}
            End::Cut => {
                Counts::add(&counts.cut, 1);
                tokio::join!(socket::cut(client), socket::cut(server));
            }
            End::Reset => {
                Counts::add(&counts.reset, 1);
                socket::reset(client);
                socket::reset(server);
            }
            End::Orphaned(side, time) => {
                Counts::add(&counts.orphaned, 1);
                let (orphan, other) = match side {
                    Side::Client => (client, server),
                    Side::Server => (server, client),
                };
                socket::reset(other);
                self.wait_for_calm(time).await;
                socket::reset(orphan);
            }
        }
    }

    async fn forward(&mut self, client: &TcpStream, server: &TcpStream) -> End {
        // Whatever the weather is, it is news to this link.
        self.weather.mark_changed();
        loop {
            let then_at = self.then.map(|(at, _)| at);
            let end = tokio::select! {
                step = self.up.step(client, server) => self.handle_step(Direction::Up, step),
                step = self.down.step(server, client) => self.handle_step(Direction::Down, step),
                () = sleep_until(then_at.unwrap_or_else(Instant::now)), if then_at.is_some() => {
                    self.handle_then()
                }
                changed = self.weather.changed() => match changed {
                    Ok(()) => self.handle_weather(),
                    // The network is gone.
                    Err(_) => Some(End::Finished),
                },
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn handle_step(&mut self, direction: Direction, step: Step) -> Option<End> {
        match step {
            Step::Delivered(count) => Counts::add(&self.shared.counts.bytes, count as u64),
            Step::Due => return self.handle_due(),
            Step::Ended => {
                let both = self.up.has_ended() && self.down.has_ended();
                return both.then_some(End::Finished);
            }
            Step::Failed => return Some(End::Finished),
            Step::Read(count) => self.handle_chunk(direction, count),
        }
        None
    }

    /// Halves a chunk, if this is the one.
    fn handle_chunk(&mut self, direction: Direction, count: usize) {
        if let Some(Due::Half(halved, time, then)) = self.due
            && halved == direction
        {
            Counts::add(&self.shared.counts.halved, 1);
            self.due = Some(Due::Halved(time, then));
            self.pump(direction).allow(Some(count as u64 / 2));
        }
    }

    fn handle_due(&mut self) -> Option<End> {
        self.up.allow(None);
        self.down.allow(None);
        match self.due.take() {
            Some(Due::Fault(fault)) => self.strike(fault),
            Some(Due::Halved(time, then)) => {
                self.stall(Directions::Both, time, then);
                None
            }
            Some(Due::Half(..)) | None => None,
        }
    }

    fn handle_then(&mut self) -> Option<End> {
        let (_, then) = self.then.take()?;
        match then {
            Then::Continue => {
                self.up.set_stalled(false);
                self.down.set_stalled(false);
                self.plan();
                None
            }
            Then::Cut => Some(End::Cut),
            Then::Reset => Some(End::Reset),
        }
    }

    fn handle_weather(&mut self) -> Option<End> {
        let weather = self.weather.borrow_and_update().clone();
        let seen = std::mem::replace(&mut self.seen, weather.clone());
        if weather.calmed_count != seen.calmed_count {
            self.clear();
        }
        if seen.is_calm && !weather.is_calm {
            self.plan();
        }
        if weather.inflicted_count != seen.inflicted_count
            && let Some(fault) = weather.inflicted
        {
            return self.strike(fault);
        }
        let time = weather.outage_left(Instant::now());
        if weather.outage_until == seen.outage_until || time.is_zero() {
            return None;
        }
        let fault = self.script.when_dropped(time);
        self.strike(fault)
    }

    /// Lets a fault happen.
    fn strike(&mut self, fault: Fault) -> Option<End> {
        let counts = &self.shared.counts;
        match fault {
            Fault::Cut => return Some(End::Cut),
            Fault::Reset => return Some(End::Reset),
            Fault::Orphan { side, time } => return Some(End::Orphaned(side, time)),
            Fault::Halve {
                direction,
                time,
                then,
            } => {
                self.up.allow(None);
                self.down.allow(None);
                self.due = Some(Due::Half(direction, time, then));
            }
            Fault::Slow {
                bytes_per_second,
                time,
            } => {
                Counts::add(&counts.slowed, 1);
                let until = Instant::now() + time;
                self.up.slow_down(bytes_per_second, until);
                self.down.slow_down(bytes_per_second, until);
                self.then = Some((until, Then::Continue));
            }
            Fault::Stall {
                directions,
                time,
                then,
            } => {
                Counts::add(&counts.stalled, 1);
                self.stall(directions, time, then);
            }
        }
        None
    }

    fn stall(&mut self, directions: Directions, time: Duration, then: Then) {
        for pump in [&mut self.up, &mut self.down] {
            if directions.include(pump.direction) {
                pump.set_stalled(true);
            }
        }
        self.then = Some((Instant::now() + time, then));
    }

    /// Draws the next fault, unless nothing is to fail.
    fn plan(&mut self) {
        if self.seen.is_calm {
            return;
        }
        let Planned {
            direction,
            after_bytes,
            fault,
        } = self.script.next_fault();
        self.due = Some(Due::Fault(fault));
        self.pump(direction).allow(Some(after_bytes));
    }

    /// Goes on as if nothing had been.
    fn clear(&mut self) {
        self.due = None;
        self.then = None;
        self.up.clear();
        self.down.clear();
    }

    /// Waits so long, or until nothing is to fail any more.
    async fn wait_for_calm(&mut self, time: Duration) {
        let calm = async {
            let count = self.seen.calmed_count;
            _ = self
                .weather
                .wait_for(|weather| weather.calmed_count != count)
                .await;
        };
        _ = timeout(time, calm).await;
    }

    const fn pump(&mut self, direction: Direction) -> &mut Pump {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }
}

/// How long the server may take to accept: on loopback nothing, unless it is gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
