//! Where random choices come from.

/// A seed, printed for when the test fails; `TEST_SEED` repeats one.
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
pub fn seed() -> u64 {
    let seed = std::env::var("TEST_SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("a seed is a number"),
    );
    println!("TEST_SEED={seed}");
    seed
}
