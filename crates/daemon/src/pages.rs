//! The chat page and the client, embedded in the binary.

use bytes::Bytes;
use throng::{Page, Server};

/// An embedded file of this repository; of the chat page's `assets`, unless another is named.
macro_rules! embedded {
    ($path:literal, $content_type:ident) => {
        embedded!($path, $content_type, concat!("../assets", $path))
    };
    ($path:literal, $content_type:ident, $file:expr) => {
        Page {
            path: $path,
            content_type: $content_type,
            body: Bytes::from_static(include_bytes!($file)),
        }
    };
}

/// Serves the chat page at `/`, and tells it where the WebSocket is.
///
/// The client that it uses is the one that everybody else is given, as it was built and committed:
/// Node is not needed here.
pub(crate) fn add_to(server: &mut Server, websocket: &str) {
    server
        .page(Page {
            path: "/",
            content_type: HTML,
            body: index(websocket).into(),
        })
        .page(embedded!("/chat.css", CSS))
        .page(embedded!("/chat.js", JAVASCRIPT))
        .page(embedded!("/chat-message.js", JAVASCRIPT))
        .page(embedded!("/chat-outgoing.js", JAVASCRIPT))
        .page(embedded!("/chat-timeline.js", JAVASCRIPT))
        .page(embedded!("/chat-typing.js", JAVASCRIPT))
        .page(embedded!("/icon.svg", SVG))
        .page(embedded!(
            "/throng.js",
            JAVASCRIPT,
            "../../../clients/js/dist/throng.js"
        ));
}

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Returns the page with the WebSocket's path in it, relative to the page's own: a proxy may serve
/// both below a path that nobody here knows.
fn index(websocket: &str) -> String {
    let relative = websocket.trim_start_matches('/');
    include_str!("../assets/index.html").replacen(WEBSOCKET, &with_path(relative), 1)
}

/// The tag in the file, as it is served by default.
const WEBSOCKET: &str = r#"<meta name="throng-websocket" content="ws">"#;

/// Returns the tag for another path. The command line takes none with a quote in it.
fn with_path(relative: &str) -> String {
    format!(r#"<meta name="throng-websocket" content="./{relative}">"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_told_where_the_websocket_is() {
        let page = index("/live/chat");
        assert!(page.contains(r#"content="./live/chat">"#), "{page}");
        assert!(!page.contains(WEBSOCKET));
    }
}
