//! All clients of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use faults::client::{Client, Options, Pauses, Task};
use faults::golem::GolemClient;
use faults::network::Network;
use faults::record::{Position, Record, SharedRecord};
use faults::verdict::{Plain, Witness};
use tokio::sync::Notify;

use crate::cli::{Cli, Policy};

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
    rooms: Vec<u32>,
    client: Client,
}

/// What the table calls the clients of [`faults::client`].
const RUST: &str = "Rust";

/// Short, so that much happens in little time.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(100),
    last: Duration::from_secs(1),
    steady: Duration::from_secs(2),
};

/// After how much silence a client asks, and how long it waits then.
const KEEPALIVE: Duration = Duration::from_secs(2);

impl Crowd {
    /// Starts everybody.
    pub(crate) fn start(cli: &Cli, network: &Network, seed: u64) -> Self {
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
            let client = Client::start(task, options(number));
            Participant { rooms, client }
        };
        let plain = |number| {
            let rooms = cli.rooms_of(number);
            GolemClient::start(number, rooms, options(number))
        };
        Self {
            participants: (0..cli.clients).map(participant).collect(),
            plain: (0..cli.plain).map(plain).collect(),
            progress,
        }
    }

    /// How many speak throng.v1.
    pub(crate) const fn len(&self) -> usize {
        self.participants.len()
    }

    /// Lets one of them publish to one of its rooms; false if too much of its waits to be acknowledged.
    pub(crate) fn publish(&self, client: usize, room: usize) -> bool {
        let participant = &self.participants[client];
        let room = participant.rooms[room % participant.rooms.len()];
        participant.client.publish(room)
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

    /// Waits until nobody waits for an acknowledgement, and all members of a room are at the same place.
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
        self.participants.iter().map(|of| of.client.record())
    }

    /// What everybody has recorded so far.
    pub(crate) fn testimony(&self) -> Testimony {
        Testimony {
            records: self.records().map(|record| (RUST, record.lock().clone())).collect(),
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
