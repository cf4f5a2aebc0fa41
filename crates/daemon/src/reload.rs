//! Reading the configuration file again while the server runs.

use throng::Handle;

use crate::log::Filter;
use crate::setup::{Change, Setup};

/// The settings of a server, and the handle to change them.
pub(crate) struct Reloader {
    /// The settings in force: those of the file, except those that need a restart.
    setup: Setup,
    handle: Handle,
    filter: Filter,
}

impl Reloader {
    pub(crate) const fn new(setup: Setup, handle: Handle, filter: Filter) -> Self {
        Self {
            setup,
            handle,
            filter,
        }
    }

    /// Reads the file again, and says what came of it. A file that is not valid changes nothing.
    pub(crate) fn reload(&mut self) {
        if self.setup.file().is_none() {
            tracing::warn!(
                "no configuration file to reload: flags and environment variables change only at a \
                 restart"
            );
            return;
        }
        match Setup::load() {
            Ok(new) => self.take_over(&new),
            Err(error) => {
                tracing::error!("configuration not reloaded: {error}");
            }
        }
    }

    fn take_over(&mut self, new: &Setup) {
        let changes = self.setup.changes(new);
        let (waiting, taken): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.needs_restart);
        let keys = taken.iter().map(|change| &*change.key);
        self.setup = self.setup.with(keys, new);
        self.filter.set(self.setup.log());
        // Of what is otherwise in it nothing needs a restart.
        _ = self.handle.reload(&self.setup.config());
        for Change { key, from, to, .. } in &taken {
            tracing::info!(key, from, to, "setting changed");
        }
        for Change { key, from, to, .. } in &waiting {
            tracing::warn!(key, from, to, "setting needs a restart");
        }
        tracing::info!(
            changed = taken.len(),
            needs_restart = waiting.len(),
            "configuration reloaded"
        );
    }
}
