//! The JavaScript client, in processes of Node and on a page of a browser.
//!
//! A script listens to orders and tells what its clients were given, in lines of JSON over a
//! connection of its own that does not go through the network under test. js/subjects.mjs has the
//! other end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use faults::client::PUBLICATIONS_MAX;
use faults::record::{Acknowledged, Key, Record, SharedRecord, room_name};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::cli::Cli;

/// Where JavaScript runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On a page of a browser.
    Browser,
    /// In Node.
    Node,
}

impl Kind {
    /// What the table calls its clients.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Browser => "JavaScript in a browser",
            Self::Node => "JavaScript in Node",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Browser => "browser.mjs",
            Self::Node => "node.mjs",
        }
    }
}

/// A process with some clients. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Script {
    kind: Kind,
    orders: mpsc::Sender<Value>,
    records: Arc<Mutex<Records>>,
    /// Node, and the browser.
    children: Mutex<Vec<Child>>,
}

/// Of each client.
type Records = HashMap<u32, SharedRecord>;

/// A client of a script.
#[derive(Debug)]
pub(crate) struct ScriptClient {
    script: Arc<Script>,
    number: u32,
    record: SharedRecord,
    last_key: AtomicU32,
}

/// How much faster than real time the clients live: what they wait for is meant for people, up to
/// half a minute, and much is to happen in little time.
const SPEED: u32 = 5;

/// How many orders may wait.
const ORDERS_MAX: usize = 4096;

/// How long a process may take to start, and a browser to open its page.
const PATIENCE: Duration = Duration::from_secs(60);

/// The scripts, which are written beside the client library.
const FILES: [(&str, &str); 5] = [
    ("browser.mjs", include_str!("../../../js/browser.mjs")),
    ("node.mjs", include_str!("../../../js/node.mjs")),
    ("page.html", include_str!("../../../js/page.html")),
    ("page.mjs", include_str!("../../../js/page.mjs")),
    ("subjects.mjs", include_str!("../../../js/subjects.mjs")),
];

/// What a script tells, of one of its clients unless it is about the script.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    client: u32,
    #[serde(flatten)]
    tell: Tell,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case")]
enum Tell {
    Acknowledged {
        room: u32,
        key: Key,
        position: Option<Place>,
        duplicate: bool,
    },
    Complaint {
        text: String,
    },
    Joined {
        room: u32,
        position: Place,
        recovered: Option<bool>,
        reached: u64,
    },
    Lost {
        code: u16,
        was_open: bool,
    },
    Missing {
        room: u32,
        epoch: String,
        from: u64,
        to: u64,
    },
    MissingUnknown {
        room: u32,
    },
    Open,
    Page {
        url: String,
    },
    Publication {
        room: u32,
        position: Place,
        key: Key,
    },
    Ready,
    Refused {
        key: Key,
    },
}

#[derive(Debug, Deserialize)]
struct Place {
    epoch: String,
    offset: u64,
}

