//! SIGTERM and SIGINT: the first drains, the second ends the process.

use std::io;
use std::process::exit;
use std::thread;

use throng::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell reports for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Waits for signals on a thread of its own.
pub(crate) fn drain_on_signal(stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(guard);
    let wait = move || {
        runtime.block_on(async {
            either(&mut terminate, &mut interrupt).await;
            tracing::info!("draining; a second signal stops at once");
            stop.drain();
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("stopped by a second signal");
            exit(INTERRUPTED)
        })
    };
    thread::Builder::new()
        .name("throng-signals".to_owned())
        .spawn(wait)?;
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
