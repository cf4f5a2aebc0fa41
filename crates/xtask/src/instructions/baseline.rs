//! The checked-in counts, with the toolchain that they were counted with.

use std::fmt;

use anyhow::{Context, Result};
use toml::de::{DeTable, DeValue};

use crate::command;
use crate::repository::Repository;

use super::Counts;

/// The counts, and what they were counted with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    /// With what.
    pub(super) toolchain: Toolchain,
    /// Instructions by the name of the path.
    pub(super) counts: Counts,
}

/// The programs that change counts although the code is the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Toolchain {
    rustc: String,
    valgrind: String,
    /// The architecture, and which vector instructions the parsers choose by.
    processor: String,
}

impl Toolchain {
    /// Returns what this machine counts with.
    pub(super) fn find(repository: &Repository) -> Self {
        let version = |program: &str| {
            let mut asked = repository.command(program);
            command::output(asked.arg("--version")).unwrap_or_else(|| format!("{program} unknown"))
        };
        Self {
            rustc: version("rustc"),
            valgrind: version("valgrind"),
            processor: processor(),
        }
    }
}

fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") {
        " with AVX2"
    } else {
        " without AVX2"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    format!("{}{vectors}", std::env::consts::ARCH)
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rustc,
            valgrind,
            processor,
        } = self;
        write!(f, "{rustc}, {valgrind}, {processor}")
    }
}

impl Baseline {
    /// Reads the checked-in file.
    ///
    /// # Errors
    ///
    /// If it is not TOML of the form that [`Display`](fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let file = DeTable::parse(text)?;
        let file = file.get_ref();
        let word = |name: &str| {
            let word = file.get(name).and_then(|value| value.get_ref().as_str());
            word.map(str::to_owned)
                .with_context(|| format!("it has no {name}"))
        };
        let counts = file.get("instructions").map(|table| table.get_ref());
        let counts = counts.and_then(DeValue::as_table);
        let counts = counts.context("it has no table of instructions")?;
        let count = |value: &DeValue<'_>| value.as_integer()?.as_str().parse().ok();
        Ok(Self {
            toolchain: Toolchain {
                rustc: word("rustc")?,
                valgrind: word("valgrind")?,
                processor: word("processor")?,
            },
            counts: counts
                .iter()
                .map(|(name, value)| {
                    let name = name.get_ref().to_string();
                    let count = count(value.get_ref());
                    let count = count.with_context(|| format!("{name} is not a number"))?;
                    Ok((name, count))
                })
                .collect::<Result<_>>()?,
        })
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toolchain {
            rustc,
            valgrind,
            processor,
        } = &self.toolchain;
        writeln!(
            f,
            "# Instructions of each path of suite.rs: `cargo xtask instructions --bless` writes \
             this.\n"
        )?;
        writeln!(f, "rustc = \"{rustc}\"\nvalgrind = \"{valgrind}\"")?;
        writeln!(f, "processor = \"{processor}\"\n\n[instructions]")?;
        for (name, count) in &self.counts {
            writeln!(f, "\"{name}\" = {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let baseline = Baseline {
            toolchain: Toolchain {
                rustc: "rustc 1.95.0 (f2d3ce0bd 2026-03-21)".to_owned(),
                valgrind: "valgrind-3.19.0".to_owned(),
                processor: "x86_64 with AVX2".to_owned(),
            },
            counts: [("outbox.x1".to_owned(), 130), ("unmask.b64".to_owned(), 94)].into(),
        };

        assert_eq!(Baseline::parse(&baseline.to_string()).unwrap(), baseline);
    }

    #[test]
    fn what_is_no_baseline_says_why() {
        let missing = Baseline::parse("rustc = \"1\"\n").unwrap_err();
        assert_eq!(missing.to_string(), "it has no table of instructions");

        let wrong = Baseline::parse("[instructions]\n\"a.b\" = \"many\"\n").unwrap_err();
        assert_eq!(wrong.to_string(), "it has no rustc");
    }
}
