//! What a run may be told.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use faults::verdict::{Epochs, Promises};

/// Puts clients on a network that fails around a server, and says whether anything was lost in
/// silence.
///
/// The server is started on a free port of this machine, with a configuration of its own. The seed
/// decides what fails when, as far as the machine's own timing lets it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "faults",
    version,
    max_term_width = 100,
    args_override_self = true
)]
pub(crate) struct Cli {
    /// The server's program [default: `throng` beside this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// How long the network fails, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,

    /// How many clients speak throng.v1, those in JavaScript among them
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=2000))]
    pub(crate) clients: u32,

    /// How many of those are the JavaScript client in Node [default: a tenth, if --node-program is
    /// given]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=2000))]
    node: Option<u32>,

    /// How many of those are the JavaScript client on pages of a browser [default: a twentieth, if
    /// --browser-program is given]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=200))]
    browser: Option<u32>,

    /// The JavaScript client
    #[arg(long, value_name = "FILE", default_value = "clients/js/dist/throng.js")]
    pub(crate) js_client: PathBuf,

    /// What runs JavaScript [default: node]
    #[arg(long, value_name = "FILE")]
    node_program: Option<PathBuf>,

    /// The browser: Chromium, or another that takes its flags [default: chromium]
    #[arg(long, value_name = "FILE")]
    browser_program: Option<PathBuf>,

    /// How many clients beside those speak golem's wire, to compare with: they recover nothing
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=2000))]
    pub(crate) plain: u32,

    /// How many rooms there are; each client is in two of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rooms: u32,

    /// How many publications a second, over all rooms
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,

    /// How many bytes a publication has beside its key
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=32_768))]
    pub(crate) pad_bytes: u32,

    /// Decides what fails when [default: a random one, which the report names]
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// What the rooms do about slow members
    #[arg(long, value_enum, default_value_t = Policy::Disconnect)]
    pub(crate) policy: Policy,

    /// How often the network is dropped, for everybody or for a part, in seconds; 0 is never
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub(crate) drop_every: u32,

    /// For how long, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    pub(crate) drop_for: u32,

    /// Stops the server with SIGTERM in the middle, and starts it anew
    #[arg(long)]
    pub(crate) restart: bool,

    /// Kills the server in the middle, and starts it anew; implies --fsync=always
    #[arg(long, conflicts_with = "restart")]
    pub(crate) kill: bool,

    /// How often that is done
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) times: u32,

    /// Histories are on disk, and are brought there so; without it they are in memory only
    #[arg(long, value_enum)]
    fsync: Option<Fsync>,

    /// Writes the report to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// When histories are brought to the disk: the server's `history_fsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fsync {
    /// Before anybody gets a publication.
    Always,
    /// Now and then.
    Interval,
    /// When the kernel likes.
    Never,
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        })
    }
}

/// What a room does about a member that is too slow: the server's `slow_consumer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Closes it.
    Disconnect,
    /// Lets only the newest publication wait.
    Latest,
    /// Drops the oldest that wait.
    Skip,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnect => "disconnect",
            Self::Latest => "latest",
            Self::Skip => "skip",
        })
    }
}

impl Cli {
    /// When histories are brought to the disk, if they are.
    pub(crate) fn fsync(&self) -> Option<Fsync> {
        self.fsync.or_else(|| self.kill.then_some(Fsync::Always))
    }

    /// What clients may expect of such a run.
    pub(crate) fn promises(&self) -> Promises {
        let epochs = match (self.restart || self.kill, self.fsync()) {
            (false, _) => Epochs::One,
            (true, None) => Epochs::Forgotten,
            (true, Some(Fsync::Always)) => Epochs::Carried,
            // Who is asked to stop writes down all there is first.
            (true, Some(_)) if self.restart => Epochs::Carried,
            (true, Some(_)) => Epochs::TailForgotten,
        };
        Promises {
            epochs,
            may_skip: self.policy != Policy::Disconnect,
        }
    }

    /// How many clients are in Node.
    pub(crate) fn node(&self) -> u32 {
        let share = self.node_program.as_ref().map_or(0, |_| self.clients / 10);
        self.node.unwrap_or(share).min(self.clients)
    }

    /// How many clients are in a browser.
    pub(crate) fn browser(&self) -> u32 {
        let share = self
            .browser_program
            .as_ref()
            .map_or(0, |_| self.clients / 20);
        self.browser
            .unwrap_or(share)
            .min(self.clients - self.node())
    }

    /// How many clients are not in JavaScript. Those come first.
    pub(crate) fn rust(&self) -> u32 {
        self.clients - self.node() - self.browser()
    }

    /// What runs JavaScript.
    pub(crate) fn node_program(&self) -> &Path {
        self.node_program
            .as_deref()
            .unwrap_or_else(|| Path::new("node"))
    }

    /// The browser.
    pub(crate) fn browser_program(&self) -> &Path {
        self.browser_program
            .as_deref()
            .unwrap_or_else(|| Path::new("chromium"))
    }

    /// The rooms of a client: two different ones, if there are two.
    pub(crate) fn rooms_of(&self, client: u32) -> Vec<u32> {
        let first = client % self.rooms;
        // The second goes on by one each time that the first comes round, so that rooms are paired
        // differently.
        let second = (first + 1 + (client / self.rooms) % (self.rooms - 1).max(1)) % self.rooms;
        if first == second {
            vec![first]
        } else {
            vec![first, second]
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn cli(line: &str) -> Cli {
        Cli::parse_from(["faults"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_may_be_expected_follows_from_what_is_done_to_the_server() {
        let epochs = |line| cli(line).promises().epochs;
        assert_eq!(epochs(""), Epochs::One);
        assert_eq!(epochs("--fsync never"), Epochs::One);
        assert_eq!(epochs("--restart"), Epochs::Forgotten);
        assert_eq!(epochs("--restart --fsync never"), Epochs::Carried);
        assert_eq!(epochs("--kill"), Epochs::Carried);
        assert_eq!(epochs("--kill --fsync interval"), Epochs::TailForgotten);
        assert!(!cli("").promises().may_skip);
        assert!(cli("--policy skip").promises().may_skip);
        assert!(cli("--policy latest").promises().may_skip);
    }

    #[test]
    fn as_many_clients_are_in_javascript_as_was_said_and_a_share_where_it_can_run() {
        let parts = |line| {
            let cli = cli(line);
            [cli.rust(), cli.node(), cli.browser()]
        };
        assert_eq!(parts("--clients 60"), [60, 0, 0]);
        assert_eq!(
            parts("--clients 60 --node-program n --browser-program b"),
            [51, 6, 3]
        );
        assert_eq!(
            parts("--clients 60 --node 20 --node 15 --browser-program b"),
            [42, 15, 3]
        );
        assert_eq!(parts("--clients 10 --node 20 --browser 20"), [0, 10, 0]);
    }

    #[test]
    fn a_client_is_in_two_rooms_and_each_room_has_about_as_many() {
        for rooms in [1, 2, 3, 10] {
            let cli = cli(&format!("--rooms {rooms}"));
            let mut members = vec![0; rooms];
            for client in 0..cli.clients {
                let rooms_of = cli.rooms_of(client);
                assert_eq!(rooms_of.len(), rooms.min(2), "client {client} of {rooms}");
                rooms_of
                    .iter()
                    .for_each(|room| members[*room as usize] += 1);
            }
            let each = 200 * rooms.min(2) / rooms;
            assert!(
                members
                    .iter()
                    .all(|count| each.abs_diff(*count) <= 2 + each / 10)
            );
        }
    }
}
