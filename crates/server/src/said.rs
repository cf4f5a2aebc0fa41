//! What the log says of newcomers: bounded, whatever they do.

use std::io;

use parking_lot::Mutex;

use crate::accept::hosts::Unserved;
use crate::accept::origin::{Forbidden, Origins};
use crate::clock;
use crate::log_limit::{LogLimit, LogOnce};

/// Limits of the log lines about newcomers. One for a server, for what befalls one core mostly
/// befalls all.
#[derive(Debug, Default)]
pub(crate) struct Said {
    accepting: Mutex<LogLimit>,
    hosts: Mutex<LogOnce>,
    origins: Mutex<LogOnce>,
}

impl Said {
    /// Says that no socket can be accepted.
    pub(crate) fn cannot_accept(&self, error: &io::Error) {
        let times = self.accepting.lock().happened(clock::now());
        if let Some(times) = times {
            tracing::warn!(
                %error,
                times,
                "out of file descriptors: new connections get 503 (health and metrics are \
                 answered). Raise the limit of open files (LimitNOFILE=, ulimit -Hn), or set \
                 THRONG_MAX_CONNECTIONS=auto"
            );
        }
    }

    /// Says that sockets are accepted again. For whoever could not accept the one before.
    pub(crate) fn accepts_again(&self) {
        let times = self.accepting.lock().ended();
        if let Some(times) = times {
            tracing::info!(times, "accepting connections again");
        }
    }

    /// Says which host was asked for and is not served, and which setting would serve it.
    pub(crate) fn refused_host(&self, unserved: &Unserved<'_>) {
        let shown = unserved.host();
        let times = self.hosts.lock().noted(&shown, clock::now());
        if let Some(times) = times {
            match unserved.wanted() {
                Some(hosts) => tracing::warn!(
                    times,
                    "{shown}; to serve it, set THRONG_ALLOWED_HOSTS={hosts} \
                     (or Config::allowed_hosts)"
                ),
                None => tracing::warn!(times, "{shown}"),
            }
        }
    }

    /// Says which page was refused, and which setting would let it in.
    pub(crate) fn refused_origin(&self, forbidden: &Forbidden<'_>, allowed: &Origins) {
        let shown = forbidden.to_string();
        let times = self.origins.lock().noted(&shown, clock::now());
        if let Some(times) = times {
            match forbidden.rule() {
                Some(rule) => tracing::warn!(
                    times,
                    "{shown} may not open a WebSocket here; to allow it, set \
                     THRONG_ORIGINS={allowed},{rule} (or Config::origins)"
                ),
                None => tracing::warn!(times, "{shown} may not open a WebSocket here"),
            }
        }
    }
}
