//! Circles between the files of a crate: two files that each use the other cannot be read, tested
//! or moved apart.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree, Visibility};

use super::Violation;
use super::tree::Tree;

/// Reports every circle of files that use each other.
///
/// A file `a.rs` and the files of its folder `a/` are one subject: what they use of each other is
/// no circle. Tests may use what they like, and so may tools: only the crates below `crates/` are
/// held to it.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let crates: BTreeSet<&str> = tree
        .with_extension(&["rs"])
        .filter(|(path, _)| path.starts_with("crates/"))
        .filter_map(|(path, _)| path.split_once("/src/").map(|(name, _)| name))
        .collect();
    crates
        .into_iter()
        .flat_map(|name| Modules::of(tree, name).circles())
        .collect()
}

/// A module's path within its crate, such as `["core", "read"]`.
type Path = Vec<String>;

/// The files of one crate, by their modules, and what they use.
#[derive(Default)]
struct Modules {
    files: BTreeMap<Path, String>,
    uses: BTreeMap<Path, Uses>,
}

/// The names of its crate that one file uses.
#[derive(Default)]
struct Uses {
    paths: Vec<Path>,
    /// Names that the module hands on as its own, with where they are from.
    exports: BTreeMap<String, Path>,
}

impl Modules {
    fn of(tree: &Tree, name: &str) -> Self {
        let mut modules = Self::default();
        let prefix = format!("{name}/src/");
        for (path, text) in tree.with_extension(&["rs"]) {
            let Some(path_within) = path.strip_prefix(&prefix) else {
                continue;
            };
            let Ok(file) = syn::parse_file(text) else {
                // The compiler says so.
                continue;
            };
            let module = module_of(path_within);
            let mut reader = Reader {
                module: &module,
                uses: Uses::default(),
            };
            reader.visit_file(&file);
            modules.uses.insert(module.clone(), reader.uses);
            modules.files.insert(module, path.to_owned());
        }
        modules
    }

    /// Returns the file that a path of names leads to: through what modules hand on, to where it
    /// is.
    fn resolve(&self, path: &[String]) -> Path {
        let mut path = path.to_vec();
        // Each step leads to another file, and there are only so many.
        for _ in 0..self.files.len() {
            let known = (0..=path.len()).rev();
            let len = known
                .filter(|len| self.files.contains_key(&path[..*len]))
                .max();
            let (module, rest) = path.split_at(len.unwrap_or(0));
            let export = rest
                .first()
                .and_then(|name| self.uses.get(module)?.exports.get(name));
            match export {
                Some(from) if *from != path => path = from.clone(),
                _ => return module.to_vec(),
            }
        }
        path
    }

    /// Returns which files each file uses.
    fn arrows(&self) -> BTreeMap<&Path, BTreeSet<Path>> {
        let uses = self.uses.iter().map(|(module, uses)| {
            let used = uses.paths.iter().map(|path| self.resolve(path));
            let used = used.filter(|used| {
                !used.is_empty() && !used.starts_with(module) && !module.starts_with(used)
            });
            (module, used.collect())
        });
        uses.collect()
    }

    fn circles(&self) -> Vec<Violation> {
        let arrows = self.arrows();
        let mut seen = BTreeSet::new();
        let mut violations = Vec::new();
        for module in arrows.keys() {
            if seen.contains(*module) {
                continue;
            }
            let circle: Vec<&Path> = reachable(&arrows, module)
                .into_iter()
                .filter(|other| reachable(&arrows, other).contains(*module))
                .collect();
            if circle.is_empty() {
                continue;
            }
            let names: Vec<&str> = circle
                .iter()
                .filter_map(|module| self.files.get(*module).map(String::as_str))
                .collect();
            seen.extend(circle.iter().map(|module| (*module).clone()));
            let sentence = format!(
                "these files use each other: {}. Move what they share into a file below them.",
                names.join(", ")
            );
            violations.push(Violation::new(&self.files[*module], 1, sentence));
        }
        violations
    }
}

