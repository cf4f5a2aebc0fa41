//! A handler whose error is no refusal.

use throng::{Connection, Router};

fn main() {
    Router::new().on("roll", |_: &Connection, text: String| -> Result<(), std::num::ParseIntError> {
        let _sides: u32 = text.parse()?;
        Ok(())
    });
}
