//! What every example needs and none is about: an address, its page, golem's client, Ctrl-C.

use std::error::Error;
use std::io;
use std::process::exit;
use std::thread;

use throng::{Config, ListenAddress, Page, Router, Server, Stop};
use tokio::signal::unix::{SignalKind, signal};

/// The way in which an example ends.
pub(crate) type Result = std::result::Result<(), Box<dyn Error>>;

/// The page of an example: `pages/NAME.html`, and its script, which is a file of its own because
/// pages may not have scripts within them.
pub(crate) struct ExamplePage {
    pub(crate) html: &'static str,
    pub(crate) script: &'static str,
}

/// The page with this name, as part of the program.
macro_rules! page {
    ($name:literal) => {
        demo::ExamplePage {
            html: include_str!(concat!("pages/", $name, ".html")),
            script: include_str!(concat!("pages/", $name, ".js")),
        }
    };
}

/// Binds the address that is the first argument, or 127.0.0.1:8080, and serves an example's page
/// there.
pub(crate) fn bind(
    mut config: Config,
    page: ExamplePage,
) -> std::result::Result<Server, Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    if let Some(address) = std::env::args().nth(1) {
        config.listen = vec![address.parse()?];
    }
    let mut server = Server::bind(config)?;
    server
        .page(Page::html("/", page.html))
        .page(Page::script("/page.js", page.script))
        .page(Page::script("/golem.js", include_str!("../pages/golem.js")))
        .page(Page::script("/log.js", include_str!("../pages/log.js")))
        .page(Page::script("/bson.js", include_str!("../pages/bson.js")))
        .page(Page::style(
            "/style.css",
            include_str!("../pages/style.css"),
        ))
        .page(Page::new(
            "/icon.svg",
            "image/svg+xml",
            include_str!("../../../daemon/assets/icon.svg"),
        ));
    Ok(server)
}

/// Serves until Ctrl-C.
pub(crate) fn serve<S: Send + Sync + 'static>(server: Server, router: Router<S>) -> Result {
    stop_on_ctrl_c(server.stop())?;
    for address in server.addresses() {
        match address {
            ListenAddress::Tcp(address) => tracing::info!("listening on http://{address}/"),
            ListenAddress::Unix(_) => tracing::info!("listening on {address}"),
        }
    }
    Ok(server.serve(router)?)
}

/// Closes all connections at the first Ctrl-C, and waits for none at the second.
fn stop_on_ctrl_c(stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut interrupt = {
        let _guard = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            interrupt.recv().await;
            stop.drain();
            interrupt.recv().await;
            exit(130)
        })
    });
    Ok(())
}
