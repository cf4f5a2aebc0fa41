//! Signals: SIGTERM, SIGINT and SIGQUIT drain, and a second one ends the process; SIGHUP reads the
//! configuration again. No other signal that somebody may send to a server ends it without a drain.

use std::io;
use std::process::exit;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::process::Signal as Number;
use throng::Stop;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log::Log;
use crate::reload::Reloader;

/// The exit code that a shell reports for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Signals that have no meaning here and would end the process: two that others reopen logs by,
/// and that a file has reached the size that the process may write, which whoever writes it is
/// told as well.
const WITHOUT_MEANING: [Number; 3] = [Number::USR1, Number::USR2, Number::XFSZ];

/// Signals that end nothing any more.
pub(crate) struct Signals {
    runtime: Runtime,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals that must not end the process. SIGTERM and its like still do: nobody is
    /// served yet.
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let guard = runtime.enter();
        for number in WITHOUT_MEANING {
            // Caught for as long as the process lives, whoever listens.
            drop(signal(SignalKind::from_raw(number.as_raw()))?);
        }
        let hangup = signal(SignalKind::hangup())?;
        drop(guard);
        Ok(Self { runtime, hangup })
    }

    /// Waits for signals on a thread of its own, and does what they say.
    pub(crate) fn obey(self, stop: Stop, reloader: Reloader, log: Log) -> io::Result<()> {
        let Self { runtime, hangup } = self;
        let reloads = reload_aside(reloader)?;
        let guard = runtime.enter();
        let ends = Ends::catch()?;
        drop(guard);
        let wait = move || runtime.block_on(obey((hangup, ends), &stop, &reloads, &log));
        thread::Builder::new()
            .name("throng-signals".to_owned())
            .spawn(wait)?;
        Ok(())
    }
}

/// Reads the configuration again on a thread of its own: a file may take for ever to open, as a
/// pipe does or one on another machine, and no signal may wait for that.
fn reload_aside(mut reloader: Reloader) -> io::Result<SyncSender<()>> {
    let (sender, reloads) = sync_channel(1);
    let reload = move || reloads.iter().for_each(|()| reloader.reload());
    thread::Builder::new()
        .name("throng-reload".to_owned())
        .spawn(reload)?;
    Ok(sender)
}

async fn obey(
    (mut hangup, mut ends): (Signal, Ends),
    stop: &Stop,
    reloads: &SyncSender<()>,
    log: &Log,
) {
    loop {
        tokio::select! {
            // One that waits already reads what is there by then.
            _ = hangup.recv() => {
                _ = reloads.try_send(());
            }
            () = ends.recv() => break,
        }
    }
    tracing::info!("draining; a second signal stops at once");
    stop.drain();
    ends.recv().await;
    tracing::warn!("stopped by a second signal");
    log.finish();
    exit(INTERRUPTED)
}

/// The signals that drain.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Ends {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next of them.
    ///
    /// # Cancel safety
    ///
    /// None is lost.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
