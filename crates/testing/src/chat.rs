//! The chat that tests serve: golem's three events, throng.v1, and two events by which a test can
//! tell what happened.
//!
//! The program's own chat, `crates/daemon/src/chat.rs`, has the same three; its tests talk to it in
//! a process of its own.

use serde::Deserialize;
use throng::{Connection, Data, Json, PublishOptions, Refusal, RoomManager, Router};

#[derive(Deserialize)]
struct RoomRequest {
    name: String,
}

#[derive(Deserialize)]
struct Msg<'a> {
    to: &'a str,
    #[serde(borrow)]
    msg: Json<'a>,
}

/// Handles golem's `join`, `leave` and `msg`, and the requests of throng.v1; answers `sync 1` with
/// `synced 1`, so that a peer knows what went before to be done, and `core` with the number of the
/// connection's core.
pub fn add_to(router: &mut Router, rooms: &RoomManager) {
    router.serve_throng_v1();
    let joined = rooms.clone();
    router.on("join", move |conn: &Connection, request: RoomRequest| {
        joined.join(conn, &request.name)
    });
    let left = rooms.clone();
    router.on("leave", move |conn: &Connection, request: RoomRequest| {
        left.leave(conn, &request.name)
    });
    let rooms = rooms.clone();
    router.on(
        "msg",
        move |conn: &Connection, data: Data<'_>| -> Result<(), Refusal> {
            let Msg { to, msg } = data.parse()?;
            let from = Some(conn.id());
            rooms.publish(
                to,
                &msg,
                PublishOptions {
                    from,
                    ..PublishOptions::default()
                },
            )?;
            Ok(())
        },
    );
    add_signals_to(router);
}

/// Adds the two events by which a test can tell what happened.
pub fn add_signals_to<S: Send + Sync + 'static>(router: &mut Router<S>) {
    router.on("sync", |conn: &Connection<S>, number: u64| {
        conn.emit("synced", &number)
    });
    router.on("core", |conn: &Connection<S>| {
        conn.emit("core", &conn.id().core().0)
    });
}
