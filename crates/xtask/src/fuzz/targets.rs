//! Reading what surrounds the fuzz targets: their manifest before, libFuzzer's log after.

use anyhow::{Context, Result, bail};
use toml::de::DeTable;

/// Returns the targets to run: those that were asked for, or all that the manifest declares.
///
/// # Errors
///
/// If the manifest is no manifest, declares no target, or not one that was asked for.
pub(super) fn select(manifest: &str, asked: &[String]) -> Result<Vec<String>> {
    let declared = declared(manifest)?;
    if declared.is_empty() {
        bail!("the manifest declares no [[bin]]");
    }
    if let Some(unknown) = asked.iter().find(|target| !declared.contains(target)) {
        bail!(
            "there is no fuzz target {unknown}; there are {}",
            declared.join(", ")
        );
    }
    Ok(if asked.is_empty() {
        declared
    } else {
        asked.to_vec()
    })
}

/// Returns libFuzzer's last word on a run that ended well.
pub(super) fn closing_line(log: &str) -> &str {
    log.lines()
        .rfind(|line| line.starts_with("Done "))
        .unwrap_or("it ended without a word")
}

/// Returns the file that libFuzzer says it wrote a crashing input to.
pub(super) fn artifact(log: &str) -> Option<&str> {
    log.lines()
        .find_map(|line| Some(line.split_once("Test unit written to ")?.1))
}

fn declared(manifest: &str) -> Result<Vec<String>> {
    let manifest = DeTable::parse(manifest).context("the fuzz targets' manifest is not TOML")?;
    let binaries = manifest
        .get_ref()
        .get("bin")
        .and_then(|binaries| binaries.get_ref().as_array());
    let name =
        |binary: &toml::de::DeValue<'_>| Some(binary.get("name")?.get_ref().as_str()?.into());
    Ok(binaries
        .into_iter()
        .flatten()
        .filter_map(|binary| name(binary.get_ref()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[[bin]]\nname = \"decoder\"\n[[bin]]\nname = \"event\"\n";

    #[test]
    fn all_declared_targets_run_unless_some_are_named() {
        assert_eq!(select(MANIFEST, &[]).unwrap(), ["decoder", "event"]);
        assert_eq!(select(MANIFEST, &["event".to_owned()]).unwrap(), ["event"]);
    }

    #[test]
    fn an_unknown_target_is_answered_with_the_known_ones() {
        let error = select(MANIFEST, &["evnt".to_owned()]).unwrap_err();

        assert_eq!(
            error.to_string(),
            "there is no fuzz target evnt; there are decoder, event"
        );
    }

    #[test]
    fn a_manifest_without_targets_is_an_error() {
        assert!(select("[package]\nname = \"fuzz\"\n", &[]).is_err());
    }

    #[test]
    fn the_log_tells_how_it_ended_and_what_crashed_it() {
        let log = "#5 NEW cov: 1\nDone 64 runs in 2 second(s)\nstat::slowest_unit_time_sec: 0\n";
        let crash = "artifact_prefix='a/'; Test unit written to a/crash-9\nBase64: VEg=\n";

        assert_eq!(closing_line(log), "Done 64 runs in 2 second(s)");
        assert_eq!(artifact(crash), Some("a/crash-9"));
        assert_eq!(artifact(log), None);
    }
}
