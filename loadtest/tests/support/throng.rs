//! A server of throng.v1 in this process that does wrong whatever a test wants, and counts it.
//!
//! One thread owns all rooms, so that each has one order, and writes to all connections.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::server::{Event, Events, Welcome, Writer, listen};

/// What is done to one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Left out, and announced by a `gap`.
    Announce,
    /// Left out without a word.
    Drop,
    None,
    /// Its fields are in another order, with one that nobody knows: this is no fault.
    Other,
    /// Delivered with the offset of the one before.
    RepeatOffset,
    /// Delivered late.
    Stall,
    /// Delivered without the time.
    Timeless,
    /// Delivered with its end cut off.
    Truncate,
    /// Delivered as another room's.
    WrongRoom,
    /// Delivered as another connection's.
    WrongSender,
}

/// What is done to a publication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged before it is delivered.
    AckEarly,
    /// Never acknowledged.
    AckNever,
    Good,
    /// An offset is left out before it.
    LeaveOut,
    /// Refused, and may be sent again at once.
    Refuse,
}

/// What is done to those who come back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// The first publications are gone, and that is said.
    Evicts(u64),
    Good,
    /// The first publication is left out.
    LeavesOut,
    /// The first publication is sent twice.
    Repeats,
    /// It does not say whether anything is missing.
    SaysNothing,
}

/// How a connection is greeted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    Good,
    /// With a name that is none.
    Nameless,
    /// Not at all.
    None,
    /// Without the subprotocol in the handshake.
    WithoutProtocol,
}

/// How the server behaves.
#[derive(Clone)]
pub(crate) struct Manners {
    /// Decides by the member's place in its room and the number of publications it was due before,
    /// probes not counted.
    pub(crate) fault: fn(usize, u64) -> Fault,
    /// Decides by the number of publications before, probes not counted.
    pub(crate) fate: fn(u64) -> Fate,
    pub(crate) greeting: Greeting,
    pub(crate) replay: Replay,
    /// A pipe: whenever something is written to it, everybody is closed with 4100 and this pause.
    pub(crate) restarts: Option<(PathBuf, u64)>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            fault: |_, _| Fault::None,
            fate: |_| Fate::Good,
            greeting: Greeting::Good,
            replay: Replay::Good,
            restarts: None,
        }
    }
}

/// What was done.
#[derive(Default)]
pub(crate) struct Injected {
    pub(crate) faults: AtomicU64,
    pub(crate) fates: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) rejoined: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    /// Publications received, probes not counted.
    pub(crate) published: AtomicU64,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    injected: Arc<Injected>,
}

impl Server {
    pub(crate) fn start(manners: Manners) -> Self {
        let injected = Arc::new(Injected::default());
        let (events, inbox) = channel();
        if let Some((pipe, after_ms)) = manners.restarts.clone() {
            let events = events.clone();
            thread::spawn(move || watch(&pipe, after_ms, &events));
        }
        let welcome = match manners.greeting {
            Greeting::WithoutProtocol => Welcome::AcceptWithout,
            _ => Welcome::Accept,
        };
        let counts = Arc::clone(&injected);
        thread::spawn(move || Rooms::new(manners, counts).serve(&inbox));
        let address = listen(events, move |_| welcome, |_, text| Some(text.to_owned()));
        Self { address, injected }
    }

    pub(crate) fn injected(&self, count: fn(&Injected) -> &AtomicU64) -> u64 {
        count(&self.injected).load(Ordering::SeqCst)
    }
}

/// Ends all connections whenever somebody wrote to the pipe and closed it.
fn watch(pipe: &PathBuf, after_ms: u64, events: &Sender<Events<String>>) {
    while let Ok(mut file) = File::open(pipe) {
        let _ = file.read_to_end(&mut Vec::new());
        let restart = Event::Heard(format!("restart {after_ms}"));
        if events.send((0, restart)).is_err() {
            return;
        }
    }
}

/// One publication as it is kept.
struct Kept {
    offset: u64,
    from: String,
    msg: Value,
}

#[derive(Default)]
struct Room {
    offset: u64,
    kept: Vec<Kept>,
    /// Connections, each with how many publications it was due.
    members: Vec<(u64, u64)>,
    keys: HashMap<String, u64>,
}

struct Rooms {
    manners: Manners,
    injected: Arc<Injected>,
    writers: HashMap<u64, Writer>,
    rooms: HashMap<String, Room>,
    /// Publications that were refused once.
    refused: Vec<String>,
}

const EPOCH: &str = "k3f9";
const AT_MS: u64 = 1_732_270_000_000;

/// What a connection is called.
fn name(id: u64) -> String {
    format!("Xk3qTz{id:05}")
}

