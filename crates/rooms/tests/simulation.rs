//! Hundreds of clients on a network that fails, in simulated time, from one seed.
//!
//! Links are slow, stall and are cut; clients come back with the position they remember, and send
//! again under the same key what was not acknowledged. Nothing else is random, so that a seed is a
//! run. When the network is mended and everybody is back, each client has received everything that
//! was published to its rooms exactly once and in order, or was told of each that it was not sent;
//! and everything that somebody said was published once.
//!
//! `THRONG_SIMULATION_RUNS` asks for more runs than a push waits for, `THRONG_SIMULATION_SEED` for
//! one of them again.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use throng_rooms::{
    Classes, HistoryLimits, LocalLimits, RoomClass, RoomTable, SlowConsumer, TableConfig, Wire,
};

#[path = "simulation/client.rs"]
mod client;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/items.rs"]
mod items;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/server.rs"]
mod server;

use client::{Client, Counts};
use server::Server;

#[test]
fn everybody_receives_all_or_is_told_what_not() {
    let seeds = match number_in("THRONG_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("THRONG_SIMULATION_RUNS").unwrap_or(RUN_COUNT),
    };
    let is_one = seeds.end - seeds.start == 1;
    let mut all = Counts::default();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let counts = run.unwrap_or_else(|_| {
            panic!(
                "THRONG_SIMULATION_SEED={seed} cargo test -p throng-rooms --test simulation: again"
            )
        });
        all = all.plus(counts);
    }
    // Each of these happened: a run in which nothing goes wrong shows nothing.
    assert!(
        is_one || all.missed > 0 && all.recoveries > 0 && all.closed_slow > 0,
        "{all:?}"
    );
}

#[test]
fn a_seed_is_a_run() {
    assert_eq!(run(1), run(1));
}

fn number_in(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a whole number"))
}

fn run(seed: u64) -> Counts {
    let mut world = World::new(seed);
    while world.now_ms < BEGIN_MS + TROUBLE_MS {
        world.trouble();
        world.tick();
    }
    world.mend();
    while !world.is_quiet() {
        assert!(
            world.now_ms < BEGIN_MS + TROUBLE_MS + QUIET_MS,
            "it never ends"
        );
        world.tick();
    }
    world.check();
    world.counts()
}

