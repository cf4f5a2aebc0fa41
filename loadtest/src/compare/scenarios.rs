//! What servers are compared in: the scenarios that have names, and a short one to check with.

use super::peers::Peer;
use crate::catalogue::{self, Entry};
use crate::failure::Failure;

/// One load.
#[derive(Debug)]
pub(super) struct Scenario {
    /// For the table's title.
    pub(super) name: String,
    /// Where this happens, or what it is for.
    pub(super) stands_for: String,
    /// The command line that it is.
    pub(super) command_line: String,
    /// What kind of figures its reports have.
    pub(super) mode: String,
    /// The only wire that can do it, if there is one.
    wire: Option<String>,
    /// What the load generator is told, but for whom and where.
    pub(super) words: Vec<String>,
}

/// The scenarios of these names, or in these files; all that have a name, if there are none.
///
/// # Errors
///
/// [`Failure::ScenarioUnknown`] and its kin.
pub(super) fn chosen(names: &[String], seconds: u32) -> Result<Vec<Scenario>, Failure> {
    let entries = if names.is_empty() {
        catalogue::all().collect()
    } else {
        let found = names.iter().map(|name| catalogue::find(name));
        found.collect::<Result<Vec<Entry>, Failure>>()?
    };
    entries
        .iter()
        .map(|entry| Scenario::of(entry, seconds))
        .collect()
}

impl Scenario {
    fn of(entry: &Entry, seconds: u32) -> Result<Self, Failure> {
        let sheet = entry.sheet()?;
        let seconds = seconds.to_string();
        let words = ["run", &entry.name, "--seconds", &seconds];
        Ok(Self {
            name: entry.name.clone(),
            command_line: sheet.command_line(),
            wire: sheet.wire().map(str::to_owned),
            stands_for: sheet.stands_for,
            mode: sheet.mode,
            words: words.map(str::to_owned).into(),
        })
    }

    /// Whether a server speaks what it takes.
    pub(super) fn is_for(&self, server: &Peer) -> bool {
        self.wire.is_none() || self.wire == server.wire
    }

    /// Proves that a server can be compared: it joins, delivers, and to nobody else.
    pub(super) fn check() -> Self {
        Self {
            name: "check".to_owned(),
            stands_for: "Half a second that proves that a server delivers.".to_owned(),
            command_line: CHECK.to_owned(),
            mode: "fanout".to_owned(),
            wire: None,
            words: CHECK.split(' ').map(str::to_owned).collect(),
        }
    }
}

const CHECK: &str = "fanout --rooms 3 --members 20 --window 12 --warmup 0.2 --seconds 0.5";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Request};

    #[test]
    fn the_load_generator_understands_every_scenario() {
        let mut scenarios = chosen(&[], 7).unwrap();
        assert_eq!(scenarios.len(), catalogue::all().count());
        scenarios.push(Scenario::check());
        for scenario in scenarios {
            let words = ["loadtest".to_owned()].into_iter().chain(scenario.words);
            let Ok(Request::Load(setup)) = cli::read(words.collect()) else {
                panic!("{} is not understood", scenario.name);
            };
            assert_eq!(setup.mode.load().name(), scenario.mode, "{}", scenario.name);
        }
    }

    #[test]
    fn what_only_one_wire_can_do_is_for_servers_that_speak_it() {
        let peer = |wire: &str| -> Peer {
            toml::from_str(&format!("name = 'a'\ncommand = ['a']\n{wire}")).unwrap()
        };
        let (golem, throng) = (peer(""), peer("wire = 'throng'"));
        let names = ["big-room", "recovery"].map(str::to_owned);
        let scenarios = chosen(&names, 1).unwrap();
        let for_whom = scenarios.iter();
        let for_whom: Vec<_> = for_whom
            .map(|it| (it.is_for(&golem), it.is_for(&throng)))
            .collect();
        assert_eq!(for_whom, [(true, true), (false, true)]);
    }

    #[test]
    fn a_scenario_that_there_is_not_is_said_with_those_that_there_are() {
        let failure = chosen(&["fire".to_owned()], 1).unwrap_err().to_string();
        assert!(
            failure.starts_with("there is no scenario fire; there are big-room"),
            "{failure}"
        );
    }
}
