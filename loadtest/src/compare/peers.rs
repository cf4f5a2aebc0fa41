//! The list of servers: a TOML file that says how each is had, started and spoken to.
//!
//! The comments at the top of `benches/peers/peers.toml` explain the keys.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use crate::wire::Wire;

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peers {
    /// To whom the ratios are, unless the command line says otherwise.
    baseline: Option<String>,
    #[serde(rename = "server")]
    servers: Vec<Peer>,
}

/// One server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) name: String,
    /// Where its commands run: in the file as seen from the file, here as a path.
    #[serde(default)]
    pub(super) directory: PathBuf,
    #[serde(default)]
    pub(super) install: Vec<Vec<String>>,
    #[serde(default)]
    needs: Vec<String>,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What stands in the line in which it says where it listens.
    #[serde(default = "listening")]
    pub(super) listening: String,
    #[serde(default = "path")]
    pub(super) path: String,
    /// What it speaks, unless its flags say so or it is golem's wire.
    pub(super) wire: Option<String>,
    /// More flags for the load generator.
    #[serde(default)]
    pub(super) flags: Vec<String>,
    /// Another server of the list, to which it has a ratio beside that to the baseline.
    pub(super) against: Option<String>,
}

fn listening() -> String {
    "listening".to_owned()
}

fn path() -> String {
    "/ws".to_owned()
}

impl Peers {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// That it is not there or not such a list.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let read = || {
            let mut peers = Self::parse(&fs::read_to_string(path)?)?;
            let directory = fs::canonicalize(path)?;
            for server in &mut peers.servers {
                server.directory = directory.with_file_name("").join(&server.directory);
            }
            anyhow::Ok(peers)
        };
        read().with_context(|| format!("{} cannot be used", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let peers: Self = toml::from_str(text).map_err(|error| anyhow!("{error}"))?;
        let mut names = BTreeSet::new();
        if let Some(twice) = peers.names().find(|name| !names.insert(*name)) {
            bail!("there are two servers named {twice}");
        }
        for Peer {
            name,
            install,
            command,
            wire,
            against,
            ..
        } in &peers.servers
        {
            if let Some(wire) = wire.as_ref().filter(|wire| Wire::named(wire).is_none()) {
                bail!(
                    "there is no wire {wire}; there are {}",
                    Wire::names().join(", ")
                );
            }
            if let Some(other) = against.as_ref().filter(|it| !names.contains(it.as_str())) {
                bail!("there is no server {other} to be set against");
            }
            if install.iter().chain([command]).any(Vec::is_empty) {
                bail!("a command of {name} is empty");
            }
        }
        if peers.servers.is_empty() {
            bail!("there is no [[server]]");
        }
        Ok(peers)
    }

    /// Returns the servers of these names, in the order of the names; all, if there are none.
    ///
    /// # Errors
    ///
    /// That one is not on the list.
    pub(super) fn chosen(&self, names: &[String]) -> Result<Vec<&Peer>> {
        if names.is_empty() {
            return Ok(self.servers.iter().collect());
        }
        let find = |name: &String| {
            let found = self.servers.iter().find(|server| server.name == *name);
            found.with_context(|| unknown("server", name, self.names()))
        };
        let mut chosen: Vec<&Peer> = names.iter().map(find).collect::<Result<_>>()?;
        // Whoever is named twice still has one row.
        let mut seen = BTreeSet::new();
        chosen.retain(|server| seen.insert(&server.name));
        Ok(chosen)
    }

    /// Returns to whom the ratios are: the server that was asked for, or else the list's if it
    /// takes part, or else the first.
    ///
    /// # Errors
    ///
    /// That the server that was asked for does not take part.
    pub(super) fn baseline(&self, asked: Option<&str>, chosen: &[&Peer]) -> Result<String> {
        let mut names = chosen.iter().map(|server| &*server.name);
        let takes_part = |name: &&str| chosen.iter().any(|server| server.name == *name);
        if let Some(name) = asked {
            let found = asked.filter(takes_part).map(str::to_owned);
            return found.with_context(|| unknown("server in this comparison", name, names));
        }
        let listed = self.baseline.as_deref().filter(takes_part);
        Ok(listed
            .or_else(|| names.next())
            .unwrap_or_default()
            .to_owned())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|server| &*server.name)
    }
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!(
        "there is no {kind} {name}; there are {}",
        known.collect::<Vec<_>>().join(", ")
    )
}

impl Peer {
    /// Returns whether it does not say where it listens, so that it has to be told.
    pub(super) fn is_told_its_port(&self) -> bool {
        let mut words = self.command.iter().chain(self.env.values());
        words.any(|word| word.contains(PORT))
    }

    /// Returns its variables, where it is told to listen at this port.
    pub(super) fn variables(&self, port: u16) -> impl Iterator<Item = (&str, String)> {
        let port = port.to_string();
        self.env
            .iter()
            .map(move |(name, value)| (&**name, value.replace(PORT, &port)))
    }

