//! A closure whose parameters have no types.

fn main() {
    throng::Router::new().on("roll", |conn, dice| {});
}
