//! Where the repository is, which files belong to it, and how commands are started in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::command;

/// The checked-out repository: every path and every command of a task starts from here, so that a
/// task does the same from any directory.
#[derive(Debug)]
pub(crate) struct Repository {
    root: PathBuf,
    target: PathBuf,
}

impl Repository {
    /// Finds the repository that this program was built in.
    ///
    /// # Errors
    ///
    /// If there is no workspace there any more.
    pub(crate) fn open() -> Result<Self> {
        // Cargo sets the variable at run time too; the compiled-in value is for a binary that is
        // started by hand.
        let manifest_directory = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_directory)
            .ancestors()
            .nth(2)
            .context("xtask is not in crates/xtask of a repository")?
            .to_owned();
        ensure!(
            root.join("Cargo.toml").is_file(),
            "{} holds no workspace",
            root.display()
        );
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => std::path::absolute(target)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A path in the repository.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path among what is built and can be thrown away.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// A command in the root of the repository, with nothing on its standard input.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// Returns the cargo that started us, in the root of the repository.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Builds what clients and conformance tests drive: the server and the example that echoes,
    /// optimized but not as a whole program, which takes minutes.
    ///
    /// One command wherever it is needed, the same for every caller: another selection of packages
    /// selects other features, and the whole optimized build starts again.
    pub(crate) fn optimized_build(&self) -> Command {
        let mut command = self.cargo();
        command.args([
            "build",
            "--profile",
            OPTIMIZED,
            "--locked",
            "--workspace",
            "--exclude",
            "xtask",
            // Built when they are run: with its own features, and without optimizing.
            "--exclude",
            "benches",
            "--exclude",
            "faults",
            // Its features, which the server does not need, would be built into what they share.
            "--exclude",
            "throng-client",
            "--exclude",
            "throng-testing",
        ]);
        command.args(["--bins", "--example", "echo"]);
        command
    }

    /// Returns where the optimized build has put something.
    pub(crate) fn optimized(&self, name: &str) -> PathBuf {
        self.target(OPTIMIZED).join(name)
    }

    /// Builds the examples that clients drive: as the tests build them, so that this is done
    /// already, and not optimized, since that takes a minute for each of them.
    pub(crate) fn examples_build(&self) -> Command {
        let mut command = self.cargo();
        command.args([
            "build",
            "--workspace",
            "--all-features",
            "--examples",
            "--locked",
        ]);
        command
    }

    /// Every file that is or could be committed, relative to the root, with `/` between the parts.
    ///
    /// # Errors
    ///
    /// If the directories cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut listing = self.command("git");
        listing.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let mut files: Vec<String> = match command::output(&mut listing) {
            Some(listed) => listed.split('\0').map(str::to_owned).collect(),
            // An unpacked archive has no git; what git would ignore is then left out by name.
            None => self.walk()?,
        };
        files.retain(|file| self.path(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn walk(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if path.is_dir() {
                    let ignored = IGNORED_DIRECTORIES.contains(&name.as_str());
                    directories.extend((!ignored).then_some(path));
                } else {
                    let relative = path.strip_prefix(&self.root)?;
                    files.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        Ok(files)
    }
}

/// Left out when git is not there to say what is ignored.
const IGNORED_DIRECTORIES: [&str; 6] = [
    ".git",
    ".tools",
    "artifacts",
    "corpus",
    "node_modules",
    "target",
];

/// The profile of the optimized build.
const OPTIMIZED: &str = "checked";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_walking_both_find_this_file() {
        let repository = Repository::open().unwrap();
        let this = "crates/xtask/src/repository.rs".to_owned();

        assert!(repository.files().unwrap().contains(&this));
        assert!(repository.walk().unwrap().contains(&this));
    }
}
