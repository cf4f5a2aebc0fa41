//! Links between documents lead somewhere: the file exists, and so does the heading.
//!
//! Only links within the repository: others change without us, and checking them needs a network.

mod markdown;

use super::Violation;
use super::tree::Tree;

/// Checks every relative link and every anchor of every Markdown file.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let pages = tree.with_extension(&["md"]);
    pages
        .flat_map(|(page, text)| check_page(tree, page, text))
        .collect()
}

fn check_page(tree: &Tree, page: &str, text: &str) -> Vec<Violation> {
    markdown::links(text)
        .into_iter()
        .filter(|link| !is_external(&link.target))
        .filter_map(|link| Some((link.line, problem(tree, page, &link.target)?)))
        .map(|(line, sentence)| Violation::new(page, line, sentence))
        .collect()
}

fn is_external(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// Returns what is wrong with a link on `page`, as a sentence.
fn problem(tree: &Tree, page: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let Some(path) = resolve(page, path) else {
        return Some(format!("the link {target} leads out of the repository."));
    };
    if !tree.has(&path) {
        return Some(format!(
            "the link {target} leads nowhere: there is no {path}."
        ));
    }
    let has_anchor = anchor.is_empty() || has_anchor(tree, &path, anchor);
    (!has_anchor).then(|| format!("the link {target} leads to no heading of {path}."))
}

/// Returns the path that a link on `page` means, or `None` if it leaves the repository.
fn resolve(page: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(page.to_owned());
    }
    let directory = page.rsplit_once('/').map_or("", |(directory, _)| directory);
    let base = if path.starts_with('/') { "" } else { directory };
    let mut parts = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn has_anchor(tree: &Tree, path: &str, anchor: &str) -> bool {
    let Some(text) = tree.text(path) else {
        return false;
    };
    if path.ends_with(".md") {
        return markdown::anchors(text).iter().any(|known| known == anchor);
    }
    // A line of a source file, as code hosts write it.
    let line = anchor
        .strip_prefix('L')
        .and_then(|line| line.parse::<usize>().ok());
    line.is_some_and(|line| line >= 1 && line <= text.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/here.md", page),
            ("docs/there.md", "# There\n"),
            ("src/lib.rs", "//! One line.\n"),
            ("README.md", "# Throng\n"),
        ]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let page = "# Here\n[a](there.md) [b](there.md#there) [c](#here) [d](../README.md#throng)\n\
            [e](../src/) [f](/src/lib.rs#L1) [g](https://example.org/x#y) [h](mailto:a@b)\n";

        assert_eq!(violations(page), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_a_missing_file_is_reported() {
        assert_eq!(
            violations("\n[a](../there.md)\n"),
            ["docs/here.md:2: the link ../there.md leads nowhere: there is no there.md."]
        );
    }

    #[test]
    fn a_link_to_a_missing_heading_is_reported() {
        assert_eq!(
            violations("[a](there.md#here)\n"),
            ["docs/here.md:1: the link there.md#here leads to no heading of docs/there.md."]
        );
        assert_eq!(violations("[a](../src/lib.rs#L2)\n").len(), 1);
    }

    #[test]
    fn a_link_out_of_the_repository_is_reported() {
        assert_eq!(
            violations("[a](../../elsewhere.md)\n"),
            ["docs/here.md:1: the link ../../elsewhere.md leads out of the repository."]
        );
    }
}