impl Rooms {
    fn new(manners: Manners, injected: Arc<Injected>) -> Self {
        Self {
            manners,
            injected,
            writers: HashMap::new(),
            rooms: HashMap::new(),
            refused: Vec::new(),
        }
    }

    fn serve(mut self, inbox: &Receiver<Events<String>>) {
        for (id, event) in inbox {
            let text = match event {
                Event::Connected(writer) => {
                    self.greet(id, writer);
                    continue;
                }
                Event::Gone => {
                    self.forget(id);
                    continue;
                }
                Event::Heard(text) => text,
            };
            let (event, data) = text.split_once(' ').unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            match event {
                "join" => self.join(id, &data),
                "leave" => self.leave(id, &data),
                "msg" => self.publish(id, &data),
                // From the pipe; no client says so.
                "restart" => self.restart(data.as_u64().unwrap()),
                other => panic!("unknown event {other}"),
            }
        }
    }

    fn say(&mut self, id: u64, event: &str, data: &Value) {
        self.send(id, format!("{event} {data}"));
    }

    fn send(&mut self, id: u64, text: String) {
        if let Some(writer) = self.writers.get_mut(&id) {
            // A driver that has ended does not read; that is not this thread's business.
            let _ = writer.send(Message::text(text));
        }
    }

    fn greet(&mut self, id: u64, writer: Writer) {
        self.writers.insert(id, writer);
        let connection = match self.manners.greeting {
            Greeting::None => return,
            Greeting::Nameless => "somebody".to_owned(),
            Greeting::Good | Greeting::WithoutProtocol => name(id),
        };
        let limits = json!({
            "message_bytes": 65536, "rooms": 128, "room_name_bytes": 255, "key_bytes": 64,
            "history_publications": 1000, "history_bytes": 262_144,
        });
        let hello = json!({
            "server": "faulty/1", "connection": connection, "keepalive_ms": 0, "limits": limits,
        });
        self.say(id, "hello", &hello);
    }

    fn forget(&mut self, id: u64) {
        self.writers.remove(&id);
        for room in self.rooms.values_mut() {
            room.members.retain(|(member, _)| *member != id);
        }
    }

    fn restart(&mut self, after_ms: u64) {
        let ids: Vec<u64> = self.writers.keys().copied().collect();
        let reason = json!({ "reason": "drain", "after_ms": after_ms }).to_string();
        for id in ids {
            self.say(id, "drain", &json!({ "after_ms": after_ms }));
            let close = CloseFrame {
                code: 4100.into(),
                reason: reason.clone().into(),
            };
            if let Some(mut writer) = self.writers.remove(&id) {
                let _ = writer.close(Some(close));
                let _ = writer.flush();
            }
            self.forget(id);
        }
    }

    fn join(&mut self, id: u64, data: &Value) {
        let room_name = data["room"].as_str().unwrap().to_owned();
        let room = self.rooms.entry(room_name.clone()).or_default();
        room.members.push((id, 0));
        let end = room.offset + 1;
        let mut answer = json!({
            "id": data["id"], "room": room_name,
            "position": { "epoch": EPOCH, "offset": room.offset },
        });
        let mut texts = Vec::new();
        if let Some(since) = data.get("since") {
            self.injected.rejoined.fetch_add(1, Ordering::SeqCst);
            assert_eq!(since["epoch"], EPOCH);
            let wanted = since["offset"].as_u64().unwrap() + 1;
            let first = match self.manners.replay {
                Replay::Evicts(count) => (wanted + count).min(end),
                _ => wanted,
            };
            if self.manners.replay != Replay::SaysNothing {
                answer["recovered"] = (first == wanted).into();
                answer["first"] = first.into();
            }
            let missed = room.kept.iter().filter(|kept| kept.offset >= first);
            texts = missed
                .map(|kept| envelope(&room_name, kept, kept.offset))
                .collect();
            self.injected
                .replayed
                .fetch_add(texts.len() as u64, Ordering::SeqCst);
            match self.manners.replay {
                Replay::LeavesOut if !texts.is_empty() => drop(texts.remove(0)),
                Replay::Repeats if !texts.is_empty() => texts.insert(1, texts[0].clone()),
                _ => {}
            }
        }
        self.say(id, "joined", &answer);
        for text in texts {
            self.send(id, text);
        }
    }

    fn leave(&mut self, id: u64, data: &Value) {
        let room = self.rooms.get_mut(data["room"].as_str().unwrap()).unwrap();
        room.members.retain(|(member, _)| *member != id);
        self.say(
            id,
            "left",
            &json!({ "id": data["id"], "room": data["room"] }),
        );
    }

