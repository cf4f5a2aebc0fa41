//! Fetching and building servers, with their own tools.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::peers::Peer;

/// Runs the servers' commands, each once however many servers share it.
///
/// The tools find out by themselves that there is nothing to do. Returns the servers that could not
/// be had, with the reason; the others can be compared without them.
pub(super) fn install(servers: &[&Peer], interrupted: &AtomicBool) -> Vec<(String, String)> {
    let mut done = BTreeMap::new();
    let mut failed = Vec::new();
    for server in servers {
        for words in &server.install {
            if interrupted.load(Ordering::Relaxed) {
                return failed;
            }
            let key = (&server.directory, words);
            let result = done.entry(key).or_insert_with(|| run(server, words));
            if let Err(reason) = result {
                failed.push((server.name.clone(), format!("not installed: {reason}")));
                break;
            }
        }
    }
    failed
}

/// Runs one command, its output going to standard error: standard output is for the results.
fn run(server: &Peer, words: &[String]) -> Result<(), String> {
    let line = words.join(" ");
    eprintln!("$ cd {} && {line}", server.directory.display());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(&server.directory);
    match command.stdin(Stdio::null()).stdout(io::stderr()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` could not be started ({error})")),
    }
}
