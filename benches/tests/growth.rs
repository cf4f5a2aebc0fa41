//! The program that measures how cost grows, run once for a thousand of everything.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_thousand_of_everything_is_a_row_of_each_table_and_a_plot() {
    let plot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("growth.svg");
    let mut growth = Command::new(env!("CARGO_BIN_EXE_growth"));
    growth
        .args(["--max", "1000", "--rounds", "1", "--plot"])
        .arg(&plot);
    let output = growth.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{complaint}");

    assert_eq!(printed.matches("### ").count(), 7, "{printed}");
    let rows = |size: &str| printed.matches(&format!("\n| {size} | ")).count();
    assert_eq!(
        (rows("1,000"), rows("256"), rows("128")),
        (3, 2, 2),
        "{printed}"
    );
    assert!(!printed.contains("inf") && !printed.contains("NaN") && !printed.contains("|  |"));

    let picture = fs::read_to_string(&plot).unwrap();
    for axis in ["how many", "rooms", "members", "shards"] {
        assert!(picture.contains(axis), "no axis of {axis}");
    }
    assert!(picture.matches("<polyline").count() > 10);
}

#[test]
fn a_size_that_is_too_small_is_refused_with_a_sentence() {
    let mut growth = Command::new(env!("CARGO_BIN_EXE_growth"));
    let output = growth.args(["--max", "10"]).output().unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("--max is at least 1000"), "{complaint}");
}
