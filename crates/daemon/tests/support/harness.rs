//! What the library's tests are written with, and the binary in a process of its own.

#![allow(
    dead_code,
    unused_imports,
    reason = "each file of tests uses its own part of this"
)]

mod binary;
#[path = "../../../server/tests/support/harness.rs"]
mod library;

pub(crate) use binary::Binary;
pub(crate) use library::*;