struct World {
    rng: Rng,
    now_ms: u64,
    server: Server,
    clients: Vec<Client>,
    is_memory_ample: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_memory_ample = seed % 3 != 2;
        let config = TableConfig {
            core_count: CORE_COUNT.into(),
            // Names are hashed at random: where it matters which rooms share a shard, all do.
            shard_count: if is_memory_ample { 8 } else { 1 },
            classes: classes(),
            wires: vec![Wire(0), KEPT],
            history_wire: KEPT,
            history_bytes_max: if is_memory_ample { 1 << 26 } else { 60_000 },
            ..TableConfig::default()
        };
        let limits = LocalLimits {
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            ..LocalLimits::default()
        };
        let server = Server::new(RoomTable::new(config), CORE_COUNT, limits);
        let clients = (0..CLIENT_COUNT).map(|number| {
            let wire = if rng.u8(..10) == 0 { Wire(0) } else { KEPT };
            let rooms = [0; 3].map(|_| rng.usize(..ROOM_COUNT));
            Client::new(number, wire, rooms.into_iter())
        });
        let clients = clients.collect();
        Self {
            rng,
            now_ms: BEGIN_MS,
            server,
            clients,
            is_memory_ample,
        }
    }

    /// Returns what goes wrong in a tick, and what is said in it.
    fn trouble(&mut self) {
        let Self {
            rng,
            now_ms,
            server,
            clients,
            ..
        } = self;
        for client in clients.iter_mut() {
            client.wander(server, rng, *now_ms, true);
            let Some(id) = client.connection else {
                continue;
            };
            match rng.u32(..2000) {
                0 => {
                    if let Some(link) = server.link(id) {
                        link.cut(*now_ms + rng.u64(..1000));
                    }
                    client.lose(*now_ms + rng.u64(..2000));
                }
                1 => {
                    if let Some(link) = server.link(id) {
                        link.stall(*now_ms + rng.u64(..5000));
                    }
                }
                _ => {}
            }
        }
        // A few talk much.
        for client in &mut clients[..CLIENT_COUNT / 8] {
            if client.wire == KEPT && rng.u32(..40) == 0 {
                client.say(server, rng, *now_ms);
            }
        }
    }

    fn tick(&mut self) {
        let Self {
            rng,
            now_ms,
            server,
            clients,
            ..
        } = self;
        for client in clients.iter_mut() {
            client.come_back(server, rng, *now_ms);
        }
        server.turn(*now_ms);
        for client in clients.iter_mut() {
            let Some(id) = client.connection else {
                continue;
            };
            let Some(link) = server.link(id) else {
                // The server has given it up.
                client.lose(*now_ms + rng.u64(..500));
                continue;
            };
            let bytes = link.deliver(*now_ms);
            if client.receive(&bytes, &server.stream) {
                server.link(id).expect("it was there just now").cut(*now_ms);
                client.lose(*now_ms + rng.u64(..2000));
            }
        }
        *now_ms += TICK_MS;
        if *now_ms % 1000 == 0 {
            server.sweep(*now_ms);
            let history_bytes = server.table.totals().history_bytes;
            assert!(self.is_memory_ample || history_bytes <= 60_000);
        }
    }

    /// From now on nothing goes wrong any more.
    fn mend(&mut self) {
        for client in &mut self.clients {
            client.stop_waiting(self.now_ms);
        }
    }

    fn is_quiet(&mut self) -> bool {
        let Self {
            rng,
            now_ms,
            server,
            clients,
            ..
        } = self;
        for client in clients.iter_mut() {
            client.wander(server, rng, *now_ms, false);
        }
        let is_quiet = |core: &server::Core| core.is_quiet(&server.table);
        clients.iter().all(Client::is_done) && server.cores.iter().all(is_quiet)
    }

    fn check(&self) {
        for client in self.clients.iter().filter(|client| client.wire == KEPT) {
            for (room, view) in &client.rooms {
                let position = self.server.table.position(&name(*room));
                let position = position.expect("it has members");
                let here = (position.epoch.0, position.offset + 1);
                assert_eq!(view.next, Some(here), "of {room}");
            }
        }
        // Everything that was said has one place.
        let mut said = HashSet::new();
        for ((room, _), body) in &self.server.stream {
            let (key, _) = body.split_once('.').expect("a body begins with its key");
            // Without memory a key may be forgotten before it comes again.
            let is_new = said.insert(key) || !self.is_memory_ample;
            assert!(is_new, "{key} was published twice to {room}");
        }
        let totals = self.server.table.totals();
        let published = self.server.stream.len() as u64 + self.server.event_count;
        assert_eq!(totals.publications, published);
        assert_eq!(self.is_memory_ample, totals.evictions == 0);
        let counts = self.counts();
        assert!(
            !self.is_memory_ample || counts.missed_long == 0,
            "{counts:?}"
        );
        assert!(counts.received > said.len() as u64 && counts.comebacks > CLIENT_COUNT as u64);
    }

    fn counts(&self) -> Counts {
        let counts = self.clients.iter().map(|client| client.counts);
        counts.fold(Counts::default(), Counts::plus)
    }
}

/// The special class of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Its history is short.
    Brief,
    Latest,
    Long,
    Skip,
}

const CLASSES: [(Class, &str); 4] = [
    (Class::Brief, "brief"),
    (Class::Latest, "latest"),
    (Class::Long, "long"),
    (Class::Skip, "skip"),
];

const fn class_of(room: usize) -> Class {
    CLASSES[room % CLASSES.len()].0
}

fn name(room: usize) -> String {
    format!("{}{room}", CLASSES[room % CLASSES.len()].1)
}

fn classes() -> Classes {
    let long = RoomClass::default();
    let brief = RoomClass {
        history: HistoryLimits {
            publications_max: 15,
            ..long.history
        },
        ..long
    };
    let treating = |slow_consumer| RoomClass {
        slow_consumer,
        ..long
    };
    let patterns = vec![
        ("brief*".into(), brief),
        ("latest*".into(), treating(SlowConsumer::Latest)),
        ("skip*".into(), treating(SlowConsumer::Skip)),
    ];
    Classes::new(patterns, long)
}

/// The wire whose frames histories keep.
const KEPT: Wire = Wire(1);

const CORE_COUNT: u8 = 3;

const CLIENT_COUNT: usize = 240;

const ROOM_COUNT: usize = 12;

/// So small that stalled clients fill it.
const OUTBOX_BYTES_MAX: u32 = 2500;

/// The number of runs a push waits for.
const RUN_COUNT: u64 = 3;

const TICK_MS: u64 = 5;

/// Some time of day, in Unix milliseconds.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// The time for which things go wrong.
const TROUBLE_MS: u64 = 8_000;

/// After which time it must be quiet.
const QUIET_MS: u64 = 120_000;