    /// Returns the program and its arguments, with the program found from the server's directory.
    pub(super) fn command(&self, port: u16) -> Vec<String> {
        let filled = |word: &String| self.filled(word).replace(PORT, &port.to_string());
        let mut command: Vec<String> = self.command.iter().map(filled).collect();
        // A name alone is looked for on `PATH`.
        if command[0].contains('/') {
            command[0] = self.directory.join(&command[0]).display().to_string();
        }
        command
    }

    /// Returns the first file that is needed and not there.
    pub(super) fn missing(&self) -> Option<String> {
        let mut needs = self.needs.iter().map(|file| self.filled(file));
        needs.find(|file| !self.directory.join(file).exists())
    }

    /// Puts cargo's target directory in its place.
    fn filled(&self, word: &str) -> String {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        // A relative one counts from where cargo is started, which is the server's directory.
        let target = self.directory.join(target);
        word.replace(TARGET, &target.display().to_string())
    }
}

const TARGET: &str = "{target}";
const PORT: &str = "{port}";

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
        baseline = "b"
        [[server]]
        name = "a"
        command = ["node", "a.js"]
        [[server]]
        name = "b"
        command = ["./b", "--root={target}"]
        needs = ["{target}/b"]
    "#;

    #[test]
    fn servers_are_chosen_by_name_in_the_order_of_the_names() {
        let peers = Peers::parse(LIST).unwrap();
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let chosen = peers
                .chosen(&names)
                .map_err(|failure| failure.to_string())?;
            let chosen: Vec<_> = chosen.iter().map(|server| &*server.name).collect();
            Ok::<_, String>(chosen.join(", "))
        };
        assert_eq!(names(&[]).unwrap(), "a, b");
        assert_eq!(names(&["b", "a", "b"]).unwrap(), "b, a");
        let sentence = names(&["c"]).unwrap_err();
        assert_eq!(sentence, "there is no server c; there are a, b");
    }

    #[test]
    fn the_baseline_takes_part() {
        let peers = Peers::parse(LIST).unwrap();
        let both = peers.chosen(&[]).unwrap();
        assert_eq!(peers.baseline(None, &both).unwrap(), "b");
        assert_eq!(peers.baseline(Some("a"), &both).unwrap(), "a");
        assert_eq!(peers.baseline(None, &both[..1]).unwrap(), "a");
        assert!(peers.baseline(Some("b"), &both[..1]).is_err());
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let peers = Peers::parse(LIST).unwrap();
        let Peer {
            listening,
            path,
            wire,
            ..
        } = &peers.servers[0];
        assert_eq!((&**listening, &**path), ("listening", "/ws"));
        assert_eq!(*wire, None);
        assert_eq!(peers.servers[0].command(0), ["node", "a.js"]);
    }

    #[test]
    fn programs_are_found_from_the_servers_directory() {
        let mut peers = Peers::parse(LIST).unwrap();
        let server = &mut peers.servers[1];
        server.directory = "/srv".into();
        let command = server.command(0);
        assert_eq!(command[0], "/srv/./b");
        assert!(command[1].starts_with("--root=/"), "{command:?}");
        let missing = server.missing().unwrap();
        assert!(
            missing.starts_with('/') && missing.ends_with("/b"),
            "{missing}"
        );
    }

    #[test]
    fn a_server_that_does_not_say_where_it_listens_is_told() {
        let told =
            "name = 'a'\ncommand = ['a', '--port={port}']\nenv = { AT = 'h:{port}', B = '1' }";
        let told: Peer = toml::from_str(told).unwrap();
        assert!(told.is_told_its_port());
        assert_eq!(told.command(7), ["a", "--port=7"]);
        let variables: Vec<_> = told.variables(7).collect();
        assert_eq!(variables, [("AT", "h:7".to_owned()), ("B", "1".to_owned())]);
        let saying: Peer = toml::from_str("name = 'a'\ncommand = ['a']").unwrap();
        assert!(!saying.is_told_its_port());
    }

    #[test]
    fn a_list_that_cannot_be_used_says_why() {
        let reason = |text: &str| Peers::parse(text).unwrap_err().to_string();
        assert!(reason("server = []").contains("no [[server]]"));
        assert!(reason("[[server]]\nname = 'a'\ncommand = []").contains("of a is empty"));
        let server = "[[server]]\nname = 'a'\ncommand = ['a']\n";
        assert!(reason(&server.repeat(2)).contains("two servers named a"));
        assert!(reason(&server.replace("name", "nmae")).contains("nmae"));
        let alone = format!("{server}against = 'b'\n");
        assert_eq!(reason(&alone), "there is no server b to be set against");
        let morse = format!("{server}wire = 'morse'\n");
        assert_eq!(
            reason(&morse),
            "there is no wire morse; there are centrifugo, golem, socket.io, throng"
        );
    }

    #[test]
    fn the_list_of_the_repository_is_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/peers.toml");
        let peers = Peers::read(Path::new(path)).unwrap();
        for server in &peers.servers {
            assert!(server.directory.is_dir(), "{}", server.directory.display());
        }
        let all = peers.chosen(&[]).unwrap();
        assert_eq!(peers.baseline(None, &all).unwrap(), "bun");
    }
}
