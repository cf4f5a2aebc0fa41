//! An application's own HTTP beside its WebSockets, on one port: what is posted is published.
//!
//! ```text
//! cargo run --example fallback -- 127.0.0.1:9002
//! curl -d 'hello' http://127.0.0.1:9002/rooms/lobby
//! ```
//!
//! It shows [`throng::Server::fallback`] with axum's router, which is any of tower's services to
//! it.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use throng::{Config, Connection, Router, Server};

#[derive(Deserialize)]
struct RoomRequest {
    name: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:9002");
    let mut server = Server::bind(Config {
        listen: vec![address.parse()?],
        ..Config::default()
    })?;

    let rooms = server.rooms();
    let publish = move |Path(room): Path<String>, text: String| async move {
        match rooms.emit(&room, "news", &text) {
            Ok(count) => (StatusCode::OK, format!("{count} members\n")),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    };
    server.fallback(axum::Router::new().route("/rooms/{room}", post(publish)));

    let mut router = Router::new();
    let rooms = server.rooms();
    router.on("join", move |conn: &Connection, request: RoomRequest| {
        rooms.join(conn, &request.name)
    });
    Ok(server.serve(router)?)
}
