//! What the compiler says of functions that are no handlers: each file in `handlers` has one
//! mistake, and beside it what its author reads.
//!
//! After a change, or with another compiler: `TRYBUILD=overwrite cargo test -p throng --test
//! handlers`, and read what has changed.

#[test]
fn a_wrong_signature_is_explained() {
    trybuild::TestCases::new().compile_fail("tests/handlers/*.rs");
}
