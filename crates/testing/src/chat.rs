//! The chat that tests serve: golem's wire, throng.v1, and two events by which a test can tell what
//! happened.

use throng::{Connection, Router};

/// Serves golem's wire and throng.v1; answers `sync 1` with `synced 1`, so that a peer knows what
/// went before to be done, and `core` with the number of the connection's core.
pub fn add_to(router: &mut Router) {
    router.serve_throng_v1().serve_golem();
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
