//! The chat itself: golem's three events.

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

/// Handles `join`, `leave` and `msg`.
pub(crate) fn add_to(router: &mut Router, rooms: &RoomManager) {
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
        move |_: &Connection, data: Data<'_>| -> Result<(), Refusal> {
            let Msg { to, msg } = data.parse()?;
            rooms.emit(to, "msg", &msg)?;
            Ok(())
        },
    );
}
