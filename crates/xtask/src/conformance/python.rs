//! The testsuite's own environment: a CPython 2.7 virtualenv with pinned packages, made once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::install::{Installer, Missing};
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Returns the path of `wstest`, after making its virtualenv if there is none with today's pins; or
/// why there is none.
///
/// # Errors
///
/// If the file system refuses.
pub(super) fn wstest(
    repository: &Repository,
    installer: &Installer,
) -> Result<Result<PathBuf, Missing>> {
    let environment = Environment {
        repository,
        directory: repository.target("tools/autobahn"),
    };
    let wstest = environment.directory.join("bin/wstest");
    if environment.is_current() && wstest.is_file() {
        return Ok(Ok(wstest));
    }
    let Some(python) = find_python(repository, installer) else {
        return Ok(Err(NO_PYTHON.to_owned()));
    };
    Ok(environment.make(&python)?.map(|()| wstest))
}

/// The virtualenv and how it is made.
struct Environment<'a> {
    repository: &'a Repository,
    directory: PathBuf,
}

impl Environment<'_> {
    /// Returns whether it was made to the end, with the pins that we have now.
    fn is_current(&self) -> bool {
        fs::read_to_string(self.marker()).is_ok_and(|made_with| made_with == requirements())
    }

    fn marker(&self) -> PathBuf {
        self.directory.join("made-with.txt")
    }

    fn make(&self, python: &Path) -> Result<Result<(), Missing>> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        let tools = self.repository.target("tools");
        fs::create_dir_all(&tools)?;
        let list = tools.join("autobahn-requirements.txt");
        fs::write(&list, requirements())?;

        let mut installation = self.repository.command(self.directory.join("bin/python"));
        installation
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&list);
        // The old pip warns about its age on every run; we know.
        installation.env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        installation.env("PYTHONWARNINGS", "ignore");
        if !self.make_virtualenv(python, &tools)? || !succeeds(&mut installation)? {
            return Ok(Err(format!(
                "the testsuite could not be installed for {}; see above",
                python.display()
            )));
        }
        fs::write(self.marker(), requirements())?;
        Ok(Ok(()))
    }

    /// Makes the virtualenv with the last virtualenv that knows Python 2.
    ///
    /// It is fetched by Python 2's own pip where there is one, and by Python 3's where there is
    /// not: Debian's packages of Python 2 came without.
    fn make_virtualenv(&self, python: &Path, tools: &Path) -> Result<bool> {
        let package = tools.join("virtualenv");
        for host in [python, Path::new("python3")] {
            if command::output(
                self.repository
                    .command(host)
                    .args(["-m", "pip", "--version"]),
            )
            .is_none()
            {
                continue;
            }
            if package.exists() {
                fs::remove_dir_all(&package)?;
            }
            let mut fetching = self.repository.command(host);
            fetching.args(["-m", "pip", "install", "--quiet", VIRTUALENV, "--target"]);
            fetching.arg(&package).env("PYTHONWARNINGS", "ignore");
            fetching.env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
            let mut making = self.repository.command(host);
            making.args(["-m", "virtualenv", "--quiet", "--no-download"]);
            making.arg("--app-data").arg(tools.join("virtualenv-data"));
            making
                .arg("--python")
                .arg(python)
                .arg(&self.directory)
                .env("PYTHONPATH", &package);
            if succeeds(&mut fetching)? && succeeds(&mut making)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command::stream(command)? == Outcome::PASSED)
}

/// Returns a CPython 2.7 that starts: pyenv puts programs on `PATH` that only say they are not
/// chosen.
fn find_python(repository: &Repository, installer: &Installer) -> Option<PathBuf> {
    let known = || {
        ["python2.7", "python2"]
            .iter()
            .filter_map(|name| command::find(name))
    };
    let starts = |python: &PathBuf| is_cpython_2_7(repository, python);
    known()
        .chain(pyenv_pythons())
        .find(starts)
        .or_else(|| {
            installer
                .program(repository, &["python2.7"], &["python2.7"])
                .ok()
        })
        .filter(starts)
}

fn is_cpython_2_7(repository: &Repository, python: &Path) -> bool {
    let question = "import platform, sys; \
                    sys.stdout.write(platform.python_implementation() + platform.python_version())";
    let answer = command::output(repository.command(python).args(["-c", question]));
    answer.is_some_and(|answer| answer.starts_with("CPython2.7."))
}

fn pyenv_pythons() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let versions = versions.into_iter().flatten().filter_map(Result::ok);
    versions
        .filter(|version| version.file_name().to_string_lossy().starts_with("2.7"))
        .map(|version| version.path().join("bin/python"))
        .collect()
}

fn requirements() -> String {
    PINS.map(|pin| format!("{pin}\n")).concat()
}

/// The last versions that work together on CPython 2.7. What they pull in needs no pin: all of it
/// has long stopped supporting 2.7, so the newest that pip accepts does not change any more.
const PINS: [&str; 7] = [
    "autobahntestsuite==25.10.1",
    "cryptography==3.3.2",
    "incremental==16.10.1",
    "pip==20.3.4",
    "pyOpenSSL==19.1.0",
    "setuptools==44.0.0",
    "Twisted==19.10.0",
];

/// 20.21 is the last that makes environments for Python 2; this one also runs on Python 2.
const VIRTUALENV: &str = "virtualenv==20.15.1";

const NO_PYTHON: &str = "the Autobahn testsuite runs only on CPython 2.7, and there is none on \
    PATH or in pyenv. `pyenv install 2.7.18` builds one; Debian had the package python2.7 up to \
    version 11";
