//! Instruction counts of the hot paths, under callgrind: exact where times are noise.
//!
//! `cargo xtask instructions` runs this and compares with the checked-in `baseline.toml`. Each
//! bench is prepared by a function that is not counted, which also runs the path once, so that
//! memory that is reused is there; and its result is checked by another.

#[expect(
    unused_qualifications,
    reason = "what gungraun's macros expand to names things by their whole paths"
)]
mod suite;

/// Says what to do if its runner is missing, and does not fail: `cargo bench` runs every bench.
fn main() {
    let inside_callgrind = std::env::args().any(|argument| argument == "--gungraun-run");
    if inside_callgrind || has_runner() {
        suite::run();
    } else {
        announce("instructions are counted by `cargo xtask instructions`");
    }
}

fn has_runner() -> bool {
    // gungraun looks for it where the variable said at build time, or else on `PATH`.
    if option_env!("GUNGRAUN_RUNNER").is_some() {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("gungraun-runner").is_file())
}

#[expect(clippy::print_stdout, reason = "whoever ran `cargo bench` reads it")]
fn announce(sentence: &str) {
    println!("{sentence}");
}
