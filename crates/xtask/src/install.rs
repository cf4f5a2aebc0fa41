//! Getting what a step needs from Debian's packages and from rustup, where that is allowed.
//!
//! Nothing is installed without permission: only `cargo xtask test` may, only as root or with a
//! `sudo` that asks no password, and never with `--no-install`. Whoever needs a program gets either
//! its path or the reason why there is none, as words for the table of results.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Finds programs and, where it may, installs those that are missing.
#[derive(Debug)]
pub(crate) struct Installer {
    allowed: bool,
    /// `apt-get update` is slow and once is enough.
    lists_updated: Cell<bool>,
}

/// Why there is no such program, as a sentence without its full stop.
pub(crate) type Missing = String;

impl Installer {
    /// Returns an installer that may install.
    pub(crate) fn permitted() -> Self {
        Self {
            allowed: true,
            lists_updated: Cell::new(false),
        }
    }

    /// Returns an installer that only looks.
    pub(crate) fn forbidden() -> Self {
        Self {
            allowed: false,
            lists_updated: Cell::new(false),
        }
    }

    /// Returns the first of `names` that is on `PATH`, after installing `packages` if none is.
    pub(crate) fn program(
        &self,
        repository: &Repository,
        names: &[&str],
        packages: &[&str],
    ) -> Result<PathBuf, Missing> {
        let find = || names.iter().find_map(|name| command::find(name));
        if let Some(path) = find() {
            return Ok(path);
        }
        let wanted = format!("`{}` (Debian: {})", names[0], packages.join(" "));
        self.install_packages(repository, packages)
            .map_err(|reason| format!("{wanted} is missing, and {reason}"))?;
        find().ok_or_else(|| format!("{wanted} is missing even after its packages were installed"))
    }

    /// Makes sure that `cargo SUBCOMMAND` works, which a minimal toolchain leaves out.
    pub(crate) fn component(
        &self,
        repository: &Repository,
        subcommand: &str,
        component: &str,
    ) -> Result<(), Missing> {
        if command::output(repository.cargo().args([subcommand, "--version"])).is_some() {
            return Ok(());
        }
        let wanted = format!("the toolchain's {component} is missing");
        if !self.allowed {
            return Err(format!("{wanted}: `rustup component add {component}`"));
        }
        let mut rustup = repository.command("rustup");
        match command::stream(rustup.args(["component", "add", component])) {
            Ok(Outcome::Passed { .. }) => Ok(()),
            _ => Err(format!("{wanted}, and rustup could not add it")),
        }
    }

    fn install_packages(&self, repository: &Repository, packages: &[&str]) -> Result<(), Missing> {
        if !self.allowed {
            return Err("this task installs nothing".to_owned());
        }
        if command::find("apt-get").is_none() {
            return Err("there is no `apt-get` to install it with".to_owned());
        }
        let Some(prefix) = privilege(repository) else {
            return Err("installing it takes root or a `sudo` without a password".to_owned());
        };
        if !self.lists_updated.replace(true) {
            // An update that fails may still leave lists that are good enough: let the
            // installation decide.
            let _ = command::stream(&mut apt_get(repository, prefix, &["update", "--quiet"]));
        }
        let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
        let arguments = [arguments.as_slice(), packages].concat();
        match command::stream(&mut apt_get(repository, prefix, &arguments)) {
            Ok(Outcome::Passed { .. }) => Ok(()),
            _ => Err("`apt-get install` failed".to_owned()),
        }
    }
}

/// Returns what to put before a command that needs root: nothing for root, `sudo` where it asks
/// nothing.
fn privilege(repository: &Repository) -> Option<&'static [&'static str]> {
    let user = command::output(repository.command("id").arg("-u"))?;
    if user == "0" {
        return Some(&[]);
    }
    command::output(repository.command("sudo").args(["-n", "true"])).map(|_| SUDO)
}

fn apt_get(repository: &Repository, prefix: &[&str], arguments: &[&str]) -> Command {
    // `env` because sudo forgets the variable: without it a package may stop to ask a question.
    let words = [
        prefix,
        &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"],
        arguments,
    ]
    .concat();
    let mut command = repository.command(words[0]);
    command.args(&words[1..]);
    command
}

const SUDO: &[&str] = &["sudo", "-n"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_found_without_installing() {
        let repository = Repository::open().unwrap();

        assert!(
            Installer::forbidden()
                .program(&repository, &["no-such-program", "sh"], &[])
                .is_ok()
        );
    }

    #[test]
    fn a_missing_program_says_its_package_and_why_it_is_not_installed() {
        let repository = Repository::open().unwrap();
        let missing =
            Installer::forbidden().program(&repository, &["no-such-program"], &["its-package"]);

        assert_eq!(
            missing.unwrap_err(),
            "`no-such-program` (Debian: its-package) is missing, and this task installs nothing"
        );
    }
}
