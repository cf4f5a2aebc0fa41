//! The chat page and the client, embedded in the binary.

use bytes::Bytes;
use throng::{Page, Server};

/// An embedded file.
macro_rules! asset {
    ($path:literal, $content_type:literal, $file:literal) => {
        Page {
            path: $path,
            content_type: $content_type,
            body: Bytes::from_static(include_bytes!(concat!("../../../assets/", $file))),
        }
    };
}

/// Serves the chat page at `/`, and tells it where the WebSocket is.
pub(crate) fn add_to(server: &mut Server, websocket: &str) {
    server
        .page(Page {
            path: "/",
            content_type: "text/html; charset=utf-8",
            body: index(websocket).into(),
        })
        .page(asset!("/chat.css", "text/css; charset=utf-8", "chat.css"))
        .page(asset!(
            "/chat.js",
            "text/javascript; charset=utf-8",
            "chat.js"
        ))
        .page(asset!(
            "/chat-message.js",
            "text/javascript; charset=utf-8",
            "chat-message.js"
        ))
        .page(asset!(
            "/throng.js",
            "text/javascript; charset=utf-8",
            "throng.js"
        ))
        .page(asset!("/icon.svg", "image/svg+xml", "icon.svg"));
}

/// The page with the WebSocket's path in it, relative to the page's own: a proxy may serve both
/// below a path that nobody here knows.
fn index(websocket: &str) -> String {
    let relative = websocket.trim_start_matches('/');
    include_str!("../../../assets/index.html").replacen(WEBSOCKET, &with_path(relative), 1)
}

/// What the file says, as it is served by default.
const WEBSOCKET: &str = r#"<meta name="throng-websocket" content="ws">"#;

/// The same for another path. The command line takes none with a quote in it.
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
