//! The chat of the crate's first page, and two events by which a test can tell what happened.

use serde::Deserialize;
use throng::{Connection, Data, Json, Refusal, RoomManager, Router};

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

/// Handles golem's `join`, `leave` and `msg`; answers `sync 1` with `synced 1`, so that a peer
/// knows what went before to be done, and `core` with the number of the connection's core.
pub(crate) fn add_to(router: &mut Router, rooms: &RoomManager) {
    let joined = rooms.clone();
    router.on("join", move |conn: &Connection, request: RoomRequest| {
        joined.join(conn, &request.name)
    });
    let left = rooms.clone();
    router.on("leave", move |conn: &Connection, request: RoomRequest| {
        left.leave(conn, &request.name);
    });
    let rooms = rooms.clone();
    router.on(
        "msg",
        move |_: &Connection, data: Data<'_>| -> Result<(), Refusal> {
            let Msg { to, msg } = data.parse()?;
            rooms.emit(to, "msg", &msg)?;
            Ok(())
        },
    );
    router.on("sync", |conn: &Connection, number: u64| {
        conn.emit("synced", &number)
    });
    router.on("core", |conn: &Connection| {
        conn.emit("core", &conn.id().core().0)
    });
}
