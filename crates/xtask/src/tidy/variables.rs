//! The environment variables that the documents name exist, and those that exist are named.

use super::Violation;
use super::code::words;
use super::tree::{Tree, numbered};

/// Checks both directions: a variable that is documented but gone, and one that nobody can find.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let documents = tree
        .with_extension(&["md"])
        .filter(|(path, _)| is_document(path));
    let unknown = documents.flat_map(|(path, text)| {
        let unknown = variables(text).filter(|(_, name)| !is_known(tree, name));
        unknown.map(move |(line, name)| {
            Violation::new(path, line, format!("nothing reads the variable {name}."))
        })
    });
    let defined = sources(tree).flat_map(|(path, text)| {
        let hidden = definitions(text).filter(|(_, name)| !is_documented(tree, name));
        hidden.map(move |(line, name)| {
            let sentence = format!("the variable {name} is not in {REFERENCE_PAGE}.");
            Violation::new(path, line, sentence)
        })
    });
    unknown.chain(defined).collect()
}

/// Returns every variable of ours in a text, with its line. A prefix, as in `THRONG_*`, is none.
fn variables(text: &str) -> impl Iterator<Item = (usize, &str)> {
    numbered(text)
        .flat_map(|(line, content)| words(content).map(move |word| (line, word)))
        .filter(|(_, word)| word.starts_with(PREFIX) && !word.ends_with('_'))
}

/// Returns the variables that the command line defines: `env = "THRONG_..."`.
fn definitions(text: &str) -> impl Iterator<Item = (usize, &str)> {
    numbered(text).filter_map(|(line, content)| {
        let (_, value) = content.split_once("env = \"")?;
        let (name, _) = value.split_once('"')?;
        name.starts_with(PREFIX).then_some((line, name))
    })
}

fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.with_extension(&["rs"])
        .filter(|(path, _)| path.starts_with("crates/daemon/src/"))
}

fn is_known(tree: &Tree, name: &str) -> bool {
    TEST_VARIABLES.contains(&name)
        || sources(tree).any(|(_, text)| variables(text).any(|(_, known)| known == name))
}

fn is_documented(tree: &Tree, name: &str) -> bool {
    let page = tree.text(REFERENCE_PAGE).unwrap_or_default();
    variables(page).any(|(_, documented)| documented == name)
}

fn is_document(path: &str) -> bool {
    path == "README.md" || path.starts_with("docs/")
}

const PREFIX: &str = "THRONG_";

/// The page whose table lists every setting.
const REFERENCE_PAGE: &str = "docs/operations.md";

/// Read by tests and tools only: where the built server is, where screenshots go, and which
/// simulations are run.
const TEST_VARIABLES: [&str; 4] = [
    "THRONG_BIN",
    "THRONG_SCREENSHOTS",
    "THRONG_SIMULATION_RUNS",
    "THRONG_SIMULATION_SEED",
];

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: (&str, &str) = (
        "crates/daemon/src/cli.rs",
        "//! C.\n#[arg(long, env = \"THRONG_LISTEN\")]\n",
    );

    fn violations(page: (&str, &str)) -> Vec<String> {
        check(&Tree::of(&[SOURCE, page]))
            .iter()
            .map(Violation::to_string)
            .collect()
    }

    #[test]
    fn a_variable_that_exists_and_is_documented_passes() {
        let text = "`THRONG_LISTEN`, as all `THRONG_*`; tests read THRONG_BIN\n";

        assert_eq!(violations((REFERENCE_PAGE, text)), Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_nothing_reads_is_reported() {
        assert_eq!(
            violations((REFERENCE_PAGE, "THRONG_LISTEN\nTHRONG_LISTENER\n")),
            ["docs/operations.md:2: nothing reads the variable THRONG_LISTENER."]
        );
    }

    #[test]
    fn other_pages_are_checked_but_are_not_the_reference() {
        for page in ["README.md", "docs/golem.md"] {
            assert_eq!(
                violations((page, "THRONG_LISTEN\nTHRONG_LISTENER\n")),
                [
                    format!("{page}:2: nothing reads the variable THRONG_LISTENER."),
                    "crates/daemon/src/cli.rs:2: the variable THRONG_LISTEN is not in \
                     docs/operations.md."
                        .to_owned(),
                ]
            );
        }
    }
}