impl Script {
    /// Starts a process, and waits until it listens to orders.
    ///
    /// # Errors
    ///
    /// If a program or the client library is not there, or the process does not say that it is
    /// ready.
    pub(crate) async fn start(
        cli: &Cli,
        kind: Kind,
        directory: &Path,
        progress: Arc<Notify>,
    ) -> Result<Arc<Self>> {
        let folder = write_files(cli, directory)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut node = Command::new(cli.node_program());
        if !has_web_socket(cli.node_program())? {
            node.arg("--experimental-websocket");
        }
        node.arg(folder.join(kind.file()));
        node.arg(listener.local_addr()?.port().to_string());
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let script = Arc::new(Self {
            kind,
            orders,
            records: Arc::default(),
            children: Mutex::new(vec![start_child(&mut node)?]),
        });
        let accepted = timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.context("Node does not come")??;
        let (reading, writing) = stream.into_split();
        let mut told = BufReader::new(reading).lines();
        timeout(PATIENCE, script.ready(cli, &folder, &mut told))
            .await
            .context("the script does not come to be ready")??;
        tokio::spawn(give_orders(ordered, writing));
        tokio::spawn(take_tells(told, script.records.clone(), progress));
        let prepare = json!({ "order": "prepare", "speed": SPEED, "padBytes": cli.pad_bytes });
        script.orders.send(prepare).await?;
        Ok(script)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Waits until the script is ready; opens its page if it has one.
    async fn ready(
        &self,
        cli: &Cli,
        folder: &Path,
        told: &mut Lines<BufReader<OwnedReadHalf>>,
    ) -> Result<()> {
        while let Some(line) = told.next_line().await? {
            match serde_json::from_str::<Line>(&line)?.tell {
                Tell::Ready => return Ok(()),
                Tell::Page { url } => {
                    let browser = start_child(&mut browser(cli, folder, &url))?;
                    self.children.lock().push(browser);
                }
                other => bail!("the script is not ready and tells {other:?}"),
            }
        }
        bail!("the script has ended")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        for child in self.children.get_mut() {
            // It may have ended by itself.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

impl ScriptClient {
    /// Begins a client.
    ///
    /// # Errors
    ///
    /// If the script has ended.
    pub(crate) async fn begin(
        script: &Arc<Script>,
        number: u32,
        rooms: &[u32],
        address: SocketAddr,
    ) -> Result<Self> {
        let record = SharedRecord::new(Mutex::new(Record::of(rooms)));
        script.records.lock().insert(number, record.clone());
        let names: Vec<_> = rooms.iter().map(|room| (*room, room_name(*room))).collect();
        let url = format!("ws://{address}/ws");
        let begin = json!({ "order": "begin", "client": number, "url": url, "rooms": names });
        script.orders.send(begin).await?;
        Ok(Self {
            script: script.clone(),
            number,
            record,
            last_key: AtomicU32::new(0),
        })
    }

    /// Publishes to a room; false if too much waits to be acknowledged.
    pub(crate) fn publish(&self, room: u32) -> bool {
        let mut record = self.record.lock();
        if record.unanswered_count() >= PUBLICATIONS_MAX as u64 {
            return false;
        }
        let Ok(place) = self.script.orders.try_reserve() else {
            return false;
        };
        record.taken_count += 1;
        let key = Key {
            client: self.number,
            number: self.last_key.fetch_add(1, Ordering::Relaxed) + 1,
        };
        place.send(json!({
            "order": "publish",
            "client": self.number,
            "room": room,
            "name": room_name(room),
            "key": key.to_string(),
        }));
        true
    }

    /// What it was given and told so far.
    pub(crate) const fn record(&self) -> &SharedRecord {
        &self.record
    }
}

async fn give_orders(mut ordered: mpsc::Receiver<Value>, mut writing: OwnedWriteHalf) {
    while let Some(order) = ordered.recv().await {
        // Who reads tells notices that the script is gone.
        if writing
            .write_all(format!("{order}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Writes down what is told, until the script ends, which it is not to do before it is dropped.
async fn take_tells(
    mut told: Lines<BufReader<OwnedReadHalf>>,
    records: Arc<Mutex<Records>>,
    progress: Arc<Notify>,
) {
    while let Ok(Some(line)) = told.next_line().await {
        let records = records.lock();
        match serde_json::from_str(&line) {
            Ok(line) => write_down(line, &records),
            Err(error) => complain_all(&records, &format!("{error}: {line}")),
        }
        drop(records);
        progress.notify_one();
    }
    complain_all(&records.lock(), "the script has ended");
    progress.notify_one();
}

fn complain_all(records: &Records, text: &str) {
    for record in records.values() {
        record.lock().complain(text.to_owned());
    }
}

fn write_down(Line { client, tell }: Line, records: &Records) {
    let Some(record) = records.get(&client) else {
        return complain_all(
            records,
            &format!("client {client}, who is not here: {tell:?}"),
        );
    };
    let record = &mut *record.lock();
    match tell {
        Tell::Acknowledged {
            room,
            key,
            position,
            duplicate,
        } => {
            let position = position.map(|at| record.place(room, &at.epoch, at.offset));
            record.acknowledged.push(Acknowledged {
                key,
                room,
                position,
                duplicate,
            });
        }
        Tell::Complaint { text } => record.complain(text),
        Tell::Joined {
            room,
            position,
            recovered,
            reached,
        } => {
            let position = record.place(room, &position.epoch, position.offset);
            record.join(room, position, recovered, reached);
        }
        Tell::Lost { code, was_open } => {
            record.failed_attempt_count += u64::from(!was_open);
            // 1006 is no code of the server: there was none.
            if code != 1006 {
                *record.closes.entry(code).or_default() += 1;
            }
        }
        Tell::Missing {
            room,
            epoch,
            from,
            to,
        } => {
            let place = record.place(room, &epoch, to);
            record.missing(room, &place.epoch, from, to);
        }
        Tell::MissingUnknown { room } => record.missing_unknown(room),
        Tell::Open => record.connection_count += 1,
        Tell::Publication {
            room,
            position,
            key,
        } => {
            let position = record.place(room, &position.epoch, position.offset);
            record.publication(room, position, key);
        }
        Tell::Refused { key } => record.refused.push(key),
        Tell::Page { .. } | Tell::Ready => record.complain("the script began again".to_owned()),
    }
}

/// Puts the scripts and the client library into one folder.
fn write_files(cli: &Cli, directory: &Path) -> Result<PathBuf> {
    let folder = directory.join("js");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text)?;
    }
    let client = &cli.js_client;
    std::fs::copy(client, folder.join("throng.mjs"))
        .with_context(|| format!("there is no JavaScript client at {}", client.display()))?;
    Ok(folder)
}

/// Whether Node has a WebSocket without being told to.
fn has_web_socket(node: &Path) -> Result<bool> {
    let mut command = Command::new(node);
    command
        .args(["--print", "typeof WebSocket"])
        .stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("could not start {}", node.display()))?;
    ensure!(output.status.success(), "{} does not work", node.display());
    Ok(output.stdout.starts_with(b"function"))
}

fn browser(cli: &Cli, folder: &Path, url: &str) -> Command {
    let mut command = Command::new(cli.browser_program());
    command.arg(format!(
        "--user-data-dir={}",
        folder.join("profile").display()
    ));
    command.args(BROWSER_FLAGS).arg(url);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Without a window, and without anything that is not the page's: no throttling of what nobody
/// looks at.
const BROWSER_FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
];

fn start_child(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
        .spawn()
        .with_context(|| format!("could not start {program}"))
}
