//! What servers are compared in: the scenarios that have names, and a short one to check with.

use anyhow::Result;

use super::peers::Peer;
use crate::catalogue::{self, Entry, Sheet};

/// One load.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// For the table's title.
    pub(super) name: String,
    pub(super) sheet: Sheet,
    /// What the load generator is told, but for whom and where.
    pub(super) words: Vec<String>,
}

/// Finds the scenarios of these names, or in these files; all that have a name, if there are none.
///
/// # Errors
///
/// That there is none of that name, or it is no scenario.
pub(super) fn chosen(names: &[String], seconds: u32) -> Result<Vec<Scenario>> {
    let found = names.iter().map(|name| catalogue::find(name));
    let all = catalogue::all().filter(|_| names.is_empty()).map(Ok);
    let scenario = |entry: Result<Entry>| {
        let entry = entry?;
        let mut scenario = Scenario::of(&entry, "run")?;
        scenario
            .words
            .extend([entry.name, "--seconds".to_owned(), seconds.to_string()]);
        Ok(scenario)
    };
    found.chain(all).map(scenario).collect()
}

impl Scenario {
    fn of(entry: &Entry, words: &str) -> Result<Self> {
        let words = words.split(' ').map(str::to_owned).collect();
        Ok(Self {
            name: entry.name.clone(),
            sheet: entry.sheet()?,
            words,
        })
    }

    /// Returns whether a server speaks what it takes.
    pub(super) fn is_for(&self, server: &Peer) -> bool {
        self.sheet.wire().is_none() || self.sheet.wire() == server.wire.as_deref()
    }

    /// Returns what proves that a server can be compared: it joins, delivers, and to nobody else.
    pub(super) fn check() -> Result<Self> {
        let (name, text) = ("check".to_owned(), include_str!("check.toml").to_owned());
        let entry = Entry { name, text };
        let words = entry.sheet()?.command_line();
        Self::of(&entry, &words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Request};

    #[test]
    fn the_load_generator_understands_every_scenario() {
        let mut scenarios = chosen(&[], 7).unwrap();
        assert_eq!(scenarios.len(), catalogue::all().count());
        scenarios.push(Scenario::check().unwrap());
        for scenario in scenarios {
            let words = ["loadtest".to_owned()].into_iter().chain(scenario.words);
            let Ok(Request::Load(setup)) = cli::read(words.collect()) else {
                panic!("{} is not understood", scenario.name);
            };
            assert_eq!(
                setup.mode.load().0,
                scenario.sheet.mode,
                "{}",
                scenario.name
            );
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
