//! Encodes events as `event json`.

use std::cell::RefCell;

use proto::SharedFrame;
use proto::event::{EncodeError, EventEncoder};
use serde::Serialize;

/// Encodes an event with this thread's buffer, or with a new one inside a `Serialize` that emits.
pub(crate) fn encode<T: Serialize + ?Sized>(
    event: &str,
    data: &T,
) -> Result<SharedFrame, EncodeError> {
    ENCODER.with(|encoder| match encoder.try_borrow_mut() {
        Ok(mut encoder) => encoder.encode(event, data),
        Err(_) => EventEncoder::default().encode(event, data),
    })
}

/// Encodes an event whose data `write` puts together as JSON.
pub(crate) fn encode_written(
    event: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<SharedFrame, EncodeError> {
    // Rare and large: its memory is its own.
    let mut json = Vec::new();
    write(&mut json)?;
    EventEncoder::default().encode_pieces(event, &[&json])
}

thread_local! {
    static ENCODER: RefCell<EventEncoder> = RefCell::default();
}
