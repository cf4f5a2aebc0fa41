//! Bytes to frames to messages to events, and back: RFC 6455 and the `event json` wire.
//!
//! Pure functions and small state machines: no I/O, no clock, no async. Nothing is allocated per
//! frame, and payloads are slices of the caller's buffer wherever the bytes arrived in one piece.
//!
//! ```text
//!  socket bytes ──FrameDecoder──▶ frame parts ──MessageReader──▶ messages ──event::split──▶ events
//!                 (frame.rs)                     (message.rs)                (event.rs)
//! ```
//!
//! Each file owns one subject of the RFC: [`frame`] the header (5.2), [`mask`] the masking (5.3),
//! [`decoder`] the parsing at any cut of the bytes, [`message`] fragmentation and UTF-8 (5.4, 8.1),
//! [`close`] the status codes (7.4), [`handshake`] the opening (4). [`event`] and [`json`] define
//! Throng's text messages.

pub mod close;
pub mod decoder;
pub mod event;
pub mod frame;
pub mod handshake;
mod id;
pub mod json;
pub mod mask;
pub mod message;
mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use decoder::{DecodeError, FrameDecoder, FramePart, Role};
pub use frame::{FrameHeader, OpCode, SharedFrame};
pub use json::Json;
pub use mask::MaskingKey;
pub use message::{Input, Limits, Message, MessageReader, ReadError};
