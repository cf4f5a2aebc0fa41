//! The WebSocket as a route of an axum server.
//!
//! ```text
//! cargo run --example mount -- 127.0.0.1:9003
//! ```
//!
//! It shows [`throng::Server::mount`], with the order in which both end: first the connections are
//! told when to come back, then axum stops.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use throng::{Config, Connection, Router, Server};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct RoomRequest {
    name: String,
}

/// Says whose request it is, for limits by address.
async fn tell_peer(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert::<IpAddr>(peer.ip());
    next.run(request).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:9003");
    let server = Server::bind(Config {
        listen: Vec::new(),
        ..Config::default()
    })?;
    let rooms = server.rooms();
    let mut router = Router::new();
    let joined = rooms.clone();
    router.on("join", move |conn: &Connection, request: RoomRequest| {
        joined.join(conn, &request.name)
    });
    let (mount, running) = server.mount(router);

    let members = move || async move { rooms.member_count("lobby").to_string() };
    let app = axum::Router::new()
        .route("/lobby/members", get(members))
        .route_service("/ws", mount)
        .layer(middleware::from_fn(tell_peer))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            // Without a way to hear of it, the process ends as it always did.
            _ = tokio::signal::ctrl_c().await;
            running.stop().drain();
            _ = tokio::task::spawn_blocking(move || running.join()).await;
        })
        .await?;
    Ok(())
}
