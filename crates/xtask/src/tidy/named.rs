//! Every dependency that we chose has its sentence in ARCHITECTURE.md.

use super::Violation;
use super::manifest::workspace_dependencies;
use super::tree::Tree;

/// Checks that somebody can say the reason for every dependency.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(manifest) = tree.text("Cargo.toml") else {
        return Vec::new();
    };
    let Some(page) = tree.text(PAGE) else {
        return vec![Violation::new(PAGE, 1, "the page does not exist.")];
    };
    let named: Vec<&str> = page.split(|c| !is_package_name(c)).collect();
    workspace_dependencies(manifest)
        .into_iter()
        .filter(|(_, dependency)| !named.contains(&dependency.package.as_str()))
        .map(|(_, dependency)| {
            let sentence = format!("{PAGE} does not say why we use {}.", dependency.package);
            Violation::new("Cargo.toml", dependency.line, sentence)
        })
        .collect()
}

fn is_package_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

const PAGE: &str = "ARCHITECTURE.md";

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "[workspace.dependencies]\ntokio = \"1\"\ntokio-tungstenite = \"0.30\"\n";

    fn violations(files: &[(&str, &str)]) -> Vec<String> {
        let files = [&[("Cargo.toml", MANIFEST)], files].concat();
        check(&Tree::of(&files))
            .iter()
            .map(Violation::to_string)
            .collect()
    }

    #[test]
    fn dependencies_that_are_named_pass() {
        let page = "`tokio` is the runtime, **tokio-tungstenite** the peer in tests.\n";

        assert_eq!(violations(&[(PAGE, page)]), Vec::<String>::new());
    }

    #[test]
    fn a_longer_name_does_not_name_the_shorter() {
        assert_eq!(
            violations(&[(PAGE, "Only tokio-tungstenite.\n")]),
            ["Cargo.toml:2: ARCHITECTURE.md does not say why we use tokio."]
        );
    }

    #[test]
    fn a_missing_page_is_one_violation() {
        assert_eq!(
            violations(&[]),
            ["ARCHITECTURE.md:1: the page does not exist."]
        );
    }
}
