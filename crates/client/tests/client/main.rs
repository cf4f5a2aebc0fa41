//! The client against a server that does what each test says, in simulated time.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod coming_back;
mod fake;
mod publishing;
mod rooms;
