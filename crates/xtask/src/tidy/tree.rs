//! The files that the rules are checked on: the repository's, or a test's made-up ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

use crate::repository::Repository;

/// Paths, relative to the root, with the text of those that are text.
#[derive(Debug)]
pub(super) struct Tree {
    texts: BTreeMap<String, String>,
    /// Every file, text or not, and every directory that holds one; the root is the empty path.
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads every file of the repository.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub(super) fn read(repository: &Repository) -> Result<Self> {
        let mut tree = Self {
            texts: BTreeMap::new(),
            paths: BTreeSet::new(),
        };
        for path in repository.files()? {
            let bytes = fs::read(repository.path(&path))
                .with_context(|| format!("{path} cannot be read"))?;
            tree.add(&path, String::from_utf8(bytes).ok());
        }
        Ok(tree)
    }

    /// Returns a tree of made-up files.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self {
            texts: BTreeMap::new(),
            paths: BTreeSet::new(),
        };
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        tree
    }

    /// Returns the number of text files.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns whether there is such a file or directory.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Returns the text of a file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Returns every text file with its text, in the order of their paths.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns those whose name ends in a dot and one of `extensions`.
    pub(super) fn with_extension(
        &self,
        extensions: &'static [&'static str],
    ) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| {
            let extension = path.rsplit_once('.').map(|(_, extension)| extension);
            extension.is_some_and(|extension| extensions.contains(&extension))
        })
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        let mut directory = path;
        while let Some((parent, _)) = directory.rsplit_once('/') {
            self.paths.insert(parent.to_owned());
            directory = parent;
        }
        self.paths.extend([String::new(), path.to_owned()]);
        if let Some(text) = text {
            self.texts.insert(path.to_owned(), text);
        }
    }
}

/// Returns each line with its number, from 1.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// Returns the number of the line that a byte of the text is in, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_if_they_hold_a_file() {
        let tree = Tree::of(&[("docs/pages/a.md", "")]);

        assert!(
            ["", "docs", "docs/pages", "docs/pages/a.md"]
                .iter()
                .all(|path| tree.has(path))
        );
        assert!(!tree.has("docs/a.md"));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = "a\nb\n";

        assert_eq!(numbered(text).collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
        assert_eq!((line_of(text, 0), line_of(text, 2)), (1, 2));
    }
}
