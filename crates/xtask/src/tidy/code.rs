//! Telling Rust code from its comments and literals, as far as the rules need it.

/// Returns the source with every comment, string and character blanked, line by line and column by
/// column in characters: what is left is code.
///
/// A scanner and not a parser: it knows where literals and comments begin and end, nothing more.
pub(super) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let follows_word = code.chars().next_back().is_some_and(is_word);
        if let Some(len) = blank_len(rest, follows_word) {
            let (blanked, after) = rest.split_at(len);
            code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    code
}

/// Returns the words of a line: identifiers, keywords and numbers.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the comment or literal at the start of `rest`, if there is one.
fn blank_len(rest: &str, follows_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_len(rest));
    }
    if rest.starts_with('"') {
        return Some(string_len(rest));
    }
    if rest.starts_with('\'') {
        return character_len(rest);
    }
    // `r` at the end of a name does not begin a literal.
    if follows_word {
        None
    } else {
        raw_string_len(rest)
    }
}

/// Returns the length of a block comment. Block comments nest.
fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a character, but not of a lifetime: `'a'` and `'\n'`, not `'a`.
fn character_len(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        let (_, _escaped) = characters.next()?;
        return characters.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    characters
        .next()
        .filter(|(_, c)| *c == '\'')
        .map(|(at, _)| at + 1)
}

fn raw_string_len(rest: &str) -> Option<usize> {
    let after_prefix = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))?;
    let quoted = after_prefix.trim_start_matches('#');
    let hashes = &after_prefix[..after_prefix.len() - quoted.len()];
    let content = quoted.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let content_len = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(rest.len() - content.len() + content_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_code(source: &str, words_left: &[&str]) {
        let code = code_only(source);

        assert_eq!(words(&code).collect::<Vec<_>>(), words_left, "{source}");
        assert_eq!(
            code.lines().count(),
            source.lines().count(),
            "lines must stay where they are"
        );
    }

    #[test]
    fn comments_are_blanked() {
        assert_code("a // x\nb", &["a", "b"]);
        assert_code("a /* x /* y */ z\n */ b", &["a", "b"]);
        assert_code("a /* never closed", &["a"]);
    }

    #[test]
    fn strings_are_blanked() {
        assert_code(r#"a("x \" y", b"z")"#, &["a", "b"]);
        assert_code("a(r#\"x \" y\"#, br\"z\\\", c)", &["a", "c"]);
        assert_code("a \"// x\" b", &["a", "b"]);
        assert_code("for\"x\" b", &["for", "b"]);
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_are_not() {
        assert_code(r"a('x', '\'', '\u{1F600}', b)", &["a", "b"]);
        assert_code("fn a<'x>(b: &'x str)", &["fn", "a", "x", "b", "x", "str"]);
        assert_code("a('\"') b", &["a", "b"]);
    }
}
