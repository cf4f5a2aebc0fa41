//! Rules on how source files look: headers, unfinished work, white space, `mod.rs`, `unsafe`.

use super::Violation;
use super::code::{code_only, words};
use super::tree::{Tree, numbered};

/// Every rule on source files.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let rust = tree
        .with_extension(&["rs"])
        .flat_map(|(path, text)| check_rust(path, text));
    let texts = tree.with_extension(TEXT_EXTENSIONS).filter_map(newline);
    let sources = tree.with_extension(SOURCE_EXTENSIONS);
    let unfinished = sources.flat_map(|(path, text)| unfinished(path, text));
    rust.chain(texts).chain(unfinished).collect()
}

fn check_rust(path: &str, text: &str) -> Vec<Violation> {
    let code = code_only(text);
    let mut violations = Vec::new();
    if !text.starts_with("//!") {
        let sentence = "the file does not say at its top, after `//!`, what it owns.";
        violations.push(Violation::new(path, 1, sentence));
    }
    if path.ends_with("/mod.rs") {
        let sentence = "a module is foo.rs beside foo/, so that editor tabs have names.";
        violations.push(Violation::new(path, 1, sentence));
    }
    violations.extend(numbered(text).filter_map(|(line, content)| {
        let sentence = white_space(content)?;
        Some(Violation::new(path, line, sentence))
    }));
    violations.extend(numbered(&code).filter_map(|(line, content)| {
        let sentence = refused_code(path, content)?;
        Some(Violation::new(path, line, sentence))
    }));
    violations
}

fn white_space(line: &str) -> Option<&'static str> {
    if line.contains('\t') {
        return Some("there is a tab.");
    }
    line.ends_with(' ')
        .then_some("there is white space at the end of the line.")
}

fn refused_code(path: &str, code: &str) -> Option<String> {
    if words(code).any(|word| word == "unsafe") && !UNSAFE_FILES.contains(&path) {
        let files = UNSAFE_FILES.join(", ");
        return Some(format!(
            "there is unsafe code, which only {files} may have."
        ));
    }
    let refused = REFUSED_CODE
        .iter()
        .find(|refused| code.contains(**refused))?;
    Some(format!(
        "`{refused}` leaves work undone that nobody is told about."
    ))
}

/// Marks of unfinished work, in comments too.
fn unfinished(path: &str, text: &str) -> Vec<Violation> {
    let mark = |line| words(line).find(|word| MARKS.contains(word));
    numbered(text)
        .filter_map(|(line, content)| Some((line, mark(content)?)))
        .map(|(line, mark)| {
            let sentence = format!("{mark} marks work to be done: do it, or open an issue.");
            Violation::new(path, line, sentence)
        })
        .collect()
}

fn newline((path, text): (&str, &str)) -> Option<Violation> {
    let line = text.lines().count();
    let unfinished = !text.is_empty() && !text.ends_with('\n');
    unfinished.then(|| Violation::new(path, line, "the file does not end in a newline."))
}

/// Where `unsafe` may be written: io_uring takes pointers, and the kernel reads them later.
const UNSAFE_FILES: &[&str] = &["crates/server/src/core/flush/uring.rs"];

const REFUSED_CODE: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];

/// In two parts each, or this file would break its own rule.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// What people write programs in.
const SOURCE_EXTENSIONS: &[&str] = &[
    "css", "html", "js", "mjs", "py", "rs", "sh", "toml", "ts", "yaml", "yml",
];

/// What people read as text.
const TEXT_EXTENSIONS: &[&str] = &[
    "css", "html", "js", "json", "md", "mjs", "py", "rs", "sh", "toml", "ts", "yaml", "yml",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(Violation::to_string)
            .collect()
    }

    #[track_caller]
    fn assert_refused(path: &str, text: &str, at: usize, part: &str) {
        let violations = violations(path, text);

        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(
            violations[0].starts_with(&format!("{path}:{at}: ")),
            "{violations:?}"
        );
        assert!(violations[0].contains(part), "{violations:?}");
    }

    #[test]
    fn a_file_that_keeps_the_rules_passes() {
        let text = "//! Owns `unsafe` words: \"todo!()\".\n#![deny(unsafe_code)]\n";

        assert_eq!(violations("a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        assert_refused("a.rs", "/// Not the file's own.\nfn a() {}\n", 1, "//!");
    }

    #[test]
    fn mod_rs_is_refused() {
        assert_refused("src/foo/mod.rs", "//! Foo.\n", 1, "foo.rs beside foo/");
    }

    #[test]
    fn stray_white_space_is_refused() {
        assert_refused("a.rs", "//! A.\n\tfn a() {}\n", 2, "tab");
        assert_refused("a.rs", "//! A.\nfn a() {} \n", 2, "white space");
    }

    #[test]
    fn a_file_without_a_last_newline_is_refused() {
        assert_refused("a.md", "# A\n\nEnd", 3, "newline");
    }

    #[test]
    fn unfinished_work_is_refused_in_code_and_comments() {
        for mark in MARKS {
            assert_refused("a.rs", &format!("//! A.\n// {mark}: more\n"), 2, mark);
            assert_refused("a.toml", &format!("# {mark}\n"), 1, mark);
        }
        for code in ["todo!()", "unimplemented!()", "#[ignore = \"slow\"]"] {
            assert_refused("a.rs", &format!("//! A.\n{code}\n"), 2, "undone");
        }
    }

    #[test]
    fn unsafe_is_refused_outside_its_files() {
        let text = "//! A.\nunsafe { f() }\n";

        assert_refused("a.rs", text, 2, "unsafe code");
        assert_eq!(violations(UNSAFE_FILES[0], text), Vec::<String>::new());
    }
}
