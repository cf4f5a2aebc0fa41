//! All clients of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use faults::client::{Client, Options, Task};
use faults::golem::GolemClient;
use faults::network::Network;
use faults::record::{Position, Record, SharedRecord};
use faults::verdict::{Plain, Witness};
use throng_client::Pauses;
use tokio::sync::Notify;

use crate::cli::{Cli, Policy};
use crate::scripts::{Kind, Script, ScriptClient};

/// Everybody who is there.
#[derive(Debug)]
pub(crate) struct Crowd {
    participants: Vec<Participant>,
    plain: Vec<GolemClient>,
    /// Is notified of everything that anybody hears.
    progress: Arc<Notify>,
}

/// A client of throng.v1.
#[derive(Debug)]
struct Participant {
    kind: &'static str,
    rooms: Vec<u32>,
    body: Body,
}

/// What it is.
#[derive(Debug)]
enum Body {
    Rust(Client),
    Script(ScriptClient),
}

impl Participant {
    fn publish(&self, room: u32) -> bool {
        match &self.body {
            Body::Rust(client) => client.publish(room),
            Body::Script(client) => client.publish(room),
        }
    }

    const fn record(&self) -> &SharedRecord {
        match &self.body {
            Body::Rust(client) => client.record(),
            Body::Script(client) => client.record(),
        }
    }
}

/// What the table calls the clients in Rust.
const RUST: &str = "Rust";

/// How many JavaScript clients are in one process.
const CLIENTS_PER_SCRIPT: usize = 25;

/// Short, so that much happens in little time.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(100),
    last: Duration::from_secs(1),
    steady: Duration::from_secs(2),
};

/// After how much silence a client asks, and how long it waits then.
const KEEPALIVE: Duration = Duration::from_secs(2);

impl Crowd {
    /// Starts everybody. Scripts are in `directory`.
    ///
    /// # Errors
    ///
    /// If the JavaScript clients cannot be started.
    pub(crate) async fn start(
        cli: &Cli,
        network: &Network,
        seed: u64,
        directory: &Path,
    ) -> Result<Self> {
        let progress = Arc::new(Notify::new());
        let options = |number: u32| Options {
            address: network.address(number as usize),
            pauses: PAUSES,
            keepalive: KEEPALIVE,
            patience: KEEPALIVE,
            seed: seed.wrapping_add(u64::from(number)),
            progress: progress.clone(),
        };
        let participant = |number| {
            let rooms = cli.rooms_of(number);
            let task = Task {
                number,
                rooms: rooms.clone(),
                pad_bytes: cli.pad_bytes as usize,
                own_before_ack: cli.policy == Policy::Disconnect,
            };
            let body = Body::Rust(Client::start(task, options(number))?);
            Ok(Participant {
                kind: RUST,
                rooms,
                body,
            })
        };
        let plain = |number| {
            let rooms = cli.rooms_of(number);
            GolemClient::start(number, rooms, options(number))
        };
        let mut crowd = Self {
            participants: (0..cli.rust()).map(participant).collect::<Result<_>>()?,
            plain: (0..cli.plain).map(plain).collect(),
            progress: progress.clone(),
        };
        let numbers: Vec<u32> = (cli.rust()..cli.clients).collect();
        let (in_node, in_browser) = numbers.split_at(cli.node() as usize);
        for (kind, numbers) in [(Kind::Node, in_node), (Kind::Browser, in_browser)] {
            for numbers in numbers.chunks(CLIENTS_PER_SCRIPT) {
                let script = Script::start(cli, kind, directory, progress.clone()).await?;
                crowd.add(cli, network, &script, numbers).await?;
            }
        }
        Ok(crowd)
    }

    /// Begins clients of a script.
    async fn add(
        &mut self,
        cli: &Cli,
        network: &Network,
        script: &Arc<Script>,
        numbers: &[u32],
    ) -> Result<()> {
        for number in numbers {
            let rooms = cli.rooms_of(*number);
            let address = network.address(*number as usize);
            let client = ScriptClient::begin(script, *number, &rooms, address).await?;
            self.participants.push(Participant {
                kind: script.kind().name(),
                rooms,
                body: Body::Script(client),
            });
        }
        Ok(())
    }

    /// How many speak throng.v1.
    pub(crate) const fn len(&self) -> usize {
        self.participants.len()
    }

    /// Lets one of them publish to one of its rooms; false if too much of its waits to be
    /// acknowledged.
    pub(crate) fn publish(&self, client: usize, room: usize) -> bool {
        let participant = &self.participants[client];
        let room = participant.rooms[room % participant.rooms.len()];
        participant.publish(room)
    }

    /// Waits until everybody is in all rooms.
    pub(crate) async fn joined(&self) {
        for plain in &self.plain {
            plain.joined().await;
        }
        self.until(|crowd| {
            crowd.records().all(|record| {
                let record = record.lock();
                record.rooms.values().all(|room| room.reached.is_some())
            })
        })
        .await;
    }

    /// Waits until nobody waits for an acknowledgement, and all members of a room are at the same
    /// place.
    pub(crate) async fn settled(&self) {
        self.until(Self::is_settled).await;
    }

    fn is_settled(&self) -> bool {
        let mut reached: BTreeMap<u32, Position> = BTreeMap::new();
        for record in self.records() {
            let record = record.lock();
            if record.unanswered_count() > 0 {
                return false;
            }
            for (room, of) in &record.rooms {
                let Some(position) = &of.reached else {
                    return false;
                };
                if reached.entry(*room).or_insert_with(|| position.clone()) != position {
                    return false;
                }
            }
        }
        true
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.progress.notified().await;
        }
    }

    fn records(&self) -> impl Iterator<Item = &SharedRecord> {
        self.participants.iter().map(Participant::record)
    }

    /// What everybody has recorded so far.
    pub(crate) fn testimony(&self) -> Testimony {
        let recorded = |of: &Participant| (of.kind, of.record().lock().clone());
        Testimony {
            records: self.participants.iter().map(recorded).collect(),
            plain: self.plain.iter().map(GolemClient::given).collect(),
        }
    }
}

/// What everybody recorded.
#[derive(Debug)]
pub(crate) struct Testimony {
    records: Vec<(&'static str, Record)>,
    pub(crate) plain: Vec<Plain>,
}

impl Testimony {
    /// Everybody who recovers.
    pub(crate) fn witnesses(&self) -> Vec<Witness<'_>> {
        let numbered = (0..).zip(&self.records);
        let witnesses = numbered.map(|(number, (kind, record))| Witness {
            kind,
            number,
            record,
        });
        witnesses.collect()
    }
}
