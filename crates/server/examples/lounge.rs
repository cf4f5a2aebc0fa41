//! Who is there, and somebody who may do more: what golem's examples leave out, and what golem has
//! not.
//!
//! ```text
//! cargo run --example lounge
//! ```
//!
//! Open `/?ada` and `/?host`: the name behind the question mark is the visitor's. What is typed at
//! the terminal is announced to everybody.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use throng::{Action, CloseCode, Config, Connection, EmitError, Hub, Refusal, Request, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

/// The person at the other end.
struct Visitor {
    name: String,
}

#[derive(Deserialize)]
struct RoomRequest {
    name: String,
}

/// Requests that only the host may make. A real host would have to prove who it is: see the example
/// `session`.
const HOST_ONLY: [&str; 3] = ["announce", "destroy", "stop"];

fn may(conn: &Connection<Visitor>, action: Action<'_>) -> Result<(), Refusal> {
    match action {
        Action::Request { event } if HOST_ONLY.contains(&event) && conn.state().name != "host" => {
            Err(Refusal::new("forbidden", "this is for the host"))
        }
        _ => Ok(()),
    }
}

fn main() -> demo::Result {
    let mut config = Config::default();
    // No pings: golem's SetHeartbeat(false). Who vanishes is then noticed when something is sent to
    // it.
    config.timeouts.ping_interval = Duration::ZERO;
    let server = demo::bind(config, page!("lounge"))?;
    let hub = server.hub();
    announce_what_is_typed(hub.clone());

    let mut router = Router::with_state(|request: &Request| Visitor {
        name: request.query().unwrap_or("somebody").to_owned(),
    });
    router.before(may);

    // Everybody is in the lobby, and hears who comes and goes.
    let lobby = server.room();
    let entered = lobby.clone();
    router.on_connect(move |conn: &Connection<Visitor>, _: &Request| {
        // None of it is refused on the server's own threads, unless the lobby has been stopped.
        if entered.join(conn).is_ok() {
            _ = entered.emit_except(conn, "came", &conn.state().name);
        }
    });
    let left = lobby.clone();
    router.on_close(move |conn: &Connection<Visitor>, _| {
        _ = left.emit("went", &conn.state().name);
    });

    // Rooms of their own: clients of throng.v1, if it were served, could not name them.
    let rooms = server.room_manager();
    let joined = rooms.clone();
    router.on(
        "join",
        move |conn: &Connection<Visitor>, room: RoomRequest| joined.join(conn, &room.name),
    );
    let left = rooms.clone();
    router.on("leave_all", move |conn: &Connection<Visitor>| {
        left.leave_all(conn)
    });

    // Asks the other cores who is there, and so has to wait for their answers.
    let asked = rooms.clone();
    router.on(
        "who",
        move |conn: Connection<Visitor>, room: RoomRequest| {
            let rooms = asked.clone();
            async move {
                let members = rooms.members::<Visitor>(&room.name).await?;
                let mut names: Vec<&str> =
                    members.iter().map(|member| &*member.state().name).collect();
                names.sort_unstable();
                Ok::<(), Refusal>(conn.emit("who", &names)?)
            }
        },
    );

    router.on("bye", |conn: &Connection<Visitor>| {
        conn.close(CloseCode::NORMAL, "bye")
    });

    router.on("announce", move |_: &Connection<Visitor>, text: String| {
        announce(&hub, &text)
    });
    let destroyed = rooms.clone();
    router.on(
        "destroy",
        move |_: &Connection<Visitor>, room: RoomRequest| destroyed.destroy(&room.name),
    );
    router.on("stop", move |_: &Connection<Visitor>| {
        rooms.stop();
        lobby.stop();
    });

    demo::serve(server, router)
}

/// Tells everybody, and says how many that are.
fn announce(hub: &Hub, text: &str) -> Result<(), EmitError> {
    tracing::info!("to {} connections: {text}", hub.connection_count());
    hub.broadcast("announcement", text)
}

/// Reads the terminal on a thread of its own. It is not one of the server's: when they have more to
/// do than they may keep, it is refused.
fn announce_what_is_typed(hub: Hub) {
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if let Err(error) = announce(&hub, &line) {
                tracing::warn!("not announced: {error}");
            }
        }
    });
}