    fn publish(&mut self, id: u64, data: &Value) {
        let room_name = data["to"].as_str().unwrap().to_owned();
        let is_probe = data["msg"].as_str().unwrap().starts_with("pppppppp");
        let fate = if is_probe {
            Fate::Good
        } else {
            self.fate_of(data)
        };
        let room = self.rooms.entry(room_name.clone()).or_default();
        if let Some(offset) = data["key"].as_str().and_then(|key| room.keys.get(key)) {
            self.injected.duplicates.fetch_add(1, Ordering::SeqCst);
            let ack = ack(&room_name, data, *offset, true);
            return self.say(id, "ack", &ack);
        }
        if fate == Fate::Refuse {
            let error = json!({
                "id": data["id"], "event": "msg", "room": room_name, "code": "overloaded",
                "message": "later", "retry_after_ms": 1,
            });
            return self.say(id, "error", &error);
        }
        room.offset += 1 + u64::from(fate == Fate::LeaveOut);
        let offset = room.offset;
        if let Some(key) = data["key"].as_str() {
            room.keys.insert(key.to_owned(), offset);
        }
        let wants_ack = data.get("id").is_some();
        let ack = ack(&room_name, data, offset, false);
        if wants_ack && fate == Fate::AckEarly {
            self.say(id, "ack", &ack);
        }
        let kept = Kept {
            offset,
            from: name(id),
            msg: data["msg"].clone(),
        };
        self.deliver(&room_name, &kept, is_probe);
        self.rooms.get_mut(&room_name).unwrap().kept.push(kept);
        if wants_ack && !matches!(fate, Fate::AckEarly | Fate::AckNever) {
            self.say(id, "ack", &ack);
        }
    }

    /// Decides once for each publication: one that is sent again is not another.
    fn fate_of(&mut self, data: &Value) -> Fate {
        if let Some(key) = data["key"].as_str()
            && self.refused.iter().any(|refused| refused == key)
        {
            return Fate::Good;
        }
        let fate = (self.manners.fate)(self.injected.published.fetch_add(1, Ordering::SeqCst));
        let is_bad = u64::from(fate != Fate::Good);
        self.injected.fates.fetch_add(is_bad, Ordering::SeqCst);
        if fate == Fate::Refuse {
            self.refused.push(data["key"].as_str().unwrap().to_owned());
        }
        fate
    }

    fn deliver(&mut self, room_name: &str, kept: &Kept, is_probe: bool) {
        let room = self.rooms.get_mut(room_name).unwrap();
        let mut deliveries = Vec::new();
        for (place, (id, due)) in room.members.iter_mut().enumerate() {
            let fault = if is_probe {
                Fault::None
            } else {
                *due += 1;
                (self.manners.fault)(place, *due - 1)
            };
            deliveries.push((*id, fault));
        }
        for (id, fault) in deliveries {
            let is_fault = !matches!(fault, Fault::None | Fault::Other);
            self.injected
                .faults
                .fetch_add(u64::from(is_fault), Ordering::SeqCst);
            if let Some(text) = faulty(room_name, kept, fault) {
                self.send(id, text);
            }
        }
    }
}

fn ack(room: &str, data: &Value, offset: u64, is_duplicate: bool) -> Value {
    let position = json!({ "epoch": EPOCH, "offset": offset });
    let mut ack = json!({ "id": data["id"], "room": room, "position": position });
    if is_duplicate {
        ack["duplicate"] = true.into();
    }
    ack
}

/// A publication as Throng writes it.
fn envelope(room: &str, kept: &Kept, offset: u64) -> String {
    let Kept { from, msg, .. } = kept;
    format!(r#"msg {{"room":"{room}","offset":{offset},"from":"{from}","at":{AT_MS},"msg":{msg}}}"#)
}

/// A publication as a member gets it; none if it does not.
fn faulty(room: &str, kept: &Kept, fault: Fault) -> Option<String> {
    let Kept { offset, from, msg } = kept;
    let good = || envelope(room, kept, *offset);
    Some(match fault {
        Fault::Announce => format!(r#"gap {{"room":"{room}","from":{offset},"to":{offset}}}"#),
        Fault::Drop => return None,
        Fault::None => good(),
        Fault::Other => {
            let place = format!(r#""offset":{offset},"from":"{from}","room":"{room}""#);
            format!(r#"msg {{"new":[1,{{}}],"msg":{msg}, "at":{AT_MS},{place}}}"#)
        }
        Fault::RepeatOffset => envelope(room, kept, offset - 1),
        Fault::Stall => {
            thread::sleep(Duration::from_millis(150));
            good()
        }
        Fault::Timeless => {
            format!(r#"msg {{"room":"{room}","offset":{offset},"from":"{from}","msg":{msg}}}"#)
        }
        Fault::Truncate => format!("{}\"}}", good().strip_suffix("..\"}").unwrap()),
        Fault::WrongRoom => envelope("coffee", kept, *offset),
        Fault::WrongSender => good().replace(from, "Yk3qTz00000"),
    })
}
