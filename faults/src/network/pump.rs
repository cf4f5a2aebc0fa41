//! One direction of a link: reads a chunk, delivers it, and reads no more before that.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::socket;
use super::{CHUNK_BYTES, Direction};

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes were delivered.
    Delivered(usize),
    /// All that is allowed was delivered.
    Due,
    /// The sender has ended, and the receiver was told.
    Ended,
    /// One of the two connections is broken.
    Failed,
    /// A chunk of so many bytes was read.
    Read(usize),
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) direction: Direction,
    buffer: Box<[u8]>,
    /// What of the buffer is to be delivered.
    start: usize,
    end: usize,
    /// How many more bytes may be delivered before something is due.
    allowance: Option<u64>,
    is_stalled: bool,
    /// Bytes a second, and until when.
    slow: Option<(u32, Instant)>,
    /// When a slow one goes on.
    pause_until: Option<Instant>,
    has_ended: bool,
}

impl Pump {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            buffer: vec![0; CHUNK_BYTES].into(),
            start: 0,
            end: 0,
            allowance: None,
            is_stalled: false,
            slow: None,
            pause_until: None,
            has_ended: false,
        }
    }

    /// Something is due after so many more bytes; none takes that back.
    pub(super) const fn allow(&mut self, bytes: Option<u64>) {
        self.allowance = bytes;
    }

    /// Neither reads nor delivers, or does again.
    pub(super) const fn set_stalled(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
    }

    /// Delivers not more than so many bytes a second until then.
    pub(super) const fn slow_down(&mut self, bytes_per_second: u32, until: Instant) {
        self.slow = Some((bytes_per_second, until));
    }

    /// Ends whatever holds it up.
    pub(super) const fn clear(&mut self) {
        self.allowance = None;
        self.is_stalled = false;
        self.slow = None;
        self.pause_until = None;
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Goes one step on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: bytes are read and delivered where nothing is awaited.
    pub(super) async fn step(&mut self, from: &TcpStream, to: &TcpStream) -> Step {
        if self.has_ended || self.is_stalled {
            return pending().await;
        }
        if let Some(until) = self.pause_until {
            sleep_until(until).await;
        }
        self.pause_until = None;
        let result = if self.start == self.end {
            self.read(from, to).await
        } else if self.allowance == Some(0) {
            return Step::Due;
        } else {
            self.deliver(to).await
        };
        result.unwrap_or(Step::Failed)
    }

    async fn read(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<Step> {
        let count = loop {
            from.readable().await?;
            match from.try_read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        };
        if count == 0 {
            self.has_ended = true;
            socket::shut(to);
            return Ok(Step::Ended);
        }
        (self.start, self.end) = (0, count);
        Ok(Step::Read(count))
    }

    async fn deliver(&mut self, to: &TcpStream) -> io::Result<Step> {
        let now = Instant::now();
        self.slow = self.slow.filter(|(_, until)| now < *until);
        let slice = self.slow.map(|(rate, _)| (rate / SLICES_PER_SECOND).max(1));
        let allowed = [self.allowance, slice.map(u64::from)].into_iter().flatten();
        let allowed = allowed.min().and_then(|bytes| usize::try_from(bytes).ok());
        let len = (self.end - self.start).min(allowed.unwrap_or(usize::MAX));
        let bytes = &self.buffer[self.start..self.start + len];
        let count = loop {
            to.writable().await?;
            match to.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        };
        self.start += count;
        if let Some(allowance) = &mut self.allowance {
            *allowance -= count as u64;
        }
        if slice.is_some() {
            self.pause_until = Some(now + Duration::from_secs(1) / SLICES_PER_SECOND);
        }
        Ok(Step::Delivered(count))
    }
}

/// How often a slow direction delivers something.
const SLICES_PER_SECOND: u32 = 20;
