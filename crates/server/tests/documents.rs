//! What documents show is what runs.

/// The lines from one that begins with `first` to the last before one that begins with `end`,
/// without what all of them begin with.
fn part<'a>(text: &'a str, indent: &str, first: &str, end: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| {
        let line = line.strip_prefix(indent);
        line.unwrap_or_default()
    });
    let mut lines = lines.skip_while(|line| !line.starts_with(first)).peekable();
    assert!(lines.peek().is_some(), "nothing begins with {first}");
    let mut found: Vec<&str> = lines.take_while(|line| !line.starts_with(end)).collect();
    while found.pop_if(|line| line.is_empty()).is_some() {}
    found
}

#[test]
fn the_chat_of_the_reference_is_the_example() {
    let reference = include_str!("../src/lib.rs");
    let example = include_str!("../examples/chat.rs");
    assert_eq!(
        part(reference, "//! ", "#[derive", "let config"),
        part(example, "", "#[derive", "fn main")
    );
    assert_eq!(
        part(reference, "//! ", "let mut router", "# server.stop"),
        part(example, "    ", "let mut router", "demo::serve")
    );
}

#[test]
fn the_tutorial_of_rooms_is_the_examples() {
    let page = include_str!("../../../docs/golem.md");
    let chat = include_str!("../examples/chat.rs");
    let chat = part(chat, "    ", "let rooms", "demo::serve").join("\n");
    let room = include_str!("../examples/room.rs");
    let handle = room.lines().find(|line| line.contains("server.room()"));
    for shown in [&*chat, handle.unwrap().trim()] {
        assert!(page.contains(shown), "docs/golem.md has not:\n{shown}");
    }
}
