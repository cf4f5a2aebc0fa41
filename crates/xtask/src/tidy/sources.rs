//! Rules on how source files look: headers, docs, long lines, unfinished work, white space,
//! `mod.rs`, `unsafe`.

use super::Violation;
use super::code::{code_only, words};
use super::tree::{Tree, numbered};

/// Checks every rule on source files.
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
    if is_checked(path) {
        violations.extend(long_lines(path, text));
        violations.extend(vague_docs(path, text));
    }
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

fn is_checked(path: &str) -> bool {
    CHECKED.iter().any(|folder| path.starts_with(*folder))
}

/// Finds lines that are too long. A row of a table in a doc comment cannot be wrapped.
fn long_lines(path: &str, text: &str) -> impl Iterator<Item = Violation> {
    let is_row = |line: &str| {
        let line = line.trim_start();
        line.starts_with("/// |") || line.starts_with("//! |")
    };
    numbered(text)
        .filter(move |(_, line)| line.chars().count() > COLUMNS_MAX && !is_row(line))
        .map(move |(line, _)| {
            let sentence = format!("the line has more than {COLUMNS_MAX} columns.");
            Violation::new(path, line, sentence)
        })
}

/// Finds doc comments that begin with a clause in the place of a verb or a noun.
fn vague_docs(path: &str, text: &str) -> Vec<Violation> {
    let mut was_doc = false;
    let mut violations = Vec::new();
    for (line, content) in numbered(text) {
        let doc = content.trim_start().strip_prefix("///");
        if let Some(doc) = doc.filter(|_| !was_doc)
            && let Some(word) = vague_word(doc)
        {
            let sentence = format!(
                "a doc comment begins with \"{word}\": begin with a verb (Returns, Queues), or \
                 with a noun for a type or a field."
            );
            violations.push(Violation::new(path, line, sentence));
        }
        was_doc = doc.is_some();
    }
    violations
}

fn vague_word(doc: &str) -> Option<&'static str> {
    let begins_with = |vague: &&&str| {
        let rest = doc.trim_start().strip_prefix(**vague);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    VAGUE_WORDS.iter().find(begins_with).copied()
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

/// Files in which `unsafe` may be written: io_uring takes pointers, and the kernel reads them
/// later.
const UNSAFE_FILES: &[&str] = &["crates/server/src/core/flush/uring.rs"];

/// Folders whose lines and doc comments are checked.
const CHECKED: &[&str] = &["benches/", "crates/"];

/// Maximum characters of a line, as for rustfmt, which leaves comments and strings as they are.
const COLUMNS_MAX: usize = 100;

const VAGUE_WORDS: [&str; 8] = [
    "How", "The same", "What", "Where", "Whether", "Who", "Whom", "Whose",
];

const REFUSED_CODE: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];

/// In two parts each, or this file would break its own rule.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Extensions of the files that people write programs in.
const SOURCE_EXTENSIONS: &[&str] = &[
    "css", "html", "js", "mjs", "py", "rs", "sh", "toml", "ts", "yaml", "yml",
];

/// Extensions of the files that people read as text.
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
    fn a_line_of_more_than_100_columns_is_refused_unless_it_is_a_row_of_a_table() {
        let file = |line: &str| format!("//! A.\n{line}\n");
        let (path, fits) = ("crates/a/src/a.rs", "é".repeat(COLUMNS_MAX - 3));

        assert_refused(path, &file(&format!("// {fits}é")), 2, "columns");
        for line in [format!("// {fits}"), format!("    //! | {fits} |")] {
            assert_eq!(violations(path, &file(&line)), Vec::<String>::new());
        }
        let elsewhere = violations("loadtest/src/a.rs", &file(&format!("// {fits}é")));
        assert_eq!(elsewhere, Vec::<String>::new());
    }

    #[test]
    fn a_doc_comment_begins_with_a_verb_or_a_noun() {
        let path = "crates/a/src/a.rs";
        for word in VAGUE_WORDS {
            let text = format!("//! A.\n    /// {word}, of all.\n    fn a() {{}}\n");
            assert_refused(path, &text, 2, &format!("\"{word}\""));
            let exempt = violations("loadtest/src/a.rs", &text);
            assert_eq!(exempt, Vec::<String>::new());
        }
        let text = "//! What.\n/// Whole: returns\n/// what there is.\nfn a() {}\n// How.\n";
        assert_eq!(violations(path, text), Vec::<String>::new());
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
