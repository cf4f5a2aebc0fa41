//! Reading manifests with the lines of their entries, and the rule that every crate opts into the
//! workspace's lints.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Violation;
use super::tree::{Tree, line_of};

/// One entry of a table of dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The package, also where the entry renames it.
    pub(super) package: String,
    /// Line of the entry.
    pub(super) line: usize,
}

/// A member of the workspace.
#[derive(Debug)]
pub(super) struct Member {
    /// The path of its manifest.
    pub(super) path: String,
    /// Its package's name.
    pub(super) name: String,
    /// Its dependencies, for whatever purpose and target.
    pub(super) dependencies: Vec<Dependency>,
}

/// Checks that every member takes the workspace's lints, and that every manifest is readable.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for path in member_manifests(tree) {
        let Some(text) = tree.text(&path) else {
            violations.push(Violation::new(
                "Cargo.toml",
                1,
                format!("{path} does not exist."),
            ));
            continue;
        };
        match DeTable::parse(text) {
            Ok(table) if !takes_lints(table.get_ref()) => violations.push(Violation::new(
                &path,
                1,
                "the crate does not take the workspace's lints: add `[lints] workspace = true`.",
            )),
            Ok(_) => {}
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                violations.push(Violation::new(&path, line, error.message()));
            }
        }
    }
    violations
}

/// Returns the members that the workspace lists and whose manifest can be read.
pub(super) fn members(tree: &Tree) -> Vec<Member> {
    let shared = tree
        .text(ROOT)
        .map(workspace_dependencies)
        .unwrap_or_default();
    let manifests = member_manifests(tree);
    manifests
        .into_iter()
        .filter_map(|path| member(tree, path, &shared))
        .collect()
}

/// Returns the entries of `[workspace.dependencies]`, as the keys that members use.
pub(super) fn workspace_dependencies(text: &str) -> Vec<(String, Dependency)> {
    let Ok(table) = DeTable::parse(text) else {
        return Vec::new();
    };
    let workspace = table.get_ref().get("workspace");
    let dependencies = workspace.and_then(|workspace| workspace.get_ref().get("dependencies"));
    let dependencies = dependencies.and_then(|dependencies| dependencies.get_ref().as_table());
    dependencies
        .map(|table| entries(text, table, &[]))
        .unwrap_or_default()
}

fn member(tree: &Tree, path: String, shared: &[(String, Dependency)]) -> Option<Member> {
    let text = tree.text(&path)?;
    let table = DeTable::parse(text).ok()?;
    let table = table.get_ref();
    let name = table
        .get("package")?
        .get_ref()
        .get("name")?
        .get_ref()
        .as_str()?
        .to_owned();
    let targets = table
        .get("target")
        .and_then(|targets| targets.get_ref().as_table());
    let targets = targets.into_iter().flat_map(|targets| targets.values());
    let tables = targets
        .filter_map(|target| target.get_ref().as_table())
        .chain([table]);
    let dependencies = tables
        .flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)))
        .filter_map(|dependencies| dependencies.get_ref().as_table())
        .flat_map(|dependencies| entries(text, dependencies, shared))
        .map(|(_, dependency)| dependency)
        .collect();
    Some(Member {
        path,
        name,
        dependencies,
    })
}

fn entries(
    text: &str,
    table: &DeTable<'_>,
    shared: &[(String, Dependency)],
) -> Vec<(String, Dependency)> {
    let renamed = |value: &Spanned<DeValue<'_>>| {
        Some(
            value
                .get_ref()
                .get("package")?
                .get_ref()
                .as_str()?
                .to_owned(),
        )
    };
    let inherited = |key: &str| {
        let (_, dependency) = shared.iter().find(|(shared_key, _)| shared_key == key)?;
        Some(dependency.package.clone())
    };
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let line = line_of(text, key.span().start);
        let key: &str = AsRef::<str>::as_ref(key.get_ref());
        let package = renamed(value)
            .or_else(|| inherited(key))
            .unwrap_or_else(|| key.to_owned());
        (key.to_owned(), Dependency { package, line })
    };
    table.iter().map(entry).collect()
}

fn member_manifests(tree: &Tree) -> Vec<String> {
    let Some(Ok(table)) = tree.text(ROOT).map(DeTable::parse) else {
        return Vec::new();
    };
    let workspace = table.get_ref().get("workspace");
    let members = workspace.and_then(|workspace| workspace.get_ref().get("members"));
    let members = members.and_then(|members| members.get_ref().as_array());
    let members = members
        .into_iter()
        .flatten()
        .filter_map(|member| member.get_ref().as_str());
    members
        .map(|member| format!("{member}/Cargo.toml"))
        .collect()
}

fn takes_lints(table: &DeTable<'_>) -> bool {
    let lints = table
        .get("lints")
        .and_then(|lints| lints.get_ref().get("workspace"));
    lints.and_then(|workspace| workspace.get_ref().as_bool()) == Some(true)
}

const ROOT: &str = "Cargo.toml";

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str =
        "[workspace]\nmembers = [\"a\"]\n[workspace.dependencies]\nours = { package = \"b\" }\n";

    fn violations(manifest: &str) -> Vec<String> {
        let tree = Tree::of(&[("Cargo.toml", WORKSPACE), ("a/Cargo.toml", manifest)]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_crate_that_takes_the_lints_passes() {
        assert_eq!(
            violations("[lints]\nworkspace = true\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_crate_without_the_lints_is_reported() {
        for manifest in ["", "[lints]\nworkspace = false\n", "[lints.rust]\n"] {
            assert_eq!(
                violations(manifest),
                [
                    "a/Cargo.toml:1: the crate does not take the workspace's lints: \
                  add `[lints] workspace = true`."
                ]
            );
        }
    }

    #[test]
    fn a_broken_manifest_is_reported_where_it_breaks() {
        assert!(violations("[lints]\nworkspace = \n")[0].starts_with("a/Cargo.toml:2: "));
    }

    #[test]
    fn a_member_without_a_manifest_is_reported() {
        let tree = Tree::of(&[("Cargo.toml", WORKSPACE)]);

        assert_eq!(
            check(&tree)[0].to_string(),
            "Cargo.toml:1: a/Cargo.toml does not exist."
        );
    }

    #[test]
    fn dependencies_of_every_kind_and_target_are_found_under_their_own_names() {
        let manifest = "[package]\nname = \"a\"\n\
            [dependencies]\nours.workspace = true\n\
            [dev-dependencies]\nx = { package = \"y\", version = \"1\" }\n\
            [target.'cfg(unix)'.build-dependencies.z]\nversion = \"1\"\n";
        let tree = Tree::of(&[("Cargo.toml", WORKSPACE), ("a/Cargo.toml", manifest)]);
        let member = members(&tree).pop().unwrap();
        let mut found: Vec<_> = member
            .dependencies
            .iter()
            .map(|found| (&*found.package, found.line))
            .collect();
        found.sort_unstable();

        assert_eq!(member.name, "a");
        assert_eq!(found, [("b", 4), ("y", 6), ("z", 7)]);
    }
}
