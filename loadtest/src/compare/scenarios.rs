//! What servers are compared in, and the flags that say it to the load generator.

use super::peers::joined;
use crate::failure::Failure;

/// One load.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// For the table's title.
    pub(super) stands_for: &'static str,
    /// What kind of figures its reports have.
    pub(super) mode: &'static str,
    flags: &'static str,
    /// How long it counts deliveries, if the command line does not say.
    seconds: Option<&'static str>,
}

impl Scenario {
    /// What the load generator is told, but for whom and where.
    pub(super) fn flags(&self, seconds: u32) -> Vec<String> {
        let seconds = self
            .seconds
            .map_or_else(|| seconds.to_string(), str::to_owned);
        let flags = self.flags.split_whitespace().map(str::to_owned);
        flags.chain(["--seconds".to_owned(), seconds]).collect()
    }
}

/// The scenarios of these names; all, if there are none.
///
/// # Errors
///
/// [`Failure::Unknown`] if there is no such scenario.
pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| Failure::Unknown {
            kind: "scenario",
            name: name.clone(),
            known: joined(SCENARIOS.iter().map(|scenario| scenario.name)),
        })
    };
    names.iter().map(find).collect()
}

/// Proves that a server can be compared: it joins, delivers, and to nobody else.
pub(super) const CHECK: Scenario = Scenario {
    name: "check",
    stands_for: "3 rooms × 20 members, 12 under way, for half a second",
    mode: "fan-out",
    flags: "--rooms 3 --members 20 --window 12 --warmup 0.2",
    seconds: Some("0.5"),
};

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "single-step",
        stands_for: "1 room × 1000 members, one publication under way",
        mode: "fan-out",
        flags: "--members 1000 --window 1",
        seconds: None,
    },
    Scenario {
        name: "big-room",
        stands_for: "1 room × 1000 members, 16 under way",
        mode: "fan-out",
        flags: "--members 1000 --window 16",
        seconds: None,
    },
    Scenario {
        name: "firehose",
        stands_for: "1 room × 100 members, 256 under way",
        mode: "fan-out",
        flags: "--members 100 --window 256",
        seconds: None,
    },
    Scenario {
        name: "many-rooms",
        stands_for: "200 rooms × 10 members, 50 publishers",
        mode: "fan-out",
        flags: "--rooms 200 --members 10 --publishers 50",
        seconds: None,
    },
    Scenario {
        name: "idle",
        stands_for: "15,000 connections that joined one room and do nothing",
        mode: "idle",
        flags: "--idle --members 15000",
        seconds: None,
    },
    Scenario {
        name: "neighbour",
        stands_for: "a room of 10 members, 20 publications a second, beside a room of 5000 that is \
                     flooded",
        mode: "neighbour",
        flags: "--neighbour --members 5000 --window 16",
        seconds: None,
    },
];

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn the_load_generator_understands_every_scenario() {
        for scenario in SCENARIOS.iter().chain([&CHECK]) {
            let flags = scenario.flags(7);
            let args = Args::try_parse_from(["loadtest".to_owned()].into_iter().chain(flags));
            let setup = args.unwrap().setup().unwrap();
            assert_eq!(
                setup.scenario.mode.name(),
                scenario.mode,
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn a_scenario_that_there_is_not_is_said_with_those_that_there_are() {
        assert_eq!(chosen(&[]).unwrap().len(), SCENARIOS.len());
        let failure = chosen(&["fire".to_owned()]).unwrap_err().to_string();
        assert!(failure.starts_with("there is no scenario fire; there are single-step, big-room"));
    }
}
