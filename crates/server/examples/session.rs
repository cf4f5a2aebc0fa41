//! Who has logged in may connect: golem's "Handshake authorisation using sessions".
//!
//! ```text
//! cargo run --example session
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use parking_lot::Mutex;
use throng::{Config, Connection, Rejection, Request, Router, cookie};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

/// The cookie that a session is known by.
const COOKIE_NAME: &str = "throng.sid";

/// Maximum number of sessions: anybody may begin one here, and a list without an end is a leak.
const SESSIONS_MAX: usize = 10_000;

/// The sessions that are logged in. A real one asks who it is first, forgets old ones, and is kept
/// in a database.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashSet<String>>>);

impl Sessions {
    /// Begins a session under a name that nobody can guess; none if there are too many.
    fn begin(&self) -> io::Result<Option<String>> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let id = format!("{:032x}", u128::from_ne_bytes(random));
        let mut sessions = self.0.lock();
        let has_place = sessions.len() < SESSIONS_MAX;
        Ok(has_place.then(|| {
            sessions.insert(id.clone());
            id
        }))
    }

    fn is_open(&self, id: &str) -> bool {
        self.0.lock().contains(id)
    }

    fn end(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

/// Answers POST /login: begins a session, and goes back to the page.
async fn login(State(sessions): State<Sessions>) -> impl IntoResponse {
    match sessions.begin() {
        Ok(Some(id)) => back(format!(
            "{COOKIE_NAME}={id}; HttpOnly; SameSite=Lax; Path=/"
        )),
        Ok(None) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Answers POST /logout: ends the session. Connections that it has opened stay open, as golem's do.
async fn logout(State(sessions): State<Sessions>, headers: HeaderMap) -> impl IntoResponse {
    if let Some(id) = cookie(&headers, COOKIE_NAME) {
        sessions.end(id);
    }
    back(format!(
        "{COOKIE_NAME}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"
    ))
}

fn back(set_cookie: String) -> axum::response::Response {
    let headers = [(LOCATION, "/".to_owned()), (SET_COOKIE, set_cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn main() -> demo::Result {
    let mut server = demo::bind(Config::default(), page!("session"))?;
    let sessions = Sessions::default();

    let service = axum::Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .with_state(sessions.clone());
    server.fallback(service);

    let mut router = Router::with_handshake(move |request: Request| {
        let sessions = sessions.clone();
        async move {
            let id = request.cookie(COOKIE_NAME).unwrap_or_default();
            if sessions.is_open(id) {
                tracing::info!("a session that is open");
                Ok(())
            } else {
                tracing::info!("no session");
                Err(Rejection::unauthorized("log in first\n"))
            }
        }
    });
    router.on("ping", |conn: &Connection| conn.emit("pong", &()));
    demo::serve(server, router)
}
