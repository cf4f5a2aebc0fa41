//! Whatever an application does and its connections do to it: nobody stays where nobody is any
//! more.

#![expect(
    clippy::unwrap_used,
    reason = "what a test expects and does not get is its failure"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use proptest::prelude::*;
use throng::{
    CloseCode, Config, Connection, ConnectionId, Data, EmitError, FlushMode, PublishOptions,
    Refusal, Request, RoomManager, Router, Server,
};
use throng_testing::{
    Client, TestServer, add_signals_to, config, for_each_flush_mode, seed, until,
};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

/// Number of clients, and of rooms of each of two managers.
const CLIENTS: usize = 4;
const ROOMS: usize = 3;

/// An action of an event's handler. Any may be registered for any event, one over the other.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Close,
    CloseWithLastRoom,
    Destroy,
    Emit,
    EmitToAll,
    Join,
    JoinLater,
    Leave,
    LeaveAll,
    Panic,
    PanicLater,
    Publish,
    Refuse,
    WaitAndEmit,
    WaitForEver,
}

const DEEDS: [Deed; 15] = [
    Deed::Close,
    Deed::CloseWithLastRoom,
    Deed::Destroy,
    Deed::Emit,
    Deed::EmitToAll,
    Deed::Join,
    Deed::JoinLater,
    Deed::Leave,
    Deed::LeaveAll,
    Deed::Panic,
    Deed::PanicLater,
    Deed::Publish,
    Deed::Refuse,
    Deed::WaitAndEmit,
    Deed::WaitForEver,
];

/// Number of events that have handlers.
const EVENTS: usize = 8;

