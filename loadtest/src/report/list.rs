//! What is printed when the scenarios are asked for.

#![expect(clippy::print_stdout, reason = "printing is this file's work")]

use crate::catalogue::{self, Entry};
use crate::failure::Failure;

/// Prints every scenario: its name, its mode, and what it stands for.
pub(crate) fn print_scenarios() -> Result<(), Failure> {
    for entry in catalogue::all() {
        let sheet = entry.sheet()?;
        println!("{}: {}", entry.name, sheet.stands_for);
        println!("    {}", sheet.command_line());
    }
    Ok(())
}

/// Prints a scenario's file.
pub(crate) fn print_scenario(entry: &Entry) {
    print!("{}", entry.text);
}
