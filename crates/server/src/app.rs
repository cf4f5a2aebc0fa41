//! What an application sees: events and their handlers, connections, and rooms.

pub(crate) mod application;
pub(crate) mod connection;
pub(crate) mod data;
pub(crate) mod error;
pub(crate) mod handler;
pub(crate) mod hub;
pub(crate) mod manager;
pub(crate) mod question;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod requests;
pub(crate) mod room;
pub(crate) mod router;