/// The next step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect {
        client: usize,
    },
    /// Sends an event, whoever handles it, about a room of a manager.
    Send {
        client: usize,
        event: usize,
        room: usize,
    },
    /// Sends what is no event.
    SendNonsense {
        client: usize,
    },
    /// Says goodbye.
    Close {
        client: usize,
    },
    /// Is gone without a word.
    Vanish {
        client: usize,
    },
    /// A thread of the application's does to a connection what handlers do.
    FromOutside {
        client: usize,
        deed: Deed,
        room: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let room = || 0..2 * ROOMS;
    prop_oneof![
        6 => client().prop_map(|client| Step::Connect { client }),
        16 => (client(), 0..EVENTS + 1, room())
            .prop_map(|(client, event, room)| Step::Send { client, event, room }),
        1 => client().prop_map(|client| Step::SendNonsense { client }),
        2 => client().prop_map(|client| Step::Close { client }),
        2 => client().prop_map(|client| Step::Vanish { client }),
        4 => (client(), deed(), room())
            .prop_map(|(client, deed, room)| Step::FromOutside { client, deed, room }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    proptest::sample::select(&DEEDS[..])
}

/// The parts of an application.
#[derive(Clone, Debug)]
struct Plan {
    /// Registered in this order: later ones take the place of earlier ones.
    registrations: Vec<(usize, Deed)>,
    /// Which of the connections panic as they come, and which as they end.
    panics: (u8, u8),
    /// True if a hook before handlers refuses every seventh event.
    limits: bool,
    steps: Vec<Step>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let registrations = prop::collection::vec((0..EVENTS, deed()), EVENTS..3 * EVENTS);
    let panics = prop_oneof![3 => Just((0, 0)), 1 => (0..4_u8, 0..4_u8)];
    let steps = prop::collection::vec(step(), 10..60);
    (registrations, panics, any::<bool>(), steps).prop_map(
        |(registrations, panics, limits, steps)| Plan {
            registrations,
            panics,
            limits,
            steps,
        },
    )
}

/// State of a connection; counted as long as it is kept.
struct Kept(Arc<AtomicUsize>);

impl Kept {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Peer = Connection<Kept>;

/// The means that the application has to do its deeds.
#[derive(Clone)]
struct Tools {
    managers: [RoomManager; 2],
    gate: Arc<Semaphore>,
}

impl Tools {
    /// The manager and the name of a room.
    fn room(&self, room: usize) -> (&RoomManager, &'static str) {
        let names = ["tea", "milk", "rum"];
        (&self.managers[room / ROOMS], names[room % ROOMS])
    }

    fn register(&self, router: &mut Router<Kept>, event: usize, deed: Deed) {
        let tools = self.clone();
        let event = format!("event{event}");
        match deed {
            Deed::JoinLater | Deed::PanicLater | Deed::WaitAndEmit | Deed::WaitForEver => {
                router.on(&event, move |conn: Peer, room: usize| {
                    let tools = tools.clone();
                    async move { tools.do_later(&conn, deed, room).await }
                });
            }
            Deed::Emit => {
                router.on(&event, move |conn: &Peer, data: Data<'_>| {
                    let room: usize = data.parse()?;
                    tools.do_now(conn, deed, room)
                });
            }
            _ => {
                router.on(&event, move |conn: &Peer, room: usize| {
                    tools.do_now(conn, deed, room)
                });
            }
        }
    }

    /// Does what does not wait. From outside it may be refused.
    fn do_now(&self, conn: &Peer, deed: Deed, room: usize) -> Result<(), Refusal> {
        let (manager, name) = self.room(room);
        match deed {
            Deed::Close => conn.close(CloseCode(4000), "enough")?,
            Deed::CloseWithLastRoom => manager.close_with_last_room(conn, true)?,
            Deed::Destroy => manager.destroy(name)?,
            Deed::Emit => _ = manager.emit_except(conn, name, "said", &room)?,
            Deed::EmitToAll => _ = manager.emit(name, "said", &room)?,
            Deed::Leave => manager.leave(conn, name)?,
            Deed::LeaveAll => manager.leave_all(conn)?,
            Deed::Panic => panic!("as the test wants it"),
            Deed::Publish => _ = manager.publish(name, &room, PublishOptions::default())?,
            Deed::Refuse => return Err(Refusal::new("refused", "not now")),
            Deed::Join
            | Deed::JoinLater
            | Deed::PanicLater
            | Deed::WaitAndEmit
            | Deed::WaitForEver => manager.join(conn, name)?,
        }
        Ok(())
    }

    async fn do_later(&self, conn: &Peer, deed: Deed, room: usize) -> Result<(), Refusal> {
        let (manager, name) = self.room(room);
        manager.join(conn, name)?;
        tokio::task::yield_now().await;
        match deed {
            Deed::JoinLater => {
                let next = self.room((room + 1) % (2 * ROOMS));
                Ok(next.0.join(conn, next.1)?)
            }
            Deed::PanicLater => panic!("as the test wants it"),
            Deed::WaitForEver => std::future::pending().await,
            _ => {
                // Open at the end, for all who still wait.
                let _permit = self.gate.acquire().await;
                _ = manager.emit(name, "said", &room)?;
                Ok(())
            }
        }
    }
}

/// Counts of what the hooks have seen.
#[derive(Default)]
struct Seen {
    opened: Vec<ConnectionId>,
    closed: Vec<ConnectionId>,
    /// Rooms that exist, by manager.
    rooms: HashMap<(usize, String), i32>,
}

struct World {
    server: TestServer,
    tools: Tools,
    clients: [Option<Client>; CLIENTS],
    connect_count: usize,
    handles: Arc<Mutex<Vec<Peer>>>,
    seen: Arc<Mutex<Seen>>,
    kept: Arc<AtomicUsize>,
}

impl World {
    fn start(plan: &Plan) -> Self {
        let config = Config {
            cores: 2,
            ..config(FlushMode::Auto)
        };
        let server = Server::bind(config).unwrap();
        let tools = Tools {
            managers: [server.rooms(), server.room_manager()],
            gate: Arc::new(Semaphore::new(0)),
        };
        let (handles, seen) = <(Arc<Mutex<Vec<Peer>>>, Arc<Mutex<Seen>>)>::default();
        let kept = Arc::new(AtomicUsize::new(0));
        let counted = kept.clone();
        let mut router = Router::with_state(move |_: &Request| Kept::new(&counted));
        add_signals_to(&mut router);
        for (event, deed) in &plan.registrations {
            tools.register(&mut router, *event, *deed);
        }
        hook(&mut router, plan, &handles, &seen);
        for (index, manager) in tools.managers.iter().enumerate() {
            for (delta, is_created) in [(1, true), (-1, false)] {
                let seen = seen.clone();
                let count = move |name: &str| {
                    let mut seen = seen.lock();
                    *seen.rooms.entry((index, name.to_owned())).or_default() += delta;
                };
                match is_created {
                    true => manager.on_created(count),
                    false => manager.on_removed(count),
                }
            }
        }
        Self {
            server: TestServer::run(server, router),
            tools,
            clients: [const { None }; CLIENTS],
            connect_count: 0,
            handles,
            seen,
            kept,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect { client } => {
                self.clients[client] = Some(self.server.connect());
                self.connect_count += 1;
            }
            Step::Send {
                client,
                event,
                room,
            } => {
                self.send(client, Message::text(format!("event{event} {room}")));
            }
            Step::SendNonsense { client } => self.send(client, Message::binary(vec![0; 3])),
            Step::Close { client } => {
                if let Some(client) = self.clients[client].take() {
                    client.say_goodbye();
                }
            }
            Step::Vanish { client } => self.clients[client] = None,
            Step::FromOutside { client, deed, room } => {
                let handle = self.handles.lock().get(client).cloned();
                if let Some(handle) = handle.filter(|_| !matches!(deed, Deed::Panic)) {
                    _ = self.tools.do_now(&handle, deed, room);
                }
            }
        }
    }

    /// The server may have closed the connection long ago.
    fn send(&mut self, client: usize, message: Message) {
        if let Some(client) = &mut self.clients[client] {
            client.try_send(message);
        }
    }

    /// Everybody goes; nothing of anybody must stay.
    fn end(mut self) {
        self.clients = [const { None }; CLIENTS];
        // Who was answered is on its way to a core, and may not be there yet.
        until(
            || (self.seen.lock().opened.len() == self.connect_count).then_some(()),
            || "a connection never came".to_owned(),
        );
        self.tools.gate.add_permits(1000);
        // Who waits for ever is closed by the application.
        self.handles.lock().iter().for_each(|handle| {
            until(
                || handle.close(CloseCode(4001), "the end").ok(),
                || "the mailbox stays full".to_owned(),
            );
        });
        self.handles.lock().clear();
        self.server.wait_until_empty();
        for manager in &self.tools.managers {
            for name in ["tea", "milk", "rum"] {
                assert_eq!(manager.member_count(name), 0, "{name}");
            }
        }
        let (seen, kept) = (self.seen.clone(), self.kept.clone());
        until(
            || (kept.load(Ordering::SeqCst) == 0).then_some(()),
            || "the state of a connection is kept".to_owned(),
        );
        self.server.drain().unwrap();
        let Seen {
            opened,
            closed,
            rooms,
        } = &mut *seen.lock();
        opened.sort();
        closed.sort();
        assert_eq!(opened, closed, "each ends once");
        assert!(rooms.values().all(|count| *count == 0), "{rooms:?}");
    }
}

/// The hooks of the application.
fn hook(
    router: &mut Router<Kept>,
    plan: &Plan,
    handles: &Arc<Mutex<Vec<Peer>>>,
    seen: &Arc<Mutex<Seen>>,
) {
    let (coming, going) = plan.panics;
    let panics = move |of: u8, count: usize| of > 0 && count % 4 == usize::from(of);
    let (handles, opened) = (handles.clone(), seen.clone());
    router.on_connect(move |conn: &Peer, _| {
        let count = {
            let mut seen = opened.lock();
            seen.opened.push(conn.id());
            seen.opened.len()
        };
        handles.lock().push(conn.clone());
        assert!(!panics(coming, count), "as the test wants it");
    });
    let closed = seen.clone();
    router.on_close(move |conn: &Peer, _| {
        let count = {
            let mut seen = closed.lock();
            seen.closed.push(conn.id());
            seen.closed.len()
        };
        assert!(!panics(going, count), "as the test wants it");
    });
    if plan.limits {
        let asked = AtomicUsize::new(0);
        router.before(
            move |_: &Peer, _| match asked.fetch_add(1, Ordering::Relaxed) % 7 {
                6 => Err(Refusal::new("too_many", "every seventh is one too many")),
                _ => Ok(()),
            },
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap()),
        // Others each time; what fails is printed, as small as it could be made.
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_member_and_no_state_outlives_its_connection(plan in plan()) {
        let mut world = World::start(&plan);
        for step in &plan.steps {
            world.take(*step);
        }
        world.end();
    }
}

/// Number of threads of the application's that emit, of the rooms they emit into, and of the times.
const FEEDS: usize = 8;
const FED_ROOMS: usize = 100;
const EACH: usize = 2000;

#[test]
fn what_eight_threads_emit_into_a_hundred_rooms_keeps_each_ones_order() {
    for_each_flush_mode(|mode| {
        let server = Server::bind(Config {
            cores: 2,
            ..config(mode)
        })
        .unwrap();
        let rooms = server.rooms();
        let kept = Arc::new(AtomicUsize::new(0));
        let counted = kept.clone();
        let mut router = Router::with_state(move |_: &Request| Kept::new(&counted));
        add_signals_to(&mut router);
        let joined = rooms.clone();
        router.on("join", move |conn: &Peer, room: usize| {
            joined.join(conn, &format!("room {room}"))
        });
        let left = rooms.clone();
        router.on("leave", move |conn: &Peer, room: usize| {
            left.leave(conn, &format!("room {room}"))
        });
        let server = TestServer::run(server, router);
        let done = Arc::new(AtomicBool::new(false));
        let seed = seed();
        let passers_by: Vec<_> = (0..4)
            .map(|index| {
                let random = fastrand::Rng::with_seed(seed + index);
                let (address, done) = (server.address(), done.clone());
                thread::spawn(move || wander(address, random, &done))
            })
            .collect();
        let feeds: Vec<_> = (0..FEEDS)
            .map(|name| {
                let rooms = rooms.clone();
                thread::spawn(move || feed(&rooms, name))
            })
            .collect();
        feeds.into_iter().for_each(|feed| feed.join().unwrap());
        done.store(true, Ordering::SeqCst);
        let heard: usize = passers_by.into_iter().map(|it| it.join().unwrap()).sum();
        assert!(heard > 0, "somebody was there");
        server.wait_until_empty();
        until(
            || (kept.load(Ordering::SeqCst) == 0).then_some(()),
            || "the state of a connection is kept".to_owned(),
        );
        assert_eq!(server.metric("throng_mailbox_pending_bytes"), 0);
    });
}

/// Emits numbers that rise, to one room after the other.
fn feed(rooms: &RoomManager, name: usize) {
    for number in 0..EACH {
        let rooms_fed = [number % FED_ROOMS, (number * 7 + name) % FED_ROOMS];
        for (serial, room) in (2 * number..).zip(rooms_fed) {
            let data = (room, name, serial);
            while let Err(error) = rooms.emit(&format!("room {room}"), "tick", &data) {
                assert!(matches!(error, EmitError::Overloaded(_)), "{error}");
                thread::yield_now();
            }
        }
    }
}

/// Comes, joins and leaves rooms, goes, and comes again; returns how much it heard.
fn wander(address: std::net::SocketAddr, mut random: fastrand::Rng, done: &AtomicBool) -> usize {
    let mut heard = 0;
    while !done.load(Ordering::SeqCst) {
        let mut client = Client::connect(address);
        for _ in 0..random.usize(1..20) {
            for room in 0..FED_ROOMS {
                let deed = if random.bool() { "join" } else { "leave" };
                client.send(&format!("{deed} {room}"));
            }
            client.sync();
            let events = client.take_inbox();
            heard += events.len();
            check_order(&events);
        }
        if random.bool() {
            client.say_goodbye();
        }
    }
    heard
}

/// In each room each feed's numbers rise, and none comes twice.
fn check_order(events: &[String]) {
    let mut last: HashMap<(usize, usize), usize> = HashMap::new();
    for event in events {
        let data = event.strip_prefix("tick ").unwrap();
        let (room, name, number): (usize, usize, usize) = serde_json::from_str(data).unwrap();
        if let Some(before) = last.insert((room, name), number) {
            assert!(
                before < number,
                "room {room}, feed {name}: {before}, {number}"
            );
        }
    }
}
