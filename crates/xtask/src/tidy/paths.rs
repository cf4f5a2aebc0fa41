//! The paths that ARCHITECTURE.md names exist: a map of what was moved leads nowhere.

use super::Violation;
use super::tree::{Tree, numbered};

/// Checks each path between backticks: a file's name, a path from the root, or a folder.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(page) = tree.text(PAGE) else {
        // Another rule says so.
        return Vec::new();
    };
    let mut violations = Vec::new();
    for (number, line) in numbered(page) {
        let quoted = line.split('`').skip(1).step_by(2);
        for path in quoted.filter(|text| is_path(text)) {
            if !exists(tree, path) {
                let sentence = format!("there is no {path} any more.");
                violations.push(Violation::new(PAGE, number, sentence));
            }
        }
    }
    violations
}

fn is_path(text: &str) -> bool {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    is_plain && (text.ends_with(".rs") || text.ends_with('/') || text.starts_with("crates/"))
}

/// Returns whether it is a path from the root, or the end of one.
fn exists(tree: &Tree, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let end = format!("/{path}");
    tree.has(path)
        || tree
            .texts()
            .any(|(known, _)| known.ends_with(&end) || known.contains(&format!("{end}/")))
}

const PAGE: &str = "ARCHITECTURE.md";

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(page: &str) -> Vec<String> {
        let tree = Tree::of(&[(PAGE, page), ("crates/it/src/core/read.rs", "")]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn files_and_folders_that_exist_pass_whole_or_by_their_end() {
        let page =
            "`crates/it/src/core/read.rs`, `read.rs`, `core/`, `crates/it`, `a/b`, `x.y()`\n";
        assert_eq!(violations(page), Vec::<String>::new());
    }

    #[test]
    fn what_was_moved_is_reported_with_its_line() {
        let page = "\n`write.rs` and `crates/that`, `cores/`\n";
        assert_eq!(
            violations(page),
            [
                "ARCHITECTURE.md:2: there is no write.rs any more.",
                "ARCHITECTURE.md:2: there is no crates/that any more.",
                "ARCHITECTURE.md:2: there is no cores/ any more.",
            ]
        );
    }
}
