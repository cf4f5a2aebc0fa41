//! The chat itself: golem's three events, and throng.v1 for those who ask for it.

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

/// Handles `join`, `leave` and `msg`, and the requests of throng.v1.
pub(crate) fn add_to(router: &mut Router, rooms: &RoomManager) {
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
            let options = PublishOptions {
                from: Some(conn.id()),
                ..PublishOptions::default()
            };
            rooms.publish(to, &msg, options)?;
            Ok(())
        },
    );
}
