//! The chat page and the client, embedded in the binary.

use throng::{Page, Server};

/// An embedded file.
macro_rules! asset {
    ($path:literal, $content_type:literal, $file:literal) => {
        Page {
            path: $path,
            content_type: $content_type,
            body: include_bytes!(concat!("../../../assets/", $file)),
        }
    };
}

/// Serves the chat page at `/`.
pub(crate) fn add_to(server: &mut Server) {
    server
        .page(asset!("/", "text/html; charset=utf-8", "index.html"))
        .page(asset!("/chat.css", "text/css; charset=utf-8", "chat.css"))
        .page(asset!(
            "/chat.js",
            "text/javascript; charset=utf-8",
            "chat.js"
        ))
        .page(asset!(
            "/throng.js",
            "text/javascript; charset=utf-8",
            "throng.js"
        ))
        .page(asset!("/icon.svg", "image/svg+xml", "icon.svg"));
}
