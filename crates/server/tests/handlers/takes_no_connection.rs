//! A handler that forgot the connection.

fn main() {
    throng::Router::new().on("roll", |sides: u32| _ = sides);
}
