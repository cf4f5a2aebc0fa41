//! No io_uring: this is built without the feature `uring`, or not for Linux.

use std::io;

use super::{Results, Send};

/// A ring that nobody has.
#[derive(Debug)]
pub(crate) enum Uring {}

impl Uring {
    /// Fails: the library was built without io_uring.
    ///
    /// # Errors
    ///
    /// Always, with what would have to be otherwise.
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, REASON))
    }

    pub(crate) fn send_all(&self, _: &[Send<'_>], _: &mut Results) -> u64 {
        match *self {}
    }
}

const REASON: &str = if cfg!(target_os = "linux") {
    "the library was built without its feature `uring`"
} else {
    "io_uring needs Linux"
};

#[cfg(test)]
mod tests {
    use crate::config::{Config, FlushMode};
    use crate::core::flush::Flusher;
    use crate::server::{BindError, Server};

    #[test]
    fn who_demands_it_is_told_why_there_is_none_and_who_does_not_writes_without() {
        let error = Server::bind(Config {
            flush: FlushMode::Uring,
            ..Config::default()
        });
        let error = error.unwrap_err();
        assert!(matches!(error, BindError::Flush(_)), "{error:?}");
        assert!(error.to_string().ends_with(super::REASON), "{error}");

        let flusher = Flusher::new(FlushMode::Auto).unwrap();
        assert_eq!(flusher.name(), "write");
    }
}
