//! What is printed when the scenarios are asked for.

use crate::catalogue::{self, Entry};
use crate::failure::Failure;

/// Prints every scenario: its name, its mode, and what it stands for.
pub(crate) fn print_scenarios() -> Result<(), Failure> {
    let mut text = String::new();
    for entry in catalogue::all() {
        let sheet = entry.sheet()?;
        text.push_str(&format!("{}: {}\n", entry.name, sheet.stands_for));
        text.push_str(&format!("    {}\n", sheet.command_line()));
    }
    super::print(&text)
}

/// Prints a scenario's file.
pub(crate) fn print_scenario(entry: &Entry) -> Result<(), Failure> {
    super::print(&entry.text)
}