/// Returns the files that a file uses, and those that they use, and so on.
fn reachable<'a>(arrows: &'a BTreeMap<&Path, BTreeSet<Path>>, from: &Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Path> = arrows.get(from).into_iter().flatten().collect();
    while let Some(module) = open.pop() {
        if found.insert(module) {
            open.extend(arrows.get(module).into_iter().flatten());
        }
    }
    found
}

/// Returns the module that a file below `src/` is.
fn module_of(path: &str) -> Path {
    let path = path.trim_end_matches(".rs");
    let is_root = |name: &&str| !matches!(*name, "lib" | "main" | "bin");
    path.split('/').filter(is_root).map(str::to_owned).collect()
}

/// Collects what a file uses.
struct Reader<'a> {
    module: &'a Path,
    uses: Uses,
}

impl Reader<'_> {
    /// Makes a path that begins with `crate`, `super` or `self` absolute. Other paths are of other
    /// crates, or of what was used before.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([self.module.as_slice(), rest].concat()),
            "super" => {
                let mut base = self.module.clone();
                base.pop();
                let supers = rest.iter().take_while(|name| *name == "super").count();
                base.truncate(base.len().saturating_sub(supers));
                Some([base.as_slice(), &rest[supers..]].concat())
            }
            _ => None,
        }
    }

    fn take(&mut self, tree: &UseTree, before: &[String], is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.take(&path.tree, &before, is_export);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take(tree, before, is_export);
                }
            }
            UseTree::Name(name) => self.note(before, &name.ident.to_string(), None, is_export),
            UseTree::Rename(name) => {
                let renamed = name.rename.to_string();
                self.note(before, &name.ident.to_string(), Some(renamed), is_export);
            }
            UseTree::Glob(_) => self.uses.paths.extend(self.absolute(before)),
        }
    }

    fn note(&mut self, before: &[String], name: &str, renamed: Option<String>, is_export: bool) {
        let path = match name {
            "self" => before.to_vec(),
            name => [before, &[name.to_owned()]].concat(),
        };
        if is_export {
            // Of a module within this one, unless the path says otherwise.
            let from = self
                .absolute(&path)
                .unwrap_or_else(|| [self.module.as_slice(), &path].concat());
            let name = renamed.unwrap_or_else(|| name.to_owned());
            self.uses.exports.insert(name, from);
        } else {
            self.uses.paths.extend(self.absolute(&path));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        self.take(&item.tree, &[], is_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Path = path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.uses.paths.extend(self.absolute(&names));
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn files_that_use_each_other_are_reported_however_they_say_it() {
        for use_of_b in [
            "use crate::b::B;",
            "use super::b::{self, B};",
            "fn f() { crate::b::f() }",
            "use crate::B;",
        ] {
            let found = violations(&[
                ("crates/it/src/lib.rs", "mod a; mod b; pub(crate) use b::B;"),
                ("crates/it/src/a.rs", use_of_b),
                ("crates/it/src/b.rs", "use crate::a::A; pub struct B;"),
            ]);
            assert_eq!(
                found,
                [
                    "crates/it/src/a.rs:1: these files use each other: crates/it/src/a.rs, \
                     crates/it/src/b.rs. Move what they share into a file below them."
                ],
                "{use_of_b}"
            );
        }
    }

    #[test]
    fn a_circle_of_three_is_reported_once() {
        let found = violations(&[
            ("crates/it/src/a.rs", "use crate::b::B;"),
            ("crates/it/src/b.rs", "use crate::c::C;"),
            ("crates/it/src/c.rs", "use crate::a::A;"),
            ("crates/it/src/d.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("crates/it/src/a.rs, crates/it/src/b.rs, crates/it/src/c.rs."));
    }

    #[test]
    fn a_file_and_its_folder_tests_and_other_crates_are_no_circle() {
        let found = violations(&[
            ("crates/it/src/a.rs", "mod b; use self::b::B; pub struct A;"),
            (
                "crates/it/src/a/b.rs",
                "use super::A; use other::c; pub struct B;",
            ),
            (
                "crates/it/src/c.rs",
                "#[cfg(test)] mod tests { use crate::d::D; }",
            ),
            ("crates/it/src/d.rs", "use crate::c::C;"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
