//! The arrows between our crates: what lies above may know what lies below, and nothing else.

use super::Violation;
use super::manifest::{Member, members};
use super::tree::Tree;

/// No crate may depend on one of ours that its row in [`ARROWS`] does not name, for whatever
/// purpose: a test that reaches upwards is a test in the wrong crate.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let members = members(tree);
    let ours: Vec<&str> = members.iter().map(|member| &*member.name).collect();
    members
        .iter()
        .flat_map(|member| check_member(member, &ours))
        .collect()
}

fn check_member(member: &Member, ours: &[&str]) -> Vec<Violation> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
        let sentence = format!(
            "the crate {} has no place yet: say in crates/xtask/src/tidy/arrows.rs what it may \
             depend on.",
            member.name
        );
        return vec![Violation::new(&member.path, 1, sentence)];
    };
    let refused = member.dependencies.iter().filter(|dependency| {
        let package = dependency.package.as_str();
        ours.contains(&package) && package != member.name && !allowed.contains(&package)
    });
    let violation = |package: &str, line| {
        let sentence = format!(
            "{} may not depend on {package}: of ours, it may only know {}.",
            member.name,
            in_words(allowed)
        );
        Violation::new(&member.path, line, sentence)
    };
    refused
        .map(|dependency| violation(&dependency.package, dependency.line))
        .collect()
}

fn in_words(names: &[&str]) -> String {
    if names.is_empty() {
        "itself".to_owned()
    } else {
        names.join(", ")
    }
}

/// Which of our crates each crate may depend on.
const ARROWS: [(&str, &[&str]); 12] = [
    ("benches", &["throng-proto", "throng-rooms"]),
    // Nothing of the server's: what the client knows of the wire, it knows from the protocol's
    // page.
    ("faults", &["serving", "throng-client"]),
    // It shares none of the server's bugs and can be pointed at other servers.
    ("loadtest", &["throng-proto"]),
    // Every task may use it: it is built of the standard library alone.
    ("serving", &[]),
    // Its tests are written with `throng-testing`, and meet the client there.
    (
        "throng",
        &[
            "throng-client",
            "throng-proto",
            "throng-rooms",
            "throng-store",
            "throng-testing",
        ],
    ),
    // It shares none of the server's mistakes, and is built without it.
    ("throng-client", &[]),
    ("throng-proto", &[]),
    ("throng-rooms", &["throng-proto"]),
    (
        "throng-server",
        &["throng", "throng-proto", "throng-testing"],
    ),
    // It knows of rooms only what must be kept of them.
    ("throng-store", &[]),
    // For tests alone; it serves the library in the test's process.
    ("throng-testing", &["throng", "throng-proto"]),
    ("xtask", &["serving"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "[workspace]\nmembers = [\"proto\", \"server\", \"it\"]\n";
    const PROTO: &str = "[package]\nname = \"throng-proto\"\n";
    const SERVER: &str =
        "[package]\nname = \"throng\"\n[dependencies]\nthrong-proto = {}\nbytes = \"1\"\n";

    fn violations(manifest: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("Cargo.toml", WORKSPACE),
            ("proto/Cargo.toml", PROTO),
            ("server/Cargo.toml", SERVER),
            ("it/Cargo.toml", manifest),
        ]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn an_arrow_that_points_down_passes() {
        let manifest =
            "[package]\nname = \"loadtest\"\n[dependencies]\nthrong-proto = {}\nloom = \"1\"\n";

        assert_eq!(violations(manifest), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_points_up_is_refused_also_for_tests_and_under_another_name() {
        for dependency in [
            "throng = {}",
            "peer = { package = \"throng\", path = \"../server\" }",
        ] {
            let manifest =
                format!("[package]\nname = \"loadtest\"\n[dev-dependencies]\n{dependency}\n");

            assert_eq!(
                violations(&manifest),
                [
                    "it/Cargo.toml:4: loadtest may not depend on throng: of ours, it may only know \
                  throng-proto."
                ]
            );
        }
    }

    #[test]
    fn a_crate_that_may_know_none_of_ours_is_told_so() {
        let manifest = "[package]\nname = \"throng-store\"\n[dependencies]\nthrong-proto = {}\n";

        assert_eq!(
            violations(manifest),
            [
                "it/Cargo.toml:4: throng-store may not depend on throng-proto: of ours, it may \
                 only know itself."
            ]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_reported() {
        assert!(
            violations("[package]\nname = \"new\"\n")[0].contains("the crate new has no place")
        );
    }
}
