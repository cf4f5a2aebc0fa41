//! The log: lines for standard error, written by a thread of their own.
//!
//! Invariants:
//! - only that thread writes to standard error, so a pipe that nobody reads stops nobody else: no
//!   core, no signal, no panic;
//! - what waits for it is bounded in bytes. A line that does not fit is dropped and counted, and
//!   the log says how many were as soon as something could be written again;
//! - the end of the process waits for the last lines, and not longer than [`LAST_LINES_MAX`].
//!
//! Refused: tracing-appender's writer. Its bound is a number of lines, and at the end it complains
//! on the very standard error that takes nothing.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// Maximum bytes that are queued for writing: some thousand lines, which is more than a burst has.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Bytes of the buffer that remain allocated after a burst.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Maximum time for which the end of the process waits for what is not written yet.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// When a standard error that another process has made non-blocking is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The log that lines go to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log(Arc<Lines>);

impl Log {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub(crate) fn start() -> io::Result<Self> {
        let lines = Arc::new(Lines::new(WAITING_BYTES_MAX));
        let writer = lines.clone();
        let write = move || {
            loop {
                writer.write_to(&mut io::stderr());
            }
        };
        let named = thread::Builder::new().name("throng-log".to_owned());
        named.spawn(write)?;
        Ok(Self(lines))
    }

    /// Logs what `targets` let through from now on, and panics as well.
    pub(crate) fn install(&self, targets: Targets) -> Filter {
        let (filter, handle) = reload::Layer::new(targets);
        let lines = fmt::layer()
            .with_writer(self.0.clone())
            .with_ansi(is_in_colour())
            .with_target(false)
            // A line that cannot be written is said on standard error, where it could not be
            // written.
            .log_internal_errors(false);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        std::panic::set_hook(Box::new(log_panic));
        Filter(handle)
    }

    /// Writes a text as it is, whatever is logged.
    pub(crate) fn print(&self, text: &str) {
        self.0.push(text.as_bytes());
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all is written, for a moment at most: for the end of the process.
    pub(crate) fn finish(&self) {
        let mut waiting = self.0.waiting.lock();
        let has_some = |waiting: &mut Waiting| waiting.is_writing || !waiting.bytes.is_empty();
        self.0
            .written
            .wait_while_for(&mut waiting, has_some, LAST_LINES_MAX);
    }
}

/// Returns whether standard error is a terminal that takes colours.
pub(crate) fn is_in_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The filter of what is logged, which may change.
pub(crate) struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    pub(crate) fn set(&self, targets: Targets) {
        // Fails only if the subscriber is gone, which lives as long as the process.
        _ = self.0.reload(targets);
    }
}

/// Says in the log what the standard hook writes to standard error by itself, and would wait there.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("not a text");
    let place = info.location().map(ToString::to_string);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = has_backtrace.then(|| tracing::field::display(backtrace));
    tracing::error!(thread, place, backtrace, "panicked: {message}");
}

/// Lines that wait for the thread that writes them.
struct Lines {
    waiting: Mutex<Waiting>,
    /// Something waits.
    pushed: Condvar,
    /// Nothing waits any more.
    written: Condvar,
    bytes_max: usize,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The thread is about to write what it has taken.
    is_writing: bool,
    /// Dropped lines that the log does not mention yet.
    unsaid: u64,
}

impl Lines {
    fn new(bytes_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            pushed: Condvar::new(),
            written: Condvar::new(),
            bytes_max,
            dropped: AtomicU64::new(0),
        }
    }

    /// Lets a line wait, or drops it if it does not fit. Waits for nobody who writes.
    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > self.bytes_max {
            return self.drop_lines(&mut waiting, 1);
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        self.pushed.notify_one();
    }

    fn drop_lines(&self, waiting: &mut Waiting, count: u64) {
        waiting.unsaid += count;
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Writes all that waits, or what comes next. Only one thread calls this.
    fn write_to(&self, out: &mut impl Write) {
        let mut waiting = self.waiting.lock();
        self.pushed
            .wait_while(&mut waiting, |waiting| waiting.bytes.is_empty());
        let mut bytes = std::mem::take(&mut waiting.bytes);
        waiting.is_writing = true;
        drop(waiting);
        let lost = write_all(out, &bytes).err().unwrap_or(0);
        let mut waiting = self.waiting.lock();
        waiting.is_writing = false;
        let unsaid = match lost {
            0 => std::mem::take(&mut waiting.unsaid),
            lost => {
                self.drop_lines(&mut waiting, lost);
                0
            }
        };
        if waiting.bytes.is_empty() {
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES_MAX);
            waiting.bytes = bytes;
        }
        drop(waiting);
        if unsaid > 0 {
            // As an error, so that it is said whatever is logged.
            tracing::error!(
                lines = unsaid,
                "log lines dropped: standard error is blocked or too slow"
            );
        }
        self.written.notify_all();
    }
}

/// A line at a time, as the subscriber writes them.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines; the error is how many could not be written.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> Result<(), u64> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(len) if len > 0 => bytes = &bytes[len.min(bytes.len())..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            // Whoever read is gone, or a disk is full.
            Ok(_) | Err(_) => {
                return Err(bytes.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what fits, and nothing more.
    struct Disk {
        written: Vec<u8>,
        bytes_max: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.bytes_max - self.written.len());
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn dropped(lines: &Lines) -> u64 {
        lines.dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn a_line_that_does_not_fit_is_dropped_and_counted_and_it_is_said_when_lines_fit_again() {
        let lines = Arc::new(Lines::new(200));
        let subscriber = tracing_subscriber::registry().with(
            fmt::layer()
                .with_writer(lines.clone())
                .with_ansi(false)
                .without_time(),
        );
        let _guard = subscriber.set_default();
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..5 {
            lines.push(&line);
        }
        assert_eq!(dropped(&lines), 3);

        let mut out = Vec::new();
        lines.write_to(&mut out);
        assert_eq!(out, [&line[..], &line[..]].concat());
        let mut said = Vec::new();
        lines.write_to(&mut said);
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("ERROR") && said.contains("lines=3"), "{said}");
        assert!(lines.waiting.lock().bytes.is_empty(), "and it is said once");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_nothing_is_said_where_nothing_can_be() {
        let lines = Lines::new(200);
        let mut full = Disk {
            written: Vec::new(),
            bytes_max: 6,
        };
        for line in ["one\n", "two\n", "three\n"] {
            lines.push(line.as_bytes());
        }
        lines.write_to(&mut full);
        assert_eq!((&*full.written, dropped(&lines)), (&b"one\ntw"[..], 2));
        let waiting = lines.waiting.lock();
        assert_eq!((waiting.bytes.len(), waiting.unsaid), (0, 2));
    }
}
