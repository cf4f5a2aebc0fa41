//! The links and the anchors of a Markdown page, as far as our documents use Markdown.

use std::collections::HashMap;

use crate::tidy::tree::numbered;

/// One link and where it is written.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tidy) struct Link {
    /// The line that the target is on.
    pub(in crate::tidy) line: usize,
    /// The target as written.
    pub(in crate::tidy) target: String,
}

/// Inline links and images, reference definitions, and `href` and `src` of embedded HTML.
pub(in crate::tidy) fn links(page: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, prose) in prose(page) {
        let targets = inline_targets(&prose)
            .into_iter()
            .chain(definition_target(&prose));
        let targets = targets.chain(attributes(&prose, &["href", "src"]));
        links.extend(targets.map(|target| Link { line, target }));
    }
    links
}

/// Returns what a link to this page may name after `#`: its headings, as code hosts spell them, and
/// the `id` and `name` of embedded HTML.
pub(in crate::tidy) fn anchors(page: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    let mut seen = HashMap::new();
    for (line, prose) in prose(page) {
        anchors.extend(attributes(&prose, &["id", "name"]));
        // Code in a heading belongs to its anchor, so the line is read as it is written.
        let Some(heading) = page.lines().nth(line - 1).and_then(heading) else {
            continue;
        };
        let slug = slug(heading);
        let count = seen.entry(slug.clone()).or_insert(0);
        anchors.push(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
        *count += 1;
    }
    anchors
}

/// Returns the lines outside code blocks, with code spans blanked.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut prose = Vec::new();
    for (line, content) in numbered(page) {
        let trimmed = content.trim_start();
        let here = FENCES.into_iter().find(|fence| trimmed.starts_with(fence));
        match (fence, here) {
            (None, Some(_)) => fence = here,
            (Some(open), Some(close)) if open == close => fence = None,
            (Some(_), _) => {}
            (None, None) => prose.push((line, without_code_spans(content))),
        }
    }
    prose
}

fn without_code_spans(line: &str) -> String {
    let mut prose = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let after = &rest[start + ticks..];
        prose.push_str(&rest[..start]);
        // Ticks that nothing closes are only ticks.
        let Some(end) = after.find(&"`".repeat(ticks)) else {
            rest = after;
            continue;
        };
        rest = &after[end + ticks..];
    }
    prose + rest
}

/// Returns the targets of `[text](target)` and `[text](target "title")`.
fn inline_targets(prose: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut rest = prose;
    while let Some(start) = rest.find("](") {
        rest = &rest[start + 2..];
        targets.push(target(rest.split(')').next().unwrap_or_default()));
    }
    targets
}

/// Returns the target of `[label]: target`.
fn definition_target(prose: &str) -> Option<String> {
    let (label, definition) = prose.trim_start().strip_prefix('[')?.split_once("]: ")?;
    // A footnote's text is no target.
    (!label.starts_with('^')).then(|| target(definition))
}

fn target(text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .trim_start_matches('<')
        .trim_end_matches('>')
        .to_owned()
}

/// Returns the values of HTML attributes such as `href="..."`.
fn attributes(prose: &str, names: &[&str]) -> Vec<String> {
    let values = |name: &&str| {
        let start = format!(" {name}=\"");
        let parts: Vec<String> = prose.split(&start).skip(1).map(str::to_owned).collect();
        parts
    };
    let parts = names.iter().flat_map(values);
    parts
        .filter_map(|part| Some(part.split_once('"')?.0.to_owned()))
        .collect()
}

/// Returns the text of a heading line.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let depth = line.len() - text.len();
    ((1..=6).contains(&depth) && text.starts_with(' ')).then(|| text.trim())
}

/// Returns the anchor that code hosts give a heading.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let lower = link_texts(heading).to_lowercase();
    lower
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Returns the heading with `[text](target)` replaced by `text`.
fn link_texts(heading: &str) -> String {
    let mut parts = heading.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or("", |(_, after)| after));
    }
    text
}

const FENCES: [&str; 2] = ["```", "~~~"];

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(page: &str) -> Vec<String> {
        links(page).into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn every_kind_of_link_is_found() {
        let page = "[a](1.md), ![b](2.png \"title\") and [`c`](<3.md>)\n\
            [d]: 4.md\n<a href=\"5.md\"> <img src=\"6.svg\">\n";

        assert_eq!(
            targets(page),
            ["1.md", "2.png", "3.md", "4.md", "5.md", "6.svg"]
        );
    }

    #[test]
    fn a_link_knows_its_line() {
        assert_eq!(
            links("\n\n[a](b.md)\n"),
            [Link {
                line: 3,
                target: "b.md".to_owned()
            }]
        );
    }

    #[test]
    fn code_and_footnotes_hold_no_links() {
        let page = "```text\n[a](1.md)\n```\n`[b](2.md)` ``[c`](3.md)``\n[^1]: prose\n";

        assert_eq!(targets(page), Vec::<String>::new());
    }

    #[test]
    fn an_anchor_is_the_heading_in_lower_case_with_dashes() {
        let page = "# What it's for: `throng.v1`, really?\n## [Linked](x.md) text\n#no heading\n";

        assert_eq!(
            anchors(page),
            ["what-its-for-throngv1-really", "linked-text"]
        );
    }

    #[test]
    fn equal_headings_are_numbered_and_code_has_none() {
        let page = "# A\n```sh\n# A\n```\n# A\n<a id=\"b\"></a>\n";

        assert_eq!(anchors(page), ["a", "a-1", "b"]);
    }
}
